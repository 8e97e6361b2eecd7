"""FeatureSet: names, fingerprint, warm-up; `compute` for a whole file, `stream` for ticks as they come. Same bits.

    fs = FeatureSet.default()
    X  = fs.compute(ticks)                                   # (n, F) float32, one row per admitted tick
    st = fs.stream(); X1 = st.update(batch); blob = st.snapshot(); st2 = fs.restore(blob)
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from ..errors import InputRefused, UsageError
from ..eventtime import EventTime
from ..files import ticks_from_frame
from ..instruments import Instrument, Instruments, SymbolTable
from ..state import SymbolRows
from ..types import F32, F64, I64, TickBatch
from ..wire.ticks import renumber
from . import kernel
from .families import indicators
from .families.calendar import tables
from .spec import Column, Family

if TYPE_CHECKING:
    import polars as pl

SNAPSHOT_FORMAT = 1


class Rows(NamedTuple):
    """What the kernel says of n ticks."""

    matrix: F32
    """(n, F), NaN until known."""
    spread: F64
    """(n,) mean spread, points."""
    sigma: F64
    """(n,) points per √second, NaN until known."""
    status: I64
    """(n,) Reason.DECIDED where every window is full, else WARMUP or GAP."""


class FeatureState:
    """The default set's state of every symbol of a partition. `update` takes admitted ticks only."""

    def __init__(self, timeframes: tuple[str, ...] = indicators.USUAL) -> None:
        families = kernel.layout(timeframes)
        self.rows = SymbolRows(sum(family.words for family in families))
        self._columns = sum(len(family.columns) for family in families)
        seconds = np.array([indicators.TIMEFRAMES[length] for length in timeframes], np.int64)
        self._tables = (*tables(), 10**9 * seconds, 1.0 / np.sqrt(seconds))

    def update(self, ticks: TickBatch) -> Rows:
        self.rows.ensure(len(ticks.instruments))
        n = len(ticks)
        rows = Rows(np.empty((n, self._columns), np.float32), np.empty(n), np.empty(n), np.empty(n, np.int64))
        kernel.update(
            ticks.sid, ticks.ts, ticks.bid, ticks.ask, ticks.bid_size, ticks.ask_size, *self._tables,
            self.rows.ints, *rows,
        )
        return rows


class TimeFeatureState:
    """The same for the nine raw time features alone."""

    def __init__(self, every_tick: bool) -> None:
        self.rows = SymbolRows(kernel.RAW_WORDS)
        self._every_tick = every_tick

    def update(self, ticks: TickBatch) -> Rows:
        self.rows.ensure(len(ticks.instruments))
        units = np.array([0.5 / 10.0**i.scale for i in ticks.instruments])
        n = len(ticks)
        out = np.empty((n, 9), np.float32)
        kernel.update_time(
            ticks.sid, ticks.ts, ticks.bid, ticks.ask, units, self._every_tick, self.rows.ints, self.rows.floats, out
        )
        nothing = np.full(n, np.nan)
        return Rows(out, nothing, nothing, np.zeros(n, np.int64))


class FeatureSet:
    """Columns with a fingerprint: equal fingerprints mean equal bits on equal ticks."""

    def __init__(self, layout: tuple[Family, ...], clock: str) -> None:
        self.clock = clock
        self.columns: tuple[Column, ...] = tuple(column for family in layout for column in family.columns)
        self.names = [column.name for column in self.columns]
        self.warmup = {column.name: column.warmup for column in self.columns}
        described = repr([(f.name, f.version, f.words, [c.name for c in f.columns]) for f in layout]) + clock
        self.fingerprint = hashlib.sha256(described.encode()).hexdigest()[:16]

    @classmethod
    def default(cls) -> FeatureSet:
        """The scale-free columns that bundles are trained on."""
        return cls(kernel.layout(indicators.USUAL), "1m")

    @classmethod
    def time_features(cls, clock: str = "1m") -> FeatureSet:
        """Exactly the nine raw time features, on closed one-minute bars (`1m`) or on every tick (`tick`)."""
        if clock not in ("1m", "tick"):
            raise UsageError("clock_unknown", f"no clock {clock!r}", hint="clocks are 1m and tick")
        return cls(kernel.RAW, clock)

    def state(self) -> FeatureState | TimeFeatureState:
        """Fresh kernel state, for ticks already admitted."""
        return FeatureState() if self.names[0].endswith("_s") else TimeFeatureState(self.clock == "tick")

    def compute(self, ticks: TickBatch | pl.DataFrame) -> F32:
        """(n, F) float32, one row per admitted tick. Raises InputRefused for columns that can't be taken."""
        return self.stream().update(ticks)

    def frame(self, ticks: TickBatch | pl.DataFrame) -> pl.DataFrame:
        """The same with `symbol`, `ts` (ns UTC) and `row` (0-based number of the tick in the input), to join on."""
        import polars as pl

        batch = as_batch(ticks)
        taken = np.flatnonzero(EventTime().admit(batch) == 0)
        matrix = self.state().update(batch[taken]).matrix
        head = pl.DataFrame({
            "symbol": pl.Series(batch.symbols, dtype=pl.String).gather(batch.sid[taken]), "ts": batch.ts[taken], "row": taken,
        }).with_columns(pl.col("ts").cast(pl.Datetime("ns", "UTC")))
        return head.hstack(pl.DataFrame(matrix, schema=self.names))

    def stream(self) -> Stream:
        return Stream(self)

    def restore(self, blob: bytes) -> Stream:
        """The stream a snapshot was taken of. Raises InputRefused where it isn't one of this set."""
        return Stream.restored(self, blob)


class Stream:
    """Features as ticks come; any cutting of the same ticks into batches gives the same bits."""

    def __init__(self, features: FeatureSet) -> None:
        self._features = features
        self._symbols = SymbolTable(None)
        self._event_time = EventTime()
        self._state = features.state()

    def update(self, ticks: TickBatch | pl.DataFrame) -> F32:
        """(m, F) for the m ticks of the batch that are admitted."""
        batch = renumber(as_batch(ticks), self._symbols)
        taken = self._event_time.admit(batch) == 0
        return self._state.update(batch if taken.all() else batch[taken]).matrix

    def snapshot(self) -> bytes:
        """All state, to continue from elsewhere with the same bits."""
        rows = [self._event_time.rows, self._state.rows]
        for part in rows:
            part.ensure(len(self._symbols))
        symbols = [
            {"instrument": instrument, "rows": [part.snapshot(sid) for part in rows]}
            for sid, instrument in enumerate(self._symbols.instruments)
        ]
        body = {"format": SNAPSHOT_FORMAT, "fingerprint": self._features.fingerprint, "symbols": symbols}
        encoded = msgspec.msgpack.encode(body)
        return hashlib.sha256(encoded).digest() + encoded

    @classmethod
    def restored(cls, features: FeatureSet, blob: bytes) -> Stream:
        if len(blob) < 32 or hashlib.sha256(blob[32:]).digest() != blob[:32]:
            raise InputRefused("snapshot_damaged", "the snapshot's checksum doesn't hold", hint="take a new one")
        body: dict[str, Any] = msgspec.msgpack.decode(blob[32:])
        if body["format"] != SNAPSHOT_FORMAT or body["fingerprint"] != features.fingerprint:
            raise InputRefused("snapshot_foreign", "the snapshot is of other features or another version",
                               hint="rebuild the state from ticks")
        stream = cls(features)
        for sid, symbol in enumerate(body["symbols"]):
            stream._symbols.adopt(msgspec.convert(symbol["instrument"], Instrument))
            for part, row in zip((stream._event_time.rows, stream._state.rows), symbol["rows"], strict=True):
                part.restore(sid, row)
        return stream


def as_batch(ticks: TickBatch | pl.DataFrame) -> TickBatch:
    """A TickBatch as it is; a polars frame (symbol, ts, bid, ask, bid_size, ask_size) with default instruments."""
    if isinstance(ticks, TickBatch):
        return ticks
    return ticks_from_frame(ticks, Instruments())
