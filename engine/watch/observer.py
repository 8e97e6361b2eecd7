"""What is counted of a run. Called by the pipeline with what happened; reads, never writes, anything of it.

Counts only, so that it costs a tick next to nothing. Others read them from their own threads at any time: each value is
replaced or grows as a whole, and none ever falls.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from .. import clock
from ..errors import InputRefused
from ..eventtime import VERDICTS
from ..instruments import Instrument
from ..skew import future_doubt
from ..types import I64, REASONS, SIDES, Code, Cursor, Entry, Kind, Reason, Refused, TickBatch
from ..wire.records import Decisions

_BUCKETS_PER_OCTAVE = 16

BUCKETS_NS = (50_000, *(step * 10**power for power in range(5, 9) for step in (1, 2, 5)), 10**9)
"""Upper bounds of the exported histogram: 50 µs to 1 s in steps of 1, 2, 5."""

LOOKED_AT = 20
"""Future-dated ticks from which it's told whether their clock is another zone's."""


class _Stamp(msgspec.Struct):
    ts: int


_stamp = msgspec.json.Decoder(_Stamp)

UNSEEN = -1
"""Instead of a status: no tick of the symbol came since the partition was taken over."""


class Latency:
    """Durations twice: in logarithmic buckets, 16 per doubling of a microsecond, for quantiles within 4.4 %; and in
    BUCKETS_NS, exactly, for export."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.buckets = [0] * (len(BUCKETS_NS) + 1)
        """How many fell at or below each bound and above the one before; the last is above all."""
        self.total_ns = 0

    def add(self, ns: int, times: int) -> None:
        self._counts[round(_BUCKETS_PER_OCTAVE * float(np.log2(max(ns, 1) / 1e3)))] += times
        self.buckets[bisect_left(BUCKETS_NS, ns)] += times
        self.total_ns += ns * times

    def quantile(self, q: float) -> float | None:
        """Microseconds, or None where nothing was measured."""
        total = sum(self._counts.values())
        seen = 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= q * total:
                return round(float(2.0 ** (bucket / _BUCKETS_PER_OCTAVE)), 1)
        return None


class Symbols:
    """When each symbol of a partition was last taken, and whether its features were warm then."""

    def __init__(self) -> None:
        self._instruments: list[Instrument] = []
        self._taken = np.zeros(0, np.int64)
        self._status = np.zeros(0, np.int64)

    def known(self, instruments: list[Instrument], now: int) -> list[str]:
        """The symbols there are; new ones count as taken now. Returns the new ones."""
        missing = len(instruments) - self._taken.size
        new = [instrument.symbol for instrument in instruments[self._taken.size:]]
        if missing > 0:
            self._taken = np.concatenate([self._taken, np.full(missing, now)])
            self._status = np.concatenate([self._status, np.full(missing, UNSEEN)])
        self._instruments = instruments
        return new

    def moved(self, ticks: TickBatch, status: I64, now: int) -> list[str]:
        """Ticks were taken; of several of one symbol the last counts. Returns the symbols that are new."""
        new = self.known(ticks.instruments, now)
        self._taken[ticks.sid] = now
        self._status[ticks.sid] = status
        return new

    def names(self) -> set[str]:
        return {instrument.symbol for instrument in self._instruments}

    def last_taken(self) -> list[tuple[str, int]]:
        """(symbol, monotonic ns when its last tick was taken)."""
        taken = self._taken.tolist()
        return [(i.symbol, ns) for i, ns in zip(self._instruments, taken, strict=False)]   # a symbol may just be coming

    def warm(self) -> tuple[int, int]:
        """(symbols whose features were warm at their last tick, symbols that had one)."""
        status = self._status
        return int((status == Reason.DECIDED).sum()), int((status != UNSEEN).sum())


class Observer:
    """Counts of one engine since its start; `tell` hears, in words, what an operator wants to know at once."""

    def __init__(
        self, tell: Callable[[str], None] = lambda text: None, name: Callable[[Cursor], str | int] = str
    ) -> None:
        """name: a cursor as the log's users know it."""
        self._tell = tell
        self._name = name
        self.taken = 0
        self.rejected: Counter[str] = Counter()
        self._ahead: list[int] = []
        self.decisions: I64 = np.zeros((len(SIDES), len(REASONS)), np.int64)
        self.latency = Latency()
        self.sent = 0
        """Signals handed to the log."""
        self.acknowledged = 0
        """Of those, the ones it has answered."""
        self.swaps: Counter[int] = Counter()
        self.activations: list[dict[str, Any]] = []
        self.symbols: dict[int, Symbols] = {}
        self.records = 0
        """Tick records done with."""
        self.appended: dict[int, int] = {}
        """ns UTC when the log stored the last record done with, per partition; 0 where it doesn't say."""
        self.checkpoints: dict[int, int] = {}
        """Monotonic ns of the last checkpoint per partition; before the first one, when it was taken over."""
        self.last_tick: int | None = None
        """ns UTC when the last tick of any symbol was taken."""
        self.last_turn: int | None = None
        """Monotonic ns when the loop last turned; None before it did."""

    # ---- the loop

    def turned(self) -> None:
        self.last_turn = clock.monotonic_ns()

    def granted(self, partition: int, instruments: list[Instrument]) -> None:
        """The partition was taken over, with these symbols restored."""
        now = clock.monotonic_ns()
        self.checkpoints[partition] = now
        self.symbols[partition] = Symbols()
        self.symbols[partition].known(instruments, now)

    def left(self, partition: int) -> None:
        """The partition is ours no more."""
        for kept in (self.checkpoints, self.symbols, self.appended):
            kept.pop(partition, None)

    def given_up(self, partition: int) -> None:
        self.left(partition)
        self._tell(f"partition {partition}: given up, all that was decided is published")

    # ---- the way of a tick

    def ticks(self, taken: int, refused: list[Refused], entries: list[Entry]) -> None:
        """entries: the records they stood in."""
        self.taken += taken
        codes = Counter([item.code for item in refused])
        for code, count in codes.items():
            self.rejected[code.value] += count
        if Code.FUTURE in codes and len(self._ahead) < LOOKED_AT:
            self._look_ahead(refused, entries)

    def _look_ahead(self, refused: list[Refused], entries: list[Entry]) -> None:
        """When enough future-dated ticks came, say once whether they look like another zone's. Files are told of when read."""
        stored = {entry.cursor: entry.appended for entry in entries if entry.kind is not Kind.ROWS}
        self._ahead += [
            _stamp.decode(item.payload).ts - stored[item.position.cursor] for item in refused
            if item.code is Code.FUTURE and item.position.cursor in stored
        ]
        if len(self._ahead) >= LOOKED_AT and (doubt := future_doubt(np.array(self._ahead))):
            self._tell(doubt)

    def moved(self, partition: int, entries: list[Entry], ticks: TickBatch, status: I64) -> None:
        """Records done with, the ticks taken from them and what `Rows.status` says of each."""
        if entries:
            self.records += len(entries)
            self.appended[partition] = entries[-1].appended
        if len(ticks):
            self.last_tick = clock.wall_ns()
        for symbol in self.symbols[partition].moved(ticks, status, clock.monotonic_ns()):
            self._look_elsewhere(partition, symbol)

    def _look_elsewhere(self, partition: int, symbol: str) -> None:
        """A new symbol that another partition has is two symbols to us, with ids that aren't unique: somebody must know."""
        for other, symbols in self.symbols.items():
            if other != partition and symbol in symbols.names():
                self._tell(f"{symbol} stands in partitions {other} and {partition}: its producers disagree where it belongs, so "
                           "it is two symbols here, and the ids of its signals aren't unique")

    def decided(self, decisions: Decisions | None) -> None:
        if decisions is None:
            return
        cells = np.bincount(decisions.side * len(REASONS) + decisions.reason, minlength=self.decisions.size)
        self.decisions = self.decisions + cells.reshape(self.decisions.shape)

    def publishing(self, signals: int, received_monotonic: int, checkpoint_of: int | None = None) -> Callable[[], None]:
        """To be called when the log has acknowledged a step with so many signals.

        checkpoint_of: the partition, if the step holds a checkpoint.
        """
        self.sent += signals

        def acknowledged() -> None:
            now = clock.monotonic_ns()
            self.acknowledged += signals
            if signals:
                self.latency.add(now - received_monotonic, signals)
            if checkpoint_of is not None:
                self.checkpoints[checkpoint_of] = now

        return acknowledged

    def followed(self, partition: int, cursor: Cursor, k: int, words: str, version: str | None) -> None:
        """A control record holds from here on; words: what it changes; version: the bundle it names, None if it names none."""
        if version is not None:
            self.swaps[partition] += 1
            self.activations.append({"bundle": version, "partition": partition, "cursor": cursor, "k": k})
        self._tell(f"partition {partition}: {words} from {self._name(cursor)} on (k {k})")

    def control_refused(self, partition: int, error: InputRefused) -> None:
        self.rejected[Code.CONTROL.value] += 1
        self._tell(f"partition {partition}: a control record is refused: {error}")

    # ---- what comes of it

    def verdicts(self) -> dict[str, int]:
        """Ticks by what event time said of them."""
        return {"taken": self.taken} | {code.value: self.rejected[code.value] for code in VERDICTS if code}

    def ticks_per_record(self) -> float:
        return sum(self.verdicts().values()) / self.records if self.records else 1.0

    def warm_share(self) -> float | None:
        """Share of the symbols that moved whose features are warm; None where none has moved."""
        counts = [symbols.warm() for symbols in list(self.symbols.values())]
        moved = sum(seen for _, seen in counts)
        return sum(warm for warm, _ in counts) / moved if moved else None

    def summary(self) -> dict[str, Any]:
        by_side, by_reason = self.decisions.sum(axis=1).tolist(), self.decisions.sum(axis=0).tolist()
        return {
            "ticks": self.taken,
            "signals": {side: by_side[SIDES.index(side)] for side in ("buy", "sell", "neutral")},
            "reasons": {reason: count for reason, count in sorted(zip(REASONS, by_reason, strict=True)) if count},
            "rejected": dict(sorted(self.rejected.items())),
            "latency_us": {"p50": self.latency.quantile(0.5), "p99": self.latency.quantile(0.99)},
            "activations": self.activations,
        }
