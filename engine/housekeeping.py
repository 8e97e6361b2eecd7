"""What an engine does beside its loop, so that no tick waits for it: staging, answering, completing, trimming.

One thread, a few small rounds a second. It reads the partitions' positions and writes nothing of theirs.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Mapping

import msgspec

from . import clock
from .errors import OwnershipLost, TocsinError
from .partition import retention
from .partition.checkpoint import oldest_cursor
from .partition.state import Partition
from .registry.activate import Answer, answer_name
from .registry.bundle import check_instruments
from .registry.controls import Controls
from .registry.rollout import Activate, Prepare
from .registry.settings import counted_now
from .registry.staging import Staging
from .transports.base import Extent, Log
from .types import START, Cursor, Kind

SLOW_NS = 1_000_000_000
"""How often the log is looked over; staging and answers are looked after every round."""

MISSING_NS = 2_000_000_000
"""A copy that hasn't come for so long, in a partition read to where it ended then, will not come by itself."""

TRIM_MOST = 20_000
"""Records forgotten at once, at most: the server answers nobody else meanwhile."""


class Housekeeper:
    """Of one engine."""

    def __init__(
        self, log: Log, controls: Controls, staging: Staging, parts: Mapping[int, Partition], name: str, keep_bytes: int,
        tell: Callable[[str], None],
    ) -> None:
        """controls: this thread's own. parts: the partitions the engine owns, as the loop keeps them. keep_bytes: of all
        partitions together."""
        self._log = log
        self._controls = controls
        self._staging = staging
        self._parts = parts
        self._name = name
        self._keep, self._quota = keep_bytes // log.partitions, retention.quota(keep_bytes, log.partitions)
        self._tell = tell
        newest = controls.newest()
        prepared, activated = (newest[slot].k if slot in newest else 0 for slot in (Prepare.slot, Activate.slot))
        self._seen = prepared - 1 if prepared > activated else controls.last       # its writer may be waiting for us
        self._next_slow = 0
        self._missing: dict[tuple[int, int], tuple[int, Cursor]] = {}
        """By partition and k: since when a copy is missing, and where the partition ended then."""
        self._held: dict[int, list[bytes]] = {}
        self.extents: dict[int, Extent] = {}
        """How much of each owned partition's log there is."""
        self._said: set[int] = set()
        """Partitions whose quota this engine has said."""
        self.rejects_trimmed: Counter[int] = Counter()
        """By partition, rejects forgotten before the ticks they are about."""
        self._flooded: set[int] = set()
        self.over: dict[int, str] = {}
        """Partitions beyond their share of the log's room that can't be trimmed, and who holds them."""

    def work(self) -> None:
        """One round. Raises TransportUnreachable."""
        self._staging.work()
        self._controls.refresh()
        if self._controls.last > self._seen:
            self._hear()
        now = clock.monotonic_ns()
        if now >= self._next_slow:
            self._next_slow = now + SLOW_NS
            parts = dict(self._parts)
            self.extents = {number: self._log.extent(number) for number in parts}
            self._complete(parts, now)
            self._hold(parts)
            self._limit(parts)
            self._trim(parts)

    def refused(self, number: int) -> bool:
        """Whether ticks of a partition are refused, as of the last second."""
        extent = self.extents.get(number)
        return extent is not None and bool(extent.full)

    def _hear(self) -> None:
        for control in self._controls.holding(self._seen):
            if isinstance(control.body, Prepare):
                self._answer(control.k, control.body)
            elif isinstance(control.body, Activate):
                self._staging.stage(control.body.version, control.body.manifest)
        self._seen = self._controls.last
        gc.collect()                               # the engine's loop has it off, and loading leaves cycles behind

    def _answer(self, k: int, body: Prepare) -> None:
        """Stage, and say on the board how it went."""
        bundle = self._staging.stage(body.version, body.manifest)
        answer = Answer(self._name, "staged")
        try:
            if isinstance(bundle, TocsinError):
                raise bundle
            check_instruments(bundle.manifest, counted_now(self._log, self._controls))
        except TocsinError as error:
            answer = Answer(self._name, "refused", error.code, str(error.args[0]))
            self._tell(f"bundle {body.version} is refused: {error}")
        self._log.post(answer_name(self._log.deployment, k, self._name), msgspec.json.encode(answer))

    def _complete(self, parts: Mapping[int, Partition], now: int) -> None:
        """Whoever wrote a control record and died before its copies stood everywhere: finish it."""
        missing = {
            (number, control.k) for control in self._controls.due() for number, part in parts.items()
            if part.followed.get(control.slot, 0) < control.k
        }
        self._missing = {key: self._missing.get(key, (now, self.extents[key[0]].last)) for key in missing}
        waiting = set()
        for (number, k), (since, end) in sorted(self._missing.items()):
            if number in waiting or now - since < MISSING_NS or parts[number].upto < end:
                waiting.add(number)                # what was written first is copied first, in every partition
            else:
                self._log.append(number, [self._controls.payload(k)], Kind.CONTROL)
                self._tell(f"partition {number}: copied control record {k}, whose writer hadn't")
                del self._missing[number, k]

    def _hold(self, parts: Mapping[int, Partition]) -> None:
        """Say from where on this deployment still needs each partition: its oldest checkpoint."""
        posts = self._log.posts(retention.HOLDS)
        for number in parts:
            manifests = self._log.checkpoints(number)
            name = f"{retention.HOLDS}engine.{self._log.deployment}.{number}"
            if self._held.get(number) != manifests or name not in posts:
                oldest = oldest_cursor(manifests) if manifests else START
                self._log.post(name, retention.hold({number: oldest}))
                self._held[number] = manifests

    def _limit(self, parts: Mapping[int, Partition]) -> None:
        """The quota is the owner's word; where another deployment owns the same ticks and keeps more of them, the larger one."""
        for number in parts:
            if number not in self._said or self.extents[number].quota < self._quota:
                self._log.limit(number, self._quota)
                self._said.add(number)

    def _trim(self, parts: Mapping[int, Partition]) -> None:
        self.over = {number: why for number, why in self.over.items() if number in parts}
        posts = self._log.posts(retention.HOLDS)
        for number, part in parts.items():
            extent = self.extents[number]
            wanted = retention.surplus(extent, retention.goal(extent, self._keep))
            if not wanted:
                self.over.pop(number, None)
                self._flooded.discard(number)
                continue
            holds = retention.held(posts, number)
            rejects = retention.rejects_kept(extent, self._keep)
            try:
                if rejects is not None and (lost := self._log.trim_rejects(number, part.epoch, rejects)):
                    self._tell_flooded(number, extent, lost)
                    continue
                gone = self._log.trim(number, part.epoch, retention.floor(holds.values()), min(wanted, TRIM_MOST))
            except OwnershipLost:
                return                             # the loop hears of it too, and ends
            if any(gone):
                self.over.pop(number, None)
                if wanted > TRIM_MOST or gone.published:
                    self._next_slow = 0            # there may be more than goes at once: look again in the next round
            elif extent.bytes > self._keep and retention.stuck(extent, wanted):
                self._tell_over(number, extent, min(holds, key=lambda name: holds[name], default="nobody"))

    def _tell_flooded(self, number: int, extent: Extent, lost: int) -> None:
        self.rejects_trimmed[number] += lost
        self._next_slow = 0                        # there may be more than goes at once
        if number not in self._flooded:
            self._flooded.add(number)
            self._tell(f"partition {number}: rejects take {extent.rejects_bytes / 1e6:,.3g} MB, more than a quarter of the "
                       "partition's share: the oldest are forgotten")

    def _tell_over(self, number: int, extent: Extent, holder: str) -> None:
        if number not in self.over:
            self._tell(f"partition {number} takes {extent.bytes / 1e6:,.3g} MB, more than its share, and can't be trimmed: "
                       f"{holder} still needs it")
        self.over[number] = holder
