"""Ticks on the wire to columns and back: JSON objects (one, or one per line) and packed frames, by first byte.

What can't be taken is refused row by row, whole, with a code; the rows beside it are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from ..instruments import SymbolTable
from ..types import I64, NO_SEQ, Code, Entry, Kind, Position, Refused, TickBatch
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
    """One tick as JSON. ts: ns UTC, or RFC 3339. Sizes and seq may be left out; a field of another name is refused.

    A feed that sends one price only says `price`, and perhaps `size`, in place of bid, ask and their sizes: see `Last`.
    """

    symbol: str
    ts: int | str
    bid: float
    ask: float
    bid_size: float = 0.0
    ask_size: float = 0.0
    seq: int = NO_SEQ


class Last(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A tick of one price. The instrument's `spread` S, in points, makes a quote of it: bid price - S // 2, ask bid + S.

    The size counts on both sides. Refused where the instrument declares no spread.
    """

    symbol: str
    ts: int | str
    price: float
    size: float = 0.0
    seq: int = NO_SEQ

    def quote(self) -> Tick:
        """Both sides at the price."""
        return Tick(self.symbol, self.ts, self.price, self.price, self.size, self.size, self.seq)


_tick = msgspec.json.Decoder(Tick)
_last = msgspec.json.Decoder(Last)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)
"""What msgspec raises for bytes that aren't a tick: bad JSON, a wrong type, bad UTF-8."""
_I64_LIMIT = 2**63
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
    read = _read(line)
    if read is None:
        return Code.MALFORMED
    tick = read.quote() if isinstance(read, Last) else read
    ts = tick.ts if isinstance(tick.ts, int) else rfc3339_to_ns(tick.ts)
    if not (0 < ts < _I64_LIMIT and NO_SEQ <= tick.seq < _I64_LIMIT and tick.symbol.isprintable()):
        return Code.MALFORMED
    if not 0 < len(tick.symbol) <= MAX_SYMBOL:
        return Code.OVERSIZE
    _, instrument = table.find(tick.symbol)
    if instrument is None:
        return Code.SYMBOL
    spread = instrument.spread if isinstance(read, Last) else 0
    if isinstance(read, Last) and not spread:
        return Code.SPREAD
    unit, size_unit = float(10**instrument.scale), float(10**instrument.size_scale)
    bid, ask = _points(tick.bid, unit), _points(tick.ask, unit)
    exact = bid / unit == tick.bid and ask / unit == tick.ask
    bid, ask = bid - spread // 2, ask + spread - spread // 2
    if not (0 < bid < LARGEST and 0 < ask < LARGEST):
        return Code.PRICE
    if not exact:
        return Code.SCALE
    bid_size, ask_size = _points(tick.bid_size, size_unit), _points(tick.ask_size, size_unit)
    if tick.bid_size < 0 or tick.ask_size < 0 or bid_size >= LARGEST or ask_size >= LARGEST:
        return Code.SIZE
    return table.sid(tick.symbol), ts, bid, ask, bid_size, ask_size, tick.seq


def _read(line: bytes) -> Tick | Last | None:
    for decoder in (_tick, _last):
        try:
            return decoder.decode(line)
        except _UNREADABLE:
            pass
    return None


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
