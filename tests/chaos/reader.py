"""A consumer who reads every signal while all the others are disturbed, and remembers what it heard and when."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from contextlib import suppress
from hashlib import blake2b

import msgspec
import numpy as np
import redis

from engine.errors import TransportUnreachable
from engine.transports import open_log
from engine.transports.base import Topic
from engine.types import NOWHERE, Cursor
from engine.wire.records import canonical


class _Place(msgspec.Struct):
    epoch: int


class _Signal(msgspec.Struct):
    id: str
    log: _Place


_decoder = msgspec.json.Decoder(_Signal)


class Reader:
    """Of one log, from a thread of its own, past all proxies. `wrong` says what should never have been heard."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.wrong: list[str] = []
        self.heard: dict[str, bytes] = {}
        """By signal id, a digest of its canonical bytes."""
        self.again = 0
        """Signals heard a second time, the same: a server that loses its newest writes makes owners say them again."""
        self.when: list[tuple[float, int, int]] = []
        """(monotonic s, partition, epoch): pages as they were heard."""
        self.waits: list[float] = []
        """s from a tick's being seen in the log to its signal, as closely as looking 20 times a second tells."""
        self._seen: dict[int, tuple[list[Cursor], list[float]]] = {}
        """By partition: newest ticks as they were seen, and when."""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        log = open_log(self._url)
        after = dict.fromkeys(range(log.partitions), NOWHERE)
        epochs = dict.fromkeys(after, 0)
        self._seen = {partition: ([], []) for partition in after}
        while not self._end.is_set():
            try:
                self._look()
                pages = log.follow(Topic.SIGNALS, after, 5000, 50)
            except TransportUnreachable:
                time.sleep(0.05)
                continue
            now = time.monotonic()
            for partition, records in pages.items():
                for position, record in records:
                    if position <= after[partition]:
                        self.wrong.append(f"partition {partition}: {position} after {after[partition]}")
                    after[partition] = position
                    self._wait(partition, position.cursor, now)
                    signal = _decoder.decode(record)
                    if signal.log.epoch < epochs[partition]:
                        self.wrong.append(f"partition {partition}: epoch {signal.log.epoch} speaks after {epochs[partition]}")
                    elif signal.log.epoch > epochs[partition]:
                        self.when.append((now, partition, signal.log.epoch))
                    epochs[partition] = signal.log.epoch
                    self._hear(signal.id, record)
                self.when.append((now, partition, epochs[partition]))
        log.close()

    def _hear(self, ident: str, record: bytes) -> None:
        digest = blake2b(canonical(record), digest_size=8).digest()
        if ident not in self.heard:
            self.heard[ident] = digest
        elif self.heard[ident] == digest:
            self.again += 1
        else:
            self.wrong.append(f"{ident} was said twice, and not the same")

    def _look(self) -> None:
        with suppress(redis.RedisError), redis.Redis.from_url(self._url, socket_timeout=1.0) as server:
            for partition, (cursors, times) in self._seen.items():
                newest = server.xrevrange(f"ticks.{{{partition}}}", count=1)
                if newest and (not cursors or _cursor(newest[0][0]) > cursors[-1]):
                    cursors.append(_cursor(newest[0][0]))
                    times.append(time.monotonic())

    def _wait(self, partition: int, cursor: Cursor, now: float) -> None:
        cursors, times = self._seen[partition]
        at = bisect_left(cursors, cursor)
        self.waits.append(now - times[at] if at < len(times) else 0.0)

    def first_after(self, at: float, partition: int) -> float | None:
        """When the next epoch of a partition spoke first, after a moment."""
        before = max((epoch for when, p, epoch in self.when if p == partition and when <= at), default=0)
        return next((when for when, p, epoch in self.when if p == partition and when > at and epoch > before), None)

    def said(self) -> dict[str, float]:
        """How long ticks waited for their signals, in seconds."""
        shares = {"median": 0.5, "99 %": 0.99, "longest": 1.0}
        return {name: round(float(np.quantile(self.waits, share)), 2) for name, share in shares.items()}

    def close(self) -> None:
        self._end.set()
        self._thread.join()


def _cursor(ident: bytes) -> Cursor:
    major, _, minor = ident.partition(b"-")
    return int(major), int(minor)
