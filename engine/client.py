"""For those who send ticks and those who act on signals: `publish` and `subscribe`.

    publish("redis://localhost:6379", ticks)
    with publisher("redis://localhost:6379", spool="spool") as feed: feed.send(ticks); feed.send(more)
    for signal in subscribe("redis://localhost:6379", max_age=60): ...
    async for signal in subscribe(...): ...
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType

from . import clock
from .errors import UsageError
from .feeds.delivery import Delivered, Delivery
from .feeds.send import Pace, send
from .feeds.spool import Spool
from .instruments import Instruments, SymbolTable
from .transports import open_log
from .transports.base import Log, Topic
from .types import LAST_ORDINAL, NOWHERE, Kind, Position, TickBatch
from .wire.records import Reject, Signal, reject_decoder, signal_decoder
from .wire.ticks import decode

PAGE = 1000
WAIT_MS = 200
TICKS = "ticks"


class publisher:
    """For a program that has ticks again and again: `send` them; `close` when done (or `with`). For one thread.

    A log that is full, away or still starting is waited for, and opened anew where it has to be, for `patience` seconds;
    then its refusal is raised, and what was sent before that stays. spool: a folder of this program's own; ticks are then
    held for a second only and stored there, up to `spool_mb`, until the log takes them, before any newer tick; where it is
    full, TocsinError `spool_full` is raised. What waits there when the program ends is sent first by the next one.
    tell: hears, in words, when that begins and ends.

    Raises TransportUnreachable; OwnershipLost `spool_locked`, TocsinError `spool_write`.
    """

    def __init__(
        self, url: str, *, rows: int = 1, patience: float = 60.0, spool: str | Path | None = None, spool_mb: int = 256,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._rows = rows
        self._delivery = Delivery(
            lambda: open_log(url), patience_s=patience, tell=tell,
            spool=None if spool is None else lambda identity: Spool(Path(spool), identity, spool_mb * 2**20),
        )

    def send(self, ticks: TickBatch) -> int:
        """Ticks (read_ticks) at once; how many: the log, or the spool, has them when this returns."""
        return send(self._delivery, ticks, Pace(), self._rows, lambda: False)

    def finish(self) -> None:
        """Wait until the log has what was spooled."""
        self._delivery.finish()

    @property
    def delivered(self) -> Delivered:
        return self._delivery.delivered

    def close(self) -> None:
        self._delivery.close()

    def __enter__(self) -> publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def publish(url: str, ticks: TickBatch, *, rows: int = 1, patience: float = 60.0) -> int:
    """Append ticks (read_ticks) to a log at once; returns how many. `rows` per record: 1 = JSON, more = frames.

    Waits, and raises, as a `publisher` without a spool.
    """
    with publisher(url, rows=rows, patience=patience) as feed:
        return feed.send(ticks)


class subscribe:
    """Records as they are published, in order per partition; iterate, or `async for`; `close` when done (or `with`).

    topic: `signals`, `rejects`, or `ticks` (a TickBatch per read, counted as `rules` say; what is no tick is left out).
    after: position per partition to go on from (`position` holds what was handed out last); None: from the first.
    max_age: seconds; a signal published longer ago is dropped and counted in `expired`.
    """

    def __init__(
        self, url: str, *, topic: str = "signals", after: Mapping[int, Position] | None = None,
        max_age: float | None = None, deployment: str = "main", rules: Instruments | None = None,
    ) -> None:
        if topic not in (TICKS, *Topic):
            raise UsageError("topic", f"no topic {topic!r}", hint=f"topics are {', '.join((TICKS, *Topic))}")
        self._log: Log = open_log(url, deployment=deployment)
        self._topic = topic
        self._max_age_ns = None if max_age is None else int(max_age * 1e9)
        self._tables = [SymbolTable(rules or Instruments()) for _ in range(self._log.partitions)]
        self.position: dict[int, Position] = dict.fromkeys(range(self._log.partitions), NOWHERE) | dict(after or {})
        self.expired = 0

    def __iter__(self) -> Iterator[Signal | Reject | TickBatch]:
        while True:
            yield from self._page(WAIT_MS)

    async def __aiter__(self) -> AsyncIterator[Signal | Reject | TickBatch]:
        while True:
            for record in await asyncio.to_thread(lambda: list(self._page(WAIT_MS))):
                yield record

    def _page(self, wait_ms: int) -> Iterator[Signal | Reject | TickBatch]:
        return self._ticks(wait_ms) if self._topic == TICKS else self._records(Topic(self._topic), wait_ms)

    def _records(self, topic: Topic, wait_ms: int) -> Iterator[Signal | Reject]:
        for partition, records in self._log.follow(topic, self.position, PAGE, wait_ms).items():
            for position, payload in records:
                self.position[partition] = position
                if topic is Topic.REJECTS:
                    yield reject_decoder.decode(payload)
                    continue
                signal = signal_decoder.decode(payload)
                if self._is_old(signal):
                    self.expired += 1
                else:
                    yield signal

    def _ticks(self, wait_ms: int) -> Iterator[TickBatch]:
        after = {partition: position.cursor for partition, position in self.position.items()}
        for partition, entries in self._log.read(after, PAGE, wait_ms).items():
            self.position[partition] = Position(entries[-1].cursor, LAST_ORDINAL)
            ticks, _ = decode([entry for entry in entries if entry.kind is not Kind.CONTROL], self._tables[partition])
            if len(ticks):
                yield ticks

    def _is_old(self, signal: Signal) -> bool:
        return self._max_age_ns is not None and clock.wall_ns() - signal.timing.published > self._max_age_ns

    def close(self) -> None:
        self._log.close()

    def __enter__(self) -> subscribe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
