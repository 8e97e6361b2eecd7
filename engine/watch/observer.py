"""What is counted of a run. Called by the pipeline with what happened; reads, never writes, anything of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import clock
from ..errors import InputRefused
from ..types import REASONS, SIDES, Cursor, Refused
from ..wire.records import Decisions

_BUCKETS_PER_OCTAVE = 16


class Latency:
    """Durations in logarithmic buckets, 16 per doubling of a microsecond: a quantile is within 4.4 %."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, ns: int, times: int) -> None:
        self._counts[round(_BUCKETS_PER_OCTAVE * float(np.log2(max(ns, 1) / 1e3)))] += times

    def quantile(self, q: float) -> float | None:
        """Microseconds, or None where nothing was measured."""
        total = sum(self._counts.values())
        seen = 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= q * total:
                return round(float(2.0 ** (bucket / _BUCKETS_PER_OCTAVE)), 1)
        return None


class Observer:
    """Counts of one engine since its start; `tell` hears, in words, what an operator wants to know at once."""

    def __init__(self, tell: Callable[[str], None] = lambda text: None) -> None:
        self._tell = tell
        self.taken = 0
        self.rejected: Counter[str] = Counter()
        self.sides: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.latency = Latency()
        self.activations: list[dict[str, Any]] = []

    def ticks(self, taken: int, refused: list[Refused]) -> None:
        self.taken += taken
        for item in refused:
            self.rejected[item.code.value] += 1

    def decided(self, decisions: Decisions | None) -> None:
        if decisions is None:
            return
        for side, count in enumerate(np.bincount(decisions.side, minlength=len(SIDES)).tolist()):
            self.sides[SIDES[side]] += count
        for reason, count in enumerate(np.bincount(decisions.reason, minlength=len(REASONS)).tolist()):
            if count:
                self.reasons[REASONS[reason]] += count

    def publishing(self, signals: int, received_monotonic: int) -> Callable[[], None]:
        """To be called when the log has acknowledged a step with so many signals."""

        def acknowledged() -> None:
            if signals:
                self.latency.add(clock.monotonic_ns() - received_monotonic, signals)

        return acknowledged

    def activated(self, partition: int, cursor: Cursor, k: int, version: str) -> None:
        self.activations.append({"bundle": version, "partition": partition, "cursor": cursor, "k": k})
        self._tell(f"partition {partition}: bundle {version} answers from {cursor} on (k {k})")

    def control_refused(self, partition: int, error: InputRefused) -> None:
        self._tell(f"partition {partition}: a control record is refused: {error}")

    def summary(self) -> dict[str, Any]:
        return {
            "ticks": self.taken,
            "signals": {side: self.sides[side] for side in ("buy", "sell", "neutral")},
            "reasons": dict(sorted(self.reasons.items())),
            "rejected": dict(sorted(self.rejected.items())),
            "latency_us": {"p50": self.latency.quantile(0.5), "p99": self.latency.quantile(0.99)},
            "activations": self.activations,
        }
