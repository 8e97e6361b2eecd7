"""What an engine is doing right now, put together when somebody asks: nothing of it is kept up while ticks flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from .. import clock
from ..transports.base import Extent, Log
from .health import Facts, Verdict, Vitals, Work, health, readiness
from .observer import Observer
from .supervise import Loop

if TYPE_CHECKING:                              # only looked at: what they own is theirs
    from ..housekeeping import Housekeeper
    from ..inbox import Inbox
    from ..partition.state import Partition

_ACTIVATE = "activate"
"""The verb of control records that name a bundle."""


class Status:
    """Of one engine; asked by other threads, at any time."""

    def __init__(
        self, name: str, log: Log, seen: Observer, parts: Mapping[int, Partition], inbox: Inbox, keeper: Housekeeper,
        loops: Sequence[Loop],
    ) -> None:
        """parts: the partitions the engine owns, as the loop keeps them."""
        self.name = name
        self.deployment = log.deployment
        self.partitions = log.partitions
        self.seen = seen
        self._parts = parts
        self.renew(log, inbox, keeper, loops)

    def renew(self, log: Log, inbox: Inbox, keeper: Housekeeper, loops: Sequence[Loop]) -> None:
        """Tell of these from now on: the log is there, or there again."""
        self.log, self.keeper = log, keeper
        self._inbox, self._loops = inbox, loops
        self.outage: str | None = None
        """Why the log is out of reach; None while it isn't."""

    def vitals(self) -> Vitals:
        return Vitals(self.seen.last_turn, tuple(loop.death for loop in self._loops if loop.death))

    def facts(self) -> Facts:
        return Facts(self.vitals(), self.work(), self.seen.warm_share(), self.outage)

    def health(self) -> Verdict:
        return health(self.vitals(), clock.monotonic_ns())

    def ready(self) -> Verdict:
        return readiness(self.facts(), clock.monotonic_ns())

    def queued(self) -> dict[str, int]:
        """Records on their way to being published, by where they stand."""
        filling = sum(part.waiting for part in list(self._parts.values()))
        return {"filling": filling, "publishing": self.seen.sent - self.seen.acknowledged}

    def work(self) -> tuple[Work, ...]:
        """By partition, in their order."""
        return tuple(self._work(part) for _, part in sorted(dict(self._parts).items()))

    def _work(self, part: Partition) -> Work:
        number = part.number
        entry = self._inbox.paused.get(number)
        extent = self.keeper.extents.get(number)
        behind = None if extent is None else _behind(part, extent)
        next_appended = entry.appended if entry else self.seen.appended.get(number, 0)
        lag_s = None
        if behind == 0 and not entry:
            lag_s = 0.0
        elif next_appended:
            lag_s = max(clock.wall_ns() - next_appended, 0) / 1e9
        return Work(
            number, part.bundle.version if part.bundle else None, part.followed.get(_ACTIVATE, 0),
            _named.decode(entry.payload).body.version if entry else None,
            behind, None if behind is None else behind * self.seen.ticks_per_record(), lag_s,
            extent.full if extent else "", self.keeper.over.get(number), part.paused, part.known_paused,
        )


def _behind(part: Partition, extent: Extent) -> int:
    """Records; by the cursor where nothing is left, since a count is only as exact as the trimming of others lets it be."""
    return 0 if part.upto >= extent.last else max(extent.appended - part.records, 1)


class _Version(msgspec.Struct):
    version: str


class _Named(msgspec.Struct):
    """Of a control record that a partition waits in front of; the inbox has checked it."""

    body: _Version


_named = msgspec.json.Decoder(_Named)
