"""Replay: files through the very same pipeline, with one fixed bundle and no server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .inbox import Granted, Inbox
from .instruments import Instruments
from .partition.checkpoint import Checkpoints
from .partition.state import Partition
from .partition.takeover import take_over
from .pipeline import run
from .registry.bundle import Bundle
from .registry.follow import Following
from .transports.base import Topic
from .transports.memory import MemoryLog
from .types import NOWHERE, START, Cursor, Entry, Kind, TickBatch
from .watch.observer import Observer
from .workers.inline import InlineWorkers

_ALL = 2**62


class Replayed(NamedTuple):
    """Records in log order, and the counts of the run."""

    signals: list[bytes]
    rejects: list[bytes]
    seen: Observer


class FixedBundle(Following):
    """Stands where the follower of control records stands: the one control record names the one bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def follow(self, entry: Entry, followed: int) -> tuple[int, Bundle]:
        return followed + 1, self._bundle

    def load(self, version: str, digest: str) -> Bundle:
        return self._bundle


class RowsLog(MemoryLog):
    """A file as a log of one partition: records of `step` rows, made as they are read, and one activation.

    A record that ends after row r has the cursor (0, 2r + 2), the activation an odd one; the positions of signals are
    the file's own rows.
    """

    def __init__(self, ticks: TickBatch, step: int, start_row: int, deployment: str) -> None:
        super().__init__(1, deployment)
        self._ticks = ticks
        self._step = step
        self._start = start_row

    def read(self, after: Mapping[int, Cursor], count: int, block_ms: int = 0) -> dict[int, list[Entry]]:
        cursor = after[0][1]
        row = cursor // 2
        if row == self._start and cursor % 2 == 0:
            return {0: [Entry((0, cursor + 1), Kind.CONTROL, b"")]}
        end = min(row + self._step, len(self._ticks), self._start if row < self._start else _ALL)
        return {0: [Entry((0, 2 * end), Kind.ROWS, self._ticks[row:end])]} if end > row else {}


def first_row(ticks: TickBatch, start: int) -> int:
    """The first row stamped at or after `start` (late rows may follow it)."""
    later = ticks.ts >= start
    return int(np.argmax(later)) if later.any() else len(ticks)


def replay(
    ticks: TickBatch, bundle: Bundle, rules: Instruments, *, batch: int = 4096, start: int | None = None,
    deployment: str = "main",
) -> Replayed:
    """Signals and rejects of files (read_ticks) under one bundle; the same bytes for every `batch`.

    batch: rows handed over at a time, and asked rows from which a micro-batch is cut. start: ns UTC; ticks before it
    only fill the state. Raises ModelRefused, InputRefused.
    """
    start_row = first_row(ticks, start) if start is not None else 0
    log = RowsLog(ticks, batch, start_row, deployment)
    workers, seen = InlineWorkers(), Observer()
    follower = FixedBundle(bundle)
    checkpoints = Checkpoints(log, lambda: 0)
    inbox = Inbox(log, workers, "replay", stop=lambda: False, read=1, live=False)

    def granted(event: Granted) -> Partition:
        inbox.seek(event.partition, START)
        return take_over(event.partition, event.epoch, log, checkpoints, follower.load, rules, lambda number: None)

    run(inbox, log, workers, checkpoints, follower, granted, seen, batch)
    return Replayed(_all(log, Topic.SIGNALS), _all(log, Topic.REJECTS), seen)


def _all(log: MemoryLog, topic: Topic) -> list[bytes]:
    return [record for _, record in log.published(0, topic, NOWHERE, _ALL)]
