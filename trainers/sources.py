"""Where ticks to train on come from: files, or a log, as far back as it and its lake reach."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from engine import clock
from engine.config import Config
from engine.eventtime import EventTime
from engine.instruments import Instruments, SymbolTable
from engine.registry.controls import read_controls
from engine.registry.settings import counted_now
from engine.registry.store import Registry
from engine.transports.base import Log
from engine.types import START, Kind, TickBatch
from engine.wire.ticks import decode

from .lake import Commit, Lake, read_commit, read_status

READ = 1000
"""Records at a time."""
PATIENCE_NS = 25_000_000_000
"""A recorder commits, and says that it lives, every ten seconds."""
LOOK_S = 0.05
DAY_NS = 86_400_000_000_000


def ticks_of_log(
    log: Log, registry: Registry, config: Config, days: float, hurry: Callable[[], None] = lambda: None
) -> tuple[TickBatch, Instruments]:
    """The ticks that the log's engines took, in order of time, and how they are counted now.

    From the lake that records this log where there is one, else what the log itself still holds. days: only so many
    before the newest tick; 0: all. hurry: has the lake's recorder commit at once, where it can be reached.
    """
    controls = read_controls(log, registry.public_key())
    rules = counted_now(log, controls)
    span = int(days * DAY_NS)
    commit = _recorded(log, config.lake_path, hurry)
    if commit is not None and commit.newest:
        return Lake(config.lake_path).read(start=commit.newest - span if span else 0, cut=True), rules
    ticks = _admitted(log, rules)
    if span and len(ticks):
        ticks = ticks[ticks.ts >= ticks.ts.max() - span]
    return ticks, rules


def _recorded(log: Log, folder: Path, hurry: Callable[[], None]) -> Commit | None:
    """The log's lake, once its recorder (if one lives) has what the log holds now; None if this log has none."""
    ends = {partition: log.extent(partition).last for partition in range(log.partitions)}
    deadline = clock.monotonic_ns() + PATIENCE_NS
    asked = -1
    while True:
        commit = read_commit(folder)
        if commit is None or commit.identity != log.identity:
            return None
        status = read_status(folder)
        alive = status is not None and clock.wall_ns() - status.at < PATIENCE_NS
        if all(commit.parts[p].cursor >= end for p, end in ends.items()) or not alive or clock.monotonic_ns() > deadline:
            return commit
        if commit.number != asked:                 # none yet, or one that was made before all of it was read
            asked = commit.number
            hurry()
        clock.sleep(LOOK_S)


def _admitted(log: Log, rules: Instruments) -> TickBatch:
    """What the log holds now, judged as the engine judges it, all partitions merged by time."""
    ends = {partition: log.extent(partition).last for partition in range(log.partitions)}
    table, judges, cursors = SymbolTable(rules), EventTime(), dict.fromkeys(ends, START)
    batches = []
    while (left := {p: cursor for p, cursor in cursors.items() if cursor < ends[p]}) and (found := log.read(left, READ)):
        for partition, entries in found.items():
            cursors[partition] = entries[-1].cursor
            wanted = [entry for entry in entries if entry.kind is not Kind.CONTROL and entry.cursor <= ends[partition]]
            ticks, _ = decode(wanted, table)
            batches.append(ticks[judges.admit(ticks) == 0])
    ticks = TickBatch.concat(batches)
    return ticks[np.argsort(ticks.ts, kind="stable")]
