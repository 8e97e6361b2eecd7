"""Forests answered by one portable kernel: no vector instructions, no library, the same bits on any machine.

The splits of all forests lie in one table of slots. A split's two children are neighbours, so a step down is
`slot = children + (x >= threshold)`, without a branch; a leaf is its own child. NaN needs no case of its own: each
row is laid out twice, once with NaN as -inf (goes left everywhere) and once as +inf (goes right everywhere), and a
split reads the copy that its missing-value rule asks for. Sixteen walks run side by side, over rows where there
are enough and over trees where there aren't, because one walk alone waits for memory at each step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...features.detmath import det_exp
from ...jit import kernel, subkernel
from ...types import CLASSES, F32, F64, I64

if TYPE_CHECKING:
    from .layout import Forest

K = len(CLASSES)

_LANES = 16
_BLOCK = 64
_FEATURE_BITS = 16
_FEATURE_MASK = (1 << _FEATURE_BITS) - 1
_PLAIN, _LINEAR, _VECTOR = 0, 1, 2


@subkernel
def _lay_out(rows: F32, first: int, x: F32) -> None:
    """Copy rows[first : first + len(x)] twice side by side: NaN and ±inf as -inf, then as +inf."""
    features = rows.shape[1]
    for i in range(len(x)):
        for f in range(features):
            number = rows[first + i, f]
            finite = np.isfinite(number)
            x[i, f] = number if finite else -np.inf
            x[i, features + f] = number if finite else np.inf


@subkernel
def _walk(at: I64, row: I64, x: F32, link: I64, threshold: F32) -> None:
    """Step down from slot at[j] to a leaf's slot, reading row x[row[j]], in every lane j.

    Unsigned, because numba spends instructions on what a negative index could mean.
    """
    moved = 1
    while moved:
        moved = 0
        for j in range(_LANES):
            slot = np.uint64(at[j])
            word = link[slot]
            below = (word >> _FEATURE_BITS) + (x[np.uint64(row[j]), np.uint64(word & _FEATURE_MASK)] >= threshold[slot])
            moved |= below ^ at[j]
            at[j] = below


@subkernel
def _linear_leaf(leaf: int, x: F32, value: F64, fallback: F64, span: I64, slope_feature: I64, slope: F64) -> np.float64:
    answer: np.float64 = value[leaf]
    for j in range(span[leaf, 0], span[leaf, 1]):
        if not np.isfinite(x[slope_feature[j]]):
            return np.float64(fallback[leaf])
        answer += slope[j] * x[slope_feature[j]]
    return answer


@subkernel
def softmax(margins: Any, out: Any) -> None:
    """(3,) float64 -> (3,) float32, arrays or pointers; a margin of -inf gives exactly 0."""
    highest = max(margins[0], margins[1], margins[2])
    a, b, c = det_exp(margins[0] - highest), det_exp(margins[1] - highest), det_exp(margins[2] - highest)
    total = a + b + c
    out[0], out[1], out[2] = a / total, b / total, c / total


@subkernel
def _add_leaves(
    lanes: int, at: I64, row: I64, tree: I64, kind: int, x: F32, sums: F64, column: I64, leaf: I64, value: F64,
    fallback: F64, span: I64, slope_feature: I64, slope: F64,
) -> None:
    """Add to sums[row[j]] what the leaf that lane j reached says, lane after lane."""
    if kind == _PLAIN:
        for j in range(lanes):
            sums[row[j], column[tree[j]]] += value[leaf[at[j]]]
    elif kind == _LINEAR:
        for j in range(lanes):
            answer = _linear_leaf(leaf[at[j]], x[row[j]], value, fallback, span, slope_feature, slope)
            sums[row[j], column[tree[j]]] += answer
    else:
        for j in range(lanes):
            for c in range(K):
                sums[row[j], c] += value[leaf[at[j]] + c]


@kernel
def _answer(
    rows: F32, out: F32, place: I64, forests: I64, root: I64, column: I64, link: I64, threshold: F32, leaf: I64, value: F64,
    base: F64, fallback: F64, span: I64, slope_feature: I64, slope: F64,
) -> None:
    """(n, F) rows -> (n, k, 3) probabilities; each row's trees are summed in their order, whatever its neighbours."""
    n, features = rows.shape
    space = np.empty((min(n, _BLOCK), 2 * features), np.float32)
    sums = np.empty((min(n, _BLOCK), K))
    at, row, tree = np.empty(_LANES, np.int64), np.empty(_LANES, np.int64), np.empty(_LANES, np.int64)
    for first in range(0, n, _BLOCK):
        count = min(_BLOCK, n - first)
        x = space[:count]
        _lay_out(rows, first, x)
        for e in range(len(forests)):
            begin, end, kind = forests[e]
            sums[:count] = 0.0
            if count >= _LANES:
                for t in range(begin, end):
                    tree[:] = t
                    for i in range(0, count, _LANES):
                        for j in range(_LANES):
                            row[j], at[j] = min(i + j, count - 1), root[t]
                        _walk(at, row, x, link, threshold)
                        _add_leaves(
                            min(_LANES, count - i), at, row, tree, kind, x, sums,
                            column, leaf, value, fallback, span, slope_feature, slope,
                        )
            else:
                for i in range(count):
                    row[:] = i
                    for t in range(begin, end, _LANES):
                        for j in range(_LANES):
                            tree[j] = min(t + j, end - 1)
                            at[j] = root[tree[j]]
                        _walk(at, row, x, link, threshold)
                        _add_leaves(
                            min(_LANES, end - t), at, row, tree, kind, x, sums,
                            column, leaf, value, fallback, span, slope_feature, slope,
                        )
            for i in range(count):
                sums[i] += base[e]                     # last, so that sums of whole quanta are exact before it
                softmax(sums[i], out[first + i, place[e]])


class Scalars:
    """The tables of forests, and the kernel that walks them."""

    def __init__(self, forests: Mapping[int, Forest]) -> None:
        """forests: by their place among those that are answered."""
        self._tables = _join(forests.values())
        self._place = np.array(list(forests), np.int64)

    def answer(self, rows: F32, out: F32) -> None:
        """(n, F) C-contiguous float32 -> out (n, forests, 3), at these forests' places."""
        _answer(rows, out, self._place, *self._tables)

    @property
    def nbytes(self) -> int:
        return sum(table.nbytes for table in self._tables)


class _Tables(NamedTuple):
    """What the kernel walks.

    forests: (k, 3) first tree, end of the trees, kind. root, column: (T,) slot where a tree begins, class it speaks
    for. link: (slots,) slot of the left child and column of x, packed; a leaf links to itself. threshold: (slots,)
    NaN at leaves, so that no step leaves them. leaf: (slots,) where in `value` a leaf's answer stands. base: (k, 3).
    fallback, span: per value, what a linear leaf falls back to and which slopes are its own; empty where no forest
    is linear.
    """

    forests: I64
    root: I64
    column: I64
    link: I64
    threshold: F32
    leaf: I64
    value: F64
    base: F64
    fallback: F64
    span: I64
    slope_feature: I64
    slope: F64


def _join(forests: Iterable[Forest]) -> _Tables:
    """The tables of all forests behind one another."""
    packed: list[_Tables] = []
    trees = slots = values = slopes = 0
    for forest in forests:
        packed.append(_pack(forest, trees, slots, values, slopes))
        trees += packed[-1].root.size
        slots += packed[-1].link.size
        values += packed[-1].value.size
        slopes += packed[-1].slope.size
    joined = _Tables(*map(np.concatenate, zip(*packed, strict=True)))
    return joined if slopes else joined._replace(fallback=joined.fallback[:0], span=joined.span[:0])


def _pack(forest: Forest, trees: int, slots: int, values: int, slopes: int) -> _Tables:
    """One forest's tables, behind so many trees, slots, values and slopes of others.

    S splits and T trees take 2·S + T slots: the children of split s at 2·s and 2·s + 1, then the roots. A split that
    two parents share stands in two slots, which lead to the same children.
    """
    forest = forest.spread()
    width = forest.value.shape[1]
    kind = _LINEAR if forest.linear else _PLAIN if width == 1 else _VECTOR
    node = np.concatenate([np.stack([forest.left, forest.right], 1).ravel(), forest.root]).astype(np.int64)
    inner = node >= 0
    split = node[inner]
    link = np.arange(slots, slots + node.size) << _FEATURE_BITS
    x_column = forest.feature[split] + forest.n_features * forest.nan_right[split].astype(np.int64)
    link[inner] = (slots + 2 * split) << _FEATURE_BITS | x_column
    threshold = np.full(node.size, np.nan, np.float32)
    threshold[inner] = forest.threshold[split]

    value = forest.value.ravel()
    start = forest.slope_start if forest.linear else np.zeros(value.size + 1, np.int64)
    return _Tables(
        forests=np.array([[trees, trees + forest.root.size, kind]]),
        root=slots + 2 * forest.feature.size + np.arange(forest.root.size),
        column=forest.tree_class.astype(np.int64),
        link=link,
        threshold=threshold,
        leaf=np.where(inner, 0, values + width * ~node),
        value=value,
        base=forest.base[None],
        fallback=forest.fallback if forest.linear else value,
        span=slopes + np.stack([start[:-1], start[1:]], 1).astype(np.int64),
        slope_feature=forest.slope_feature.astype(np.int64),
        slope=forest.slope,
    )
