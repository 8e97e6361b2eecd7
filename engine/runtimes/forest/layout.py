"""One shape for every tree expert: arrays that say everything a gradient-boosted forest answers.

LightGBM, XGBoost and CatBoost differ in how they compare, where they send a missing value and how they number their
trees; an exporter (trainers/export) settles all that once, so that what serves knows a single rule: **a row goes
right where x >= threshold; NaN goes where the node says**. Infinite features are NaN.

A forest is checked when it is made, wherever it comes from: children stand behind their parents, so a walk ends;
every index lies inside its array; every number is finite and too small to overflow a sum. What passes can be walked
without a single check.
"""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelRefused
from ...types import CLASSES, F32, F64, I64
from .runtime import ForestRuntime

FORMAT = 2
"""Of the bytes: the fields of `Forest` as an uncompressed .npz. 2: symmetric trees."""

LINKS = ("softmax",)
"""How the sums of the leaves become probabilities."""

MAX_FEATURES = 2**15 - 1
"""A runtime packs a feature and its missing-value rule into 16 bits."""

MAX_DEPTH = 16
"""Levels of a symmetric tree: it has a leaf for every way through them."""

MAX_NUMBER = 1e100
"""No leaf, slope or base is larger: the sum over any number of trees of slopes times float32 stays finite."""

K = len(CLASSES)

_DTYPES: dict[str, tuple[type, int]] = {
    "feature": (np.int32, 1), "threshold": (np.float32, 1), "left": (np.int32, 1), "right": (np.int32, 1),
    "nan_right": (np.bool_, 1), "root": (np.int32, 1), "tree_class": (np.int32, 1), "value": (np.float64, 2),
    "base": (np.float64, 1), "slope_start": (np.int32, 1), "slope_feature": (np.int32, 1), "slope": (np.float64, 1),
    "fallback": (np.float64, 1), "level_start": (np.int32, 1), "cover": (np.float64, 1),
}

_BITS = 30
"""Of a leaf in quanta, beside its sign."""

_LEAST = -200
"""Exponent of the smallest quantum: sums of smaller leaves change no probability."""

_FEW = 2e-7
"""Error allowed of a sum of rounded leaves: 0.3 quanta each (uniform), growing as the square root of their number."""


@dataclass(frozen=True, eq=False)
class Forest:
    """A forest of S splits, L leaves and T trees over float32 rows of `n_features` columns.

    feature, threshold, left, right, nan_right: (S,) int32, float32, int32, int32, bool. A row at split s goes to
        `right[s]` where x[feature[s]] >= threshold[s] (for NaN: where nan_right[s]), else to `left[s]`. A child c >= 0
        is a split (always behind its parent; two parents may share one), c < 0 is leaf ~c.
    root: (T,) int32, where each tree begins: a split or, as above, a leaf.
    tree_class: (T,) int32, the class a tree speaks for, as a column of [neutral, buy, sell]; -1 where it speaks for
        all three.
    value: (L, 1) float64, what a leaf adds to its tree's class; (L, 3) where every tree speaks for all three.
    base: (3,) float64, what each class has before the first tree; -inf: the class has probability 0.
    level_start: empty, or (T + 1,) int32 where all trees are symmetric (CatBoost's, Dorogush et al. 2018, arXiv 1810.11363):
        then `left` and `right` are empty and feature, threshold and nan_right are of levels instead of splits. Tree t asks
        levels level_start[t]:level_start[t + 1], all of them; its leaf stands so many places behind leaf ~root[t] as the
        number whose bit j is set where its level j says right.
    cover: empty, or (L,) float64, how many training rows reached each leaf, by weight: only attributions ask for it.
    slope_start, slope_feature, slope, fallback: empty, or the linear leaves of Shi et al. 2019 (arXiv 1802.05640):
        leaf l adds value[l] + sum of slope[j] * x[slope_feature[j]] over j in slope_start[l]:slope_start[l + 1], but
        fallback[l] where one of those x is NaN. (L + 1,) int32, (M,) int32, (M,) float64, (L,) float64.
    link: `softmax`.

    Raises ModelRefused with code `forest_damaged` if any of that doesn't hold.
    """

    n_features: int
    feature: NDArray[np.int32]
    threshold: F32
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    nan_right: NDArray[np.bool_]
    root: NDArray[np.int32]
    tree_class: NDArray[np.int32]
    value: F64
    base: F64
    slope_start: NDArray[np.int32]
    slope_feature: NDArray[np.int32]
    slope: F64
    fallback: F64
    level_start: NDArray[np.int32]
    cover: F64
    link: str = "softmax"

    def __post_init__(self) -> None:
        for name, (dtype, ndim) in _DTYPES.items():
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != ndim:
                _damaged(f"{name} is not an array of {np.dtype(dtype).name} with {ndim} dimension(s)")
            array.flags.writeable = False
        self._check_splits()
        self._check_trees()
        self._check_leaves()

    @property
    def linear(self) -> bool:
        """Whether leaves have slopes."""
        return self.fallback.size > 0

    @property
    def symmetric(self) -> bool:
        """Whether every tree asks the same of all rows on a level."""
        return self.level_start.size > 0

    @cached_property
    def quantum(self) -> float:
        """What every leaf and base is a multiple of, a leaf less than 2**30 times; 0 where there is no such number.

        Sums of such leaves are exact, in int64 and float64 alike, and so the same in any order.
        """
        unit = self._unit
        whole = all(np.array_equal(np.rint(numbers / unit) * unit, numbers) for numbers in (self.value, self.base))
        return unit if whole and not self.linear else 0.0

    def exact(self) -> Forest:
        """The forest as it is answered: leaves and base rounded to a quantum, which moves no sum by more than a few 1e-7.

        The same forest where leaves have slopes, or where rounding would move its sums by more.
        """
        unit = self._unit
        if self.linear or 0.3 * unit * np.sqrt(self.root.size) > _FEW:
            return self
        most = 2.0**_BITS - 1                  # so that two leaves fit into an int32
        value = np.clip(np.rint(self.value / unit), -most, most) * unit
        return replace(self, value=value, base=np.rint(self.base / unit) * unit)

    @property
    def _unit(self) -> float:
        largest = float(np.abs(self.value).max(initial=0.0))
        return math.ldexp(1.0, max(math.frexp(largest)[1] - _BITS, _LEAST)) if largest else 1.0

    def spread(self) -> Forest:
        """The same trees with a split for every way through a symmetric tree's levels, level after level."""
        if not self.symmetric:
            return self
        parts: list[tuple[I64, I64, I64]] = [(np.zeros(0, np.int64),) * 3]     # level, left and right child of each split
        roots = []
        splits = 0
        for t, leaf in enumerate(~self.root.astype(np.int64)):
            levels = np.arange(self.level_start[t], self.level_start[t + 1])
            roots.append(splits if levels.size else ~leaf)
            for j, level in enumerate(levels):
                way = np.arange(1 << j)                # bit i: what level i said
                below = splits + way.size
                left, right = below + way, below + way + way.size
                if j == levels.size - 1:
                    left, right = ~(leaf + way), ~(leaf + way + way.size)
                parts.append((np.full(way.size, level), left, right))
                splits = below
        level, left, right = (np.concatenate(part) for part in zip(*parts, strict=True))
        return replace(
            self, feature=self.feature[level], threshold=self.threshold[level], nan_right=self.nan_right[level],
            left=left.astype(np.int32), right=right.astype(np.int32), root=np.array(roots, np.int32),
            level_start=self.level_start[:0],
        )

    def predict_proba(self, X: F32) -> F32:
        """(n, n_features) -> (n, 3) float32 [neutral, buy, sell], each row summing to 1.

        Raises ModelRefused where the number of columns is another.
        """
        return self._runtime.votes(X)[:, 0]

    def __reduce__(self) -> tuple[Any, ...]:
        return Forest.from_bytes, (self.to_bytes(),)           # a copy answers from tables of its own

    @cached_property
    def _runtime(self) -> ForestRuntime:
        return ForestRuntime({"forest": self})

    def to_bytes(self) -> bytes:
        """The same forest gives the same bytes."""
        buffer = io.BytesIO()
        np.savez(
            buffer, allow_pickle=False, format=np.int64(FORMAT), n_features=np.int64(self.n_features),
            link=np.str_(self.link), **{name: getattr(self, name) for name in _DTYPES},
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Forest:
        """What `to_bytes` wrote. Raises ModelRefused: `forest_format` (of another version), `forest_damaged`."""
        held = _members(data)
        version = held.pop("format", None)
        if version is None or version.shape != () or version.dtype.kind != "i" or version not in (1, FORMAT):
            raise ModelRefused(
                "forest_format", f"a forest of format {version}, this engine reads 1 and {FORMAT}",
                hint="export the model again with the version that serves it",
            )
        if version == 1:                       # before there were symmetric trees and attributions
            held |= {"level_start": np.zeros(0, np.int32), "cover": np.zeros(0)}
        if set(held) != {field.name for field in fields(cls)}:
            _damaged(f"holds {', '.join(sorted(held))}")
        n_features, link = held.pop("n_features"), held.pop("link")
        if n_features.shape != () or n_features.dtype != np.int64 or link.shape != () or link.dtype.kind != "U":
            _damaged("n_features or link is not one value")
        return cls(n_features=int(n_features), link=str(link), **held)

    def _check_splits(self) -> None:
        splits, leaves = self.feature.size, len(self.value)
        _require(0 < self.n_features <= MAX_FEATURES, f"n_features is {self.n_features}")
        children = 0 if self.symmetric else splits
        _require(
            self.threshold.size == self.nan_right.size == splits and self.left.size == self.right.size == children,
            "the arrays of the splits have different lengths",
        )
        _require(bool(np.all((self.feature >= 0) & (self.feature < self.n_features))), "a split on no feature")
        _require(bool(np.all(self.threshold > -np.inf)), "a threshold is NaN or -inf")
        here = np.arange(children, dtype=np.int32)
        for child in (self.left, self.right):
            _require(bool(np.all((child < 0) | (child > here))), "a child stands before its parent")
            _require(bool(np.all((child < splits) & (~child < leaves))), "a child is neither split nor leaf")

    def _check_trees(self) -> None:
        _require(self.root.size > 0, "no trees")
        _require(
            bool(np.all((self.root < self.left.size) & (~self.root < len(self.value)))),
            "a root is neither split nor leaf",
        )
        if self.symmetric:
            depth = np.diff(self.level_start.astype(np.int64))
            _require(
                bool(depth.size == self.root.size and self.level_start[0] == 0 and self.level_start[-1] == self.feature.size
                     and np.all((depth >= 0) & (depth <= MAX_DEPTH))
                     and np.all(~self.root + np.left_shift(1, np.clip(depth, 0, MAX_DEPTH)) <= len(self.value))),
                "levels of no tree, or leaves that aren't there",
            )
            _require(int(np.left_shift(1, depth).sum()) <= len(self.value), "symmetric trees that share leaves")
            _require(not self.linear, "symmetric trees with slopes")
        _require(self.tree_class.size == self.root.size, "not one class per tree")
        low, high = (0, K - 1) if self.value.shape[1] == 1 else (-1, -1)
        _require(bool(np.all((self.tree_class >= low) & (self.tree_class <= high))), "a tree of no class")

    def _check_leaves(self) -> None:
        leaves, width = self.value.shape
        _require(width in (1, K), f"a leaf has {width} values")
        for numbers in (self.value, self.slope, self.fallback):
            _require(bool(np.all(np.abs(numbers) <= MAX_NUMBER)), "a leaf is not a moderate number")
        _require(self.cover.size in (0, leaves), "not one cover per leaf")
        _require(bool(np.all((self.cover >= 0) & (self.cover <= MAX_NUMBER))), "a leaf covers a negative or no number of rows")
        _require(self.base.size == K and not np.isnan(self.base).any(), "base is not one number per class")
        finite = self.base[~np.isneginf(self.base)]
        _require(finite.size > 0 and bool(np.all(np.abs(finite) <= MAX_NUMBER)), "base is not a moderate number")
        _require(self.link in LINKS, f"unknown link {self.link!r}")
        start, slopes = self.slope_start, self.slope.size
        _require(self.slope_feature.size == slopes, "not one feature per slope")
        if not self.linear:
            _require(start.size == 0 and slopes == 0, "slopes without fallbacks")
            return
        _require(width == 1 and self.fallback.size == leaves and start.size == leaves + 1, "not one fallback per leaf")
        _require(
            bool(start[0] == 0 and start[-1] == slopes and np.all(start[1:] >= start[:-1])), "slopes of no leaf"
        )
        _require(
            bool(np.all((self.slope_feature >= 0) & (self.slope_feature < self.n_features))), "a slope on no feature"
        )


def _members(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz whose members are stored as they are: nothing unpacks to more than the file's size."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            stored = sum(member.file_size for member in archive.infolist())
        if stored > len(data):
            _damaged("its members are larger than the file")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except ModelRefused:
        raise
    except Exception as error:                 # zipfile and numpy raise a dozen kinds on hostile bytes
        _damaged(f"{type(error).__name__}: {error}")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        _damaged(otherwise)


def _damaged(what: str) -> NoReturn:
    raise ModelRefused(
        "forest_damaged", f"not a forest that can answer: {what}",
        hint="fetch the bundle again, or export the model again",
    )
