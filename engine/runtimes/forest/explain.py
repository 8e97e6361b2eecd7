"""What each feature added to a forest's margins: the way a row takes through each tree, told split by split.

At a split a tree's expected answer, the mean of the leaves below by how many training rows they hold, becomes that of the
side the row takes; the difference is the feature's (Saabas 2014, "Interpreting random forests"; the `approx_contribs` of
XGBoost). It is quick and exact about this row's way, and says nothing of what another way would have said: Shapley values
(Lundberg et al. 2020) share out more evenly among features that a tree asks one after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...jit import kernel
from ...types import CLASSES, F32, F64

if TYPE_CHECKING:
    from .layout import Forest

K = len(CLASSES)


def attributions(forest: Forest, rows: F32) -> F64:
    """(n, F) -> (n, F + 1, 3): what each feature added to each class's margin and, last, what was expected before it.

    forest: as it is answered (`Forest.exact`). Its leaves being whole quanta, each row's numbers sum to its margins exactly;
    slopes of linear leaves go to their features, and then the sum holds to float64's rounding. A class that the forest doesn't
    know has -inf expected. ±inf counts as NaN.
    """
    rows = np.where(np.isfinite(rows), rows, np.float32(np.nan))
    plain = forest.spread()
    value = plain.value if plain.value.shape[1] == K else np.repeat(plain.value, K, 1)
    cover = plain.cover if plain.cover.size else np.ones(len(value))
    mean = _means(plain.left, plain.right, value, cover, plain.quantum)
    out = np.zeros((len(rows), plain.n_features + 1, K))
    none = np.zeros(0, np.int32)
    _attribute(
        rows, plain.feature, plain.threshold, plain.left, plain.right, plain.nan_right, plain.root, plain.tree_class, value, mean,
        plain.slope_start if plain.linear else none, plain.slope_feature, plain.slope, plain.fallback, out,
    )
    out[:, -1] += plain.base
    return out


@kernel
def _means(left: NDArray[np.int32], right: NDArray[np.int32], value: F64, cover: F64, quantum: float) -> F64:
    """(S, 3) the mean of the leaves below each split, in whole quanta where there are any."""
    mean, weight = np.zeros((left.size, K)), np.zeros(left.size)
    for s in range(left.size - 1, -1, -1):
        a, b = left[s], right[s]
        weight_a, weight_b = weight[a] if a >= 0 else cover[~a], weight[b] if b >= 0 else cover[~b]
        weight[s] = weight_a + weight_b
        share = weight_a / weight[s] if weight[s] > 0 else 0.5
        for c in range(K):
            there = (mean[a, c] if a >= 0 else value[~a, c]) * share + (mean[b, c] if b >= 0 else value[~b, c]) * (1 - share)
            mean[s, c] = np.rint(there / quantum) * quantum if quantum > 0 else there
    return mean


@kernel
def _attribute(
    rows: F32, feature: NDArray[np.int32], threshold: F32, left: NDArray[np.int32], right: NDArray[np.int32],
    nan_right: NDArray[np.bool_], root: NDArray[np.int32], tree_class: NDArray[np.int32], value: F64, mean: F64,
    slope_start: NDArray[np.int32], slope_feature: NDArray[np.int32], slope: F64, fallback: F64, out: F64,
) -> None:
    features = rows.shape[1]
    for i in range(len(rows)):
        for t in range(root.size):
            first, last = (0, K) if tree_class[t] < 0 else (tree_class[t], tree_class[t] + 1)
            node = root[t]
            for c in range(first, last):
                out[i, features, c] += mean[node, c] if node >= 0 else value[~node, c]
            while node >= 0:
                x = rows[i, feature[node]]
                goes = nan_right[node] if np.isnan(x) else x >= threshold[node]
                below = right[node] if goes else left[node]
                for c in range(first, last):
                    out[i, feature[node], c] += (mean[below, c] if below >= 0 else value[~below, c]) - mean[node, c]
                node = below
            if slope_start.size:
                _add_slopes(~node, rows[i], slope_start, slope_feature, slope, fallback, value, out[i], first)


@kernel
def _add_slopes(
    leaf: int, x: F32, slope_start: NDArray[np.int32], slope_feature: NDArray[np.int32], slope: F64, fallback: F64, value: F64,
    out: F64, c: int,
) -> None:
    begin, end = slope_start[leaf], slope_start[leaf + 1]
    for j in range(begin, end):
        if np.isnan(x[slope_feature[j]]):              # the leaf falls back to a constant, which is nobody's in particular
            out[x.size, c] += fallback[leaf] - value[leaf, c]
            return
    for j in range(begin, end):
        out[slope_feature[j], c] += slope[j] * x[slope_feature[j]]
