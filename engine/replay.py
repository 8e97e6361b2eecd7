"""Replay: files or a lake under one fixed bundle, or a log under its own control records, by the very same pipeline.

What is published goes into a log in memory; nothing is written anywhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from .errors import TransportUnreachable
from .features import FeatureSet
from .inbox import READ, Granted, Inbox
from .instruments import Instruments
from .partition.checkpoint import Checkpoints
from .partition.state import Partition
from .partition.takeover import take_over
from .pipeline import run
from .registry.bundle import Bundle
from .registry.controls import read_controls
from .registry.follow import Change, Follower, Following, staging_of
from .registry.rollout import Activate, Control
from .registry.store import Registry
from .transports.base import Extent, Log, Topic
from .transports.memory import MemoryLog
from .types import NOWHERE, START, Cursor, Entry, Kind, Position, TickBatch
from .watch.observer import Observer
from .workers.inline import InlineWorkers

_ALL = 2**62
_NEVER = 2**63 - 1


class Replayed(NamedTuple):
    """Records in log order, and the counts of the run."""

    signals: list[bytes]
    rejects: list[bytes]
    seen: Observer
    ends: dict[int, Cursor]
    """Per partition the last record of the log that was gone through."""


class FixedBundle(Following):
    """Stands where the follower of control records stands: the one control record names the one bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def check(self, entry: Entry, followed: Mapping[str, int]) -> Control:
        body = Activate(self._bundle.version, self._bundle.digest)
        return Control(1, "", Activate.verb, body, "", "", "", b"")

    def given_up(self, control: Control) -> bool:
        return False

    def change(self, control: Control) -> Change:
        return Change(control, self._bundle)

    def load(self, version: str, digest: str) -> Bundle:
        return self._bundle


class RowsLog(MemoryLog):
    """Batches of rows as a log of one partition: records of `step` rows, made as they are read, and one activation.

    A record that ends after row r has the cursor (0, 2r + 2), the activation, in front of the first row stamped at or
    after `start`, an odd one; the positions of signals are the rows' own. Of the batches one is held at a time.
    """

    def __init__(self, batches: Iterable[TickBatch], step: int, start: int, deployment: str, rules: Instruments) -> None:
        super().__init__(1, deployment, rules=rules)
        self._batches = iter(batches)
        self._step = step
        self._from = start
        self._batch: TickBatch | None = None
        self._first = self._end = 0
        """Rows before the batch, and before the next one."""
        self._start = 0 if start <= 0 else _NEVER
        """The row in front of which the activation stands."""

    def read(self, after: Mapping[int, Cursor], count: int, block_ms: int = 0) -> dict[int, list[Entry]]:
        cursor = after[0][1]
        row = cursor // 2
        while row == self._end and self._next():
            pass
        if row == self._start and cursor % 2 == 0:
            return {0: [Entry((0, cursor + 1), Kind.CONTROL, b"")]}
        end = min(row + self._step, self._end, self._start if row < self._start else _NEVER)
        if self._batch is None or end == row:
            return {}
        return {0: [Entry((0, 2 * end), Kind.ROWS, self._batch[row - self._first:end - self._first])]}

    def _next(self) -> bool:
        """Go on to the next batch, where there is one."""
        self._batch = None                     # not two at a time
        self._batch = next(self._batches, None)
        if self._batch is None:
            return False
        self._first, self._end = self._end, self._end + len(self._batch)
        if self._start == _NEVER:
            row = first_row(self._batch, self._from)
            if row < len(self._batch):
                self._start = self._first + row
        return True


def first_row(ticks: TickBatch, start: int) -> int:
    """The first row stamped at or after `start` (late rows may follow it)."""
    later = ticks.ts >= start
    return int(np.argmax(later)) if later.any() else len(ticks)


def numbered(batches: Iterable[TickBatch]) -> Iterator[TickBatch]:
    """The same ticks as a file would hold them: each in a record of its own, numbered from 0, stored who knows when."""
    row = 0
    for ticks in batches:
        own = ("major", "minor", "ordinal", "appended")
        columns = {name: column for name, column in ticks.columns().items() if name not in own}
        yield TickBatch(ticks.instruments, minor=np.arange(row, row + len(ticks)), **columns)
        row += len(ticks)


def replay(
    ticks: TickBatch | Iterable[TickBatch], bundle: Bundle, rules: Instruments, *, batch: int = 4096,
    start: int | None = None, deployment: str = "main", features: FeatureSet | None = None,
) -> Replayed:
    """Signals and rejects of files (read_ticks), or of `numbered` batches one after another, under one bundle.

    The same bytes for every `batch`: rows handed over at a time, and asked rows from which a micro-batch is cut. start: ns
    UTC; ticks before it only fill the state. Raises ModelRefused, InputRefused.
    """
    batches = [ticks] if isinstance(ticks, TickBatch) else ticks
    log = RowsLog(batches, batch, start or 0, deployment, rules)
    return _run(log, FixedBundle(bundle), 1, batch, features or FeatureSet.default())


class Shadow(MemoryLog):
    """Another log's ticks and control records as they are now; what is published stays in here."""

    def __init__(self, source: Log) -> None:
        super().__init__(source.partitions, source.deployment, source.identity, rules=source.rules)
        self._source = source
        self.ends = {partition: source.extent(partition).last for partition in range(source.partitions)}

    def read(self, after: Mapping[int, Cursor], count: int, block_ms: int = 0) -> dict[int, list[Entry]]:
        found = self._source.read({p: cursor for p, cursor in after.items() if cursor < self.ends[p]}, count)
        until = {p: [entry for entry in entries if entry.cursor <= self.ends[p]] for p, entries in found.items()}
        return {p: entries for p, entries in until.items() if entries}

    def entry(self, partition: int, cursor: Cursor) -> Entry | None:
        return self._source.entry(partition, cursor)

    def extent(self, partition: int) -> Extent:
        return self._source.extent(partition)

    def follow(
        self, topic: Topic, after: Mapping[int, Position], count: int, block_ms: int = 0
    ) -> dict[int, list[tuple[Position, bytes]]]:
        """The journal is the other log's: what its owners suffered is obeyed. The rest is what this replay said."""
        if topic is Topic.JOURNAL:
            return self._source.follow(topic, after, count)
        return super().follow(topic, after, count, block_ms)

    def format(self, cursor: Cursor) -> str | int:
        return self._source.format(cursor)


def replay_log(source: Log, registry: Registry, features: FeatureSet, *, batch: int = 4096) -> Replayed:
    """What the engines of the log's deployment publish for it, from its first record to its present end.

    Raises TransportUnreachable `trimmed`, also where that happens meanwhile, and ModelRefused.
    """
    _check_whole(source)
    controls = read_controls(source, registry.public_key())
    shadow = Shadow(source)
    done = _run(shadow, Follower(controls, staging_of(registry, features)), READ, batch, features)
    _check_whole(source)
    return done._replace(ends=shadow.ends)


def _check_whole(source: Log) -> None:
    for partition in range(source.partitions):
        extent = source.extent(partition)
        if extent.kept < extent.appended:
            raise TransportUnreachable(
                "trimmed", f"partition {partition} of {source.url} starts with its record {extent.appended - extent.kept:,}: "
                "what was before is forgotten", hint="[log] keep_mb says how much a log keeps; set it before ticks flow",
            )


def _run(log: MemoryLog, follower: Following, read: int, batch: int, features: FeatureSet) -> Replayed:
    workers, seen = InlineWorkers(), Observer()
    checkpoints = Checkpoints(log, lambda: 0, features)
    inbox = Inbox(log, workers, "replay", stop=lambda: False, read=read, live=False)

    def granted(event: Granted) -> Partition:
        inbox.seek(event.partition, START)
        return take_over(event.partition, event.epoch, log, checkpoints, follower.load, lambda number: None)

    run(inbox, log, workers, checkpoints, follower, granted, {}, seen, batch)
    return Replayed(_all(log, Topic.SIGNALS), _all(log, Topic.REJECTS), seen, {})


def _all(log: MemoryLog, topic: Topic) -> list[bytes]:
    """Partition after partition, in log order."""
    return [record for p in range(log.partitions) for _, record in log.published(p, topic, NOWHERE, _ALL)]
