"""FeatureSet: names, fingerprint, warm-up; `compute` for a whole file, `stream` for ticks as they come. Same bits.

    fs = FeatureSet.default()
    X  = fs.compute(ticks)                                   # (n, F) float32, one row per admitted tick
    st = fs.stream(); X1 = st.update(batch); blob = st.snapshot(); st2 = fs.restore(blob)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..bars import seconds
from ..config import TIMEFRAMES, FeaturesSection
from ..errors import UsageError
from ..eventtime import EventTime
from ..instruments import Instruments
from ..manifest import Moments
from ..types import F32, TickBatch
from . import kernel, moments
from .families import calendar, indicators
from .own import load
from .spec import Column, Family
from .state import BarState, FeatureState, State, TimeFeatureState, told_by_bars
from .stream import Stream, as_batch

if TYPE_CHECKING:
    import polars as pl


class FeatureSet:
    """Columns with a fingerprint: equal fingerprints mean equal bits on equal ticks.

    names, columns; warmup: name -> after how much it is known.
    """

    def __init__(
        self, families: tuple[Family, ...], state: Callable[[], State], said: tuple[object, ...] = (), clock: str = "1m"
    ) -> None:
        """state: makes a fresh one. said: what else the bits depend on."""
        self.clock = clock
        self.columns: tuple[Column, ...] = tuple(column for family in families for column in family.columns)
        self.names = [column.name for column in self.columns]
        self.warmup = {column.name: column.warmup for column in self.columns}
        self._state = state
        described = [(f.name, f.version, f.words, [c.name for c in f.columns]) for f in families]
        self.fingerprint = hashlib.sha256(repr((described, said, clock)).encode()).hexdigest()[:16]

    @classmethod
    def default(cls, timeframes: Sequence[str] = indicators.USUAL, families: Sequence[str] = ()) -> FeatureSet:
        """The scale-free columns that bundles are trained on.

        timeframes: bar lengths of the indicators, out of config.TIMEFRAMES. families: of one's own, see `own.load`.
        Raises UsageError `timeframes`, `family_clash`, and as `own.load` does.
        """
        lengths = tuple(timeframes)
        if not set(lengths) <= set(TIMEFRAMES) or len(set(lengths)) < len(lengths):
            raise UsageError("timeframes", f"bars of {', '.join(lengths)}: each once, out of {', '.join(TIMEFRAMES)}",
                             hint="[features] timeframes = \"1m,5m,15m,1h\"")
        own = tuple(map(load, families))
        everything = (*kernel.layout(lengths), *(each.family for each in own))
        _refuse_clashes(everything)
        said = (calendar.digest(), moments.VERSION, Moments(), [each.digest for each in own])
        return cls(everything, partial(FeatureState, lengths, own), said)

    @classmethod
    def of(cls, section: FeaturesSection) -> FeatureSet:
        """As [features] says. Raises as `default` does."""
        return cls.default(listed(section.timeframes), listed(section.families))

    @classmethod
    def for_bars(
        cls, length: str, timeframes: Sequence[str] = indicators.USUAL, quotes: bool = True
    ) -> FeatureSet:
        """What bars of this length tell (engine/bars.py), one row per bar; of the default set all that needs no ticks.

        quotes: whether the bars have bid and ask. Raises UsageError `bar_length`, `timeframes`.
        """
        least = seconds(length)
        usual = cls.default([name for name in timeframes if TIMEFRAMES.get(name, least) >= least])
        kept = [k for k, column in enumerate(usual.columns) if told_by_bars(column, length, quotes)]
        families = (Family("bars_of_" + length, 1, 0, tuple(usual.columns[k] for k in kept)),)
        return cls(families, lambda: BarState(usual.state(), kept), (usual.fingerprint, quotes), "bars:" + length)

    @classmethod
    def time_features(cls, clock: str = "1m") -> FeatureSet:
        """Exactly the nine raw time features, on closed one-minute bars (`1m`) or on every tick (`tick`)."""
        if clock not in ("1m", "tick"):
            raise UsageError("clock_unknown", f"no clock {clock!r}", hint="clocks are 1m and tick")
        return cls(kernel.RAW, partial(TimeFeatureState, clock == "tick"), clock=clock)

    def state(self) -> State:
        """A fresh state, for ticks already admitted."""
        return self._state()

    def compute(self, ticks: TickBatch | pl.DataFrame) -> F32:
        """(n, F) float32, one row per admitted tick. Raises InputRefused for columns that can't be taken."""
        return self.stream().update(ticks)

    def frame(self, ticks: TickBatch | pl.DataFrame) -> pl.DataFrame:
        """The same with `symbol`, `ts` (ns UTC; a bar's end) and `row` (0-based number of the tick or bar), to join on."""
        import polars as pl

        batch = as_batch(ticks)
        taken = np.flatnonzero(EventTime().admit(batch) == 0)
        matrix = self.state().update(batch[taken]).matrix
        rows = taken
        if self.clock.startswith("bars:"):
            taken = taken[batch.bid[taken] == 0]
            rows = batch.minor[taken]
        head = pl.DataFrame({
            "symbol": pl.Series(batch.symbols, dtype=pl.String).gather(batch.sid[taken]), "ts": batch.ts[taken], "row": rows,
        }).with_columns(pl.col("ts").cast(pl.Datetime("ns", "UTC")))
        return head.hstack(pl.DataFrame(matrix, schema=self.names))

    def stream(self, instruments: Instruments | None = None) -> Stream:
        """instruments: for single ticks; batches bring their own along."""
        return Stream(self.fingerprint, self.state(), instruments)

    def restore(self, blob: bytes) -> Stream:
        """The stream a snapshot was taken of. Raises InputRefused as `Stream.restore` does."""
        stream = self.stream()
        stream.restore(blob)
        return stream


def listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _refuse_clashes(families: tuple[Family, ...]) -> None:
    for what, names in (
        ("two families", [family.name for family in families]),
        ("two columns", [column.name for family in families for column in family.columns]),
    ):
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            raise UsageError("family_clash", f"{what} are named {', '.join(twice)}", hint="rename your own")
