"""Takeover: from a granted epoch to a partition that stands exactly where the last owner's published work ends.

Fence (the epoch does that), read the tail, load the newest checkpoint the log vouches for, read the log from there.
Up to the tail the published decisions are read back, never computed again; after it the ensemble is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np

from ..registry.bundle import Bundle
from ..registry.follow import Following
from ..registry.settings import counted, overlay
from ..transports.base import Log, Topic
from ..types import SIDES, Entry, Kind, Position, TickBatch
from .caution import Caution
from .checkpoint import CheckpointManifest, Checkpoints, Restored
from .journal import Runtime, suffered
from .state import Partition, Published

PAGE = 1000
"""Signals read back at a time."""


class _Said(msgspec.Struct):
    symbol: str
    ts: int
    side: str


class _Signal(NamedTuple):
    position: Position
    symbol: str
    ts: int
    side: str


_said = msgspec.json.Decoder(_Said)


def take_over(
    number: int, epoch: int, log: Log, checkpoints: Checkpoints, load: Callable[[str, str], Bundle],
    warm: Callable[[int], TickBatch | None], runtime: Runtime | None = None, accept_gap: bool = False,
    life: str = "", survived: Callable[[str], bool] = lambda life: False,
) -> Partition:
    """load: a verified bundle by version and digest. warm: ticks that fill the state of a partition without a checkpoint.
    runtime: what decides here, for the journal. accept_gap: go on where the log begins behind the newest checkpoint. life,
    survived: as Caution has them.

    Raises TransportUnreachable (`checkpoint`, `readback` later on), ModelRefused, OwnershipLost.
    """
    tail = log.tail(number)
    beyond = checkpoints.beyond(number) if accept_gap else None
    restored = None if beyond else checkpoints.load(number, tail)
    part = Partition(number, epoch, log.rules, checkpoints.features)
    if beyond:
        _jump(part, beyond, log, tail, load)
    elif restored:
        _put_back(part, restored, load)
    else:
        extent = log.extent(number)
        part.records = extent.appended - extent.kept       # what was trimmed before this deployment's time
    part.tail = tail
    if not (restored or beyond):
        _warm_up(part, log, checkpoints, warm(number))
    part.suffered = suffered(log, number)
    part.runtime = runtime if runtime != part.suffered.runtime else None
    part.caution = Caution(log.epochs(number), log.marked(number), tail.cursor, partial(log.mark, number, epoch), life, survived)
    part.past = _read_back(log, number, part.record_end, part.tail)
    return part


def _put_back(part: Partition, restored: Restored, load: Callable[[str, str], Bundle]) -> None:
    manifest = restored.manifest
    part.settings = manifest.settings
    part.symbols.recount(counted(manifest.settings, part.rules))
    for sid, symbol in enumerate(manifest.symbols):
        part.symbols.restore(symbol.instrument)
        if restored.blobs:
            part.restore(sid, restored.blobs[sid])
        part.policy.rows.restore(sid, symbol.policy)
    part.upto, part.records, part.followed = manifest.cursor, manifest.records, manifest.followed
    part.before, part.proven = manifest.before, manifest.proven
    part.pause(manifest.paused)
    if manifest.bundle[0]:
        part.active = load(*manifest.bundle)
        part.bundle = overlay(part.active, part.settings)


def _jump(part: Partition, manifest: CheckpointManifest, log: Log, tail: Position, load: Callable[[str, str], Bundle]) -> None:
    """To behind a gap: windows start anew; what holds and what was published stays."""
    _put_back(part, Restored(manifest, []), load)
    extent = log.extent(part.number)
    part.upto, part.records = max(manifest.cursor, tail.cursor), extent.appended - extent.kept
    part.gap = log.format(manifest.cursor)
    for said in _signals(log, part.number, Position(*manifest.last), tail):
        sid = part.symbols.sid(said.symbol)
        if sid >= 0:
            sids, stamps, sides = (np.array([value]) for value in (sid, said.ts, SIDES.index(said.side)))
            part.policy.apply(sids, stamps, sides, len(part.symbols))


def follow_missed(part: Partition, log: Log, planned: list[tuple[int, bytes]], follower: Following) -> None:
    """Behind a gap: of what was planned before the log's first record, the newest of each slot holds from here on.

    planned: places and payloads of the deployment's control records, in their order. That a copy stands ahead tells nothing:
    copies are repeated. Where the log keeps no stamps, all of it was planned before.
    """
    stamps = log.control_stamps()
    first = log.read({part.number: part.upto}, 1).get(part.number)
    before = first[0].appended if first else 2**63
    missed = [payload for k, payload in planned if stamps.get(k, 0) <= before]
    found = (follower.check(Entry(part.upto, Kind.CONTROL, payload), part.followed) for payload in missed)
    for control in {control.slot: control for control in found if control}.values():
        part.follow(follower.change(control))


def _warm_up(part: Partition, log: Log, checkpoints: Checkpoints, ticks: TickBatch | None) -> None:
    """Fill the state without asking; the state is a checkpoint at once, so that a restart needs no files."""
    if ticks is None or not len(ticks):
        return
    log.publish(part.number, part.epoch, [], checkpoints.stage(part, part.warm(ticks), part.tail))


def _read_back(log: Log, number: int, after: Position, tail: Position) -> Iterator[Published]:
    """Published decisions after a position up to the tail, as they are asked for."""
    for said in _signals(log, number, after, tail):
        yield Published(said.position, SIDES.index(said.side))


def _signals(log: Log, number: int, after: Position, tail: Position) -> Iterator[_Signal]:
    """A page at a time."""
    at = after
    while at < tail:
        page = log.published(number, Topic.SIGNALS, at, PAGE)
        if not page:
            return
        for position, record in page:
            if position > tail:
                return
            said = _said.decode(record)
            yield _Signal(position, said.symbol, said.ts, said.side)
        at = page[-1][0]
