"""What the exporters of all libraries share: trees in a forest's terms, put together; refusals; parity.

A library's own file (lightgbm.py, xgboost.py, catboost.py) settles what differs: which side a row on the threshold
takes, where a missing value goes, which class a tree speaks for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import InputRefused, ModelRefused
from engine.runtimes.forest.layout import Forest
from engine.types import CLASSES, F32, F64, I64

LOWEST = -np.finfo(np.float32).max
"""As a threshold: below every number."""


class Served(Protocol):
    """What the engine runs: a Forest or a network's graph."""

    def predict_proba(self, X: F32) -> F32: ...


def parity(served: Served, library_probabilities: NDArray[Any], X: F32) -> float:
    """The largest difference between what is served for X (n, F) and the library's own (n, 3) probabilities."""
    if len(X) == 0 or library_probabilities.shape != (len(X), len(CLASSES)):
        raise InputRefused(
            "shape", f"probabilities of shape {library_probabilities.shape} for {len(X)} rows",
            hint="give at least one row, and the library's (n, 3) for the same rows",
        )
    return float(np.abs(served.predict_proba(X).astype(np.float64) - library_probabilities).max())


class Slopes(NamedTuple):
    """A tree's linear leaves: how many slopes each has, theirs behind one another, and what holds where an x is NaN."""

    counts: I64
    feature: I64
    slope: F64
    fallback: F64


class Tree(NamedTuple):
    """One tree in a forest's terms, children counted from its own first split and leaf.

    value: (leaves, 1) for the class of column `speaks_for`, or (leaves, 3) for all, where that is -1. cover: (leaves,) how
    many training rows reached each, by weight.
    """

    feature: I64
    threshold: F32
    left: I64
    right: I64
    nan_right: NDArray[np.bool_]
    value: F64
    cover: F64
    speaks_for: int
    slopes: Slopes | None = None


def forest(trees: Sequence[Tree], n_features: int, base: F64) -> Forest:
    """The trees behind one another. base: (3,) before the first tree."""
    first_split = np.cumsum([0, *(tree.feature.size for tree in trees)])
    first_leaf = np.cumsum([0, *(len(tree.value) for tree in trees)])

    def moved(child: I64, t: int) -> I64:
        return np.asarray(child + np.where(child >= 0, first_split[t], -first_leaf[t]))

    root = [moved(np.array([0 if tree.feature.size else ~0]), t) for t, tree in enumerate(trees)]
    slopes = [tree.slopes or _constant(tree) for tree in trees] if any(tree.slopes for tree in trees) else []
    return Forest(
        n_features=n_features,
        feature=np.concatenate([tree.feature for tree in trees]).astype(np.int32),
        threshold=np.concatenate([tree.threshold for tree in trees]),
        left=np.concatenate([moved(tree.left, t) for t, tree in enumerate(trees)]).astype(np.int32),
        right=np.concatenate([moved(tree.right, t) for t, tree in enumerate(trees)]).astype(np.int32),
        nan_right=np.concatenate([tree.nan_right for tree in trees]),
        root=np.concatenate(root).astype(np.int32),
        tree_class=np.array([tree.speaks_for for tree in trees], np.int32),
        value=np.concatenate([tree.value for tree in trees]),
        base=base,
        slope_start=np.cumsum(np.concatenate([[0], *(one.counts for one in slopes)]) if slopes else [], dtype=np.int32),
        slope_feature=_joined([one.feature for one in slopes]).astype(np.int32),
        slope=_joined([one.slope for one in slopes]),
        fallback=_joined([one.fallback for one in slopes]),
        level_start=np.zeros(0, np.int32),
        cover=np.concatenate([tree.cover for tree in trees]),
    )


def columns_of(classes: Sequence[int]) -> list[int]:
    """The column of [neutral, buy, sell] that each of the library's classes is."""
    return [label % len(CLASSES) for label in classes]


def base_of(columns: Sequence[int], margins: Sequence[float] | F64) -> F64:
    """(3,) the margins in their columns; a class the model doesn't know has probability 0."""
    base = np.full(len(CLASSES), -np.inf)
    base[list(columns)] = margins
    return base


def next_above(limit: F64) -> F32:
    """The smallest float32 above each limit: x > limit and x >= this say the same of a float32 x."""
    with np.errstate(over="ignore"):
        below = limit.astype(np.float32)
        below = np.where(below.astype(np.float64) > limit, np.nextafter(below, np.float32(-np.inf)), below)
        return np.nextafter(below, np.float32(np.inf))


def unsupported(what: str, hint: str) -> ModelRefused:
    """hint: what to train instead."""
    return ModelRefused("forest_unsupported", f"a forest can't say this: {what}", hint=hint)


@contextmanager
def reading(library: str) -> Iterator[None]:
    """What goes wrong while a model is taken apart means that it isn't one. Raises ModelRefused `forest_damaged`."""
    try:
        yield
    except ModelRefused as error:
        if error.code != "forest_damaged":
            raise
        raise _damaged(library, error.args[0]) from None
    except ValueError as error:
        raise _damaged(library, str(error)) from None
    except (LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise _damaged(library, f"{type(error).__name__}: {error}") from None


def _damaged(library: str, what: str) -> ModelRefused:
    return ModelRefused("forest_damaged", f"not a whole {library} model: {what}", hint=f"save the model again with {library}")


def _constant(tree: Tree) -> Slopes:
    """Leaves without slopes, among trees that have them."""
    return Slopes(np.zeros(len(tree.value), np.int64), np.zeros(0, np.int64), np.zeros(0), tree.value[:, 0])


def _joined(parts: list[Any]) -> Any:
    return np.concatenate(parts) if parts else np.zeros(0)
