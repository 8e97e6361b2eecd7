"""Sending: ticks to the partitions of their symbols, as JSON or in frames, at a pace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from .. import clock
from ..partitioner import partition_of
from ..transports.base import Log
from ..types import TickBatch
from ..wire import frame
from ..wire.ticks import encode

AT_ONCE = 500
"""Records handed to the log in one call at most."""


class Pace(NamedTuple):
    """When a tick is due, in seconds after the first: by number, by its own stamp, or at once."""

    rate: float | None = None
    """Ticks per second, evenly."""
    speed: float | None = None
    """Times recorded speed."""

    def due(self, ticks: TickBatch) -> np.ndarray:
        n = len(ticks)
        if self.rate:
            return np.arange(n) / self.rate
        if self.speed:
            return np.maximum.accumulate(ticks.ts - ticks.ts[0]) / 1e9 / self.speed
        return np.zeros(n)


def send(log: Log, ticks: TickBatch, pace: Pace, rows: int, stop: Callable[[], bool]) -> int:
    """Append the ticks; returns how many. `rows`: per record, 1 = one JSON object each, more = a frame of so many.

    A frame is sent when its last tick is due, and split by partition. Order within a symbol is kept. A tick handed to
    the log before `stop` is in it; none is half sent.
    """
    if not len(ticks):
        return 0
    due = pace.due(ticks)
    home = np.array([partition_of(symbol, log.partitions) for symbol in ticks.symbols], np.int64)[ticks.sid]
    start = clock.monotonic_ns()
    done = 0
    while done < len(ticks) and not stop():
        elapsed = (clock.monotonic_ns() - start) / 1e9
        upto = min(int(np.searchsorted(due, elapsed, "right")), done + AT_ONCE * rows)
        if upto < len(ticks):
            upto -= (upto - done) % rows
        if upto == done:
            clock.sleep(min(max(due[min(done + rows, len(ticks)) - 1] - elapsed, 0.0), 0.1))
            continue
        for partition in np.unique(home[done:upto]).tolist():
            chosen = done + np.flatnonzero(home[done:upto] == partition)
            log.append(partition, list(_records(ticks, chosen, rows)))
        done = upto
    return done


def _records(ticks: TickBatch, chosen: np.ndarray, rows: int) -> Iterator[bytes]:
    if rows == 1:
        for row in chosen.tolist():
            yield encode(ticks, row)
    else:
        for at in range(0, len(chosen), rows):
            yield frame.pack(ticks[chosen[at:at + rows]])
