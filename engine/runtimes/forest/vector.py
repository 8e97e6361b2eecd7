"""Forests answered lane by lane: 64 trees at once for a few rows, 128 rows at once for many.

A row's features become bins once for all forests that share a table. What leaves say are whole numbers of quanta, so their
sums are exact: a row gets the same bits in whatever order its trees are summed, on this path and on the portable one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...jit import INTEGER, SINGLES, entry, subkernel
from ...types import CLASSES, F32
from .lanes import (
    EXITS,
    ROWS,
    TOP,
    TREES,
    add_four,
    add_fours,
    add_of_32,
    add_of_64,
    add_trees,
    as_places,
    bytes_at,
    doubles_at,
    level_of_rows,
    level_of_trees,
    look_up_64,
    look_up_128,
    look_up_256,
    look_up_512,
    mark_rows,
    mark_trees,
    numbers_at,
    places_at,
    rank,
    shorts_at,
    singles_at,
    step_down,
    sum_of_trees,
    top_of_rows,
    top_of_trees,
    words_at,
)
from .scalar import softmax
from .tables import DEEP, FLAT, FULL, HALF, MARKED, MOST_FEATURES, SYMMETRIC, Plan, Section

if TYPE_CHECKING:
    from .layout import Forest

K = len(CLASSES)

_MISSING = 255
_BIN_TABLE = 17 * 16 * 4
"""bytes of a feature's table."""

_COLUMNS = 2 * MOST_FEATURES
_FEW = 40
"""Rows that are quicker answered one after the other, 64 trees at a time."""

_FEW_ONE_BY_ONE = 8
"""The same, tree after tree."""

_BLOCKS = 8
"""Of 128 rows, that are answered together."""

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
    _FOREST, _KIND, _BINS, _GROUPS, _WIDTH, _STRIDE, _DEPTH, _COLUMN, _NUMBER, _MARKS, _RIGHTS, _LEAVES, _COUNTS, _CLASSES,
    _STEPS, _NODES, _VALUES, _BASE, _COLUMN_BY_TREE, _NUMBER_BY_TREE, _MARKS_BY_TREE,
) = range(21)
"""Words of a section. By tree: (64 · groups, n) instead of (groups, n, 64): whoever goes through a tree alone reads few lines."""
_SECTION_WORDS = 21

_TABLES, _SECTIONS, _FORESTS = range(3)
"""Words of a plan: how many; then where they lie, and of each forest its base, its quantum, its place among those asked, and
whether its trees speak for all classes."""
_AT_TABLES, _AT_SECTIONS, _AT_BASE, _AT_QUANTA, _AT_PLACES, _AT_VECTORS = range(3, 9)


@subkernel
def _bins_of_row(table: Any, row: Any, to: int, stride: int) -> None:
    """A row's bins to (column · stride) bytes."""
    features, feature, bins = table[_FEATURES], places_at(table[_FEATURE]), bytes_at(to)
    for f in range(features):
        x = row[feature[f]]
        left = (f & HALF - 1 | (f & HALF) << 1) * stride
        right = left + HALF * stride
        if x - x == 0.0:
            bin_ = rank(table[_TABLE] + f * _BIN_TABLE, x)
            bins[left] = bin_
            bins[right] = bin_
        else:                                          # NaN or infinite
            bins[left] = 0
            bins[right] = _MISSING


@subkernel
def _answer(plan: Any, sums: Any, forest: int, stride: int, margins: Any, out: Any) -> None:
    """Sums of quanta, `stride` apart per class, -> probabilities."""
    base, quantum = doubles_at(plan[_AT_BASE]), doubles_at(plan[_AT_QUANTA])[forest]
    for c in range(K):
        margins[c] = base[forest * K + c] + sums[c * stride] * quantum
    softmax(margins, out)


# ---- few rows: lanes of trees


@subkernel
def _ways_of_trees(section: Any, group: int, bins: int, way: int, registers: Any) -> None:
    """The ways of a row through 64 trees, (2, 64) bytes, low and high."""
    kind, steps = section[_KIND], places_at(section[_STEPS])[group]
    table = group * section[_DEPTH] * TREES
    columns, numbers = section[_COLUMN] + table, section[_NUMBER] + table
    if kind == SYMMETRIC:
        for level in range(steps):
            at = level * TREES
            level_of_trees(bins, columns + at, numbers + at, 1 << (level & 7), way + (level >> 3) * TREES, registers)
    elif kind == MARKED:
        mark_trees(bins, columns, numbers, section[_MARKS] + table, steps, way, registers)
    else:
        top_of_trees(bins, columns, numbers, way, registers)


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
    elif kind == MARKED:
        marks, rights = bytes_at(section[_MARKS] + table), bytes_at(section[_RIGHTS] + table)
        for lane in range(TREES):
            split: Any = np.int64(0)
            mark: Any = np.int64(0)
            asks: Any = True
            while asks:
                at = split * TREES + lane
                if bins[np.int64(columns[at])] > numbers[at]:
                    mark, split = split + 1, np.int64(rights[at])
                    asks = split > 0
                else:
                    split += 1
                    asks = split < steps and np.int64(marks[at + TREES]) == mark
            way[lane] = mark
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
    nodes, base = words_at(section[_NODES]), places_at(section[_BASE] + group * TREES * 8)
    for lane in range(TREES):
        node[lane] = base[lane] + np.int64(way[lane])
    for _ in range(places_at(section[_STEPS])[group]):
        for lane in range(TREES):
            word = np.int64(nodes[node[lane]])
            node[lane] = base[lane] + (word >> 16) + np.int64(np.int64(bins[word & 255]) > ((word >> 8) & 255))


@subkernel
def _step_trees_down(section: Any, group: int, bins: Any, way: Any, node: Any) -> None:
    """From the ways out of 64 full trees' top levels down to their places on the last level."""
    stride = section[_STRIDE]
    splits = shorts_at(section[_NODES] + group * TREES * (stride - EXITS) * 2)
    for lane in range(TREES):
        node[lane] = way[lane]
    size = EXITS
    while size < stride:
        for lane in range(TREES):
            split = np.int64(splits[lane * (stride - EXITS) + size - EXITS + node[lane]])
            node[lane] = 2 * node[lane] + np.int64(np.int64(bins[split & 255]) > split >> 8)
        size *= 2


@subkernel
def _add_group(section: Any, group: int, bins: int, way: int, node: Any, sums: int, registers: Any) -> None:
    """Add what 64 trees say of a row to its sums (4,).

    registers: as lanes.py has it; None where there is no AVX-512, so that no such instruction is compiled.
    """
    words, low, high = places_at(way), bytes_at(way), bytes_at(way + TREES)
    for k in range(2 * TREES // 8):
        words[k] = 0
    if registers is None:
        _ways_of_trees_one_by_one(section, group, bytes_at(bins), low)
    else:
        _ways_of_trees(section, group, bins, way, registers)
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
    elif section[_KIND] == FULL:
        leaves_at = section[_LEAVES] + group * TREES * section[_WIDTH] * stride * 4
        leaves = numbers_at(leaves_at)
        _step_trees_down(section, group, bytes_at(bins), low, node)
        if which >= 0:
            for lane in range(TREES):
                total += leaves[lane * stride + node[lane]]
        else:
            for lane in range(TREES):
                add_four(leaves_at + (lane * stride + node[lane]) * 16, sums)
    else:
        leaves_at = section[_LEAVES] + group * TREES * section[_WIDTH] * stride * 4
        if which < 0:
            add_trees(way, way + TREES, leaves_at, stride, sums)
        elif registers is not None:
            total = sum_of_trees(way, way + TREES, leaves_at, stride)
        else:
            leaves = numbers_at(leaves_at)
            for lane in range(TREES):
                total += leaves[lane * stride + (np.int64(low[lane]) | np.int64(high[lane]) << 8)]
    if which >= 0:
        places_at(sums)[which] += total


@subkernel
def _few_rows(rows: int, n: int, width: int, plan: Any, out: int, forests: int, registers: Any) -> None:
    known = plan[_FORESTS]
    bins, sums = np.empty(n * _COLUMNS, np.uint8), np.zeros(n * known * 4, np.int64)
    space = np.empty((2 + 8) * TREES + 8 * K, np.uint8)
    way, node, margins = space.ctypes.data, places_at(space.ctypes.data + 2 * TREES), doubles_at(space.ctypes.data + 10 * TREES)
    for t in range(plan[_TABLES]):
        table = places_at(plan[_AT_TABLES] + t * _TABLE_WORDS * 8)
        for i in range(n):
            _bins_of_row(table, singles_at(rows + i * width * 4), bins.ctypes.data + i * _COLUMNS, 1)
        for s in range(plan[_SECTIONS]):
            section = places_at(plan[_AT_SECTIONS] + s * _SECTION_WORDS * 8)
            if section[_BINS] == t:
                for group in range(section[_GROUPS]):
                    for i in range(n):
                        to = sums.ctypes.data + (i * known + section[_FOREST]) * 32
                        _add_group(section, group, bins.ctypes.data + i * _COLUMNS, way, node, to, registers)
    for i in range(n):
        for e in range(known):
            _answer(plan, places_at(sums.ctypes.data + (i * known + e) * 32), e, 1, margins,
                    singles_at(out + (i * forests + places_at(plan[_AT_PLACES])[e]) * K * 4))


# ---- many rows: lanes of rows


@subkernel
def _ways_of_rows(section: Any, tree: int, bins: int, way: int) -> None:
    """The ways of 128 rows through a tree, (2, 128) bytes, low and high."""
    table, steps = tree * section[_DEPTH], places_at(section[_STEPS])[tree // TREES]
    columns, numbers = section[_COLUMN_BY_TREE] + table, section[_NUMBER_BY_TREE] + table
    if section[_KIND] == SYMMETRIC:
        cleared = places_at(way)
        for k in range(2 * ROWS // 8):
            cleared[k] = 0
        for level in range(steps):
            column, number = np.int64(bytes_at(columns)[level]), np.int64(bytes_at(numbers)[level])
            level_of_rows(bins + column * ROWS, number, 1 << (level & 7), way + (level >> 3) * ROWS)
    else:
        top_of_rows(bins, columns, numbers, way)


@subkernel
def _walk_rows(section: Any, tree: int, rows: int, bins: Any, way: Any, node: Any) -> None:
    """From the ways out of a tree's top levels down to the rows' leaves' nodes."""
    nodes = words_at(section[_NODES] + places_at(section[_BASE])[tree] * 4)
    for i in range(rows):
        node[i] = way[i]
    for _ in range(places_at(section[_STEPS])[tree // TREES]):
        for i in range(rows):
            word = np.int64(nodes[node[i]])
            node[i] = (word >> 16) + np.int64(np.int64(bins[(word & 255) * ROWS + i]) > ((word >> 8) & 255))


@subkernel
def _step_rows_down(section: Any, tree: int, rows: int, bins: Any, way: int, places: int, registers: Any) -> None:
    """From the rows' ways out of a full tree's top levels down to their places, (128,) shorts, on the last level."""
    stride = section[_STRIDE]
    splits, size = section[_NODES] + tree * (stride - EXITS) * 2, EXITS
    asked, at, found = places + 2 * ROWS, places + 4 * ROWS, places + 6 * ROWS
    place, bin_at, bin_ = shorts_at(places), shorts_at(at), bytes_at(found)
    as_places(way, places)
    while size < stride:
        if registers is not None:
            if size == EXITS:
                look_up_64(splits, places, asked, at)
            elif size == 2 * EXITS:
                look_up_128(splits, places, asked, at)
            elif size == 4 * EXITS:
                look_up_256(splits, places, asked, at)
            else:
                look_up_512(splits, places, asked, at)
            for i in range(rows):
                bin_[i] = bins[np.int64(bin_at[i])]
            step_down(asked, found, places)
        else:
            level = shorts_at(splits)
            for i in range(rows):
                split = np.int64(level[np.int64(place[i])])
                place[i] = 2 * np.int64(place[i]) + np.int64(np.int64(bins[(split & 255) * ROWS + i]) > split >> 8)
        splits += size * 2
        size *= 2


@subkernel
def _add_tree(section: Any, tree: int, rows: int, bins: int, way: int, places: int, sums: int, registers: Any) -> None:
    """Add what a tree says of 128 rows to their sums: (3, 128), or (128, 4) of trees that speak for all classes."""
    _ways_of_rows(section, tree, bins, way)
    which, stride = places_at(section[_CLASSES])[tree // TREES], section[_STRIDE]
    leaves_at, low, high = section[_LEAVES] + tree * section[_WIDTH] * stride * 4, bytes_at(way), bytes_at(way + ROWS)
    total, leaves = places_at(sums + which * ROWS * 8), numbers_at(leaves_at)
    if section[_KIND] == DEEP:
        node = places_at(places)
        _walk_rows(section, tree, rows, bytes_at(bins), low, node)
        values_at = section[_VALUES] + places_at(section[_BASE])[tree] * section[_WIDTH] * 4
        values = numbers_at(values_at)
        if which >= 0:
            for i in range(rows):
                total[i] += values[node[i]]
        else:
            for i in range(rows):
                add_four(values_at + node[i] * 16, sums + i * 32)
    elif section[_KIND] == FULL:
        place = shorts_at(places)
        _step_rows_down(section, tree, rows, bytes_at(bins), way, places, registers)
        if which >= 0:
            for i in range(rows):
                total[i] += leaves[np.int64(place[i])]
        else:
            for i in range(rows):
                add_four(leaves_at + np.int64(place[i]) * 16, sums + i * 32)
    elif which < 0:
        if section[_KIND] == SYMMETRIC:
            for i in range(rows):
                add_four(leaves_at + (np.int64(low[i]) | np.int64(high[i]) << 8) * 16, sums + i * 32)
        else:
            for i in range(rows):
                add_four(leaves_at + np.int64(low[i]) * 16, sums + i * 32)
    elif registers is not None and stride == EXITS // 2:
        add_of_32(way, leaves_at, sums + which * ROWS * 8)
    elif registers is not None and stride == EXITS:
        add_of_64(way, leaves_at, sums + which * ROWS * 8)
    elif section[_KIND] == SYMMETRIC:
        for i in range(rows):
            total[i] += leaves[np.int64(low[i]) | np.int64(high[i]) << 8]
    else:
        for i in range(rows):
            total[i] += leaves[np.int64(low[i])]


@subkernel
def _ways_of_rows_in_two(section: Any, tree: int, bins: int, way: int, other: int) -> None:
    if section[_KIND] == MARKED:
        table = tree * section[_DEPTH]
        mark_rows(bins, section[_COLUMN_BY_TREE] + table, section[_NUMBER_BY_TREE] + table, section[_MARKS_BY_TREE] + table,
                  section[_DEPTH], places_at(section[_STEPS])[tree // TREES], way, other)
    else:
        _ways_of_rows(section, tree, bins, way)
        _ways_of_rows(section, tree + 1, bins, other)


@subkernel
def _add_two_trees(section: Any, tree: int, rows: int, bins: int, way: int, sums: int, registers: Any) -> None:
    """The same of two trees, where a byte holds their ways. Behind a group's last tree is one that says nothing."""
    which, stride = places_at(section[_CLASSES])[tree // TREES], section[_STRIDE]
    _ways_of_rows_in_two(section, tree, bins, way, way + 2 * ROWS)
    bytes_each = stride * section[_WIDTH] * 4
    leaves, one, other = section[_LEAVES] + tree * bytes_each, bytes_at(way), bytes_at(way + 2 * ROWS)
    if which < 0:
        for i in range(rows):
            add_fours(leaves + np.int64(one[i]) * 16, leaves + bytes_each + np.int64(other[i]) * 16, sums + i * 32)
    elif registers is not None and stride == EXITS // 2:
        add_of_32(way, leaves, sums + which * ROWS * 8)
        add_of_32(way + 2 * ROWS, leaves + bytes_each, sums + which * ROWS * 8)
    elif registers is not None and stride == EXITS:
        add_of_64(way, leaves, sums + which * ROWS * 8)
        add_of_64(way + 2 * ROWS, leaves + bytes_each, sums + which * ROWS * 8)
    else:
        total, said, also = places_at(sums + which * ROWS * 8), numbers_at(leaves), numbers_at(leaves + bytes_each)
        for i in range(rows):
            total[i] += np.int64(said[np.int64(one[i])]) + np.int64(also[np.int64(other[i])])


@subkernel
def _add_group_of_rows(
    section: Any, group: int, rows: int, bins: int, way: int, places: int, sums: int, registers: Any
) -> None:
    """Add what a group's trees say of up to 128 rows to their sums."""
    in_pairs = section[_KIND] == MARKED or (
        section[_KIND] in (FLAT, SYMMETRIC) and section[_WIDTH] == 4 and section[_STRIDE] <= 256
    )
    tree, end = group * TREES, group * TREES + places_at(section[_COUNTS])[group]
    while tree < end:
        if in_pairs:
            _add_two_trees(section, tree, rows, bins, way, sums, registers)
            tree += 2
        else:
            _add_tree(section, tree, rows, bins, way, places, sums, registers)
            tree += 1


@subkernel
def _many_rows(rows: int, n: int, width: int, plan: Any, out: int, forests: int, registers: Any) -> None:
    """64 trees' tables are read once for several blocks of 128 rows: all together they are larger than a near cache."""
    known, most = plan[_FORESTS], min(_BLOCKS, (n + ROWS - 1) // ROWS)
    bins, sums = np.empty(most * _COLUMNS * ROWS, np.uint8), np.empty(most * known * 4 * ROWS, np.int64)
    space = np.empty((4 + 8) * ROWS + 8 * K, np.uint8)
    way, places, margins = space.ctypes.data, space.ctypes.data + 4 * ROWS, doubles_at(space.ctypes.data + 12 * ROWS)
    for first in range(0, n, most * ROWS):
        count = min(most * ROWS, n - first)
        sums[:] = 0
        for t in range(plan[_TABLES]):
            table = places_at(plan[_AT_TABLES] + t * _TABLE_WORDS * 8)
            for i in range(count):
                to = bins.ctypes.data + i // ROWS * _COLUMNS * ROWS + i % ROWS
                _bins_of_row(table, singles_at(rows + (first + i) * width * 4), to, ROWS)
            for s in range(plan[_SECTIONS]):
                section = places_at(plan[_AT_SECTIONS] + s * _SECTION_WORDS * 8)
                if section[_BINS] == t:
                    for group in range(section[_GROUPS]):
                        for block in range((count + ROWS - 1) // ROWS):
                            _add_group_of_rows(
                                section, group, min(ROWS, count - block * ROWS), bins.ctypes.data + block * _COLUMNS * ROWS,
                                way, places, sums.ctypes.data + (block * known + section[_FOREST]) * ROWS * 32, registers,
                            )
        for e in range(known):
            apart, next_row = (1, 4) if places_at(plan[_AT_VECTORS])[e] else (ROWS, 1)
            for i in range(count):
                said = ((i // ROWS * known + e) * 4 * ROWS + i % ROWS * next_row) * 8
                _answer(plan, places_at(sums.ctypes.data + said), e, apart, margins,
                        singles_at(out + ((first + i) * forests + places_at(plan[_AT_PLACES])[e]) * K * 4))


@subkernel
def _answer_rows(rows: F32, plan: int, out: F32, few: int, registers: Any) -> int:
    n, width = rows.shape
    if n <= few:
        _few_rows(rows.ctypes.data, n, width, places_at(plan), out.ctypes.data, out.shape[1], registers)
    else:
        _many_rows(rows.ctypes.data, n, width, places_at(plan), out.ctypes.data, out.shape[1], registers)
    return 0


def _answer_wide(rows: F32, plan: int, out: F32) -> int:
    """With AVX-512 VBMI."""
    return int(_answer_rows(rows, plan, out, _FEW, (0, 0)))


def _answer_broad(rows: F32, plan: int, out: F32) -> int:
    """The same, of more than HALF features."""
    return int(_answer_rows(rows, plan, out, _FEW, (0, 0, 0, 0)))


def _answer_narrow(rows: F32, plan: int, out: F32) -> int:
    """Without."""
    return int(_answer_rows(rows, plan, out, _FEW_ONE_BY_ONE, None))


_ARGUMENTS = SINGLES[0], INTEGER, SINGLES[1]


class Vectors:
    """The tables of a plan, and the kernels that read them."""

    def __init__(self, plan: Plan, forests: Sequence[Forest], wide: bool) -> None:
        """wide: with AVX-512 VBMI."""
        self._held: list[NDArray[Any]] = []
        known = plan.found
        addresses = iter(self._side_by_side([
            *(array for bins in plan.bins for array in (bins.table(), bins.features)),
            *(array for section in plan.sections for array in _arrays(section)),
        ]))
        tables = [(next(addresses), bins.features.size, next(addresses)) for bins in plan.bins]
        sections = [
            (*_sizes(section, known.index(section.forest)), *islice(addresses, len(_arrays(section))))
            for section in plan.sections
        ]
        words = self._side_by_side([
            np.array(tables, np.int64), np.array(sections, np.int64), np.array([forests[place].base for place in known]),
            np.array([forests[place].quantum for place in known]), np.array(known, np.int64),
            np.array([forests[place].value.shape[1] == K for place in known], np.int64),
        ])
        self._plan, = self._side_by_side([np.array([len(tables), len(sections), len(known), *words], np.int64)])
        self._quick = _QUICK_NS // max(1, _TREE_NS * sum(int(section.counts.sum()) for section in plan.sections))
        broad = any(bins.features.size > HALF for bins in plan.bins)
        function = _answer_narrow if not wide else _answer_broad if broad else _answer_wide
        self._holding, self._releasing = entry(function, _ARGUMENTS), entry(function, _ARGUMENTS, releasing=True)

    def answer(self, rows: F32, out: F32) -> None:
        """(n, F) C-contiguous float32 -> out (n, forests, 3), at the places of the plan's forests."""
        call = self._holding if len(rows) <= self._quick else self._releasing
        call(rows, self._plan, out)

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self._held)

    def _side_by_side(self, arrays: Sequence[NDArray[Any]]) -> list[int]:
        """Where copies lie, kept as long as this: each where a register's width divides, all in one piece, which the system
        maps in large pages. Trees are met at random; in small pages a walk would wait for addresses too."""
        space = np.empty(sum(-(-array.nbytes // _LINE) * _LINE for array in arrays) + _LINE, np.uint8)
        self._held.append(space)
        at = -space.ctypes.data % _LINE
        found = []
        for array in arrays:
            space[at : at + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            found.append(space.ctypes.data + at)
            at += -(-array.nbytes // _LINE) * _LINE
        return found


def _sizes(section: Section, forest: int) -> tuple[int, ...]:
    """The words of a section before its addresses."""
    groups, depth, _ = section.columns.shape
    _, stride, width = section.leaves.shape
    return forest, section.kind, section.bins, groups, width, stride, depth


def _arrays(section: Section) -> tuple[NDArray[Any], ...]:
    """What those point to."""
    depth = section.columns.shape[1]
    return (
        section.columns, section.numbers, section.marks, section.rights, section.leaves, section.counts, section.classes,
        section.steps, section.nodes, section.values, section.base,
        *(table.reshape(-1, depth, TREES).transpose(0, 2, 1) for table in (section.columns, section.numbers, section.marks)),
    )
