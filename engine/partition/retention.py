"""How much of a partition's log may be forgotten, and how much should be. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from ..transports.base import Extent
from ..types import START, Cursor

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
            cursors = msgspec.json.decode(post, type=dict[int, Cursor])
        except msgspec.DecodeError:
            found[name] = START
            continue
        if partition in cursors:
            found[name] = cursors[partition]
    return found


def floor(cursors: Iterable[Cursor]) -> Cursor:
    """Nothing at or after it may be forgotten."""
    return min(cursors, default=START)


def surplus(extent: Extent, keep_bytes: int) -> int:
    """How many of the oldest records make up what is beyond `keep_bytes`."""
    if extent.bytes <= keep_bytes or not extent.kept:
        return 0
    return int(extent.kept * (1.0 - keep_bytes / extent.bytes)) + 1


def stuck(extent: Extent, wanted: int) -> bool:
    """Whether nothing forgotten, of so many wanted, means that somebody holds it: storage comes in blocks, so a few may
    stay. A tenth is more than a few."""
    return wanted > extent.kept / 10
