"""What a family of one's own must promise, tried on ticks: the same bits however they come, no look ahead, values that
become known. The fused kernel's own families are held to the same in tests/contract.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np

from .errors import UsageError
from .features.own import Own, interpreted
from .features.state import FeatureState
from .types import F32, TickBatch

TRIED = 20_000
"""Most ticks that each promise is tried on."""
LEAST = 1000
CUTS = 3
"""Places at which later ticks are changed."""


class Promise(NamedTuple):
    """Whether it holds, and in words what was seen."""

    holds: bool
    seen: str


class Verdict(NamedTuple):
    family: str
    columns: str
    ticks: int
    promises: dict[str, Promise]

    @property
    def holds(self) -> bool:
        return all(promise.holds for promise in self.promises.values())

    def as_dict(self) -> dict[str, Any]:
        told = {name: promise._asdict() for name, promise in self.promises.items()}
        return self._asdict() | {"promises": told, "holds": self.holds}


def check(own: Own, ticks: TickBatch) -> Verdict:
    """Try a family on admitted ticks, the more symbols the better. Raises UsageError `family_ticks`, `family_failed`."""
    ticks = ticks[:TRIED]
    if len(ticks) < LEAST:
        raise UsageError("family_ticks", f"{len(ticks)} admitted ticks are too few to try a family on",
                         hint=f"give {LEAST} or more")
    columns = ", ".join(column.name for column in own.family.columns)
    bounds = _bounds(own, ticks[:LEAST])           # before anything compiled runs: it would write wherever it says
    if not bounds.holds:
        return Verdict(own.family.name, columns, len(ticks), {"bounds": bounds})
    tried = _Tried(own, ticks)
    promises = {
        "bounds": bounds, "splits": tried.splits(), "restore": tried.restore(), "symbols": tried.symbols(),
        "repeats": tried.repeats(), "look-ahead": tried.look_ahead(), "values": tried.values(), "cost": tried.cost(),
    }
    return Verdict(own.family.name, columns, len(ticks), promises)


def _bounds(own: Own, ticks: TickBatch) -> Promise:
    """Whether the family keeps to its words and its columns: tried in plain Python, where arrays know their ends."""
    try:
        FeatureState((), (interpreted(own) if own.compiled else own,)).update(ticks)
    except UsageError as error:
        return Promise(False, str(error.args[0]))
    return Promise(True, f"its words and columns alone, on {len(ticks):,} ticks in plain Python")


class _Tried:
    def __init__(self, own: Own, ticks: TickBatch) -> None:
        self._own = own
        self._ticks = ticks
        self._width = len(own.family.columns)
        self._whole = self._run(ticks)

    def _state(self) -> FeatureState:
        return FeatureState((), (self._own,))

    def _run(self, ticks: TickBatch, state: FeatureState | None = None) -> F32:
        """(n, columns) of the family alone."""
        return np.ascontiguousarray((state or self._state()).update(ticks).matrix[:, -self._width:])

    def _same(self, found: F32, expected: F32, what: str) -> Promise:
        differ = np.flatnonzero((found.view(np.int32) != expected.view(np.int32)).any(axis=1))
        if not differ.size:
            return Promise(True, f"{what}: the same bits")
        column = int(np.argmax(found[differ[0]].view(np.int32) != expected[differ[0]].view(np.int32)))
        name = self._own.family.columns[column].name
        return Promise(False, f"{what}: {name} differs first at tick {differ[0]} "
                       f"({found[differ[0], column]:.9g}, not {expected[differ[0], column]:.9g})")

    def splits(self) -> Promise:
        state, n, parts = self._state(), len(self._ticks), []
        at = 0
        for size in [1, 1, 2, 3, 7, 64, 1, 255, 256, 1000] * (n // 1500 + 1):
            parts.append(self._run(self._ticks[at:at + size], state))
            at += size
        return self._same(np.concatenate(parts), self._whole, "in batches of 1 to 1,000")

    def restore(self) -> Promise:
        state, n = self._state(), len(self._ticks)
        parts = []
        for part in np.array_split(np.arange(n), 7):
            parts.append(self._run(self._ticks[part], state))
            fresh = self._state()
            for sid in range(len(self._ticks.instruments)):
                state.rows.ensure(sid + 1)
                fresh.rows.restore(sid, state.rows.snapshot(sid))
            state = fresh
        return self._same(np.concatenate(parts), self._whole, "taken up from snapshots")

    def symbols(self) -> Promise:
        alone = np.empty_like(self._whole)
        count = len(self._ticks.instruments)
        for sid in range(count):
            rows = np.flatnonzero(self._ticks.sid == sid)
            alone[rows] = self._run(self._ticks[rows])
        return self._same(alone, self._whole, f"each of {count} symbols alone")

    def repeats(self) -> Promise:
        return self._same(self._run(self._ticks), self._whole, "once more")

    def look_ahead(self) -> Promise:
        n = len(self._ticks)
        for k in range(1, CUTS + 1):
            at = n * k // (CUTS + 1)
            changed = self._ticks[np.arange(n)]
            changed.bid[at:] += 1 + np.arange(n - at) % 97
            changed.ask[at:] += 2 + np.arange(n - at) % 89
            found = self._same(self._run(changed)[:at], self._whole[:at], f"other quotes from tick {at} on")
            if not found.holds:
                return found
        return Promise(True, f"other quotes from {CUTS} places on: the same bits before them")

    def values(self) -> Promise:
        said = []
        for column, values in zip(self._own.family.columns, self._whole.T, strict=True):
            infinite, known = np.flatnonzero(np.isinf(values)), np.flatnonzero(~np.isnan(values))
            if infinite.size:
                return Promise(False, f"{column.name} is infinite at tick {infinite[0]}")
            if not known.size:
                return Promise(False, f"{column.name} is never known in {values.size:,} ticks (said: {column.warmup})")
            said.append(f"{column.name} from tick {known[0]} on (said: {column.warmup})")
        return Promise(True, "; ".join(said))

    def cost(self) -> Promise:
        """Told, never held against it: a slow family is a choice."""
        with_it, without = self._seconds((self._own,)), self._seconds(())
        each = max(with_it - without, 0.0) / len(self._ticks) * 1e9
        kind = "compiled" if self._own.compiled else "plain Python, the slow path"
        return Promise(True, f"{each:,.0f} ns a tick ({kind}), beside {without / len(self._ticks) * 1e9:,.0f} for the columns of "
                       "the kernel without bars")

    def _seconds(self, own: tuple[Own, ...]) -> float:
        took = []
        for _ in range(3):
            state = FeatureState((), own)
            start = time.perf_counter()
            state.update(self._ticks)
            took.append(time.perf_counter() - start)
        return min(took)
