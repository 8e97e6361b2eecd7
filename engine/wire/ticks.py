"""Ticks on the wire to columns and back: JSON objects (one, or one per line) and packed frames, by first byte.

What can't be taken is refused row by row, whole, with a code; the rows beside it are taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from ..instruments import Instrument, SymbolTable
from ..types import I64, NO_SEQ, Code, Entry, Kind, Position, Refused, TickBatch
from . import frame
from .stamps import rfc3339_to_ns

MAX_RECORD = 8 * 2**20
"""Bytes of one record of the tick log."""
MAX_SYMBOL = 64
"""Characters of a symbol."""
LARGEST = 2**52
"""Points from which float64, in which prices arrive, no longer tells them apart; a price there is a wrong scale."""


class Tick(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One tick as JSON. ts: ns UTC, or RFC 3339. Sizes and seq may be left out; a field of another name is refused."""

    symbol: str
    ts: int | str
    bid: float
    ask: float
    bid_size: float = 0.0
    ask_size: float = 0.0
    seq: int = NO_SEQ


_one = msgspec.json.Decoder(Tick)
_many = msgspec.json.Decoder(list[Tick])
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)
"""What msgspec raises for bytes that aren't a tick: bad JSON, a wrong type, bad UTF-8."""
_I64_LIMIT = 2**63


def decode(entries: list[Entry], table: SymbolTable) -> tuple[TickBatch, list[Refused]]:
    """Consecutive records of a partition -> their ticks in log order, and what was refused.

    The batch shares `table`'s instruments; new symbols are added to it.
    """
    batches: list[TickBatch] = []
    refused: list[Refused] = []
    for run in _runs(entries):
        bad: list[Refused] = []
        if run[0].kind is Kind.ROWS:
            batch = renumber(run[0].payload, table)
        elif frame.is_frame(run[0].payload):
            batch, bad = _decode_frame(run[0], table)
        else:
            batch, bad = _decode_json(run, table)
        batches.append(batch)
        refused += bad
    return TickBatch.concat(batches), refused


def renumber(ticks: TickBatch, table: SymbolTable) -> TickBatch:
    """The same ticks with the table's symbol numbers. Raises InputRefused `instrument_changed`."""
    numbers = np.array([table.adopt(instrument) for instrument in ticks.instruments], np.int64)
    return TickBatch(table.instruments, **{**ticks.columns(), "sid": numbers[ticks.sid]})


def _runs(entries: list[Entry]) -> Iterator[list[Entry]]:
    """JSON records that follow each other are parsed together; a frame or a batch of rows stands alone."""
    json: list[Entry] = []
    for entry in entries:
        if entry.kind is Kind.ROWS or frame.is_frame(entry.payload):
            if json:
                yield json
                json = []
            yield [entry]
        else:
            json.append(entry)
    if json:
        yield json


# ---- JSON


def _decode_json(entries: list[Entry], table: SymbolTable) -> tuple[TickBatch, list[Refused]]:
    """The usual live case first: every record is one good object, so one parse takes them all."""
    if all(len(entry.payload) <= MAX_RECORD for entry in entries):
        try:
            ticks = _many.decode(b"[" + b",".join([entry.payload for entry in entries]) + b"]")
        except _UNREADABLE:
            ticks = []
        if len(ticks) == len(entries):
            return _columns(ticks, entries, [0] * len(entries), [entry.payload for entry in entries], table)
    return _decode_lines(entries, table)


def _decode_lines(entries: list[Entry], table: SymbolTable) -> tuple[TickBatch, list[Refused]]:
    """Line by line: some record has several lines, or something is wrong with one."""
    ticks: list[Tick] = []
    places: list[Entry] = []
    ordinals: list[int] = []
    lines: list[bytes] = []
    refused: list[Refused] = []
    for entry in entries:
        if len(entry.payload) > MAX_RECORD:
            refused.append(Refused(Position(entry.cursor, 0), Code.OVERSIZE, entry.payload))
            continue
        for ordinal, line in enumerate(entry.payload.rstrip(b"\n").split(b"\n")):
            if ordinal >= frame.MAX_ROWS:
                rest = entry.payload.split(b"\n", ordinal)[-1]
                refused.append(Refused(Position(entry.cursor, ordinal), Code.OVERSIZE, rest))
                break
            try:
                tick = _one.decode(line)
            except _UNREADABLE:
                refused.append(Refused(Position(entry.cursor, ordinal), Code.MALFORMED, line))
                continue
            ticks.append(tick)
            places.append(entry)
            ordinals.append(ordinal)
            lines.append(line)
    batch, bad = _columns(ticks, places, ordinals, lines, table)
    return batch, refused + bad


def _columns(
    ticks: list[Tick], places: list[Entry], ordinals: list[int], lines: list[bytes], table: SymbolTable
) -> tuple[TickBatch, list[Refused]]:
    n = len(ticks)
    codes: dict[int, Code] = {}
    sid = np.fromiter((table.sid(t.symbol) if 0 < len(t.symbol) <= MAX_SYMBOL else -2 for t in ticks), np.int64, n)
    ts = np.fromiter((_stamp(t.ts) for t in ticks), np.int64, n)
    seq = np.fromiter((t.seq if NO_SEQ <= t.seq < _I64_LIMIT else -2 for t in ticks), np.int64, n)
    prices = np.array([(t.bid, t.ask) for t in ticks], np.float64).reshape(n, 2)
    sizes = np.array([(t.bid_size, t.ask_size) for t in ticks], np.float64).reshape(n, 2)
    scales = np.array([(10.0**i.scale, 10.0**i.size_scale) for i in table.instruments] or [(1.0, 1.0)])
    scale = scales[np.maximum(sid, 0)]
    points, exact = to_points(prices, scale[:, :1])
    size_points = np.rint(np.where(np.isfinite(sizes), sizes, 0.0) * scale[:, 1:])

    def mark(rows: Any, code: Code) -> None:
        for row in np.flatnonzero(rows):
            codes.setdefault(int(row), code)

    mark((ts <= 0) | (seq < NO_SEQ), Code.MALFORMED)
    mark([not t.symbol.isprintable() for t in ticks], Code.MALFORMED)
    mark(sid == -2, Code.OVERSIZE)
    mark(sid == -1, Code.SYMBOL)
    mark(~((points > 0) & (points < LARGEST)).all(axis=1), Code.PRICE)
    mark(~exact.all(axis=1), Code.SCALE)
    mark(~(np.isfinite(sizes) & (sizes >= 0) & (size_points < LARGEST)).all(axis=1), Code.SIZE)
    cursors = np.array([entry.cursor for entry in places], np.int64).reshape(n, 2)
    batch = TickBatch(
        table.instruments, sid=sid, ts=ts, bid=points[:, 0].astype(np.int64), ask=points[:, 1].astype(np.int64),
        bid_size=np.where(size_points < LARGEST, size_points, 0)[:, 0].astype(np.int64),
        ask_size=np.where(size_points < LARGEST, size_points, 0)[:, 1].astype(np.int64),
        seq=seq, major=cursors[:, 0], minor=cursors[:, 1], ordinal=np.array(ordinals, np.int64),
        appended=np.fromiter((entry.appended for entry in places), np.int64, n),
    )
    if not codes:
        return batch, []
    refused = [Refused(batch.position(row), code, lines[row]) for row, code in sorted(codes.items())]
    good = np.ones(n, bool)
    good[list(codes)] = False
    return batch[good], refused


def _stamp(ts: int | str) -> int:
    """ns UTC, or -1 for a stamp that can't be read."""
    if isinstance(ts, int):
        return ts if 0 < ts < _I64_LIMIT else -1
    return rfc3339_to_ns(ts)


def to_points(prices: Any, scale: Any) -> tuple[Any, Any]:
    """(points as whole float64, which of them are exact).

    k / 10^s is correctly rounded, so it equals the float64 read from a decimal of at most s digits and of no finer one.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.where(np.isfinite(prices), prices, 0.0)
        points = np.rint(finite * scale)
        return np.where(np.abs(points) < LARGEST, points, 0.0), points / scale == finite


# ---- frames


def _decode_frame(entry: Entry, table: SymbolTable) -> tuple[TickBatch, list[Refused]]:
    try:
        content = frame.unpack(entry.payload)
    except frame.FrameError as error:
        return TickBatch(table.instruments, **_nothing()), [
            Refused(Position(entry.cursor, 0), error.code, entry.payload)
        ]
    n = content.columns["ts"].size
    columns = dict(content.columns)
    sids = np.array([table.sid(symbol) for symbol, _, _ in content.symbols], np.int64)
    own = [table.instruments[s] if s >= 0 else Instrument() for s in sids]
    sent = content.columns["sid"]
    codes = np.zeros(n, np.int64)
    price_shift = np.array([i.scale - scale for i, (_, scale, _) in zip(own, content.symbols, strict=True)], np.int64)
    size_shift = np.array([i.size_scale - scale for i, (_, _, scale) in zip(own, content.symbols, strict=True)], np.int64)
    for name in ("bid", "ask"):
        columns[name], inexact = _rescale(columns[name], price_shift[sent])
        codes[inexact] = 1
    for name in ("bid_size", "ask_size"):
        columns[name], _ = _rescale(columns[name], size_shift[sent])
    codes[((columns["bid"] <= 0) | (columns["ask"] <= 0) | (columns["bid"] >= LARGEST) | (columns["ask"] >= LARGEST))] = 2
    codes[(columns["bid_size"] < 0) | (columns["ask_size"] < 0)] = 3
    codes[(columns["ts"] <= 0) | (columns["seq"] < NO_SEQ)] = 4
    codes[sids[sent] < 0] = 5
    rows = TickBatch(
        table.instruments, **{**columns, "sid": sids[sent]}, major=np.full(n, entry.cursor[0], np.int64),
        minor=np.full(n, entry.cursor[1], np.int64), ordinal=np.arange(n, dtype=np.int64),
        appended=np.full(n, entry.appended, np.int64),
    )
    bad = np.flatnonzero(codes)
    if not bad.size:
        return rows, []
    refused = [
        Refused(rows.position(row), _FRAME_CODES[codes[row]], _frame_row(content, row)) for row in bad.tolist()
    ]
    return rows[codes == 0], refused


_FRAME_CODES = (Code.MALFORMED, Code.SCALE, Code.PRICE, Code.SIZE, Code.MALFORMED, Code.SYMBOL)


def _rescale(points: I64, shift: I64) -> tuple[I64, Any]:
    """Points times 10^shift, and where that isn't exact (or leaves the range)."""
    if not shift.any():
        return points, np.zeros(points.size, bool)
    up = 10 ** np.maximum(shift, 0)
    down = 10 ** np.maximum(-shift, 0)
    too_large = np.abs(points) > LARGEST // up
    return np.where(too_large, LARGEST, points * np.where(too_large, 1, up)) // down, points % down != 0


def _frame_row(content: frame.Content, row: int) -> bytes:
    """One row of a frame as canonical JSON, in the frame's own scales."""
    symbol, scale, size_scale = content.symbols[content.columns["sid"][row]]
    ts, bid, ask, bid_size, ask_size, seq = (int(content.columns[name][row]) for name in frame.WIDE)
    return json_tick(
        symbol, ts, decimal(bid, scale), decimal(ask, scale),
        decimal(bid_size, size_scale) if bid_size else "", decimal(ask_size, size_scale) if ask_size else "", seq,
    )


def _nothing() -> dict[str, I64]:
    return {name: np.zeros(0, np.int64) for name in ("sid", "ts", "bid", "ask")}


# ---- columns to JSON


def encode(ticks: TickBatch, row: int) -> bytes:
    """One tick as canonical JSON: fixed key order, no spaces, prices as decimals of the instrument's scale."""
    instrument = ticks.instruments[ticks.sid[row]]
    return json_tick(
        instrument.symbol, int(ticks.ts[row]),
        decimal(int(ticks.bid[row]), instrument.scale), decimal(int(ticks.ask[row]), instrument.scale),
        decimal(int(ticks.bid_size[row]), instrument.size_scale) if ticks.bid_size[row] else "",
        decimal(int(ticks.ask_size[row]), instrument.size_scale) if ticks.ask_size[row] else "",
        int(ticks.seq[row]),
    )


def json_tick(symbol: str, ts: int, bid: str, ask: str, bid_size: str, ask_size: str, seq: int) -> bytes:
    return (
        f'{{"symbol":{msgspec.json.encode(symbol).decode()},"ts":{ts},"bid":{bid},"ask":{ask}'
        + (f',"bid_size":{bid_size}' if bid_size else "")
        + (f',"ask_size":{ask_size}' if ask_size else "")
        + (f',"seq":{seq}' if seq != NO_SEQ else "")
        + "}"
    ).encode()


def decimal(points: int, scale: int) -> str:
    """Points as a decimal number with exactly `scale` digits behind the point."""
    if not scale:
        return str(points)
    sign = "-" if points < 0 else ""
    whole, part = divmod(abs(points), 10**scale)
    return f"{sign}{whole}.{part:0{scale}d}"
