"""Packed frames to columns: a pass of a kernel over each column of a frame, and no object per row.

Plain is a frame of symbols that are known and counted in the frame's own points, with all values in their ranges: it is
copied. The rows of any other frame are weighed one by one: counted in our points, or refused with a code.

A symbol table, too, is read by the kernel where its text is plain: symbols that scan.py can look up, scales of one digit,
no blanks within. Any other is read as JSON, whose word holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..instruments import SymbolTable
from ..jit import kernel, pointer, subkernel
from ..types import COLUMNS, I64, NO_SEQ, Code, Cursor, Entry, Position, Refused, TickBatch
from . import frame
from .frame import FORMAT, MAX_ROWS, ROW_BYTES, TABLE, Content, FrameError, Symbol
from .scan import SCALE, SID, SIZE_SCALE, find, int_at, slots_of
from .ticks import LARGEST, decimal, json_tick
from .xxh64 import digest

_TORN, _VERSION, _OVERSIZE, _CHECKSUM, _JSON = -1, -2, -3, -4, -5
"""Why a frame isn't taken by the kernel. _JSON: its table must be read as JSON first."""
WHOLE = {_TORN: Code.MALFORMED, _VERSION: Code.VERSION, _OVERSIZE: Code.OVERSIZE, _CHECKSUM: Code.CHECKSUM}

CODES = (Code.SCALE, Code.PRICE, Code.SIZE, Code.MALFORMED, Code.SYMBOL)
"""A row is refused by the last one that fits it. Kernels count them from 1; 0 is a row that is taken."""
_TAKEN, _SCALE, _PRICE, _SIZE, _MALFORMED, _UNKNOWN = range(6)
_OUT, _FINER = 0, -1
"""In place of a price: there is none, or none in whole points."""

_SHIFT, _SIZE_SHIFT = 1, 2
"""Behind a symbol's sid (-1: unknown): by how many digits our points are finer than the frame's."""
_AHEAD = 17
"""Bytes that must follow a quote for a symbol to be looked up."""
_OPEN, _CLOSE, _MARK, _COMMA, _BLANK, _ZERO = b'[]", 0'

_POWER = 10 ** np.arange(10, dtype=np.int64)

_MOST = 2**63 - 1
_RANGES = ((1, _MOST), (1, LARGEST - 1), (1, LARGEST - 1), (0, LARGEST - 1), (0, LARGEST - 1), (NO_SEQ, _MOST))
"""Least and most of each of the columns WIDE."""


def unpack(entries: list[Entry], table: SymbolTable) -> tuple[TickBatch, list[Refused]]:
    """Records of one frame each -> their ticks in log order, and what was refused. Only symbols of ticks enter the table."""
    rows = sum([len(payload) for _, _, payload, _ in entries]) // ROW_BYTES
    ticks = np.empty((len(COLUMNS) + 1, rows), np.int64)       # the last one: what became of each row
    slots = slots_of(table)
    room = np.empty((len(slots), 3), np.int64)
    refused: list[Refused] = []
    end = 0
    for cursor, _, payload, appended in entries:
        try:
            whole = frame.renewed(payload) if frame.is_first_version(payload) else payload
            data = np.frombuffer(whole, np.uint8)
            kept, told = _take(data, slots, room, -1, ticks, end, *cursor, appended)
            if told == _JSON:
                named = frame.read(whole).symbols
                symbols = _json_table(named, table)
                kept, told = _take(data, slots, symbols, len(symbols), ticks, end, *cursor, appended)
                _number(ticks[0, end:end + kept], named, table)
                slots = slots_of(table)
            if told < 0:
                raise FrameError(WHOLE[told])
        except FrameError as error:
            refused.append(Refused(Position(cursor, 0), error.code, payload))
            continue
        if told:
            refused += _refused(cursor, frame.read(whole), ticks[-1, end:])
        end += kept
    return TickBatch.of(table.instruments, ticks[:-1, :end]), refused


def _json_table(named: list[Symbol], table: SymbolTable) -> I64:
    """A row of sid and shifts per symbol. One that isn't in the table has the number it would get if all were added."""
    rows = np.empty((len(named), 3), np.int64)
    for k, (name, scale, size_scale) in enumerate(named):
        sid, own = table.find(name)
        if own is None:
            rows[k] = -1, 0, 0
        else:
            rows[k] = sid if sid >= 0 else len(table) + k, own.scale - scale, own.size_scale - size_scale
    return rows


def _number(sids: I64, named: list[Symbol], table: SymbolTable) -> None:
    """Add the symbols that rows were taken of, in the frame's order, and put in their numbers."""
    known = len(table)
    for given in np.unique(sids[sids >= known]).tolist():
        sids[sids == given] = table.sid(named[given - known][0])


def _refused(cursor: Cursor, content: Content, codes: I64) -> Iterator[Refused]:
    """The rows that have a code, as canonical JSON in the frame's own scales."""
    for row in np.flatnonzero(codes[:content.sid.size]).tolist():
        symbol, scale, size_scale = content.symbols[content.sid[row]]
        ts, bid, ask, bid_size, ask_size, seq = content.wide[:, row].tolist()
        yield Refused(Position(cursor, row), CODES[codes[row] - 1], json_tick(
            symbol, ts, decimal(bid, scale), decimal(ask, scale),
            decimal(bid_size, size_scale) if bid_size else "", decimal(ask_size, size_scale) if ask_size else "", seq,
        ))


@kernel
def _take(
    data: Any, slots: I64, symbols: I64, known: int, ticks: I64, first: int, major: int, minor: int, appended: int,
) -> Any:
    """A frame into `ticks`, a row per column, from its column `first` on.

    data: a read-only uint8 array. symbols: the frame's, `known` of them; room for them, if that is below 0. Returns how many
    rows are taken and how many aren't, the last row of `ticks` saying of each what became of it; or 0 and why none is.
    """
    size = data.size
    if size < TABLE:
        return 0, _TORN
    if data[3] != FORMAT:
        return 0, _VERSION
    head = data[4:12].view(np.uint32)
    rows, at = np.int64(head[0]), np.int64(TABLE + head[1])
    if rows > MAX_ROWS:
        return 0, _OVERSIZE
    if at % 8 != 0 or size != at + ROW_BYTES * rows + 8:
        return 0, _TORN
    if digest(data, size - 8) != data[size - 8:].view(np.uint64)[0]:
        return 0, _CHECKSUM
    if known < 0:
        known = _table(data, at, slots, symbols)
        if known < 0:
            return 0, _JSON

    wide = data[at:at + 48 * rows].view(np.int64)
    sent = data[at + 48 * rows:at + 52 * rows].view(np.uint32)      # below 0 is far above
    furthest = np.uint32(0)
    for i in range(rows):
        furthest = max(furthest, sent[i])
    if rows > 0 and furthest >= known:
        return 0, _TORN
    kept = rows
    if not _plain(wide, sent, rows, symbols, known, ticks, first):
        kept = _weigh(wide, sent, rows, symbols, ticks, first)
    ticks[7, first:first + kept] = major
    ticks[8, first:first + kept] = minor
    ticks[10, first:first + kept] = appended
    return kept, rows - kept


@subkernel
def _table(data: Any, end: Any, slots: I64, symbols: I64) -> int:
    """Read the table's text, which ends at `end`, into `symbols`; how many there are, or -1 where it isn't plain."""
    base, first = data.ctypes.data, slots.ctypes.data
    at, count = TABLE, 0
    if data[at] != _OPEN:
        return -1
    while True:
        if at + 3 + _AHEAD > data.size or count == symbols.shape[0] or data[at + 1] != _OPEN or data[at + 2] != _MARK:
            return -1
        stop, slot = find(base + at + 3, first, slots.shape[0] - 1)
        if slot < 0:
            return -1
        at = stop - base                       # ,5,3] and a comma or bracket
        if at + 6 > end or data[at] != _COMMA or data[at + 2] != _COMMA or data[at + 4] != _CLOSE:
            return -1
        scale, size_scale = np.int64(data[at + 1]) - _ZERO, np.int64(data[at + 3]) - _ZERO
        if not (0 <= scale <= 9 and 0 <= size_scale <= 9):
            return -1
        symbols[count, 0] = int_at(slot + 8 * SID)
        symbols[count, _SHIFT] = int_at(slot + 8 * SCALE) - scale
        symbols[count, _SIZE_SHIFT] = int_at(slot + 8 * SIZE_SCALE) - size_scale
        count += 1
        at += 5
        if data[at] != _COMMA:
            break
    if data[at] != _CLOSE:
        return -1
    for behind in range(at + 1, end):
        if data[behind] != _BLANK:
            return -1
    return count


@subkernel
def _plain(wide: Any, sent: Any, rows: Any, symbols: I64, known: int, ticks: I64, first: int) -> bool:
    """Take all rows as they are; whether they could be."""
    for k in range(known):
        if symbols[k, 0] < 0 or symbols[k, _SHIFT] != 0 or symbols[k, _SIZE_SHIFT] != 0:
            return False
    cells, width = ticks.reshape(-1), ticks.shape[1]
    for column in range(6):
        least, most = _RANGES[column]
        if not _copy(pointer(wide, column * rows), rows, least, most, pointer(cells, (1 + column) * width + first)):
            return False
    sid, ordinal = pointer(cells, first), pointer(cells, 9 * width + first)
    for i in range(rows):
        sid[i] = symbols[sent[i], 0]
    for i in range(rows):
        ordinal[i] = i
    return True


@subkernel
def _copy(source: Any, rows: int, least: int, most: int, target: Any) -> bool:
    """Copy; whether all of it lies in the range."""
    beyond = False
    for i in range(rows):
        value = source[i]
        beyond |= (value < least) | (value > most)
        target[i] = value
    return not beyond


@subkernel
def _weigh(wide: Any, sent: Any, rows: Any, symbols: I64, ticks: I64, first: int) -> Any:
    """Take the rows that can be, in our points; how many they are."""
    codes = ticks[ticks.shape[0] - 1, first:]
    end = first
    for i in range(rows):
        sid, shift, size_shift = symbols[sent[i], 0], symbols[sent[i], _SHIFT], symbols[sent[i], _SIZE_SHIFT]
        ts, seq = wide[i], wide[5 * rows + i]
        bid, ask = _price(wide[rows + i], shift), _price(wide[2 * rows + i], shift)
        bid_size, ask_size = _size(wide[3 * rows + i], size_shift), _size(wide[4 * rows + i], size_shift)
        if sid < 0:
            codes[i] = _UNKNOWN
        elif ts <= 0 or seq < NO_SEQ:
            codes[i] = _MALFORMED
        elif bid_size < 0 or ask_size < 0:
            codes[i] = _SIZE
        elif bid == _OUT or ask == _OUT:
            codes[i] = _PRICE
        elif bid == _FINER or ask == _FINER:
            codes[i] = _SCALE
        else:
            codes[i] = _TAKEN
            ticks[0, end] = sid
            ticks[1, end] = ts
            ticks[2, end] = bid
            ticks[3, end] = ask
            ticks[4, end] = bid_size
            ticks[5, end] = ask_size
            ticks[6, end] = seq
            ticks[9, end] = i
            end += 1
    return end - first


@subkernel
def _price(points: int, shift: int) -> Any:
    """The frame's points in ours, or _OUT, or _FINER."""
    if shift >= 0:
        return points * _POWER[shift] if 0 < points <= (LARGEST - 1) // _POWER[shift] else _OUT
    ours = points // _POWER[-shift]
    if not 0 < ours < LARGEST:
        return _OUT
    return ours if ours * _POWER[-shift] == points else _FINER


@subkernel
def _size(points: int, shift: int) -> Any:
    """The frame's points in ours, cut to whole ones; -1 where that is no size."""
    if shift >= 0:
        return points * _POWER[shift] if 0 <= points <= (LARGEST - 1) // _POWER[shift] else -1
    ours = points // _POWER[-shift]
    return ours if 0 <= ours < LARGEST else -1
