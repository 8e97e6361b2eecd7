"""LightGBM's text model → `Forest`.

What differs between the library's rules (include/LightGBM/tree.h of version 4) and a forest's is settled here:

- LightGBM goes left where x <= t with a double t; a forest goes right where x >= T with a float32 T. For float32 x
  both say the same if T is the smallest float32 above t.
- The library reads any |x| <= 1e-35 as 0 before it compares.
- Missing values: with type `none` NaN is read as 0; with `nan` it goes the split's default way; with `zero` both NaN
  and 0 go the default way.
- A leaf of `linear_tree` has slopes, and a constant for rows in which one of their features is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import InputRefused, ModelRefused
from engine.runtimes.forest.layout import Forest
from engine.types import CLASSES, F32, F64, I64

_ZERO = np.float32(1e-35)
_ABOVE_ZERO = np.nextafter(_ZERO, np.float32(np.inf))

_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_MISSING_NONE, _MISSING_ZERO = 0, 1


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


def export_forest(text: str, n_features: int, classes: Sequence[int] = (-1, 0, 1)) -> Forest:
    """A multiclass model's text (`Booster.model_to_string()`) as a Forest over `n_features` columns.

    classes: the label behind each of the library's class numbers; a label that isn't among them has probability 0.
    Raises ModelRefused: `forest_unsupported` for what a Forest can't say (another objective, categorical splits,
    averaged output), `forest_damaged` for a text that isn't whole.
    """
    header, trees = _sections(text)
    if header.get("objective", "").split()[:2] != ["multiclass", f"num_class:{len(classes)}"]:
        raise _unsupported(f"the objective {header.get('objective')!r} for {len(classes)} classes")
    if "average_output" in header:
        raise _unsupported("the averaged output of a random forest")
    try:
        return _forest([_tree(tree) for tree in trees], n_features, [label % len(CLASSES) for label in classes])
    except (KeyError, ValueError, IndexError) as error:
        raise ModelRefused(
            "forest_damaged", f"not a whole LightGBM model: {type(error).__name__}: {error}",
            hint="save the model again",
        ) from None


def _unsupported(what: str) -> ModelRefused:
    return ModelRefused(
        "forest_unsupported", f"a forest can't say this: {what}",
        hint="train with objective multiclass, boosting gbdt and numeric features only",
    )


def _sections(text: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """The `key=value` lines before the first tree, and those of each tree."""
    header: dict[str, str] = {}
    trees: list[dict[str, str]] = []
    section = header
    for line in text.splitlines():
        if line == "end of trees":
            return header, trees
        key, _, value = line.partition("=")
        if key == "Tree":
            section = {}
            trees.append(section)
        section[key] = value
    raise ModelRefused("forest_damaged", "a LightGBM model without its end", hint="save the model again")


class _Tree(NamedTuple):
    """One tree in a forest's terms, indices counted from its own first split and leaf; `slopes` is a count per leaf."""

    feature: I64
    threshold: F32
    left: I64
    right: I64
    nan_right: NDArray[np.bool_]
    value: F64
    fallback: F64
    slopes: I64
    slope_feature: I64
    slope: F64


def _tree(text: dict[str, str]) -> _Tree:
    def integers(key: str) -> I64:
        return np.array(text[key].split(), np.int64)

    def numbers(key: str) -> F64:
        return np.array(text[key].split(), np.float64)

    value = numbers("leaf_value")
    leaves = (value, value, np.zeros(value.size, np.int64), np.zeros(0, np.int64), np.zeros(0))
    if text["is_linear"] == "1":
        leaves = (
            numbers("leaf_const"), value, integers("num_features"), integers("leaf_features"), numbers("leaf_coeff")
        )
    return _Tree(*_splits(
        integers("split_feature"), numbers("threshold"), integers("decision_type"),
        integers("left_child"), integers("right_child"),
    ), *leaves)


def _splits(
    feature: I64, limit: F64, decision: I64, left: I64, right: I64
) -> tuple[I64, F32, I64, I64, NDArray[np.bool_]]:
    """feature, threshold, left, right, nan_right of a tree's splits."""
    if np.any(decision & _CATEGORICAL):
        raise _unsupported("a categorical split")
    missing, default_right = (decision >> 2) & 3, (decision & _DEFAULT_LEFT) == 0
    zero_right = limit < 0
    threshold = _threshold(limit)
    nan_right = np.where(missing == _MISSING_NONE, zero_right, default_right)
    astray = (missing == _MISSING_ZERO) & (default_right != zero_right)
    return _send_zero(astray, feature, threshold, left, right, nan_right)


def _threshold(limit: F64) -> F32:
    """The smallest float32 above each limit; one within the library's zero moves to that zero's edge."""
    with np.errstate(over="ignore"):
        below = limit.astype(np.float32)
    below = np.where(below.astype(np.float64) > limit, np.nextafter(below, np.float32(-np.inf)), below)
    above = np.nextafter(below, np.float32(np.inf))
    above = np.where((limit >= -_ZERO) & (limit < 0), -_ZERO, above)
    return np.where((limit >= 0) & (limit <= _ZERO), _ABOVE_ZERO, above)


def _send_zero(
    astray: NDArray[np.bool_], feature: I64, threshold: F32, left: I64, right: I64, nan_right: NDArray[np.bool_]
) -> tuple[I64, F32, I64, I64, NDArray[np.bool_]]:
    """Splits whose zeros go to the other side than their neighbours become three.

    Where zeros must go right although the threshold lies above: x >= threshold → right, else x >= -zero → (x > zero →
    left, else right), else left. Below, mirrored: the side that x >= threshold would take asks again.
    """
    if not astray.any():
        return feature, threshold, left, right, nan_right
    count = np.where(astray, 3, 1)
    place = np.cumsum(count) - count
    left = np.repeat(np.where(left >= 0, place[np.maximum(left, 0)], left), count)
    right = np.repeat(np.where(right >= 0, place[np.maximum(right, 0)], right), count)
    feature, threshold, nan_right = np.repeat(feature, count), np.repeat(threshold, count), np.repeat(nan_right, count)
    for split in place[astray]:
        second, third = split + 1, split + 2
        if nan_right[split]:
            threshold[second], threshold[third] = -_ZERO, _ABOVE_ZERO
            left[split] = second
            right[second] = third
            left[third], right[third] = right[third], left[third]
        else:
            threshold[second], threshold[third] = _ABOVE_ZERO, -_ZERO
            right[split] = second
            left[second] = third
            left[third], right[third] = right[third], left[third]
    return feature, threshold, left, right, nan_right


def _forest(trees: list[_Tree], n_features: int, columns: list[int]) -> Forest:
    """The trees behind one another; tree t speaks for columns[t % len(columns)], in the library's order."""
    first_split = np.cumsum([0, *(tree.feature.size for tree in trees)])
    first_leaf = np.cumsum([0, *(tree.value.size for tree in trees)])

    def moved(child: I64, t: int) -> I64:
        return np.asarray(child + np.where(child >= 0, first_split[t], -first_leaf[t]))

    root = [moved(np.array([0 if tree.feature.size else ~0]), t) for t, tree in enumerate(trees)]
    slopes = np.concatenate([tree.slopes for tree in trees])
    linear = bool(slopes.any())
    base = np.full(len(CLASSES), -np.inf)
    base[columns] = 0.0
    return Forest(
        n_features=n_features,
        feature=np.concatenate([tree.feature for tree in trees]).astype(np.int32),
        threshold=np.concatenate([tree.threshold for tree in trees]),
        left=np.concatenate([moved(tree.left, t) for t, tree in enumerate(trees)]).astype(np.int32),
        right=np.concatenate([moved(tree.right, t) for t, tree in enumerate(trees)]).astype(np.int32),
        nan_right=np.concatenate([tree.nan_right for tree in trees]),
        root=np.concatenate(root).astype(np.int32),
        tree_class=np.resize(np.array(columns, np.int32), len(trees)),
        value=np.concatenate([tree.value for tree in trees])[:, None],
        base=base,
        slope_start=np.cumsum([0, *slopes] if linear else [], dtype=np.int32),
        slope_feature=np.concatenate([tree.slope_feature for tree in trees]).astype(np.int32),
        slope=np.concatenate([tree.slope for tree in trees]),
        fallback=np.concatenate([tree.fallback for tree in trees]) if linear else np.zeros(0),
        level_start=np.zeros(0, np.int32), cover=np.zeros(0),
    )
