"""Ticks on the wire to columns and back: JSON objects (one, or one per line) and packed frames, by first byte.

What can't be taken is refused row by row, whole, with a code; the rows beside it are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from ..instruments import SymbolTable
from ..types import COLUMNS, I64, NO_SEQ, Code, Entry, Kind, Position, Refused, TickBatch
from . import frame
from .stamps import rfc3339_to_ns

if TYPE_CHECKING:
    from .scan import Row

MAX_RECORD = 8 * 2**20
"""Bytes of one record of the tick log."""
MAX_SYMBOL = 64
"""Characters of a symbol."""
LARGEST = 2**52
"""Points from which float64, in which prices arrive, no longer tells them apart; a price there is a wrong scale."""


class Tick(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One tick as JSON: a quote of bid and ask, perhaps with their sizes, or one price, perhaps with its size.

    ts: ns UTC, or RFC 3339. Sizes and seq may be left out; a field of another name is refused. Of one price the instrument's
    `spread` S, in points, makes a quote: bid price - S // 2, ask bid + S; the size counts on both sides. Refused where the
    instrument declares no spread.
    """

    symbol: str
    ts: int | str
    bid: float | UnsetType = UNSET
    ask: float | UnsetType = UNSET
    bid_size: float | UnsetType = UNSET
    ask_size: float | UnsetType = UNSET
    price: float | UnsetType = UNSET
    size: float | UnsetType = UNSET
    seq: int = NO_SEQ


_tick = msgspec.json.Decoder(Tick)
_BLANKS = b" \t\r\n"
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)
"""What msgspec raises for bytes that aren't a tick: bad JSON, a wrong type, bad UTF-8."""
_I64_LIMIT = 2**63
_UNITS = tuple(float(10**k) for k in range(10))
_UNITS = tuple(float(10**k) for k in range(10))
Reader = Callable[[list[Entry], SymbolTable], tuple[TickBatch, list[Refused]]]


def decode(entries: list[Entry], table: SymbolTable) -> tuple[TickBatch, list[Refused]]:
    """Consecutive records of a partition -> their ticks in log order, and what was refused.

    The batch shares `table`'s instruments; new symbols are added to it.
    """
    scan, unpack = _readers()
    batches: list[TickBatch] = []
    refused: list[Refused] = []
    for way, run in _runs(entries):
        bad: list[Refused] = []
        if way == _LINES:
            batch, bad = scan(run, table)
        elif way == _FRAMES:
            batch, bad = unpack(run, table)
        elif way == _ROWS:
            batch = TickBatch.concat([renumber(entry.payload, table) for entry in run])
        else:
            batch = TickBatch(table.instruments, **_nothing())
            bad = [Refused(Position(entry.cursor, 0), Code.OVERSIZE, entry.payload) for entry in run]
        batches.append(batch)
        refused += bad
    return TickBatch.concat(batches), refused


def renumber(ticks: TickBatch, table: SymbolTable) -> TickBatch:
    """The same ticks with the table's symbol numbers. Raises InputRefused `instrument_changed`."""
    numbers = np.array([table.adopt(instrument) for instrument in ticks.instruments], np.int64)
    return TickBatch(table.instruments, **{**ticks.columns(), "sid": numbers[ticks.sid]})


@cache
def _readers() -> tuple[Reader, Reader]:
    from .columns import unpack  # numba: who only writes ticks shouldn't wait for it
    from .scan import scan

    return partial(scan, judge=judge), unpack


_LINES, _FRAMES, _ROWS, _TOO_LARGE = range(4)


def _runs(entries: list[Entry]) -> Iterator[tuple[int, list[Entry]]]:
    """Records of one way to be read that follow each other are read together."""
    first, before, rows = 0, _LINES, Kind.ROWS
    for at, (_, kind, payload, _) in enumerate(entries):
        if kind is rows:
            way = _ROWS
        elif frame.is_frame(payload):
            way = _FRAMES
        else:
            way = _LINES if len(payload) <= MAX_RECORD else _TOO_LARGE
        if way != before:
            if at > first:
                yield before, entries[first:at]
            first, before = at, way
    if len(entries) > first:
        yield before, entries[first:]


def _nothing() -> dict[str, I64]:
    return {name: np.zeros(0, np.int64) for name in ("sid", "ts", "bid", "ask")}


# ---- JSON


def judge(line: bytes, table: SymbolTable) -> Row | Code:
    """One line by msgspec, in full: its tick, or the code it is refused by. The symbol of a tick is added to the table."""
    text = line.strip(_BLANKS)
    if not (text.startswith(b"{") and text.endswith(b"}")):        # no object: told without the price of an exception
        return Code.MALFORMED
    try:
        tick = _tick.decode(text)
    except _UNREADABLE:
        return Code.MALFORMED
    if tick.price is UNSET:
        bid, ask, bid_size, ask_size = tick.bid, tick.ask, tick.bid_size, tick.ask_size
        other = tick.size is not UNSET
    else:
        bid = ask = tick.price
        bid_size = ask_size = tick.size
        other = not (tick.bid is tick.ask is tick.bid_size is tick.ask_size is UNSET)
    if other or bid is UNSET or ask is UNSET:
        return Code.MALFORMED
    ts = tick.ts if isinstance(tick.ts, int) else rfc3339_to_ns(tick.ts)
    if not (0 < ts < _I64_LIMIT and NO_SEQ <= tick.seq < _I64_LIMIT and tick.symbol.isprintable()):
        return Code.MALFORMED
    if not 0 < len(tick.symbol) <= MAX_SYMBOL:
        return Code.OVERSIZE
    _, instrument = table.find(tick.symbol)
    if instrument is None:
        return Code.SYMBOL
    spread = 0 if tick.price is UNSET else instrument.spread
    if tick.price is not UNSET and not spread:
        return Code.SPREAD
    unit, size_unit = _UNITS[instrument.scale], _UNITS[instrument.size_scale]
    bid_points, ask_points = _points(bid, unit), _points(ask, unit)
    exact = bid_points / unit == bid and ask_points / unit == ask
    bid_points, ask_points = bid_points - spread // 2, ask_points + spread - spread // 2
    if not (0 < bid_points < LARGEST and 0 < ask_points < LARGEST):
        return Code.PRICE
    if not exact:
        return Code.SCALE
    bid_size, ask_size = bid_size or 0.0, ask_size or 0.0              # UNSET is false
    bid_sizes, ask_sizes = _points(bid_size, size_unit), _points(ask_size, size_unit)
    if bid_size < 0 or ask_size < 0 or bid_sizes >= LARGEST or ask_sizes >= LARGEST:
        return Code.SIZE
    return table.sid(tick.symbol), ts, bid_points, ask_points, bid_sizes, ask_sizes, tick.seq


def _points(value: float, unit: float) -> int:
    """As `to_points`, for one number; 2 * LARGEST for what is beyond the range, on either side."""
    points = value * unit
    return round(points) if abs(points) < LARGEST else 2 * LARGEST


def to_points(prices: Any, scale: Any) -> tuple[Any, Any]:
    """(points as whole float64, which of them are exact).

    k / 10^s is correctly rounded, so it equals the float64 read from a decimal of at most s digits and of no finer one.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.where(np.isfinite(prices), prices, 0.0)
        points = np.rint(finite * scale)
        return np.where(np.abs(points) < LARGEST, points, 0.0), points / scale == finite


# ---- columns to JSON


def encode(ticks: TickBatch, row: int) -> bytes:
    """One tick as canonical JSON: fixed key order, no spaces, prices as decimals of the instrument's scale."""
    return encode_all(ticks[row:row + 1])[0]


def encode_all(ticks: TickBatch) -> list[bytes]:
    """Each tick as `encode` has it."""
    found = []
    columns = (getattr(ticks, name).tolist() for name in COLUMNS[:7])
    for sid, ts, bid, ask, bid_size, ask_size, seq in zip(*columns, strict=True):
        instrument = ticks.instruments[sid]
        scale, size_scale = instrument.scale, instrument.size_scale
        found.append(json_tick(
            instrument.symbol, ts, decimal(bid, scale), decimal(ask, scale),
            decimal(bid_size, size_scale) if bid_size else "", decimal(ask_size, size_scale) if ask_size else "", seq,
        ))
    return found


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
