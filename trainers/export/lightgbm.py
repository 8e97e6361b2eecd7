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

import numpy as np
from numpy.typing import NDArray

from engine.errors import ModelRefused
from engine.runtimes.forest.layout import Forest
from engine.types import F32, F64, I64

from .forest import Slopes, Tree, base_of, columns_of, forest, next_above, reading, unsupported

_ZERO = np.float32(1e-35)
_ABOVE_ZERO = np.nextafter(_ZERO, np.float32(np.inf))

_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_MISSING_NONE, _MISSING_ZERO = 0, 1


def export_lightgbm(text: str, n_features: int, classes: Sequence[int] = (-1, 0, 1)) -> Forest:
    """A model's text (`Booster.model_to_string()`) as a Forest over `n_features` columns.

    classes: the label behind each of the library's class numbers; a label that isn't among them has probability 0.
    Objectives multiclass and, for two classes, binary; boosting gbdt, dart or rf.
    Raises ModelRefused: `forest_unsupported` for what a Forest can't say (another objective, categorical splits),
    `forest_damaged` for a text that isn't whole.
    """
    with reading("LightGBM"):
        header, trees = sections(text)
        columns = columns_of(classes)
        spoken_for, scale = _objective(header, columns)
        if "average_output" in header:                       # boosting=rf: the mean of the rounds
            scale *= len(spoken_for) / len(trees)
        return forest(
            [_tree(tree, spoken_for[t % len(spoken_for)], scale) for t, tree in enumerate(trees)],
            n_features, base_of(columns, np.zeros(len(columns))),
        )


def _objective(header: dict[str, str], columns: list[int]) -> tuple[list[int], float]:
    """The column each tree of a round speaks for, and what its score is multiplied with before the softmax."""
    if told_apart(header) != len(columns):
        raise _unsupported(f"the objective {header['objective']!r} for {len(columns)} classes")
    name, *words = header["objective"].split()
    if name == "multiclass":
        return columns, 1.0
    return columns[1:], float(dict(word.split(":") for word in words)["sigmoid"])


def told_apart(header: dict[str, str]) -> int:
    """How many classes the model tells apart. Raises ModelRefused `forest_unsupported` where it says no probabilities."""
    classes, objective = int(header["num_class"]), header.get("objective", "one's own, which no file names")
    match objective.split()[:1]:
        case ["multiclass"]:
            return classes
        case ["binary"]:
            return 2
    raise _unsupported(f"the objective {objective!r}")


def _unsupported(what: str) -> ModelRefused:
    return unsupported(
        what, "train with objective multiclass (binary for two classes) and numeric features only; name every class"
    )


def sections(text: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """The `key=value` lines before the first tree, and those of each tree. Raises ValueError."""
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
    raise ValueError("its end is missing")


def _tree(text: dict[str, str], speaks_for: int, scale: float) -> Tree:
    def integers(key: str) -> I64:
        return np.array(text[key].split(), np.int64)

    def numbers(key: str) -> F64:
        return np.array(text[key].split(), np.float64)

    value, slopes = scale * numbers("leaf_value"), None
    cover = numbers("leaf_count") if text.get("leaf_count") else np.ones(value.size)
    if text.get("is_linear") == "1":                         # no such line before version 3.2
        slopes = Slopes(integers("num_features"), integers("leaf_features"), scale * numbers("leaf_coeff"), value)
        value = scale * numbers("leaf_const")
    return Tree(*_splits(
        integers("split_feature"), numbers("threshold"), integers("decision_type"),
        integers("left_child"), integers("right_child"),
    ), value[:, None], cover, speaks_for, slopes)


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
    above = np.where((limit >= -_ZERO) & (limit < 0), -_ZERO, next_above(limit))
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
