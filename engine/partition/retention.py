"""How much of a partition's log may be forgotten, how much should be, and how much is taken. Pure but for `unless_said`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from ..transports.base import Extent, Log
from ..types import START, Cursor

_held = msgspec.json.Decoder(dict[int, Cursor])

HOLDS = "hold."
"""On the board: who still needs ticks. Whoever does posts {partition: cursor} under a name that begins so."""


def hold(cursors: Mapping[int, Cursor]) -> bytes:
    """What is posted: ticks after these cursors, and the records at them, are still needed."""
    return msgspec.json.encode(cursors)


def held(posts: Mapping[str, bytes], partition: int) -> dict[str, Cursor]:
    """By name, from where on each still needs the partition. A post that can't be read holds everything."""
    found: dict[str, Cursor] = {}
    for name, post in posts.items():
        try:
            cursors = _held.decode(post)
        except msgspec.DecodeError:
            found[name] = START
            continue
        if partition in cursors:
            found[name] = cursors[partition]
    return found


def floor(cursors: Iterable[Cursor]) -> Cursor:
    """Nothing at or after it may be forgotten."""
    return min(cursors, default=START)


def quota(keep_bytes: int, partitions: int) -> int:
    """bytes of ticks from which a partition takes no more: twice its share, so that trimming to the share never meets it."""
    return 2 * keep_bytes // partitions


def unless_said(log: Log, keep_bytes: int) -> None:
    """Say the quota of a log that nobody has said one of: an owner's word stands."""
    for partition in range(log.partitions):
        if not log.extent(partition).quota:
            log.limit(partition, quota(keep_bytes, log.partitions))


def goal(extent: Extent, keep_bytes: int) -> int:
    """bytes to trim to. Where ticks are refused for another reason than the share, three quarters of what there is."""
    return min(keep_bytes, extent.bytes * 3 // 4) if extent.full else keep_bytes


def rejects_kept(extent: Extent, keep_bytes: int) -> int | None:
    """Where the partition takes more than `keep_bytes` and its rejects more than a quarter of that: how many of them make up
    that quarter. They go first, so that a flood of them pushes nothing else out."""
    if extent.bytes <= keep_bytes or extent.rejects_bytes <= keep_bytes // 4 or extent.rejects < 2:
        return None
    return int(extent.rejects * (keep_bytes / 4 / extent.rejects_bytes))


def surplus(extent: Extent, keep_bytes: int) -> int:
    """How many of the oldest records make up what is beyond `keep_bytes`."""
    if extent.bytes <= keep_bytes or not extent.kept:
        return 0
    return int(extent.kept * (1.0 - keep_bytes / extent.bytes)) + 1


def stuck(extent: Extent, wanted: int) -> bool:
    """Whether nothing forgotten, of so many wanted, means that somebody holds it: storage comes in blocks, so a few may
    stay. A tenth is more than a few."""
    return wanted > extent.kept / 10
