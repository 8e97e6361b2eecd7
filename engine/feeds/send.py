"""Sending: ticks to the partitions of their symbols, as JSON or in frames, at a pace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from .. import clock
from ..partitioner import partition_of
from ..types import TickBatch
from ..wire import frame
from ..wire.ticks import encode
from .delivery import Stopped

AT_ONCE = 500
"""Records handed over in one call at most."""

TICKS_AT_ONCE = 32_768
"""Ticks handed over in one call, about: a full log is overrun by one call at most."""


class Taker(Protocol):
    """Who takes ticks: a Log, at once or not at all, or a Delivery, which waits for it."""

    partitions: int

    def append(self, partition: int, payloads: Sequence[bytes], /) -> object: ...


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


def send(log: Taker, ticks: TickBatch, pace: Pace, rows: int, stop: Callable[[], bool]) -> int:
    """Append the ticks; returns how many. `rows`: per record, 1 = one JSON object each, more = a frame of so many.

    A frame is sent when its last tick is due, and split by partition. Order within a symbol is kept. A tick handed over
    before `stop` is taken; none is half sent. Where a stop comes while a full log is waited for, some of those that
    aren't counted may be in it too, in other partitions.
    """
    if not len(ticks):
        return 0
    due = pace.due(ticks)
    home = np.array([partition_of(symbol, log.partitions) for symbol in ticks.symbols], np.int64)[ticks.sid]
    most = max(min(AT_ONCE * rows, TICKS_AT_ONCE), rows)
    start = clock.monotonic_ns()
    done = 0
    while done < len(ticks) and not stop():
        elapsed = (clock.monotonic_ns() - start) / 1e9
        upto = min(int(np.searchsorted(due, elapsed, "right")), done + most)
        if upto < len(ticks):
            upto -= (upto - done) % rows
        if upto == done:
            clock.sleep(min(max(due[min(done + rows, len(ticks)) - 1] - elapsed, 0.0), 0.1))
            continue
        try:
            for partition in np.unique(home[done:upto]).tolist():
                chosen = done + np.flatnonzero(home[done:upto] == partition)
                log.append(partition, list(_records(ticks, chosen, rows)))
        except Stopped:
            break
        done = upto
    return done


def _records(ticks: TickBatch, chosen: np.ndarray, rows: int) -> Iterator[bytes]:
    if rows == 1:
        for row in chosen.tolist():
            yield encode(ticks, row)
    else:
        for at in range(0, len(chosen), rows):
            yield frame.pack(ticks[chosen[at:at + rows]])
