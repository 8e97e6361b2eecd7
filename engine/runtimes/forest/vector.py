"""Forests answered lane by lane: 64 trees at once for a few rows, 128 rows at once for many.

A row's features become bins once for all forests that share a table. What leaves say are whole numbers of quanta, so their
sums are exact: a row gets the same bits in whatever order its trees are summed, on this path and on the portable one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...jit import entry, subkernel
from ...types import CLASSES, F32
from .lanes import (
    EXITS,
    HALF,
    ROWS,
    TOP,
    TREES,
    add_four,
    add_of_32,
    add_of_64,
    add_trees,
    bytes_at,
    doubles_at,
    level_of_rows,
    level_of_trees,
    lowest,
    numbers_at,
    places_at,
    rank,
    score_large_trees,
    score_rows,
    score_rows_of_large,
    score_trees,
    shorts_at,
    singles_at,
    sum_of_trees,
    top_of_rows,
    top_of_trees,
    words_at,
)
from .scalar import softmax
from .tables import DEEP, MEDIUM, MOST_FEATURES, SMALL, SYMMETRIC, Plan, Section

if TYPE_CHECKING:
    from .layout import Forest

K = len(CLASSES)

_MISSING = 255
_BIN_TABLE = 17 * 16 * 4
"""bytes of a feature's table."""

_COLUMNS = 2 * MOST_FEATURES
_FEW = 24
"""Rows that are quicker answered one after the other, 64 trees at a time."""

_BLOCKS = 4
"""Of 128 rows, that are answered together."""

_FEW_ONE_BY_ONE = 8
"""The same, tree after tree."""

_QUICK_NS = 100_000
"""A call that takes less keeps the interpreter's lock: giving it away costs a whole switch interval where somebody waits."""

_TREE_NS = 6
"""A tree and a row, roughly."""

_LINE = 64
"""bytes of a cache line, and of a register."""

_TABLE, _FEATURES, _FEATURE = range(3)
"""Words of a table of bins: where it lies, how many features, which."""

_TABLE_WORDS = 3
(
    _FOREST, _KIND, _BINS, _GROUPS, _WIDTH, _STRIDE, _DEPTH, _COLUMN, _NUMBER, _KEPT, _LEAVES, _COUNTS, _CLASSES, _STEPS, _EXITS,
    _NODES, _VALUES, _BASE,
) = range(18)
"""Words of a section."""
_SECTION_WORDS = 18

_TABLES, _SECTIONS, _FORESTS = range(3)
"""Words of a plan: how many; then where they lie, and of each forest its base, its quantum, its place among those asked, and
whether its trees speak for all classes."""
_AT_TABLES, _AT_SECTIONS, _AT_BASE, _AT_QUANTA, _AT_PLACES, _AT_VECTORS = range(3, 9)


@subkernel
def _bins_of_row(table: Any, row: Any, low: int, high: int, stride: int) -> None:
    """A row's bins to low and high (feature · stride) bytes."""
    features, feature = table[_FEATURES], places_at(table[_FEATURE])
    to_low, to_high = bytes_at(low), bytes_at(high)
    for f in range(features):
        x = row[feature[f]]
        if x - x == 0.0:
            bin_ = rank(table[_TABLE] + f * _BIN_TABLE, x)
            to_low[f * stride] = bin_
            to_high[f * stride] = bin_
        else:                                          # NaN or infinite
            to_low[f * stride] = 0
            to_high[f * stride] = _MISSING


@subkernel
def _answer(plan: Any, sums: Any, forest: int, stride: int, margins: Any, out: Any) -> None:
    """Sums of quanta, `stride` apart per class, -> probabilities."""
    base, quantum = doubles_at(plan[_AT_BASE]), doubles_at(plan[_AT_QUANTA])[forest]
    for c in range(K):
        margins[c] = base[forest * K + c] + sums[c * stride] * quantum
    softmax(margins, out)


# ---- few rows: lanes of trees


@subkernel
def _ways_of_trees(section: Any, group: int, bins: int, way: int) -> None:
    """The ways of a row through 64 trees, (2, 64) bytes, low and high."""
    kind, steps = section[_KIND], places_at(section[_STEPS])[group]
    table = group * section[_DEPTH] * TREES
    columns, numbers = section[_COLUMN] + table, section[_NUMBER] + table
    if kind == SYMMETRIC:
        for level in range(steps):
            at = level * TREES
            level_of_trees(bins, columns + at, numbers + at, 1 << (level & 7), way + (level >> 3) * TREES)
    elif kind == SMALL:
        score_trees(bins, columns, numbers, section[_KEPT] + table * 4, steps, way)
    elif kind == MEDIUM:
        score_large_trees(bins, columns, numbers, section[_KEPT] + table * 8, steps, way)
    else:
        top_of_trees(bins, columns, numbers, way)


@subkernel
def _ways_of_trees_one_by_one(section: Any, group: int, bins: Any, way: Any) -> None:
    """The same, where no permutation looks up 64 trees' features."""
    kind, steps = section[_KIND], places_at(section[_STEPS])[group]
    table = group * section[_DEPTH] * TREES
    columns, numbers = bytes_at(section[_COLUMN] + table), bytes_at(section[_NUMBER] + table)
    if kind == SYMMETRIC:
        for level in range(steps):
            to = (level >> 3) * TREES
            for lane in range(TREES):
                at = level * TREES + lane
                way[to + lane] |= np.uint8(bins[np.int64(columns[at])] > numbers[at]) << (level & 7)
    elif kind in (SMALL, MEDIUM):
        small, large = words_at(section[_KEPT] + table * 4), places_at(section[_KEPT] + table * 8)
        for lane in range(TREES):
            standing: Any = np.int64(-1)
            for at in range(lane, steps * TREES, TREES):
                if bins[np.int64(columns[at])] > numbers[at]:
                    standing &= np.int64(small[at]) if kind == SMALL else np.int64(large[at])
            way[lane] = lowest(standing)
    else:
        for lane in range(TREES):
            way[lane] = 1
        for _ in range(TOP):
            for lane in range(TREES):
                at = lane + TREES * int(way[lane])
                way[lane] = 2 * np.int64(way[lane]) + np.int64(bins[np.int64(columns[at])] > numbers[at])
        for lane in range(TREES):
            way[lane] -= EXITS


@subkernel
def _walk_trees(section: Any, group: int, bins: Any, way: Any, node: Any) -> None:
    """From the ways out of 64 trees' top levels down to their leaves' nodes."""
    exits, nodes = shorts_at(section[_EXITS] + group * TREES * EXITS * 2), words_at(section[_NODES])
    base = places_at(section[_BASE] + group * TREES * 8)
    for lane in range(TREES):
        node[lane] = base[lane] + np.int64(exits[lane * EXITS + np.int64(way[lane])])
    for _ in range(places_at(section[_STEPS])[group]):
        for lane in range(TREES):
            word = np.int64(nodes[node[lane]])
            node[lane] = base[lane] + (word >> 16) + np.int64(np.int64(bins[word & 255]) > ((word >> 8) & 255))


@subkernel
def _add_group(section: Any, group: int, bins: int, way: int, node: Any, sums: int, wide: Any) -> None:
    """Add what 64 trees say of a row to its sums (4,).

    wide: None where there is no AVX-512, so that no such instruction is compiled.
    """
    words, low, high = places_at(way), bytes_at(way), bytes_at(way + TREES)
    for k in range(2 * TREES // 8):
        words[k] = 0
    if wide is None:
        _ways_of_trees_one_by_one(section, group, bytes_at(bins), low)
    else:
        _ways_of_trees(section, group, bins, way)
    which, stride = places_at(section[_CLASSES])[group], section[_STRIDE]
    total = np.int64(0)
    if section[_KIND] == DEEP:
        values = numbers_at(section[_VALUES])
        _walk_trees(section, group, bytes_at(bins), low, node)
        if which >= 0:
            for lane in range(TREES):
                total += values[node[lane]]
        else:
            for lane in range(TREES):
                add_four(section[_VALUES] + node[lane] * 16, sums)
    else:
        leaves_at = section[_LEAVES] + group * TREES * section[_WIDTH] * stride * 4
        if which < 0:
            add_trees(way, way + TREES, leaves_at, stride, sums)
        elif wide is not None:
            total = sum_of_trees(way, way + TREES, leaves_at, stride)
        else:
            leaves = numbers_at(leaves_at)
            for lane in range(TREES):
                total += leaves[lane * stride + (np.int64(low[lane]) | np.int64(high[lane]) << 8)]
    if which >= 0:
        places_at(sums)[which] += total


@subkernel
def _few_rows(rows: int, n: int, width: int, plan: Any, out: int, forests: int, wide: Any) -> None:
    known = plan[_FORESTS]
    bins, sums = np.empty(n * _COLUMNS, np.uint8), np.zeros(n * known * 4, np.int64)
    space = np.empty((2 + 8) * TREES + 8 * K, np.uint8)
    way, node, margins = space.ctypes.data, places_at(space.ctypes.data + 2 * TREES), doubles_at(space.ctypes.data + 10 * TREES)
    for t in range(plan[_TABLES]):
        table = places_at(plan[_AT_TABLES] + t * _TABLE_WORDS * 8)
        for i in range(n):
            row = bins.ctypes.data + i * _COLUMNS
            _bins_of_row(table, singles_at(rows + i * width * 4), row, row + MOST_FEATURES, 1)
        for s in range(plan[_SECTIONS]):
            section = places_at(plan[_AT_SECTIONS] + s * _SECTION_WORDS * 8)
            if section[_BINS] == t:
                for group in range(section[_GROUPS]):
                    for i in range(n):
                        to = sums.ctypes.data + (i * known + section[_FOREST]) * 32
                        _add_group(section, group, bins.ctypes.data + i * _COLUMNS, way, node, to, wide)
    for i in range(n):
        for e in range(known):
            _answer(plan, places_at(sums.ctypes.data + (i * known + e) * 32), e, 1, margins,
                    singles_at(out + (i * forests + places_at(plan[_AT_PLACES])[e]) * K * 4))


# ---- many rows: lanes of rows


@subkernel
def _ways_of_rows(section: Any, tree: int, bins: int, way: int) -> None:
    """The ways of 128 rows through a tree, (2, 128) bytes, low and high."""
    kind, group, lane = section[_KIND], tree // TREES, tree % TREES
    table, steps = group * section[_DEPTH] * TREES + lane, places_at(section[_STEPS])[group]
    columns, numbers = section[_COLUMN] + table, section[_NUMBER] + table
    if kind == SYMMETRIC:
        cleared = places_at(way)
        for k in range(2 * ROWS // 8):
            cleared[k] = 0
        for level in range(steps):
            column, number = np.int64(bytes_at(columns)[level * TREES]), np.int64(bytes_at(numbers)[level * TREES])
            level_of_rows(bins + column * ROWS, number, 1 << (level & 7), way + (level >> 3) * ROWS)
    elif kind == SMALL:
        for half in range(0, ROWS, HALF):
            score_rows(bins + half, columns, numbers, section[_KEPT] + table * 4, steps, way + half)
    elif kind == MEDIUM:
        for half in range(0, ROWS, HALF):
            score_rows_of_large(bins + half, columns, numbers, section[_KEPT] + table * 8, steps, way + half)
    else:
        top_of_rows(bins, columns, numbers, way)


@subkernel
def _walk_rows(section: Any, tree: int, rows: int, bins: Any, way: Any, node: Any) -> None:
    exits, nodes = shorts_at(section[_EXITS] + tree * EXITS * 2), words_at(section[_NODES] + places_at(section[_BASE])[tree] * 4)
    for i in range(rows):
        node[i] = exits[np.int64(way[i])]
    for _ in range(places_at(section[_STEPS])[tree // TREES]):
        for i in range(rows):
            word = np.int64(nodes[node[i]])
            node[i] = (word >> 16) + np.int64(np.int64(bins[(word & 255) * ROWS + i]) > ((word >> 8) & 255))


@subkernel
def _add_tree(section: Any, tree: int, rows: int, bins: int, way: int, node: Any, sums: int, wide: Any) -> None:
    """Add what a tree says of 128 rows to their sums: (3, 128), or (128, 4) of trees that speak for all classes."""
    _ways_of_rows(section, tree, bins, way)
    which, stride = places_at(section[_CLASSES])[tree // TREES], section[_STRIDE]
    leaves_at, low, high = section[_LEAVES] + tree * section[_WIDTH] * stride * 4, bytes_at(way), bytes_at(way + ROWS)
    total, leaves = places_at(sums + which * ROWS * 8), numbers_at(leaves_at)
    if section[_KIND] == DEEP:
        _walk_rows(section, tree, rows, bytes_at(bins), low, node)
        values_at = section[_VALUES] + places_at(section[_BASE])[tree] * section[_WIDTH] * 4
        values = numbers_at(values_at)
        if which >= 0:
            for i in range(rows):
                total[i] += values[node[i]]
        else:
            for i in range(rows):
                add_four(values_at + node[i] * 16, sums + i * 32)
    elif which < 0:
        if section[_KIND] == SYMMETRIC:
            for i in range(rows):
                add_four(leaves_at + (np.int64(low[i]) | np.int64(high[i]) << 8) * 16, sums + i * 32)
        else:
            for i in range(rows):
                add_four(leaves_at + np.int64(low[i]) * 16, sums + i * 32)
    elif wide is not None and stride == HALF // 2:
        add_of_32(way, leaves_at, sums + which * ROWS * 8)
    elif wide is not None and stride == HALF:
        add_of_64(way, leaves_at, sums + which * ROWS * 8)
    elif section[_KIND] == SYMMETRIC:
        for i in range(rows):
            total[i] += leaves[np.int64(low[i]) | np.int64(high[i]) << 8]
    else:
        for i in range(rows):
            total[i] += leaves[np.int64(low[i])]


@subkernel
def _many_rows(rows: int, n: int, width: int, plan: Any, out: int, forests: int, wide: Any) -> None:
    """64 trees' tables are read once for several blocks of 128 rows: together they are larger than a near cache."""
    known, most = plan[_FORESTS], min(_BLOCKS, (n + ROWS - 1) // ROWS)
    bins, sums = np.empty(most * _COLUMNS * ROWS, np.uint8), np.empty(most * known * 4 * ROWS, np.int64)
    space = np.empty((2 + 8) * ROWS + 8 * K, np.uint8)
    way, node, margins = space.ctypes.data, places_at(space.ctypes.data + 2 * ROWS), doubles_at(space.ctypes.data + 10 * ROWS)
    for first in range(0, n, most * ROWS):
        count = min(most * ROWS, n - first)
        sums[:] = 0
        for t in range(plan[_TABLES]):
            table = places_at(plan[_AT_TABLES] + t * _TABLE_WORDS * 8)
            for i in range(count):
                low = bins.ctypes.data + i // ROWS * _COLUMNS * ROWS + i % ROWS
                _bins_of_row(table, singles_at(rows + (first + i) * width * 4), low, low + MOST_FEATURES * ROWS, ROWS)
            for s in range(plan[_SECTIONS]):
                section = places_at(plan[_AT_SECTIONS] + s * _SECTION_WORDS * 8)
                if section[_BINS] == t:
                    for group in range(section[_GROUPS]):
                        for start in range(0, count, ROWS):
                            block = start // ROWS
                            to = sums.ctypes.data + (block * known + section[_FOREST]) * ROWS * 32
                            for tree in range(group * TREES, group * TREES + places_at(section[_COUNTS])[group]):
                                _add_tree(section, tree, min(ROWS, count - start), bins.ctypes.data + block * _COLUMNS * ROWS,
                                          way, node, to, wide)
        for e in range(known):
            apart, next_row = (1, 4) if places_at(plan[_AT_VECTORS])[e] else (ROWS, 1)
            for i in range(count):
                said = ((i // ROWS * known + e) * 4 * ROWS + i % ROWS * next_row) * 8
                _answer(plan, places_at(sums.ctypes.data + said), e, apart, margins,
                        singles_at(out + ((first + i) * forests + places_at(plan[_AT_PLACES])[e]) * K * 4))


def _answer_wide(rows: int, n: int, width: int, plan: int, out: int, forests: int) -> int:
    """With AVX-512 VBMI."""
    if n <= _FEW:
        _few_rows(rows, n, width, places_at(plan), out, forests, 1)
    else:
        _many_rows(rows, n, width, places_at(plan), out, forests, 1)
    return 0


def _answer_narrow(rows: int, n: int, width: int, plan: int, out: int, forests: int) -> int:
    if n <= _FEW_ONE_BY_ONE:
        _few_rows(rows, n, width, places_at(plan), out, forests, None)
    else:
        _many_rows(rows, n, width, places_at(plan), out, forests, None)
    return 0


class Vectors:
    """The tables of a plan, and the kernels that read them."""

    def __init__(self, plan: Plan, forests: Sequence[Forest], wide: bool) -> None:
        """wide: with AVX-512 VBMI."""
        self._held: list[NDArray[Any]] = []
        known = plan.found
        tables = [(self._at(bins.table()), bins.features.size, self._at(bins.features)) for bins in plan.bins]
        sections = [self._section(section, known.index(section.forest)) for section in plan.sections]
        base = np.array([forests[place].base for place in known])
        quanta = np.array([forests[place].quantum for place in known])
        self._plan = self._at(np.array([
            len(tables), len(sections), len(known), self._at(np.array(tables, np.int64)), self._at(np.array(sections, np.int64)),
            self._at(base), self._at(quanta), self._at(np.array(known, np.int64)),
            self._at(np.array([forests[place].value.shape[1] == K for place in known], np.int64)),
        ], np.int64))
        self._forests = len(forests)
        self._quick = _QUICK_NS // max(1, _TREE_NS * sum(int(section.counts.sum()) for section in plan.sections))
        function = _answer_wide if wide else _answer_narrow
        self._holding, self._releasing = entry(function, 6), entry(function, 6, releasing=True)

    def answer(self, rows: F32, out: F32) -> None:
        """(n, F) C-contiguous float32 -> out (n, forests, 3), at the places of the plan's forests."""
        call = self._holding if len(rows) <= self._quick else self._releasing
        call(rows.ctypes.data, len(rows), rows.shape[1], self._plan, out.ctypes.data, self._forests)

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self._held)

    def _section(self, section: Section, forest: int) -> list[int]:
        groups, depth, _ = section.columns.shape
        _, stride, width = section.leaves.shape
        return [
            forest, section.kind, section.bins, groups, width, stride, depth,
            *(self._at(array) for array in (
                section.columns, section.numbers, section.kept, section.leaves, section.counts, section.classes, section.steps,
                section.exits, section.nodes, section.values, section.base,
            )),
        ]

    def _at(self, array: NDArray[Any]) -> int:
        """Where a copy lies that a register's width divides, kept as long as this."""
        space = np.empty(array.nbytes + _LINE, np.uint8)
        first = -space.ctypes.data % _LINE
        space[first : first + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self._held.append(space)
        return space.ctypes.data + first
