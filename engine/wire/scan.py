"""JSON lines to columns without an object per line: one pass of a kernel over the bytes of many records.

The kernel takes plain lines only: an object of known keys in any order, each once, with spaces or without; a symbol that
the table knows, as it stands in its UTF-8 bytes; whole numbers, plain decimals, RFC 3339 stamps. Every other line goes,
whole, to the judge that is handed in, whose word holds; a line the kernel takes, the judge would take with the same
integers. So there is one meaning of a line, and the kernel is only the quick way to it.

Digits are read eight at a time: three multiplications turn the eight bytes of a word into their number. Days of a date as
in Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms" (2013).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from ..instruments import Instrument, SymbolTable
from ..jit import kernel, subkernel
from ..types import COLUMNS, I64, Code, Entry, Position, Refused, TickBatch
from .frame import MAX_ROWS

Row = tuple[int, int, int, int, int, int, int]
"""sid, ts, bid, ask, bid_size, ask_size, seq of one tick."""
Judge = Callable[[bytes, SymbolTable], Row | Code]

LINES = 1024
"""Lines that one call of the kernel goes through."""
_PAD = bytes(32)
"""Behind the text: words may be read from its last bytes on."""

MAX_BYTES = 16
"""Bytes of a symbol that the kernel can compare: two words."""
_SLOTS = 64
_LENGTH, SID, SCALE, SIZE_SCALE, _SPREAD = range(2, 7)
_WORDS = 8
_K0, _K1 = 0x2545F4914F6CDD1D, 0x5851F42D4C957F2D    # odd; any will do


class Index:
    """The symbols of a table, and their aliases, as the kernel looks them up: an open-addressing hash table of eight words
    per slot.

    A slot: the name's bytes as two words, their count (0: a free slot), sid, scale, size_scale, spread. Names that don't
    stand in JSON as they are, that are too long, or that the table doesn't know any more aren't in it.
    """

    def __init__(self) -> None:
        self.slots = np.zeros((_SLOTS, _WORDS), np.int64)
        self._instruments: list[Instrument] = []
        self._known = 0
        self._used = 0

    def follow(self, table: SymbolTable) -> I64:
        """The slots, with what is new in the table; made anew when its instruments were counted anew."""
        if table.instruments is self._instruments and len(table) == self._known:
            return self.slots
        anew = table.instruments is not self._instruments
        names = [(name, sid) for sid in range(0 if anew else self._known, len(table)) for name in table.names(sid)]
        if anew or 2 * (self._used + len(names)) > len(self.slots):
            names = [(name, sid) for sid in range(len(table)) for name in table.names(sid)]
            self.slots = np.zeros((max(_SLOTS, 1 << (4 * len(names)).bit_length()), _WORDS), np.int64)
            self._used = 0
        for name, sid in names:
            self._put(name, sid, table.instruments[sid])
        self._instruments, self._known, self._used = table.instruments, len(table), self._used + len(names)
        return self.slots

    def _put(self, symbol: str, sid: int, instrument: Instrument) -> None:
        if not symbol.isprintable() or '"' in symbol or "\\" in symbol:
            return
        name = symbol.encode()
        if not 0 < len(name) <= MAX_BYTES:
            return
        low, high = (int.from_bytes(name[at:at + 8].ljust(8, b"\0"), "little", signed=True) for at in (0, 8))
        number = (low * _K0 + high * _K1) % 2**64
        slot = ((number ^ number >> 32) * _K0 >> 32) & (len(self.slots) - 1)
        while self.slots[slot, _LENGTH]:
            slot = (slot + 1) & (len(self.slots) - 1)
        self.slots[slot, :7] = (low, high, len(name), sid, instrument.scale, instrument.size_scale, instrument.spread)


def slots_of(table: SymbolTable) -> I64:
    """The slots of all that the table knows now."""
    if table.index is None:
        table.index = Index()
    return table.index.follow(table)


def scan(entries: list[Entry], table: SymbolTable, judge: Judge) -> tuple[TickBatch, list[Refused]]:
    """Records of JSON lines -> their ticks in log order, and what was refused. Only symbols of ticks are added to the table."""
    payloads: list[bytes] = []
    flat: list[int] = []
    for (major, minor), _, payload, appended in entries:
        payload = payload.rstrip(b"\n")
        payloads.append(payload)
        flat += (len(payload), major, minor, appended)
    records = np.array(flat, np.int64).reshape(len(entries), 4)
    text = bytearray(b"\n").join([*payloads, _PAD])
    data = np.frombuffer(text, np.uint8)
    ticks = np.empty((len(COLUMNS), min(text.count(b"\n"), MAX_ROWS * len(entries))), np.int64)    # a row per line
    odd = np.empty((LINES, 6), np.int64)
    refused: list[Refused] = []
    without: list[int] = []                            # rows of refused lines
    row, record, at, end, ordinal = 0, -1, 0, -1, 0
    while record < len(entries):
        known = len(table)
        found, row, record, at, end, ordinal = _scan(
            data, records, slots_of(table), ticks, odd, row, record, at, end, ordinal
        )
        for its_row, its_record, start, stop, its_end, its_ordinal in odd[:found].tolist():
            entry, line = entries[its_record], payloads[its_record]
            if stop - start < len(line):
                line = bytes(text[start:stop])
            told = judge(line, table)
            if isinstance(told, Code):
                refused.append(Refused(Position(entry.cursor, its_ordinal), told, line))
                without.append(its_row)
                continue
            ticks[:, its_row] = (*told, *entry.cursor, its_ordinal, entry.appended)
            if len(table) > known:                     # a new symbol: those behind it may be plain now
                row, record, at, end, ordinal = its_row + 1, its_record, stop + 1, its_end, its_ordinal + 1
                break
        else:
            if record < len(entries) and ordinal == MAX_ROWS:
                entry = entries[record]
                rest = entry.payload[at - end + len(payloads[record]):]
                refused.append(Refused(Position(entry.cursor, ordinal), Code.OVERSIZE, rest))
                at = end + 1
    ticks = ticks[:, :row]
    if without:
        ticks = ticks.take(np.setdiff1d(np.arange(row), without, assume_unique=True), axis=1)
    return TickBatch.of(table.instruments, ticks), refused


# ---- eight bytes at a time
#
# Pieces of the kernel are handed addresses: each array that a piece is handed would be counted by numba, in and out.


@intrinsic  # type: ignore[untyped-decorator]
def _word(typing_context: Any, at: Any) -> Any:
    """The eight bytes from the address on, the first one lowest."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], ir.IntType(64).as_pointer()), align=1)

    return types.uint64(types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _byte(typing_context: Any, at: Any) -> Any:
    """The byte at the address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte = builder.load(builder.inttoptr(args[0], ir.IntType(8).as_pointer()))
        return builder.zext(byte, ir.IntType(64))

    return types.int64(types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def int_at(typing_context: Any, at: Any) -> Any:
    """The int64 at the address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], ir.IntType(64).as_pointer()))

    return types.int64(types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _put(typing_context: Any, at: Any, value: Any) -> Any:
    """Store an int64 at the address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[1], builder.inttoptr(args[0], ir.IntType(64).as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _low_zeros(typing_context: Any, word: Any) -> Any:
    """How many zero bits stand below the lowest one; 64 of 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), codegen


def _mask(count: int) -> Any:
    return np.uint64((1 << 8 * count) - 1)


def _name(name: str) -> Any:
    """A key with its quotes as a word; no more than its first eight bytes."""
    return np.uint64(int.from_bytes(f'"{name}"'.encode()[:8], "little"))


_M4, _M5, _M6, _M7 = (_mask(count) for count in (4, 5, 6, 7))
_N_SYMBOL, _N_TS, _N_BID, _N_ASK, _N_SEQ = (_name(name) for name in ("symbol", "ts", "bid", "ask", "seq"))
_N_BID_SIZE, _N_ASK_SIZE, _N_PRICE, _N_SIZE = (_name(name) for name in ("bid_size", "ask_size", "price", "size"))
_E_QUOTE = ord("e") + 256 * ord('"')               # what of "bid_size" and "ask_size" is beyond the word

_TAB, _NEWLINE, _RETURN, _BLANK, _MARK, _PLUS, _COMMA, _MINUS, _POINT, _ZERO, _NINE, _COLON, _OPEN, _CLOSE = b'\t\n\r "+,-.09:{}'

_SYMBOL, _TS, _BID, _ASK, _BID_SIZE, _ASK_SIZE, _SEQ, _PRICE, _SIZE = (1 << k for k in range(9))
_QUOTE, _QUOTE_TOO = _SYMBOL | _TS | _BID | _ASK, _BID_SIZE | _ASK_SIZE | _SEQ
_LAST, _LAST_TOO = _SYMBOL | _TS | _PRICE, _SIZE | _SEQ

_ZEROS = np.uint64(0x3030303030303030)
_OVER_NINE = np.uint64(0x7676767676767676)
_HIGH = np.uint64(0x8080808080808080)
_ONES = np.uint64(0x0101010101010101)
_QUOTES = np.uint64(0x2222222222222222)
_PAIRS = np.uint64(0x000000FF000000FF)
_MUL_EVEN = np.uint64(100 + (1_000_000 << 32))
_MUL_ODD = np.uint64(1 + (10_000 << 32))
_FACTOR, _FACTOR_TOO = np.uint64(_K0), np.uint64(_K1)
_TEN, _8, _16, _32 = (np.uint64(k) for k in (10, 8, 16, 32))

_POWER = 10 ** np.arange(19, dtype=np.int64)
_POWER_FLOAT = np.array([float(10**k) for k in range(18)])    # NumPy's pow isn't exact on every machine
_MOST_DIGITS = 17
"""Of a decimal: it fits into 64 bits, with room."""
_MOST = 2**50
"""Points to which the judge's float64 tells prices apart without a doubt; and half the exact integers of a float64."""
_SECOND = 1_000_000_000
_DAY = 86_400


@subkernel
def _digits(word: Any) -> Any:
    """How many digits a word (each byte of it less "0") begins with."""
    return _low_zeros(((word + _OVER_NINE) | word) & _HIGH) >> 3


@subkernel
def _number(word: Any, count: int) -> Any:
    """The number that the first `count` (1-8) digits are; of a word, each byte of it less "0"."""
    word = word << np.uint64(64 - 8 * count)
    word = word * _TEN + (word >> _8)
    return np.int64(((word & _PAIRS) * _MUL_EVEN + ((word >> _16) & _PAIRS) * _MUL_ODD) >> _32)


@subkernel
def _whole(at: int) -> tuple[int, int]:
    """(where it ends, an integer of at most 19 digits without leading zeros); less than 0 where there is none."""
    start = at
    value = 0
    while True:
        word = _word(at) ^ _ZEROS
        count = _digits(word)
        if count > 0:
            value = value * _POWER[count] + _number(word, count)
            at += count
        if count < 8 or at - start > 19:
            break
    digits = at - start
    if digits == 0 or digits > 19 or (digits > 1 and _byte(start) == _ZERO):
        return at, -1
    return at, value                               # 19 digits fit into 64 bits; beyond 2^63 they are negative here


@subkernel
def _decimal(at: int) -> tuple[int, int, int]:
    """(where it ends, its digits as one integer, how many of them are behind the point); -1 where it isn't plain."""
    start = at
    at, value = _whole(at)
    if value < 0 or at - start > _MOST_DIGITS:
        return at, -1, 0
    if _byte(at) != _POINT:
        return at, value, 0
    at += 1
    point = at
    while True:
        word = _word(at) ^ _ZEROS
        count = _digits(word)
        if count > 0:
            if at + count - start - 1 > _MOST_DIGITS:
                return at, -1, 0
            value = value * _POWER[count] + _number(word, count)
            at += count
        if count < 8:
            break
    if at == point:
        return at, -1, 0
    return at, value, at - point


@subkernel
def _points(value: int, behind: int, scale: int) -> int:
    """A price in points, exactly; -1 where it is none, finer than the scale, or so large that the judge must look."""
    if behind > scale:
        whole = value // _POWER[behind - scale]
        if whole * _POWER[behind - scale] != value:
            return -1
        value = whole
    elif value >= _MOST // _POWER[scale - behind]:
        return -1
    else:
        value *= _POWER[scale - behind]
    if value == 0 or value >= _MOST:
        return -1
    return value


@subkernel
def _size_points(value: int, behind: int, scale: int) -> Any:
    """A size in points, rounded as the judge rounds its float64: digits and power are exact, so the quotient is that float."""
    if value == 0:
        return 0
    if value >= _MOST:
        return -1
    points = np.rint(value / _POWER_FLOAT[behind] * _POWER_FLOAT[scale])
    return np.int64(points) if points < _MOST else -1


@subkernel
def _two(at: int) -> int:
    """A number of two digits; far below 0 where they aren't."""
    high, low = _byte(at) - _ZERO, _byte(at + 1) - _ZERO
    return 10 * high + low if 0 <= high <= 9 and 0 <= low <= 9 else -100_000


@subkernel
def _stamp(at: int) -> tuple[int, int]:
    """(where it ends, ns UTC of an RFC 3339 stamp); not above 0 where it isn't plain, or not after 1970 or before 2262."""
    year = 100 * _two(at) + _two(at + 2)
    month, day = _two(at + 5), _two(at + 8)
    hour, minute, second = _two(at + 11), _two(at + 14), _two(at + 17)
    if (
        _byte(at + 4) != _MINUS or _byte(at + 7) != _MINUS or _byte(at + 13) != _COLON or _byte(at + 16) != _COLON
        or not 1970 <= year <= 2261 or not 1 <= month <= 12 or not 0 <= hour <= 23 or not 0 <= minute <= 59
        or not 0 <= second <= 59
    ):
        return at, -1
    between = _byte(at + 10)
    if between != 84 and between != 116 and between != _BLANK:    # T t or a space
        return at, -1
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    length = 30 + (month + (month > 7)) % 2 if month != 2 else 28 + leap
    if not 1 <= day <= length:
        return at, -1
    at += 19
    rest = 0
    if _byte(at) == _POINT:
        at += 1
        word = _word(at) ^ _ZEROS
        count = _digits(word)
        if count == 0:
            return at, -1
        rest = _number(word, count)
        at += count
        if count == 8 and _ZERO <= _byte(at) <= _NINE:
            rest = 10 * rest + _byte(at) - _ZERO
            at += 1
            count = 9
        rest *= _POWER[9 - count]
    zone = _byte(at)
    at += 1
    offset = 0
    if zone in (_PLUS, _MINUS):
        hours, minutes = _two(at), _two(at + 3)
        if _byte(at + 2) != _COLON or not 0 <= hours <= 23 or not 0 <= minutes <= 59:
            return at, -1
        offset = 60 * (60 * hours + minutes)
        if zone == _MINUS:
            offset = -offset
        at += 5
    elif zone != 90 and zone != 122:               # Z z
        return at, -1
    if _byte(at) != _MARK:
        return at, -1
    shifted = year - (month < 3)                   # years from March on: the leap day is the last one
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    days = 365 * shifted + shifted // 4 - shifted // 100 + shifted // 400 + of_year - 719_468
    return at + 1, (_DAY * days + 3600 * hour + 60 * minute + second - offset) * _SECOND + rest


@subkernel
def _after_blanks(at: int) -> int:
    byte = _byte(at)
    while byte in (_BLANK, _TAB, _RETURN):
        at += 1
        byte = _byte(at)
    return at


@subkernel
def find(at: int, slots: int, most: int) -> Any:
    """Look up the string that begins behind a quote at `at`, of which 17 bytes must be there.

    (where the symbol's string ends, its slot of the `most` + 1); -1 where the string isn't a symbol of the table.
    """
    low, high = _word(at), _word(at + 8)
    unquoted = low ^ _QUOTES
    quote = (unquoted - _ONES) & ~unquoted & _HIGH
    if quote != 0:
        length = _low_zeros(quote) >> 3
        low &= (np.uint64(1) << np.uint64(8 * length)) - np.uint64(1)
        high = np.uint64(0)
    else:
        unquoted = high ^ _QUOTES
        quote = (unquoted - _ONES) & ~unquoted & _HIGH
        if quote != 0:
            length = 8 + (_low_zeros(quote) >> 3)
            high &= (np.uint64(1) << np.uint64(8 * length - 64)) - np.uint64(1)
        elif _byte(at + 16) == _MARK:
            length = 16
        else:
            return at, -1
    mixed = low * _FACTOR + high * _FACTOR_TOO
    number = np.int64((mixed ^ (mixed >> _32)) * _FACTOR >> _32)
    first, second = np.int64(low), np.int64(high)
    while True:
        slot = slots + 8 * _WORDS * (number & most)
        if int_at(slot + 8 * _LENGTH) == 0:
            return at, -1
        if int_at(slot) == first and int_at(slot + 8) == second and int_at(slot + 8 * _LENGTH) == length:
            return at + length + 1, slot
        number += 1


@subkernel
def _line(at: int, slots: int, most: int, ticks: int, wide: int) -> int:
    """Take the line that begins at `at` into a row; where it ends, or -1 where the judge must look."""
    at = _after_blanks(at)
    if _byte(at) != _OPEN:
        return -1
    seen = 0
    slot, ts, seq = 0, 0, -1
    bid, bid_behind, ask, ask_behind = 0, 0, 0, 0
    bid_size, bid_size_behind, ask_size, ask_size_behind = 0, 0, 0, 0
    while True:
        at = _after_blanks(at + 1)
        word = _word(at)
        if word == _N_SYMBOL:
            key, at = _SYMBOL, at + 8
        elif word & _M4 == _N_TS:
            key, at = _TS, at + 4
        elif word & _M5 == _N_BID:
            key, at = _BID, at + 5
        elif word & _M5 == _N_ASK:
            key, at = _ASK, at + 5
        elif word & _M5 == _N_SEQ:
            key, at = _SEQ, at + 5
        elif word == _N_BID_SIZE and _byte(at + 8) + 256 * _byte(at + 9) == _E_QUOTE:
            key, at = _BID_SIZE, at + 10
        elif word == _N_ASK_SIZE and _byte(at + 8) + 256 * _byte(at + 9) == _E_QUOTE:
            key, at = _ASK_SIZE, at + 10
        elif word & _M7 == _N_PRICE:
            key, at = _PRICE, at + 7
        elif word & _M6 == _N_SIZE:
            key, at = _SIZE, at + 6
        else:
            return -1
        if seen & key:
            return -1
        seen |= key
        at = _after_blanks(at)
        if _byte(at) != _COLON:
            return -1
        at = _after_blanks(at + 1)
        if key == _SYMBOL:
            if _byte(at) != _MARK:
                return -1
            at, slot = find(at + 1, slots, most)
            if slot < 0:
                return -1
        elif key == _TS:
            at, ts = _stamp(at + 1) if _byte(at) == _MARK else _whole(at)
            if ts <= 0:
                return -1
        elif key == _SEQ:
            at, seq = _whole(at)
            if seq < 0:
                return -1
        else:
            at, value, behind = _decimal(at)
            if value < 0:
                return -1
            if key & (_BID | _PRICE):
                bid, bid_behind = value, behind
            elif key == _ASK:
                ask, ask_behind = value, behind
            elif key & (_BID_SIZE | _SIZE):
                bid_size, bid_size_behind = value, behind
            else:
                ask_size, ask_size_behind = value, behind
        at = _after_blanks(at)
        byte = _byte(at)
        if byte != _COMMA:
            break
    if byte != _CLOSE:
        return -1
    at = _after_blanks(at + 1)
    if _byte(at) != _NEWLINE:
        return -1

    quote, last = seen & ~_QUOTE_TOO == _QUOTE, seen & ~_LAST_TOO == _LAST
    if not quote and not last:                     # so there is a symbol
        return -1
    scale, size_scale, spread = int_at(slot + 8 * SCALE), int_at(slot + 8 * SIZE_SCALE), int_at(slot + 8 * _SPREAD)
    bid = _points(bid, bid_behind, scale)
    if quote:
        ask = _points(ask, ask_behind, scale)
    elif spread > 0 and bid > 0:
        bid -= spread // 2
        ask = bid + spread
        ask_size, ask_size_behind = bid_size, bid_size_behind
    else:
        return -1
    bid_size = _size_points(bid_size, bid_size_behind, size_scale)
    ask_size = _size_points(ask_size, ask_size_behind, size_scale)
    if bid <= 0 or ask <= 0 or bid_size < 0 or ask_size < 0:
        return -1
    _put(ticks, int_at(slot + 8 * SID))
    _put(ticks + 1 * wide, ts)
    _put(ticks + 2 * wide, bid)
    _put(ticks + 3 * wide, ask)
    _put(ticks + 4 * wide, bid_size)
    _put(ticks + 5 * wide, ask_size)
    _put(ticks + 6 * wide, seq)
    return at


@kernel
def _scan(
    text: Any, records: I64, slots: I64, ticks: I64, odd: I64, row: int, record: int, at: int, end: int, ordinal: int
) -> tuple[int, int, int, int, int, int]:
    """Go through as many lines as `odd` has rows, until a record has too many, or nothing is left (`record` is their count
    then): plain ones fill a row, of the others it is left free and they are put down in `odd`; returns how many these are.

    text: the records, a newline behind each, and padding. records: (n, 4) length, major, minor, appended. ticks: a row
    per column. odd: row, record, where the line begins and ends, where its record ends, ordinal. row: the next to be filled.
    at, ordinal: the next line of `record`, which ends at `end`; they begin as (0, -1, 0, -1, 0).
    """
    base = text.ctypes.data
    found = 0
    for _ in range(odd.shape[0]):
        if at > end:
            record += 1
            if record == records.shape[0]:
                break
            end = at + records[record, 0]
            ordinal = 0
        if ordinal == MAX_ROWS:
            break
        stop = _line(base + at, slots.ctypes.data, slots.shape[0] - 1, ticks.ctypes.data + 8 * row, 8 * ticks.shape[1]) - base
        if stop < 0:
            stop = at
            while text[stop] != _NEWLINE:
                stop += 1
            odd[found, 0] = row
            odd[found, 1] = record
            odd[found, 2] = at
            odd[found, 3] = stop
            odd[found, 4] = end
            odd[found, 5] = ordinal
            found += 1
        else:
            ticks[7, row] = records[record, 1]
            ticks[8, row] = records[record, 2]
            ticks[9, row] = ordinal
            ticks[10, row] = records[record, 3]
        row += 1
        ordinal += 1
        at = stop + 1
    return found, row, record, at, end, ordinal
