"""Forests laid out for lanes: their thresholds numbered, their trees sorted into groups of 64 that are walked together.

What can be laid out so answers by `vector.py`; what can't (linear leaves, leaves beyond what an int32 can tell apart, more
features or deeper trees than the tables' numbers hold) is left to the portable kernel. The choice depends on the forest
alone, never on its neighbours or the machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...jit import kernel
from ...types import CLASSES, F32, I64
from .lanes import BELOW, EXITS, MOST_BINS, TOP, TREES

if TYPE_CHECKING:
    from .layout import Forest

K = len(CLASSES)

HALF = 64
"""Features of which a byte permutation looks up both columns."""

MOST_FEATURES = 2 * HALF
"""A byte numbers their columns: the first half's, of those that send a missing value left, then right, then the second half's."""

MOST_SPLITS = 2**15 - EXITS
"""Of a tree: its nodes are numbered in 16 bits."""

MOST_LEVELS = 12
"""Of a symmetric tree, whose leaves lie side by side for 64 trees."""

FLAT, FULL, DEEP, SYMMETRIC, MARKED = range(5)
"""Kinds of trees: answered by their top levels alone; with at most BELOW levels below, laid out as if all were there; walked on
from node to node; the same question for all on a level; of few leaves, all of whose splits speak."""

_STRIDES = 32, 64, 128, 256
"""Room for the leaves of marked trees."""

_CHEAP = 20
"""So many splits are asked sooner one by one than the top levels all at once."""

_COARSE = 16
NEVER = 255
"""The number of a split that sends nobody right."""


@dataclass(eq=False)
class Bins:
    """Thresholds that trees ask about together: at most MOST_FEATURES features, MOST_BINS thresholds each."""

    asked: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    """(feature, threshold) pairs, each once, rising."""

    def joined_with(self, asked: NDArray[np.uint64]) -> NDArray[np.uint64] | None:
        """All pairs together, None where they are too many."""
        both = np.union1d(self.asked, asked)
        _, counts = np.unique(both >> np.uint64(32), return_counts=True)
        return both if counts.size <= MOST_FEATURES and counts.max(initial=0) <= MOST_BINS else None

    @property
    def features(self) -> I64:
        return np.unique(self.asked >> np.uint64(32)).astype(np.int64)

    def table(self) -> F32:
        """(features, 17, 16) as `lanes.rank` reads it."""
        features = self.features
        table = np.full((features.size, 1 + _COARSE, _COARSE), np.inf, np.float32)
        owner, threshold = _apart(self.asked)
        for place, feature in enumerate(features):
            fine = np.full(_COARSE * _COARSE, np.inf, np.float32)
            own = threshold[owner == feature]
            fine[: own.size] = own
            table[place, 1:] = fine.reshape(_COARSE, _COARSE)
            table[place, 0] = table[place, 1:, 0]
        return table

    def numbered(self, asked: Asked) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """(S,) place of the feature and number of every split that asks about what is here."""
        feature = asked.pairs >> np.uint64(32)
        number = np.searchsorted(self.asked, asked.pairs) - np.searchsorted(self.asked >> np.uint64(32), feature)
        place = np.searchsorted(self.features, feature.astype(np.int64))
        return place.astype(np.uint8)[asked.of], number.astype(np.uint8)[asked.of]


class Asked(NamedTuple):
    """What a forest's splits ask about: (feature, threshold) pairs, each once, rising; of: (S,) which of them each split does."""

    pairs: NDArray[np.uint64]
    of: I64


def asked_by(forest: Forest) -> Asked:
    pairs, of = np.unique(_pairs(forest.feature, forest.threshold), return_inverse=True)
    return Asked(pairs, of.astype(np.int64))


def _pairs(feature: NDArray[np.int32], threshold: F32) -> NDArray[np.uint64]:
    """(feature, threshold) as numbers that sort as the pairs do."""
    bits = (threshold + np.float32(0)).view(np.uint32)         # -0 is 0
    rising = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return feature.astype(np.uint64) << np.uint64(32) | rising.astype(np.uint64)


def _apart(pairs: NDArray[np.uint64]) -> tuple[I64, F32]:
    rising = (pairs & np.uint64(2**32 - 1)).astype(np.uint32)
    bits = np.where(rising >> 31, rising & np.uint32(2**31 - 1), ~rising)
    return (pairs >> np.uint64(32)).astype(np.int64), bits.astype(np.uint32).view(np.float32)


class Section(NamedTuple):
    """Trees of one forest and one kind, in groups of 64; a group speaks for one class, or all its trees for all three.

    columns, numbers: (groups, n, 64) bytes, n EXITS, levels or splits: of the splits of the top levels (NEVER where there is
    none), of the levels of symmetric trees, of all splits of marked ones, beside whose marks stands which split is to the right
    (0: a leaf). leaves: (64 · groups, stride, width) int32 by way out, place on the last level, levels' bits, or mark; width 1,
    or 4 of which the last is 0. counts: (groups,) trees. classes: (groups,), -1 for all three. steps: (groups,) levels below
    the top, levels of symmetric trees, splits of marked ones.

    Of full trees: nodes: (64 · groups, stride - EXITS) column and number of a split in a short, level by level.

    Of deep trees: nodes: column, number and left child in a word, the right child behind the left, a leaf its own child; values
    (nodes, width); base (64 · groups,) a tree's first node, which stands behind the first way out, and so on.
    """

    forest: int
    kind: int
    bins: int
    columns: NDArray[np.uint8]
    numbers: NDArray[np.uint8]
    marks: NDArray[np.uint8]
    rights: NDArray[np.uint8]
    leaves: NDArray[np.int32]
    counts: I64
    classes: I64
    steps: I64
    nodes: NDArray[np.unsignedinteger[Any]]
    values: NDArray[np.int32]
    base: I64


class Plan(NamedTuple):
    """Tables for the forests that lanes can answer, and the places of those they can't."""

    bins: list[Bins]
    sections: list[Section]
    found: list[int]
    """Places of the forests that are in them."""
    left: list[int]


def plan(forests: Sequence[Forest]) -> Plan:
    """Lay out what can be of forests as they are answered (`Forest.exact`)."""
    tables: list[Bins] = []
    found: dict[int, tuple[Shape, Asked, list[tuple[I64, int]]]] = {}
    for place, forest in enumerate(forests):
        shape, asked = survey(forest) if forest.quantum else None, asked_by(forest)
        runs = shape and _runs(asked, shape.owner, np.arange(forest.root.size))
        if shape and runs:
            found[place] = shape, asked, [(trees, _home(tables, pairs)) for trees, pairs in runs]
    sections = [
        section
        for place, (shape, asked, runs) in found.items() for trees, home in runs
        for section in _sections(forests[place], place, trees, home, tables[home].numbered(asked), shape)
    ]
    return Plan(tables, sections, list(found), [place for place in range(len(forests)) if place not in found])


def _units(forest: Forest) -> NDArray[np.int32]:
    """(L, 1) leaves in quanta, or (L, 4): three as four, which one register takes."""
    units = np.rint(forest.value / forest.quantum).astype(np.int32)
    return np.pad(units, [(0, 0), (0, 1)]) if units.shape[1] == K else units


def _runs(asked: Asked, owner: I64, trees: I64) -> list[tuple[I64, NDArray[np.uint64]]] | None:
    """The trees in as few runs as halving gives whose thresholds a byte can number, with these; None if one alone has more."""
    pairs = asked.pairs[np.unique(asked.of[np.isin(owner, trees)])] if trees.size < owner.max(initial=-1) + 1 else asked.pairs
    if Bins().joined_with(pairs) is not None:
        return [(trees, pairs)]
    halves = [_runs(asked, owner, half) for half in np.array_split(trees, 2)] if trees.size > 1 else [None]
    return None if None in halves else [run for half in halves for run in half or ()]


def _home(tables: list[Bins], asked: NDArray[np.uint64]) -> int:
    """The first table that has room for these thresholds, with them."""
    for place, table in enumerate(tables):
        both = table.joined_with(asked)
        if both is not None:
            table.asked = both
            return place
    tables.append(Bins(asked))
    return len(tables) - 1


class Shape(NamedTuple):
    """owner: (S,) the tree of each split or level. depth, size: (T,) levels, and splits as a tree without shared parts has."""

    owner: I64
    depth: I64
    size: I64


def survey(forest: Forest) -> Shape | None:
    """None where a tree is too large for the tables, or shares a split with another."""
    if forest.symmetric:
        depth = np.diff(forest.level_start).astype(np.int64)
        return None if depth.max() > MOST_LEVELS else Shape(np.repeat(np.arange(depth.size), depth), depth, depth)
    splits, trees = forest.feature.size, forest.root.size
    shape = Shape(np.full(splits, -1), np.zeros(trees, np.int64), np.zeros(trees, np.int64))
    apart = _survey(forest.left, forest.right, forest.root, *shape)
    return shape if apart and shape.size.max() <= MOST_SPLITS else None


@kernel
def _survey(
    left: NDArray[np.int32], right: NDArray[np.int32], root: NDArray[np.int32], owner: I64, depth: I64, size: I64
) -> bool:
    """Children stand behind their parents, so one pass back counts what is below, and one forward says whose it is: False if
    two trees share a split."""
    levels, below = np.zeros(left.size, np.int64), np.zeros(left.size, np.int64)
    for s in range(left.size - 1, -1, -1):
        for child in (left[s], right[s]):
            if child >= 0:
                levels[s] = max(levels[s], levels[child])
                below[s] += below[child]
        levels[s] += 1
        below[s] = min(below[s] + 1, MOST_SPLITS + 1)
    for t in range(root.size):
        if root[t] >= 0:
            if owner[root[t]] >= 0:
                return False
            owner[root[t]], depth[t], size[t] = t, levels[root[t]], below[root[t]]
    for s in range(left.size):
        for child in (left[s], right[s]):
            if child >= 0 and owner[s] >= 0:
                if owner[child] >= 0 and owner[child] != owner[s]:
                    return False
                owner[child] = owner[s]
    return True


def _sections(
    forest: Forest, place: int, trees: I64, home: int, numbered: tuple[NDArray[np.uint8], NDArray[np.uint8]], shape: Shape
) -> Iterator[Section]:
    feature = numbered[0]
    column = feature % HALF + np.uint8(HALF) * forest.nan_right + feature // HALF * np.uint8(2 * HALF)
    tables = _Tables(forest, place, home, column, numbered[1], shape, _units(forest))
    if forest.symmetric:
        deepest = np.maximum(shape.depth[trees], TOP)          # all leaves of a section take as much room as those of its deepest
        for depth in np.unique(deepest):
            yield tables.symmetric(trees[deepest == depth])
        return
    size, depth = shape.size[trees], shape.depth[trees]
    kind = np.select([size <= _CHEAP, depth <= TOP, size < _STRIDES[-1]], [MARKED, FLAT, MARKED], DEEP)
    could_be_full = (size >= EXITS) & (depth > TOP) & (depth <= TOP + BELOW)
    if (could_be_full & (kind == DEEP)).any():             # the others would fill groups of their own less
        kind[could_be_full] = FULL
    for one, make in ((FLAT, tables.flat), (FULL, tables.full), (DEEP, tables.deep)):
        if (kind == one).any():
            yield make(trees[kind == one])
    room = np.array(_STRIDES)[np.searchsorted(_STRIDES, size, "right").clip(max=len(_STRIDES) - 1)]
    for stride in np.unique(room[kind == MARKED]):
        yield tables.marked(trees[(kind == MARKED) & (room == stride)], int(stride))


class _Tables(NamedTuple):
    """What the tables of a forest are filled from."""

    forest: Forest
    place: int
    home: int
    column: NDArray[np.uint8]
    number: NDArray[np.uint8]
    shape: Shape
    units: NDArray[np.int32]
    """(L, width)"""

    def _section(self, kind: int, trees: I64, steps: I64, depth: int) -> tuple[Section, I64]:
        """Without splits yet, and the tree of each lane. depth: of its tables; 0: as many as the steps."""
        lanes, counts, classes, steps = _grouped(trees, self.forest.tree_class.astype(np.int64), steps)
        shape = classes.size, depth or max(1, int(steps.max())), TREES
        width = self.units.shape[1]
        return Section(
            self.place, kind, self.home, np.zeros(shape, np.uint8), np.full(shape, NEVER, np.uint8), np.zeros(0, np.uint8),
            np.zeros(0, np.uint8), np.zeros((lanes.size, 1, width), np.int32), counts, classes, steps, np.zeros(0, np.uint32),
            np.zeros((0, width), np.int32), np.zeros(0, np.int64),
        ), lanes

    def symmetric(self, trees: I64) -> Section:
        depth = self.shape.depth
        section, lanes = self._section(SYMMETRIC, trees, depth, 0)
        stride = max(EXITS, 1 << section.columns.shape[1])
        section = section._replace(leaves=np.zeros((lanes.size, stride, self.units.shape[1]), np.int32))
        for at, tree in enumerate(lanes):
            if tree >= 0:
                levels = slice(self.forest.level_start[tree], self.forest.level_start[tree + 1])
                group, lane, leaf = at // TREES, at % TREES, ~self.forest.root[tree]
                section.columns[group, :depth[tree], lane] = self.column[levels]
                section.numbers[group, :depth[tree], lane] = self.number[levels]
                section.leaves[at, :1 << depth[tree]] = self.units[leaf : leaf + (1 << depth[tree])]
        return section

    def flat(self, trees: I64) -> Section:
        section, lanes, ways = self._top(FLAT, trees)
        return section._replace(leaves=np.where((lanes >= 0)[:, None, None], self.units[~ways], 0))

    def full(self, trees: I64) -> Section:
        section, lanes, ways = self._top(FULL, trees)
        levels = int(self.shape.depth[trees].max())
        nodes = np.full((lanes.size, (1 << levels) - EXITS), NEVER << 8, np.uint16)
        leaves = np.zeros((lanes.size, 1 << levels, self.units.shape[1]), np.int32)
        _fill_full(self.forest.left, self.forest.right, self.column, self.number, self.units, lanes, ways, nodes, leaves)
        return section._replace(nodes=nodes, leaves=leaves)

    def deep(self, trees: I64) -> Section:
        section, lanes, ways = self._top(DEEP, trees)
        sizes = np.where(lanes >= 0, self.shape.size[lanes], 0)
        nodes, base = np.zeros(int((2 * sizes + EXITS).sum()), np.uint32), np.zeros(lanes.size, np.int64)
        values = np.zeros((nodes.size, self.units.shape[1]), np.int32)
        used = _fill_below(
            self.forest.left, self.forest.right, self.column, self.number, self.units, lanes, ways, nodes, values, base
        )
        return section._replace(nodes=nodes[:used], values=values[:used], base=base)

    def _top(self, kind: int, trees: I64) -> tuple[Section, I64, NDArray[np.int32]]:
        """And what stands behind each way out."""
        section, lanes = self._section(kind, trees, np.maximum(self.shape.depth - TOP, 0), EXITS)
        ways = np.zeros((lanes.size, EXITS), np.int32)
        _fill_top(
            self.forest.left, self.forest.right, self.column, self.number, self.forest.root, lanes, section.columns,
            section.numbers, ways,
        )
        return section, lanes, ways

    def marked(self, trees: I64, stride: int) -> Section:
        section, lanes = self._section(MARKED, trees, self.shape.size, 0)
        marks, rights = np.zeros(section.columns.shape, np.uint8), np.zeros(section.columns.shape, np.uint8)
        leaves = np.zeros((lanes.size, stride, self.units.shape[1]), np.int32)
        _fill_marked(
            self.forest.left, self.forest.right, self.column, self.number, self.forest.root, self.units, lanes, section.columns,
            section.numbers, marks, rights, leaves,
        )
        return section._replace(marks=marks, rights=rights, leaves=leaves)


def _grouped(trees: I64, classes: I64, steps: I64) -> tuple[I64, I64, I64, I64]:
    """Trees in groups of 64 of one class and of like steps, -1 behind a group's last; count, class and steps of each group."""
    lanes, group_class, group_steps = [], [], []
    for one in np.unique(classes[trees]):
        own = trees[classes[trees] == one]
        own = own[np.argsort(steps[own], kind="stable")]
        own = np.concatenate([own, np.full(-own.size % TREES, -1)])
        lanes.append(own)
        most = np.where(own >= 0, steps[own], 0).reshape(-1, TREES).max(1)
        group_steps.append(most)
        group_class.append(np.full(most.size, one))
    placed = np.concatenate(lanes)
    return placed, (placed >= 0).reshape(-1, TREES).sum(1), np.concatenate(group_class), np.concatenate(group_steps)


@kernel
def _fill_top(
    left: NDArray[np.int32], right: NDArray[np.int32], column: NDArray[np.uint8], number: NDArray[np.uint8],
    root: NDArray[np.int32], lanes: I64, columns: NDArray[np.uint8], numbers: NDArray[np.uint8], ways: NDArray[np.int32],
) -> None:
    """The splits of the top levels as in a heap, and what stands behind each way out: a split, or leaf ~way."""
    stack = np.empty((2 * TOP, 3), np.int64)
    for at in range(lanes.size):
        if lanes[at] < 0:
            continue
        stack[0, 0], stack[0, 1], stack[0, 2], high = root[lanes[at]], 1, 0, 1
        while high:
            high -= 1
            node, place, level = stack[high]
            if level == TOP or node < 0:
                first = (place << (TOP - level)) - EXITS
                ways[at, first : first + (1 << (TOP - level))] = node
                continue
            columns[at // TREES, place, at % TREES] = column[node]
            numbers[at // TREES, place, at % TREES] = number[node]
            stack[high, 0], stack[high, 1], stack[high, 2] = left[node], 2 * place, level + 1
            stack[high + 1, 0], stack[high + 1, 1], stack[high + 1, 2] = right[node], 2 * place + 1, level + 1
            high += 2


@kernel
def _fill_full(
    left: NDArray[np.int32], right: NDArray[np.int32], column: NDArray[np.uint8], number: NDArray[np.uint8],
    units: NDArray[np.int32], lanes: I64, ways: NDArray[np.int32], nodes: NDArray[np.uint16], leaves: NDArray[np.int32],
) -> None:
    """Splits and leaves below the top. Where there is no split nobody goes right, so that a leaf above the last level is its
    leftmost below."""
    most = leaves.shape[1]
    here, below = np.empty(most, np.int32), np.empty(most, np.int32)        # what stands on a level, on the next one
    for at in range(lanes.size):
        if lanes[at] < 0:
            continue
        here[:EXITS] = ways[at]
        size = EXITS
        while size < most:
            for place in range(size):
                node = here[place]
                if node >= 0:
                    nodes[at, size - EXITS + place] = np.uint16(column[node]) | np.uint16(number[node]) << 8
                    below[2 * place], below[2 * place + 1] = left[node], right[node]
                else:
                    below[2 * place] = below[2 * place + 1] = node
            here, below, size = below, here, 2 * size
        for place in range(most):
            leaves[at, place] = units[~here[place]]


@kernel
def _fill_below(
    left: NDArray[np.int32], right: NDArray[np.int32], column: NDArray[np.uint8], number: NDArray[np.uint8],
    units: NDArray[np.int32], lanes: I64, ways: NDArray[np.int32], nodes: NDArray[np.uint32], values: NDArray[np.int32],
    base: I64,
) -> int:
    """The nodes below the top, level by level; how many there are."""
    used = 0
    known = np.empty(nodes.size, np.int32)             # which split or leaf each node is
    for at in range(lanes.size):
        base[at] = here = used
        used += EXITS
        if lanes[at] < 0:                              # leaves that say nothing
            for way in range(EXITS):
                nodes[here + way] = NEVER << 8 | way << 16
            continue
        known[here:used] = ways[at]
        while here < used:
            node = known[here]
            if node >= 0:
                nodes[here] = column[node] | number[node] << 8 | (used - base[at]) << 16
                known[used], known[used + 1] = left[node], right[node]
                used += 2
            else:
                nodes[here] = NEVER << 8 | (here - base[at]) << 16
                values[here] = units[~node]
            here += 1
    return used


@kernel
def _fill_marked(
    left: NDArray[np.int32], right: NDArray[np.int32], column: NDArray[np.uint8], number: NDArray[np.uint8],
    root: NDArray[np.int32], units: NDArray[np.int32], lanes: I64, columns: NDArray[np.uint8], numbers: NDArray[np.uint8],
    marks: NDArray[np.uint8], rights: NDArray[np.uint8], leaves: NDArray[np.int32],
) -> None:
    """Every split, parents first and the left one behind its parent, with the mark of those it asks; leaves by their marks."""
    stack = np.empty((leaves.shape[1], 2), np.int64)   # what is yet to be met, and its mark
    for at in range(lanes.size):
        if lanes[at] < 0:
            continue
        group, lane = at // TREES, at % TREES
        split, high = 0, 1
        stack[0, 0], stack[0, 1] = root[lanes[at]], 0
        while high:
            high -= 1
            node, mark = stack[high]
            if node < 0:
                leaves[at, mark] = units[~node]
                continue
            columns[group, split, lane], numbers[group, split, lane] = column[node], number[node]
            marks[group, split, lane] = mark
            if mark > 0 and rights[group, mark - 1, lane] == 0:        # the first with its mark is whom it was given by
                rights[group, mark - 1, lane] = split
            split += 1
            stack[high, 0], stack[high, 1] = right[node], split
            stack[high + 1, 0], stack[high + 1, 1] = left[node], mark
            high += 2
