"""The only place that chooses: from a Config to an engine that runs."""

from __future__ import annotations

import gc
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import clock
from .config import Config
from .errors import OwnershipLost, TocsinError, TransportUnreachable, UsageError
from .features import FeatureSet
from .files import read_ticks
from .housekeeping import Housekeeper
from .inbox import Granted, Inbox
from .outage import FIRST_S, LONGEST_S, again, passes, rest
from .partition.checkpoint import Checkpoints, oldest_k
from .partition.state import Partition
from .partition.takeover import follow_missed, take_over
from .partitioner import partition_of
from .pipeline import run
from .registry.controls import Controls, read_controls
from .registry.follow import Follower, staging_of
from .registry.rollout import Activate
from .registry.settings import check_file
from .registry.staging import KEPT, Staging
from .registry.store import Registry
from .runtimes.here import here
from .transports import open_log
from .transports.base import Log
from .types import Entry, TickBatch
from .warmup import compile_everything
from .watch.http import Exporter, serve
from .watch.metrics import EngineCollector, registry
from .watch.observer import Observer
from .watch.status import Status
from .watch.supervise import Loop
from .workers.inline import InlineWorkers

log = logging.getLogger("tocsin")

STEADY_NS = 10_000_000_000
"""A session that lasted so long wasn't ended by what it began with."""

HOUSEKEEPING_S = 0.1
"""How often the engine looks after what isn't a tick."""


class Engine:
    """One engine process: `Engine(config).run(stop)`."""

    def __init__(
        self, config: Config, warm: Iterable[str | Path] = (), columns: Mapping[str, str] | None = None, *,
        accept_gap: bool = False,
    ) -> None:
        """Open the log and the registry, load every kernel. Raises TransportUnreachable, UsageError, InputRefused.

        warm: tick files that fill the state of partitions that have no checkpoint yet; nothing is published for them.
        columns: of those files, as in read_ticks. accept_gap: go on where the log begins behind the newest checkpoint.
        """
        self.config = config
        self.rules = config.rules()
        self.features = FeatureSet.of(config.features)
        self.registry = Registry(config.registry_path, config.trust_path)
        if not config.trust_path.is_file():
            raise UsageError(
                "no_public_key", f"there is no public key at {config.trust_path}: no bundle could be trusted",
                hint="train here first (tocsin train), make keys (tocsin models keygen), or set [registry] trust",
            )
        self.parts: dict[int, Partition] = {}
        """What this engine owns, by partition."""
        self._warm_files = list(warm)
        self._columns = columns
        self._accept_gap = accept_gap
        self._warm: TickBatch | None = None
        compile_everything(log.info, self.features)
        self.log = self._open(config.log.partitions)
        self.seen = Observer(log.info, self.log.format)
        self.staging = staging_of(self.registry, self.features)
        self.runtime = here()
        self._life = secrets.token_hex(8)
        self._started = False
        self._since, self._pause_s = 0, FIRST_S
        """When the present session began, and how long to wait before another."""
        self._status: Status | None = None
        self._exporter: Exporter | None = None

    def run(self, stop: Callable[[], bool], ready: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Until `stop` says so; returns the counts.

        ready: called once, when every partition that may be claimed at once has been taken over. Where the log goes away
        for a while, or somebody else takes a partition, everything held is dropped, and what may be claimed is taken over
        anew: one way of recovering. Raises OwnershipLost where another process of this very name is at work,
        TransportUnreachable for what doesn't pass, ModelRefused, InputRefused (files to warm up with).
        """
        # the loop makes no cycles; collecting them would walk every object there is, in the middle of a tick
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            while (lost := self._serve(stop, ready)) and self._find_again(lost, stop):
                pass
        finally:
            if self._exporter:
                self._exporter.close()
            gc.enable()
            gc.unfreeze()
        return self.seen.summary()

    def _serve(self, stop: Callable[[], bool], ready: Callable[[], None]) -> TocsinError | None:
        """Until `stop` says so, or something is lost that may be found again."""
        try:
            self._session(stop, ready)
            return None
        except TransportUnreachable as error:
            if not passes(error):
                raise
            return error
        except OwnershipLost as error:
            if self._has_twin():
                raise
            return error
        finally:
            for number in list(self.parts):
                self.seen.left(number)
            self.parts.clear()

    def _session(self, stop: Callable[[], bool], ready: Callable[[], None]) -> None:
        self._since = clock.monotonic_ns()
        workers = InlineWorkers()
        checkpoints = Checkpoints(self.log, clock.monotonic_ns, self.features)
        public = self.registry.public_key()
        controls = read_controls(self.log, public)
        check_file(self.rules, self.log, controls)
        self._stage_what_is_due(controls, self.staging)
        follower = Follower(controls, self.staging)
        keeper = Housekeeper(
            self.log, read_controls(self.log, public), self.staging, self.parts, self.config.name,
            self.config.log.keep_mb * 2**20, log.info,
        )
        checkpoints.hurried = keeper.refused
        keeping = Loop("housekeeping", keeper.work, HOUSEKEEPING_S)

        def staged(partition: int, entry: Entry) -> bool:
            part = self.parts[partition]
            if part.is_void(entry.cursor) or follower.staged(entry, part.followed):
                return True
            part.caution.rest()                # waiting is no trial
            return False

        def turn() -> bool:
            self.seen.turned()
            keeping.check()
            return stop()

        def started() -> None:
            self._warm = None                  # what takes partitions over later reads the files again
            if not self._started:
                self._started = True
                ready()

        inbox = Inbox(
            self.log, workers, self.config.name, stop=turn, ready=started, staged=staged, lease_s=self.config.engine.lease_s,
            life=self._life,
        )

        def granted(event: Granted) -> Partition:
            part = take_over(
                event.partition, event.epoch, self.log, checkpoints, follower.load,
                self._warm_ticks, self.runtime, self._accept_gap, self._life, inbox.lives,
            )
            if part.gap is not None:
                controls.refresh()
                planned = [(control.k, controls.payload(control.k)) for control in controls.holding()]
                follow_missed(part, self.log, planned, follower)
            inbox.seek(part.number, part.upto)
            upto, tail = self.log.format(part.upto), self.log.format(part.tail.cursor)
            log.info("partition %d: epoch %d, from %s, published up to %s", part.number, part.epoch, upto, tail)
            return part

        self._show(inbox, keeper, keeping)
        keeping.start()
        try:
            run(
                inbox, self.log, workers, checkpoints, follower, granted, self.parts, self.seen, self.config.engine.batch,
                inbox.alive,
            )
        finally:
            keeping.stop()

    def _show(self, inbox: Inbox, keeper: Housekeeper, keeping: Loop) -> None:
        """/metrics, /healthz and /readyz tell of these from now on."""
        if self._status:
            self._status.renew(self.log, inbox, keeper, [keeping])
            return
        self._status = Status(self.config.name, self.log, self.seen, self.parts, inbox, keeper, [keeping])
        self._exporter = serve(
            self.config.engine.listen, "engine", registry(EngineCollector(self._status)), self._status.health, self._status.ready
        )

    def _has_twin(self) -> bool:
        """Whether a partition of ours is held by another process of our name: no use in taking it back and forth."""
        try:
            held = {number: self.log.ownership(number) for number in self.parts}
        except TransportUnreachable:
            return False
        return any(held[n].owner == self.config.name and held[n].epoch > part.epoch for n, part in self.parts.items())

    def _find_again(self, lost: TocsinError, stop: Callable[[], bool]) -> bool:
        """The same log over new connections, however long that takes; False if `stop` said so first."""
        log.warning("everything held is dropped: %s", lost.args[0])
        lasted = clock.monotonic_ns() - self._since
        self._pause_s = FIRST_S if lasted > STEADY_NS else min(2 * self._pause_s, LONGEST_S)
        if self._status:
            self._status.outage = str(lost.args[0])

        def turn() -> bool:
            self.seen.turned()
            return stop()

        gc.collect()                           # nobody waits now, and what was held goes
        rest(self._pause_s, turn)              # what ended it may end the next one at once
        found = again(lambda: self._open(None), self.log.identity, turn, log.warning)
        if found:
            self.log.close()                   # after the new one is open: an embedded server never loses its last user
            self.log = found
        return found is not None

    def _open(self, create: int | None) -> Log:
        """create: partitions of a new one where nobody made one; a log that was there is never made anew."""
        return open_log(self.config.url, deployment=self.config.log.deployment, create=create, rules=self.rules)

    def _stage_what_is_due(self, controls: Controls, staging: Staging) -> None:
        """Before any partition is claimed: the bundles that the log from the oldest newest checkpoint on asks for.

        Raises ModelRefused if the newest can't be answered with; of an older one only where it is met.
        """
        activations = [(control.k, control.body) for control in controls.holding() if isinstance(control.body, Activate)]
        if not activations:
            log.warning(
                "no bundle: ticks are taken and features kept, nothing is decided, until\n"
                "  tocsin models activate champion --transport %s", self.log.url,
            )
        since = oldest_k(self.log, Activate.slot, newest=1)
        due = [(body.version, body.manifest) for k, body in activations if k >= since]
        for version, digest in due[-KEPT:-1]:
            staging.stage(version, digest)
        for version, digest in due[-1:]:
            staging.get(version, digest)

    def close(self) -> None:
        self.log.close()

    def _warm_ticks(self, partition: int) -> TickBatch | None:
        """Read when a partition asks: one with a checkpoint never does."""
        if not self._warm_files:
            return None
        if self._warm is None:
            self._warm = read_ticks(self._warm_files, self.log.rules, columns=self._columns)
        return _of_partition(self._warm, partition, self.log.partitions)


def _of_partition(ticks: TickBatch, partition: int, partitions: int) -> TickBatch:
    """The ticks of the symbols that go to a partition."""
    home = np.array([partition_of(symbol, partitions) == partition for symbol in ticks.symbols], np.bool_)
    own = ticks[home[ticks.sid]]
    instruments = [instrument for instrument, kept in zip(ticks.instruments, home, strict=True) if kept]
    return TickBatch(instruments, **{**own.columns(), "sid": (np.cumsum(home) - 1)[own.sid]})
