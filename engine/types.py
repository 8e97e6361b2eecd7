"""The nouns that flow: ticks, positions, log entries, and the words for sides, reasons and refusals.

Ticks are columns. Everything is a `TickBatch`; a single JSON tick is a batch of one. All columns are int64 and
C-contiguous, so that every compiled kernel sees one layout and nothing is compiled while ticks flow.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, StrEnum
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .instruments import Instrument

I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

Cursor = tuple[int, int]
"""A transport's own place of a record: (ms, sequence) of a Redis id, (0, offset) elsewhere."""

START: Cursor = (0, 0)
"""Before the first record."""


class Position(NamedTuple):
    """The record being processed when something fell, and the count of rows (or closings) within it."""

    cursor: Cursor
    ordinal: int


NOWHERE = Position(START, -1)
"""Before everything that was ever published."""

LAST_ORDINAL = 2**32 - 1
"""No ordinal is above it: `Position(cursor, LAST_ORDINAL)` is the end of a record."""

CLASSES = ("neutral", "buy", "sell")
"""Order of every probability column."""


class Side(IntEnum):
    """What a signal says; the value is its column among the probabilities."""

    NEUTRAL = 0
    BUY = 1
    SELL = 2


class Reason(IntEnum):
    """Why a signal has the side it has."""

    DECIDED = 0
    THRESHOLD = 1
    COOLDOWN = 2
    HYSTERESIS = 3
    SPREAD = 4
    NOVELTY = 5
    GUARD = 6
    WARMUP = 7
    GAP = 8
    PAUSED = 9


SIDES = tuple(side.name.lower() for side in Side)
REASONS = tuple(reason.name.lower() for reason in Reason)


class Code(StrEnum):
    """Why an input was refused. A refused input is counted, kept whole in `rejects`, and changes no state."""

    MALFORMED = "malformed"            # not JSON, a missing or unknown field, a wrong type
    VERSION = "version"                # a frame of a version this engine doesn't read
    CHECKSUM = "checksum"              # a frame whose bytes don't match its checksum
    OVERSIZE = "oversize"              # a record or a symbol beyond the limits
    PRICE = "price"                    # not finite, or not positive
    SCALE = "scale"                    # finer than the instrument's scale
    SIZE = "size"                      # not finite, or negative
    SYMBOL = "symbol"                  # unknown, and the list is closed
    SPREAD = "spread"                  # one price, and the instrument declares no spread
    CROSSED = "crossed"                # bid above ask
    FUTURE = "future"                  # stamped later than the log received it
    LATE = "late"                      # before a tick already taken
    DUPLICATE = "duplicate"            # the same tick again
    CONTROL = "control"                # a control record that doesn't hold
    POISON = "poison"                  # ended every engine that tried to take it


class Kind(IntEnum):
    """What a record of the tick log carries."""

    TICKS = 0                          # JSON lines or a packed frame
    CONTROL = 1                        # a copy of a control record
    ROWS = 2                           # a TickBatch itself: files read by this process, never on a wire


class Entry(NamedTuple):
    """One record of the tick log."""

    cursor: Cursor
    kind: Kind
    payload: Any                       # bytes; a TickBatch for Kind.ROWS
    appended: int = 0                  # ns UTC when the log stored it; 0 where the transport doesn't say


class Refused(NamedTuple):
    """One input not taken: where it stood, why, and the whole of it."""

    position: Position
    code: Code
    payload: bytes


NO_SEQ = -1

COLUMNS = ("sid", "ts", "bid", "ask", "bid_size", "ask_size", "seq", "major", "minor", "ordinal", "appended")


_DEFAULTS: dict[str, Callable[..., I64]] = {"seq": partial(np.full, fill_value=NO_SEQ), "minor": np.arange}
"""Columns that aren't zero where they aren't given."""


class TickBatch:
    """Columns of ticks, all int64, in log order.

    sid: index into `instruments`. ts: ns UTC. bid, ask: price points; bid_size, ask_size: size points (0 = not given),
    of the instrument's scales. seq: the sender's sequence number or -1. major, minor: the record's cursor, ordinal:
    the row in it. appended: ns UTC when the log stored the record, 0 where it doesn't say.
    """

    __slots__ = ("instruments", *COLUMNS)

    instruments: list[Instrument]
    sid: I64
    ts: I64
    bid: I64
    ask: I64
    bid_size: I64
    ask_size: I64
    seq: I64
    major: I64
    minor: I64
    ordinal: I64
    appended: I64

    def __init__(self, instruments: list[Instrument], **columns: I64) -> None:
        """`sid`, `ts`, `bid`, `ask` are required; the rest default to: no size, no seq, cursor (0, row), no stamp."""
        n = columns["ts"].size
        self.instruments = instruments
        for name in COLUMNS:
            column = columns.get(name)
            if column is None:
                column = _DEFAULTS.get(name, np.zeros)(n, dtype=np.int64)
            if column.shape != (n,):
                raise ValueError(f"{name} has the shape {column.shape}, ts {n} rows")
            column = np.ascontiguousarray(column, np.int64)
            setattr(self, name, column if column.flags.writeable else column.copy())

    def __len__(self) -> int:
        return int(self.ts.size)

    def __getitem__(self, rows: slice | NDArray[Any]) -> TickBatch:
        """Some rows, as a batch of its own; the instruments are shared, and with a slice the columns' memory is."""
        if isinstance(rows, slice) and rows.step not in (None, 1):
            rows = np.arange(len(self))[rows]          # kernels take contiguous columns only
        part = object.__new__(TickBatch)
        part.instruments = self.instruments
        for name in COLUMNS:
            setattr(part, name, getattr(self, name)[rows])
        return part

    @staticmethod
    def of(instruments: list[Instrument], matrix: I64) -> TickBatch:
        """The rows of an int64 matrix as the columns, in the order of COLUMNS; its memory is shared."""
        batch = object.__new__(TickBatch)
        batch.instruments = instruments
        (
            batch.sid, batch.ts, batch.bid, batch.ask, batch.bid_size, batch.ask_size, batch.seq,
            batch.major, batch.minor, batch.ordinal, batch.appended,
        ) = matrix
        return batch

    def columns(self) -> dict[str, I64]:
        return {name: getattr(self, name) for name in COLUMNS}

    def position(self, row: int) -> Position:
        return Position((int(self.major[row]), int(self.minor[row])), int(self.ordinal[row]))

    def positions(self) -> list[Position]:
        places = zip(self.major.tolist(), self.minor.tolist(), strict=True)
        return [Position(place, ordinal) for place, ordinal in zip(places, self.ordinal.tolist(), strict=True)]

    def symbol(self, row: int) -> str:
        return self.instruments[int(self.sid[row])].symbol

    @property
    def symbols(self) -> list[str]:
        return [instrument.symbol for instrument in self.instruments]

    @staticmethod
    def concat(batches: list[TickBatch]) -> TickBatch:
        """One batch of several that share their instruments (a longer table may extend a shorter one)."""
        if len(batches) == 1:
            return batches[0]
        instruments = max((b.instruments for b in batches), key=len, default=[])
        columns = {
            name: np.concatenate([getattr(b, name) for b in batches]) if batches else np.zeros(0, np.int64)
            for name in COLUMNS
        }
        return TickBatch(instruments, **columns)
