"""For those who send ticks and those who act on signals: `publish` and `subscribe`.

    publish("redis://localhost:6379", ticks)
    for signal in subscribe("redis://localhost:6379", max_age=60): ...
    async for signal in subscribe(...): ...
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping

from . import clock
from .errors import UsageError
from .feeds.send import Pace, send
from .transports import open_log
from .transports.base import Log, Topic
from .types import NOWHERE, Position, TickBatch
from .wire.records import Reject, Signal, reject_decoder, signal_decoder

PAGE = 1000
WAIT_MS = 200


def publish(url: str, ticks: TickBatch, *, rows: int = 1) -> int:
    """Append ticks (read_ticks) to a log at once; returns how many. `rows` per record: 1 = JSON, more = frames.

    Raises TransportUnreachable; what was appended before that stays.
    """
    log = open_log(url)
    try:
        return send(log, ticks, Pace(), rows, lambda: False)
    finally:
        log.close()


class subscribe:
    """Signals (or rejects) as they are published, in order per partition; iterate, or `async for`.

    after: position per partition to go on from (`position` of what was handled last); None: from the first record.
    max_age: seconds; a signal published longer ago is dropped and counted in `expired`.
    """

    def __init__(
        self, url: str, *, topic: str = "signals", after: Mapping[int, Position] | None = None,
        max_age: float | None = None, deployment: str = "main",
    ) -> None:
        if topic not in tuple(Topic):
            raise UsageError("topic", f"no topic {topic!r}", hint=f"topics are {', '.join(Topic)}")
        self._log: Log = open_log(url, deployment=deployment)
        self._topic = Topic(topic)
        self._decode = signal_decoder.decode if self._topic is Topic.SIGNALS else reject_decoder.decode
        self._max_age_ns = None if max_age is None else int(max_age * 1e9)
        self.position: dict[int, Position] = dict.fromkeys(range(self._log.partitions), NOWHERE) | dict(after or {})
        self.expired = 0

    def __iter__(self) -> Iterator[Signal | Reject]:
        while True:
            yield from self._page(WAIT_MS)

    async def __aiter__(self) -> AsyncIterator[Signal | Reject]:
        while True:
            for record in await asyncio.to_thread(lambda: list(self._page(WAIT_MS))):
                yield record

    def _page(self, wait_ms: int) -> Iterator[Signal | Reject]:
        for partition, records in self._log.follow(self._topic, self.position, PAGE, wait_ms).items():
            for position, payload in records:
                self.position[partition] = position
                record = self._decode(payload)
                if isinstance(record, Signal) and self._is_old(record):
                    self.expired += 1
                else:
                    yield record

    def _is_old(self, signal: Signal) -> bool:
        return self._max_age_ns is not None and clock.wall_ns() - signal.timing.published > self._max_age_ns

    def close(self) -> None:
        self._log.close()
