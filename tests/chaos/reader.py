"""A consumer who reads every signal while all the others are disturbed, and remembers what it heard and when."""

from __future__ import annotations

import threading
import time
from hashlib import blake2b
from itertools import pairwise

import msgspec

from engine.errors import TransportUnreachable
from engine.transports import open_log
from engine.transports.base import Topic
from engine.types import NOWHERE
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
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        log = open_log(self._url)
        after = dict.fromkeys(range(log.partitions), NOWHERE)
        epochs = dict.fromkeys(after, 0)
        while not self._end.is_set():
            try:
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

    def silence(self, since: float, until: float) -> tuple[float, float]:
        """The longest time without any signal, in seconds, and when it began, in seconds after `since`."""
        times = [since, *(at for at, _, _ in self.when if since < at < until), until]
        return max((later - earlier, earlier - since) for earlier, later in pairwise(times))

    def first_after(self, at: float, partition: int) -> float | None:
        """When the next epoch of a partition spoke first, after a moment."""
        before = max((epoch for when, p, epoch in self.when if p == partition and when <= at), default=0)
        return next((when for when, p, epoch in self.when if p == partition and when > at and epoch > before), None)

    def close(self) -> None:
        self._end.set()
        self._thread.join()
