"""Vector instructions for kernels: one step over 64 trees or 128 rows at a time, as LLVM writes it for the machine.

Features are numbers of bins here, a byte each: how many of the thresholds that a table's trees ask about lie at or below
the value. A split says right where bin > number. A missing value has bin 0 in the column of those that send it left, and
255 in the column of those that send it right. Everything is an address; `tables.py` says what lies there.

Steps over trees need AVX-512 VBMI, whose permutation looks up 128 bytes at once. Steps over rows name no instructions and
become AVX2 or AVX-512, as the machine has them, but for `add_of_*` and `look_up_*`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

TREES = 64
"""Lanes of a step over trees."""

ROWS = 128
"""Lanes of a step over rows."""

TOP = 6
"""Levels that are answered without a branch."""

EXITS = 1 << TOP
"""Ways out of those levels. Their splits are numbered 1 to EXITS - 1, as in a heap."""

BELOW = 4
"""Levels below those whose splits can lie in registers."""

MOST_BINS = 255
"""Thresholds of a feature that a byte can count."""

_I1, _I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
_FLOAT = ir.FloatType()
_WORD = 16
"""Lanes of 32 bits in one register."""


def _vector(element: Any, lanes: int) -> Any:
    return ir.VectorType(element, lanes)


def _all(element: Any, lanes: int, value: int) -> Any:
    return ir.Constant(_vector(element, lanes), [value] * lanes)


def _load(builder: Any, address: Any, kind: Any) -> Any:
    loaded = builder.load(builder.inttoptr(address, kind.as_pointer()))
    loaded.align = 1
    return loaded


def _store(builder: Any, value: Any, address: Any) -> None:
    builder.store(value, builder.inttoptr(address, value.type.as_pointer())).align = 1


def _spread(builder: Any, value: Any, lanes: int) -> Any:
    """One value in every lane."""
    kind = _vector(value.type, lanes)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), _all(_I32, lanes, 0))


def _call(builder: Any, name: str, returned: Any, *arguments: Any) -> Any:
    wanted = ir.FunctionType(returned, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, wanted, name), arguments)


def _behind(builder: Any, address: Any, count: int) -> Any:
    return builder.add(address, ir.Constant(_I64, count))


def _nothing(count: int, generate: Callable[[Any, Sequence[Any]], None], *more: Any) -> Any:
    """Signature and code of a step over so many int64, and arguments of which only the type counts, that returns nothing."""
    def codegen(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        generate(builder, values[:count])
        return context.get_dummy_value()

    return types.void(*[types.int64] * count, *more), codegen


# ---- bins


@intrinsic  # type: ignore[untyped-decorator]
def rank(typing_context: Any, table: Any, x: Any) -> Any:
    """How many of a feature's thresholds are at or below x; none for NaN.

    table: 16 float32, the first of each block of 16, then the blocks: rising, +inf where there are no more.
    """
    def codegen(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        table, x = values
        lanes = _spread(builder, x, _WORD)

        def below(address: Any) -> Any:
            true = builder.fcmp_ordered("<=", _load(builder, address, _vector(_FLOAT, _WORD)), lanes)
            return builder.zext(_call(builder, "llvm.ctpop.i16", _I16, builder.bitcast(true, _I16)), _I64)

        blocks = below(table)
        # the last block whose first is below; where none is, the table of firsts, none of which is below either
        inside = below(builder.add(table, builder.shl(blocks, ir.Constant(_I64, 6))))
        before = builder.sub(builder.shl(blocks, ir.Constant(_I64, 4)), ir.Constant(_I64, _WORD))
        none = builder.icmp_signed("==", blocks, ir.Constant(_I64, 0))
        return builder.add(builder.select(none, ir.Constant(_I64, 0), before), inside)

    return types.int64(types.int64, types.float32), codegen


def _among(builder: Any, element: Any, table: Sequence[Any], at: Any, suffix: str) -> Any:
    """table[at], a table of 2, 4, 8 … registers: by permutation of two each, then bit by bit of what lies above. AVX-512."""
    lanes = table[0].type.count
    found = [
        _call(builder, f"llvm.x86.avx512.vpermi2var.{suffix}.512", table[0].type, low, at, high)
        for low, high in zip(table[::2], table[1::2], strict=True)
    ]
    bit = 2 * lanes
    while len(found) > 1:
        beyond = builder.icmp_unsigned("!=", builder.and_(at, _all(element, lanes, bit)), _all(element, lanes, 0))
        found = [builder.select(beyond, high, low) for low, high in zip(found[::2], found[1::2], strict=True)]
        bit *= 2
    return found[0]


# ---- 64 trees, one row
#
# registers: a tuple, of which only the length counts: how many registers hold the row's bins, two for 64 features, four for 128.


def _right_of_trees(builder: Any, bins: Sequence[Any], columns: Any, numbers: Any) -> Any:
    """Which of 64 trees go right: bins of 64 columns each."""
    byte = _vector(_I8, TREES)
    found = _among(builder, _I8, bins, _load(builder, columns, byte), "qi")
    return builder.icmp_unsigned(">", found, _load(builder, numbers, byte))


def _bins_of(builder: Any, bins: Any, registers: Any) -> list[Any]:
    return [_load(builder, _behind(builder, bins, TREES * part), _vector(_I8, TREES)) for part in range(registers.count)]


@intrinsic  # type: ignore[untyped-decorator]
def top_of_trees(typing_context: Any, bins: Any, columns: Any, numbers: Any, out: Any, registers: Any) -> Any:
    """The way out of the top levels of 64 trees: columns, numbers (EXITS, 64) bytes, bins 64 a register -> out (64,) bytes."""
    def generate(builder: Any, values: Sequence[Any]) -> None:
        bins, columns, numbers, out = values
        held = _bins_of(builder, bins, registers)

        def leave(split: int, level: int) -> Any:
            if level == TOP:
                return _all(_I8, TREES, split - EXITS)
            left, right = leave(2 * split, level + 1), leave(2 * split + 1, level + 1)
            at = TREES * split
            goes = _right_of_trees(builder, held, _behind(builder, columns, at), _behind(builder, numbers, at))
            return builder.select(goes, right, left)

        _store(builder, leave(1, 0), out)

    return _nothing(4, generate, registers)


@intrinsic  # type: ignore[untyped-decorator]
def level_of_trees(typing_context: Any, bins: Any, columns: Any, numbers: Any, bit: Any, out: Any, registers: Any) -> Any:
    """A level of 64 symmetric trees: sets `bit` in out (64,) bytes where it says right; columns, numbers (64,) bytes."""
    def generate(builder: Any, values: Sequence[Any]) -> None:
        bins, columns, numbers, bit, out = values
        goes = _right_of_trees(builder, _bins_of(builder, bins, registers), columns, numbers)
        here = _load(builder, out, _vector(_I8, TREES))
        marked = builder.or_(here, _spread(builder, builder.trunc(bit, _I8), TREES))
        _store(builder, builder.select(goes, marked, here), out)

    return _nothing(5, generate, registers)


@intrinsic  # type: ignore[untyped-decorator]
def sum_of_trees(typing_context: Any, low: Any, high: Any, leaves: Any, stride: Any) -> Any:
    """Sum over 64 trees of leaves[stride * tree + low + 256 * high]: low, high (64,) bytes, leaves int32; int64."""
    def codegen(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        low, high, leaves, stride = values
        word, eight = _vector(_I32, _WORD), _vector(_I64, _WORD // 2)
        stride, base = _spread(builder, builder.trunc(stride, _I32), _WORD), builder.inttoptr(leaves, _I8.as_pointer())
        total = ir.Constant(eight, [0] * (_WORD // 2))
        for first in range(0, TREES, _WORD):
            def bytes_at(address: Any, first: int = first) -> Any:
                return builder.zext(_load(builder, _behind(builder, address, first), _vector(_I8, _WORD)), word)

            place = builder.or_(bytes_at(low), builder.shl(bytes_at(high), _all(_I32, _WORD, 8)))
            place = builder.add(place, builder.mul(stride, ir.Constant(word, list(range(first, first + _WORD)))))
            found = _call(
                builder, "llvm.x86.avx512.mask.gather.dpi.512", word, ir.Constant(word, [0] * _WORD), base, place,
                _all(_I1, _WORD, 1), ir.Constant(_I32, 4),
            )
            for half in (range(_WORD // 2), range(_WORD // 2, _WORD)):
                part = builder.shuffle_vector(found, found, ir.Constant(_vector(_I32, _WORD // 2), list(half)))
                total = builder.add(total, builder.sext(part, eight))
        return _call(builder, "llvm.vector.reduce.add.v8i64", _I64, total)

    return types.int64(*[types.int64] * 4), codegen


@intrinsic  # type: ignore[untyped-decorator]
def add_trees(typing_context: Any, low: Any, high: Any, leaves: Any, stride: Any, sums: Any) -> Any:
    """sums (4,) int64 += over 64 trees leaves[stride * tree + low + 256 * high], of (4,) int32 each."""
    def generate(builder: Any, values: Sequence[Any]) -> None:
        low, high, leaves, stride, sums = values
        four, wide = _vector(_I32, 4), _vector(_I64, 4)
        totals = [ir.Constant(wide, [0] * 4)] * 4                  # so many additions at once
        tree = ir.Constant(_I64, 0)
        for lane in range(TREES):
            def byte(address: Any, lane: int = lane) -> Any:
                return builder.zext(_load(builder, _behind(builder, address, lane), _I8), _I64)

            place = builder.add(tree, builder.or_(byte(low), builder.shl(byte(high), ir.Constant(_I64, 8))))
            leaf = _load(builder, builder.add(leaves, builder.shl(place, ir.Constant(_I64, 4))), four)
            totals[lane % 4] = builder.add(totals[lane % 4], builder.sext(leaf, wide))
            tree = builder.add(tree, stride)
        total = builder.add(builder.add(totals[0], totals[1]), builder.add(totals[2], totals[3]))
        _store(builder, builder.add(_load(builder, sums, wide), total), sums)

    return _nothing(5, generate)


# ---- trees of few leaves, of whatever shape
#
# Every lane bears a mark, first 0. Splits speak in turn, parents before children: a split asks those who bear its own mark, and
# those whom it sends right bear its number + 1 from then on. The last mark says the leaf. Nothing is looked up but bins.


def _mark(
    builder: Any, lanes: int, count: Any, speakers: Sequence[Callable[[Any], tuple[Any, Any]]], outs: Sequence[Any]
) -> None:
    """Of each speaker, speak(split): which lanes would go right, and the mark of each that it asks. Its out: (lanes,) bytes, the
    leaf of each."""
    bearing = [cgutils.alloca_once_value(builder, _all(_I8, lanes, 0)) for _ in speakers]
    with cgutils.for_range(builder, count) as loop:
        then = _spread(builder, builder.trunc(_behind(builder, loop.index, 1), _I8), lanes)
        for speak, borne in zip(speakers, bearing, strict=True):
            goes, asked = speak(loop.index)
            now = builder.load(borne)
            builder.store(builder.select(builder.and_(goes, builder.icmp_unsigned("==", now, asked)), then, now), borne)
    for borne, out in zip(bearing, outs, strict=True):
        _store(builder, builder.load(borne), out)


@intrinsic  # type: ignore[untyped-decorator]
def mark_trees(
    typing_context: Any, bins: Any, columns: Any, numbers: Any, marks: Any, count: Any, out: Any, registers: Any
) -> Any:
    """The leaf of 64 trees of `count` splits: columns, numbers, marks (count, 64) bytes -> out (64,) bytes."""
    def generate(builder: Any, values: Sequence[Any]) -> None:
        bins, columns, numbers, marks, count, out = values
        held = _bins_of(builder, bins, registers)

        def speak(split: Any) -> tuple[Any, Any]:
            at = builder.mul(split, ir.Constant(_I64, TREES))
            goes = _right_of_trees(builder, held, builder.add(columns, at), builder.add(numbers, at))
            return goes, _load(builder, builder.add(marks, at), _vector(_I8, TREES))

        _mark(builder, TREES, count, [speak], [out])

    return _nothing(6, generate, registers)


@intrinsic  # type: ignore[untyped-decorator]
def mark_rows(
    typing_context: Any, bins: Any, columns: Any, numbers: Any, marks: Any, apart: Any, count: Any, out: Any, other: Any
) -> Any:
    """The leaves of 128 rows in two trees of `count` splits, of which neither waits for the other: bins (columns, 128) bytes;
    columns, numbers, marks (count,) bytes of the one tree, and `apart` behind them of the other -> out, other (128,) bytes."""
    def generate(builder: Any, values: Sequence[Any]) -> None:
        bins, columns, numbers, marks, apart, count, *outs = values

        def speaker(first: Any) -> Callable[[Any], tuple[Any, Any]]:
            def speak(split: Any) -> tuple[Any, Any]:
                at = builder.add(first, split)
                column = builder.zext(_load(builder, builder.add(columns, at), _I8), _I64)
                row = builder.add(bins, builder.mul(column, ir.Constant(_I64, ROWS)))
                goes = _right_of_rows(builder, row, _load(builder, builder.add(numbers, at), _I8))
                return goes, _spread(builder, _load(builder, builder.add(marks, at), _I8), ROWS)

            return speak

        _mark(builder, ROWS, count, [speaker(ir.Constant(_I64, 0)), speaker(apart)], outs)

    return _nothing(8, generate)


# ---- 128 rows, one tree


def _right_of_rows(builder: Any, bins: Any, number: Any) -> Any:
    byte = _vector(_I8, ROWS)
    return builder.icmp_unsigned(">", _load(builder, bins, byte), _spread(builder, number, ROWS))


@intrinsic  # type: ignore[untyped-decorator]
def top_of_rows(typing_context: Any, bins: Any, columns: Any, numbers: Any, out: Any) -> Any:
    """The ways of 128 rows out of a tree's top levels: bins (columns, 128), columns, numbers (EXITS,) bytes -> out (128,)."""
    def generate(builder: Any, values: Sequence[Any]) -> None:
        bins, columns, numbers, out = values

        def leave(split: int, level: int) -> Any:
            if level == TOP:
                return _all(_I8, ROWS, split - EXITS)
            left, right = leave(2 * split, level + 1), leave(2 * split + 1, level + 1)
            column = builder.zext(_load(builder, _behind(builder, columns, split), _I8), _I64)
            number = _load(builder, _behind(builder, numbers, split), _I8)
            at = builder.add(bins, builder.mul(column, ir.Constant(_I64, ROWS)))
            return builder.select(_right_of_rows(builder, at, number), right, left)

        _store(builder, leave(1, 0), out)

    return _nothing(4, generate)


@intrinsic  # type: ignore[untyped-decorator]
def level_of_rows(typing_context: Any, bins: Any, number: Any, bit: Any, out: Any) -> Any:
    """A level of a symmetric tree: sets `bit` in out (128,) bytes where the rows' bins (128,) are above `number`."""
    def generate(builder: Any, values: Sequence[Any]) -> None:
        bins, number, bit, out = values
        here = _load(builder, out, _vector(_I8, ROWS))
        marked = builder.or_(here, _spread(builder, builder.trunc(bit, _I8), ROWS))
        _store(builder, builder.select(_right_of_rows(builder, bins, builder.trunc(number, _I8)), marked, here), out)

    return _nothing(4, generate)


def _adding(entries: int) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def add(typing_context: Any, place: Any, leaves: Any, sums: Any) -> Any:
        """sums[row] += leaves[place[row]]: place (128,) bytes, leaves (32 or 64,) int32, sums (128,) int64. AVX-512."""
        def generate(builder: Any, values: Sequence[Any]) -> None:
            place, leaves, sums = values
            word, half, wide = _vector(_I32, _WORD), _WORD // 2, _vector(_I64, _WORD // 2)
            table = [_load(builder, _behind(builder, leaves, 64 * part), word) for part in range(entries // _WORD)]
            for first in range(0, ROWS, _WORD):
                at = builder.zext(_load(builder, _behind(builder, place, first), _vector(_I8, _WORD)), word)
                found = _among(builder, _I32, table, at, "d")
                for offset in (0, half):
                    to = _behind(builder, sums, 8 * (first + offset))
                    lanes = ir.Constant(_vector(_I32, half), list(range(offset, offset + half)))
                    part = builder.sext(builder.shuffle_vector(found, found, lanes), wide)
                    _store(builder, builder.add(_load(builder, to, wide), part), to)

        return _nothing(3, generate)

    return add


add_of_32, add_of_64 = _adding(32), _adding(64)


# ---- 128 rows, below a tree's top levels: a row's place on a level, and a level's splits, are shorts
#
# A level's splits lie in registers, from which rows take theirs by permutation: no row reads what another may just have thrown
# out of the cache. Only the bins are read row by row.

_SHORTS = 32
"""Lanes of 16 bits in one register."""


@intrinsic  # type: ignore[untyped-decorator]
def as_places(typing_context: Any, way: Any, places: Any) -> Any:
    """Ways (128,) bytes -> places (128,) shorts."""
    def generate(builder: Any, values: Sequence[Any]) -> None:
        way, places = values
        _store(builder, builder.zext(_load(builder, way, _vector(_I8, ROWS)), _vector(_I16, ROWS)), places)

    return _nothing(2, generate)


def _looking_up(entries: int) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def look_up(typing_context: Any, splits: Any, places: Any, found: Any, bins: Any) -> Any:
        """found[row] = splits[places[row]], and where its bin lies among those of 128 rows: splits (64 to 512,), the rest (128,)
        shorts. AVX-512."""
        def generate(builder: Any, values: Sequence[Any]) -> None:
            splits, places, out, bins = values
            short = _vector(_I16, _SHORTS)
            table = [_load(builder, _behind(builder, splits, 64 * part), short) for part in range(entries // _SHORTS)]
            for first in range(0, ROWS, _SHORTS):
                at = _load(builder, _behind(builder, places, 2 * first), short)
                found = _among(builder, _I16, table, at, "hi")
                _store(builder, found, _behind(builder, out, 2 * first))
                column = builder.mul(builder.and_(found, _all(_I16, _SHORTS, 255)), _all(_I16, _SHORTS, ROWS))
                rows = ir.Constant(short, list(range(first, first + _SHORTS)))
                _store(builder, builder.or_(column, rows), _behind(builder, bins, 2 * first))

        return _nothing(4, generate)

    return look_up


look_up_64, look_up_128, look_up_256, look_up_512 = (_looking_up(EXITS << step) for step in range(BELOW))


@intrinsic  # type: ignore[untyped-decorator]
def step_down(typing_context: Any, splits: Any, bins: Any, places: Any) -> Any:
    """A level down: places = 2 · places + (bins > number of the split), splits and places (128,) shorts, bins (128,) bytes."""
    def generate(builder: Any, values: Sequence[Any]) -> None:
        splits, bins, places = values
        short = _vector(_I16, _SHORTS)
        for first in range(0, ROWS, _SHORTS):
            to = _behind(builder, places, 2 * first)
            number = builder.lshr(_load(builder, _behind(builder, splits, 2 * first), short), _all(_I16, _SHORTS, 8))
            bin_ = builder.zext(_load(builder, _behind(builder, bins, first), _vector(_I8, _SHORTS)), short)
            goes = builder.zext(builder.icmp_unsigned(">", bin_, number), short)
            _store(builder, builder.or_(builder.shl(_load(builder, to, short), _all(_I16, _SHORTS, 1)), goes), to)

    return _nothing(3, generate)


@intrinsic  # type: ignore[untyped-decorator]
def add_four(typing_context: Any, leaf: Any, sums: Any) -> Any:
    """sums (4,) int64 += leaf (4,) int32."""
    def generate(builder: Any, values: Sequence[Any]) -> None:
        leaf, sums = values
        wide = _vector(_I64, 4)
        _store(builder, builder.add(_load(builder, sums, wide), builder.sext(_load(builder, leaf, _vector(_I32, 4)), wide)), sums)

    return _nothing(2, generate)


@intrinsic  # type: ignore[untyped-decorator]
def add_fours(typing_context: Any, leaf: Any, other: Any, sums: Any) -> Any:
    """sums (4,) int64 += leaf + other, (4,) int32 each, whose sums are int32 too."""
    def generate(builder: Any, values: Sequence[Any]) -> None:
        leaf, other, sums = values
        four, wide = _vector(_I32, 4), _vector(_I64, 4)
        both = builder.add(_load(builder, leaf, four), _load(builder, other, four))
        _store(builder, builder.add(_load(builder, sums, wide), builder.sext(both, wide)), sums)

    return _nothing(3, generate)


# ---- what lies at an address


def _reader(element: Any, kind: Any) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def at(typing_context: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
            return builder.inttoptr(values[0], kind.as_pointer())

        return types.CPointer(element)(types.int64), codegen  # type: ignore[attr-defined]

    return at


bytes_at, shorts_at, words_at = _reader(types.uint8, _I8), _reader(types.uint16, _I16), _reader(types.uint32, _I32)
numbers_at, places_at = _reader(types.int32, _I32), _reader(types.int64, _I64)
singles_at, doubles_at = _reader(types.float32, _FLOAT), _reader(types.float64, ir.DoubleType())
