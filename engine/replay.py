"""Replay: files under one fixed bundle, or a log under its own control records, through the very same pipeline.

What is published goes into a log in memory; nothing is written anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
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


class Replayed(NamedTuple):
    """Records in log order, and the counts of the run."""

    signals: list[bytes]
    rejects: list[bytes]
    seen: Observer


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
    """A file as a log of one partition: records of `step` rows, made as they are read, and one activation.

    A record that ends after row r has the cursor (0, 2r + 2), the activation an odd one; the positions of signals are
    the file's own rows.
    """

    def __init__(self, ticks: TickBatch, step: int, start_row: int, deployment: str, rules: Instruments) -> None:
        super().__init__(1, deployment, rules=rules)
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
    deployment: str = "main", features: FeatureSet | None = None,
) -> Replayed:
    """Signals and rejects of files (read_ticks) under one bundle; the same bytes for every `batch`.

    batch: rows handed over at a time, and asked rows from which a micro-batch is cut. start: ns UTC; ticks before it
    only fill the state. Raises ModelRefused, InputRefused.
    """
    start_row = first_row(ticks, start) if start is not None else 0
    log = RowsLog(ticks, batch, start_row, deployment, rules)
    return _run(log, FixedBundle(bundle), 1, batch, features or FeatureSet.default())


class Shadow(MemoryLog):
    """Another log's ticks and control records as they are now; what is published stays in here."""

    def __init__(self, source: Log) -> None:
        super().__init__(source.partitions, source.deployment, source.identity, rules=source.rules)
        self._source = source
        self._end = {partition: source.extent(partition).last for partition in range(source.partitions)}

    def read(self, after: Mapping[int, Cursor], count: int, block_ms: int = 0) -> dict[int, list[Entry]]:
        found = self._source.read({p: cursor for p, cursor in after.items() if cursor < self._end[p]}, count)
        until = {p: [entry for entry in entries if entry.cursor <= self._end[p]] for p, entries in found.items()}
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
    done = _run(Shadow(source), Follower(controls, staging_of(registry, features)), READ, batch, features)
    _check_whole(source)
    return done


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
    return Replayed(_all(log, Topic.SIGNALS), _all(log, Topic.REJECTS), seen)


def _all(log: MemoryLog, topic: Topic) -> list[bytes]:
    """Partition after partition, in log order."""
    return [record for p in range(log.partitions) for _, record in log.published(p, topic, NOWHERE, _ALL)]
