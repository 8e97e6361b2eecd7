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
    ROWS,
    TREES,
    add_by_lookup,
    bytes_at,
    doubles_at,
    level_of_rows,
    level_of_trees,
    numbers_at,
    places_at,
    rank,
    shorts_at,
    singles_at,
    split_of_rows,
    sum_of_trees,
    top_of_rows,
    top_of_trees,
    words_at,
)
from .scalar import softmax
from .tables import DEEP, FLAT, MOST_FEATURES, SYMMETRIC, Plan, Section

if TYPE_CHECKING:
    from .layout import Forest

K = len(CLASSES)

_MISSING = 255
_BIN_TABLE = 17 * 16 * 4
"""bytes of a feature's table."""

_COLUMNS = 2 * MOST_FEATURES
_TEMPORARIES = 16
"""Places of a program beside the leaves: a tree of 64 leaves needs 7."""

_FEW = 24
"""Rows that are quicker answered one after the other, 64 trees at a time."""

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
    _FOREST, _KIND, _BINS, _GROUPS, _WIDTH, _STRIDE, _LEVELS, _COUNTS, _COLUMN, _NUMBER, _LEAVES, _CLASSES, _STEPS, _EXITS,
    _NODES, _VALUES, _BASE, _STARTS, _PROGRAM,
) = range(19)
"""Words of a section."""
_SECTION_WORDS = 19

_TABLES, _SECTIONS, _FORESTS = range(3)
"""Counts at the beginning of the plan; then where tables, sections, bases, quanta and the places of forests lie."""
_AT_TABLES, _AT_SECTIONS, _AT_BASE, _AT_QUANTA, _AT_PLACES = range(3, 8)


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
def _add_trees(section: Any, group: int, bins: int, way: int, node: Any, sums: Any) -> None:
    """Add what 64 trees say of a row to its sums (3,). way: (2, 64) bytes of the ways they go."""
    kind, width, stride = section[_KIND], section[_WIDTH], section[_STRIDE]
    which = places_at(section[_CLASSES])[group]
    cleared = places_at(way)
    for k in range(2 * TREES // 8):
        cleared[k] = 0
    table = group * section[_LEVELS] * TREES
    if kind == SYMMETRIC:
        for level in range(places_at(section[_STEPS])[group]):
            at = table + level * TREES
            level_of_trees(
                bins, section[_COLUMN] + at, section[_NUMBER] + at, 1 << (level & 7), way + (level >> 3) * TREES
            )
    else:
        top_of_trees(bins, section[_COLUMN] + table, section[_NUMBER] + table, way)
    if kind != DEEP:
        leaves = section[_LEAVES] + group * TREES * width * stride * 4
        if which >= 0:
            sums[which] += sum_of_trees(way, way + TREES, leaves, stride)
        else:
            for c in range(K):
                sums[c] += sum_of_trees(way, way + TREES, leaves + c * stride * 4, K * stride)
        return
    values = numbers_at(section[_VALUES])
    _walk_trees(section, group, bytes_at(bins), bytes_at(way), node)
    if which >= 0:
        total = np.int64(0)
        for lane in range(TREES):
            total += values[node[lane]]
        sums[which] += total
    else:
        for lane in range(TREES):
            for c in range(K):
                sums[c] += values[node[lane] * K + c]


@subkernel
def _few_rows(rows: int, n: int, width: int, plan: Any, out: int, forests: int) -> None:
    known = plan[_FORESTS]
    bins, space, all_sums = np.empty(n * _COLUMNS, np.uint8), np.empty(18 * TREES + K, np.int64), np.zeros(n * known * K, np.int64)
    way, node, margins = space.ctypes.data, places_at(space.ctypes.data + 2 * TREES), doubles_at(space.ctypes.data + 17 * 8 * TREES)
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
                        sums = places_at(all_sums.ctypes.data + (i * known + section[_FOREST]) * K * 8)
                        _add_trees(section, group, bins.ctypes.data + i * _COLUMNS, way, node, sums)
    for i in range(n):
        for e in range(known):
            _answer(plan, places_at(all_sums.ctypes.data + (i * known + e) * K * 8), e, 1, margins,
                    singles_at(out + (i * forests + places_at(plan[_AT_PLACES])[e]) * K * 4))


# ---- many rows: lanes of rows


@subkernel
def _way_of_rows(section: Any, tree: int, bins: int, places: int, way: int) -> bool:
    """The ways of 128 rows through a tree, (2, 128) bytes; whether its leaves are counted by them, or it must be walked on."""
    group, lane = tree // TREES, tree % TREES
    table = group * section[_LEVELS] * TREES + lane
    if section[_KIND] == SYMMETRIC:
        cleared = places_at(way)
        for k in range(2 * ROWS // 8):
            cleared[k] = 0
        columns, numbers = bytes_at(section[_COLUMN] + table), bytes_at(section[_NUMBER] + table)
        for level in range(places_at(section[_STEPS])[group]):
            at = level * TREES
            level_of_rows(
                bins + np.int64(columns[at]) * ROWS, np.int64(numbers[at]), 1 << (level & 7), way + (level >> 3) * ROWS
            )
        return True
    starts = places_at(section[_STARTS])
    if section[_KIND] == FLAT or starts[tree] == starts[tree + 1]:
        top_of_rows(bins, section[_COLUMN] + table, section[_NUMBER] + table, way)
        return section[_KIND] == FLAT
    program = places_at(section[_PROGRAM])
    last = starts[tree + 1] - 1
    for k in range(starts[tree], last + 1):
        step = program[k]
        split_of_rows(
            bins + (step & 255) * ROWS, (step >> 8) & 255, places + ((step >> 16) & 255) * ROWS,
            places + ((step >> 24) & 255) * ROWS, way if k == last else places + ((step >> 32) & 255) * ROWS,
        )
    return True


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
def _add_rows(section: Any, tree: int, rows: int, bins: int, places: int, way: int, node: Any, sums: int, wide: Any) -> None:
    """Add what a tree says of 128 rows to their sums (3, 128). wide: None where there is no AVX-512, so that no such instruction is
    compiled."""
    width, stride = section[_WIDTH], section[_STRIDE]
    which = places_at(section[_CLASSES])[tree // TREES]
    if _way_of_rows(section, tree, bins, places, way):
        for c in range(width):
            leaves_at = section[_LEAVES] + (tree * width + c) * stride * 4
            sums_at = sums + (which if which >= 0 else c) * ROWS * 8
            if wide is not None and stride == EXITS:
                add_by_lookup(way, leaves_at, sums_at)
            else:
                leaves, total, low, high = numbers_at(leaves_at), places_at(sums_at), bytes_at(way), bytes_at(way + ROWS)
                if section[_KIND] == SYMMETRIC:
                    for i in range(rows):
                        total[i] += leaves[np.int64(low[i]) | np.int64(high[i]) << 8]
                else:
                    for i in range(rows):
                        total[i] += leaves[np.int64(low[i])]
        return
    _walk_rows(section, tree, rows, bytes_at(bins), bytes_at(way), node)
    values = numbers_at(section[_VALUES] + places_at(section[_BASE])[tree] * width * 4)
    for c in range(width):
        total = places_at(sums + (which if which >= 0 else c) * ROWS * 8)
        for i in range(rows):
            total[i] += values[node[i] * width + c]


@subkernel
def _many_rows(rows: int, n: int, width: int, plan: Any, out: int, forests: int, wide: Any) -> None:
    known = plan[_FORESTS]
    bins, all_sums = np.empty(_COLUMNS * ROWS, np.uint8), np.empty(known * K * ROWS, np.int64)
    space = np.empty((EXITS + _TEMPORARIES + 2 + 8) * ROWS + 64, np.uint8)
    places = space.ctypes.data
    way, at_node = places + (EXITS + _TEMPORARIES) * ROWS, places + (EXITS + _TEMPORARIES + 2) * ROWS
    node, margins = places_at(at_node), doubles_at(at_node + 8 * ROWS)
    for place in range(EXITS):                         # of programs: leaf k is a vector of k
        space[place * ROWS : (place + 1) * ROWS] = place
    for first in range(0, n, ROWS):
        count = min(ROWS, n - first)
        all_sums[:] = 0
        for t in range(plan[_TABLES]):
            table = places_at(plan[_AT_TABLES] + t * _TABLE_WORDS * 8)
            for i in range(count):
                low = bins.ctypes.data + i
                _bins_of_row(table, singles_at(rows + (first + i) * width * 4), low, low + MOST_FEATURES * ROWS, ROWS)
            for s in range(plan[_SECTIONS]):
                section = places_at(plan[_AT_SECTIONS] + s * _SECTION_WORDS * 8)
                if section[_BINS] == t:
                    sums = all_sums.ctypes.data + section[_FOREST] * K * ROWS * 8
                    for group in range(section[_GROUPS]):
                        for tree in range(group * TREES, group * TREES + places_at(section[_COUNTS])[group]):
                            _add_rows(section, tree, count, bins.ctypes.data, places, way, node, sums, wide)
        for i in range(count):
            for e in range(known):
                _answer(plan, places_at(all_sums.ctypes.data + (e * K * ROWS + i) * 8), e, ROWS, margins,
                        singles_at(out + ((first + i) * forests + places_at(plan[_AT_PLACES])[e]) * K * 4))


def _answer_wide(rows: int, n: int, width: int, plan: int, out: int, forests: int) -> int:
    """With AVX-512 VBMI."""
    if n <= _FEW:
        _few_rows(rows, n, width, places_at(plan), out, forests)
    else:
        _many_rows(rows, n, width, places_at(plan), out, forests, 1)
    return 0


def _answer_narrow(rows: int, n: int, width: int, plan: int, out: int, forests: int) -> int:
    _many_rows(rows, n, width, places_at(plan), out, forests, None)
    return 0


class Vectors:
    """The tables of a plan, and the kernels that read them."""

    def __init__(self, plan: Plan, forests: Sequence[Forest], wide: bool) -> None:
        """wide: with AVX-512 VBMI."""
        self._held: list[NDArray[Any]] = []
        known = sorted(plan.quanta)
        tables = [(self._at(bins.table()), bins.features.size, self._at(bins.features)) for bins in plan.bins]
        sections = [self._section(section, known.index(section.forest)) for section in plan.sections]
        base = np.array([forests[place].base for place in known])
        quanta = np.array([plan.quanta[place] for place in known])
        self._plan = self._at(np.array([
            len(tables), len(sections), len(known), self._at(np.array(tables, np.int64)), self._at(np.array(sections, np.int64)),
            self._at(base), self._at(quanta), self._at(np.array(known, np.int64)),
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
        groups, levels, _ = section.columns.shape
        stride = section.leaves.shape[2]
        return [
            forest, section.kind, section.bins, groups, section.values.shape[1], stride, levels,
            *(self._at(array) for array in (
                section.counts, section.columns, section.numbers, section.leaves, section.classes, section.steps, section.exits, section.nodes,
                section.values, section.base, section.program_start, section.program,
            )),
        ]

    def _at(self, array: NDArray[Any]) -> int:
        """Where a copy lies that a register's width divides, kept as long as this."""
        space = np.empty(array.nbytes + _LINE, np.uint8)
        first = -space.ctypes.data % _LINE
        space[first : first + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self._held.append(space)
        return space.ctypes.data + first
