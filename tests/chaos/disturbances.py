"""What can happen to a deployment, each thing as one short method: it does it, and says after how long what ends it.

A disturbance that can't happen now (its victim is busy with another one, or isn't there) returns None, and another is drawn.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import psutil
import redis

from engine.errors import TransportUnreachable
from engine.types import Kind
from tests.chaos.harness import NONSENSE, Service
from tests.chaos.server import COMPILER, MOST, RedisWorld
from tests.children import recorder, training
from tests.proxy import DOWN, UP, Proxy

SLEEP_S = 4.0, 6.0
"""Past the lease of 3 s."""
LEASE_S = 3.0


class Undo(NamedTuple):
    """What ends a disturbance, and when; until then its victim is left alone."""

    victim: str
    after_s: float = 0.0
    do: Callable[[], object] = lambda: None


class Strike(NamedTuple):
    """What happened, for the report: held: partitions that an engine held as it was struck."""

    at: float
    kind: str
    victim: str
    held: tuple[int, ...] = ()


class Disturbances:
    """Of one world, in the order that a seed gives: a shuffled bag of all kinds, again and again."""

    def __init__(self, world: RedisWorld, rng: random.Random, kinds: Sequence[str]) -> None:
        self.world, self._rng, self._kinds = world, rng, kinds
        self.counts: Counter[str] = Counter()
        self.strikes: list[Strike] = []
        self._bag: list[str] = []
        self._busy: set[str] = set()
        self._timers: list[threading.Timer] = []

    def next(self) -> str:
        """One disturbance; its kind."""
        while True:
            if not self._bag:
                self._bag = list(self._kinds)
                self._rng.shuffle(self._bag)
            if self.one(kind := self._bag.pop()):
                return kind
            time.sleep(0.05)

    def one(self, kind: str) -> bool:
        """A disturbance of a kind; False if it can't be now."""
        undo = KINDS[kind](self)
        if undo is None:
            return False
        self.counts[kind] += 1
        self._busy.add(undo.victim)

        def end() -> None:
            with suppress(redis.RedisError, OSError):
                undo.do()
            self._busy.discard(undo.victim)

        timer = threading.Timer(undo.after_s, end)
        timer.start()
        self._timers.append(timer)
        return True

    def over(self) -> None:
        """Wait until everything has been undone."""
        for timer in self._timers:
            timer.join()

    # ---- victims

    def _free(self, victim: str) -> bool:
        return victim not in self._busy

    def _engine(self) -> str | None:
        """One that runs and isn't disturbed."""
        names = [name for name, service in self.world.engines.items() if service.lives and self._free(name)]
        return self._rng.choice(names) if names else None

    def _struck(self, kind: str, victim: str) -> None:
        held = tuple(p for p, owner in self.world.holders().items() if owner == victim)
        self.strikes.append(Strike(time.monotonic(), kind, victim, held))

    def _proxies(self) -> list[tuple[str, Proxy]]:
        """Of one process, or of all."""
        all_of_them = [item for item in self.world.proxies.items() if self._free(f"way of {item[0]}")]
        return all_of_them if self._rng.random() < 0.3 else [self._rng.choice(all_of_them)] if all_of_them else []

    # ---- SIGKILL

    def kill_engine(self) -> Undo | None:
        name = self._engine()
        if name is None:
            return None
        self._struck("kill", name)
        self.world.engines[name].kill()
        return Undo(name)

    def _kill(self, service: Service) -> Undo | None:
        if not service.lives or not self._free(service.name):
            return None
        service.kill()
        return Undo(service.name)

    def kill_trainer(self) -> Undo | None:
        return self._kill(self.world.trainer)

    def kill_feeder(self) -> Undo | None:
        return self._kill(self.world.feeder)

    def kill_server(self) -> Undo | None:
        return self._kill(self.world.server)

    def _kill_child(self, child: psutil.Process | None) -> Undo | None:
        if child is None:
            return None
        with suppress(psutil.NoSuchProcess):
            child.kill()
        return Undo("child")

    def kill_recorder(self) -> Undo | None:
        return self._kill_child(recorder(self.world.trainer.process.pid, self.world.home))

    def kill_training(self) -> Undo | None:
        return self._kill_child(training(self.world.trainer.process.pid, self.world.home))

    # ---- SIGSTOP

    def _sleep(self, service: Service, seconds: float) -> Undo | None:
        if not service.lives or not self._free(service.name):
            return None
        process = service.process
        process.send_signal(signal.SIGSTOP)
        return Undo(service.name, seconds, lambda: process.send_signal(signal.SIGCONT))

    def sleeping_engine(self) -> Undo | None:
        """Past its lease."""
        name = self._engine()
        if name is None:
            return None
        self._struck("sleep", name)
        return self._sleep(self.world.engines[name], self._rng.uniform(*SLEEP_S))

    def sleeping_heir(self) -> Undo | None:
        """An engine sleeps past its lease; whoever takes over falls asleep before it says anything, and the first wakes up."""
        name = self._engine()
        before = self.world.holders()
        mine = [p for p, owner in before.items() if owner == name]
        if name is None or not mine or len(self.world.engines) < 2:
            return None
        self._struck("sleep", name)
        first = self.world.engines[name].process
        first.send_signal(signal.SIGSTOP)
        heir, deadline = "", time.monotonic() + 3 * LEASE_S
        while not heir and time.monotonic() < deadline:
            now = self.world.holders()
            heir = next((now[p] for p in mine if now and now[p] != before[p] and now[p] in self.world.engines), "")
        if not heir or not self._free(heir):
            first.send_signal(signal.SIGCONT)
            return Undo(name)
        second = self.world.engines[heir].process
        second.send_signal(signal.SIGSTOP)
        first.send_signal(signal.SIGCONT)
        return Undo(heir, self._rng.uniform(0.5, 2.0), lambda: second.send_signal(signal.SIGCONT))

    def stalled_server(self) -> Undo | None:
        return self._sleep(self.world.server, self._rng.uniform(1.0, 6.0))

    # ---- the network

    def cut(self) -> Undo | None:
        """Connections, of one process or of all."""
        chosen = self._proxies()
        for _, proxy in chosen:
            proxy.cut()
        return Undo("cut") if chosen else None

    def _way(self, begin: Callable[[Proxy], object], end: Callable[[Proxy], object], seconds: float) -> Undo | None:
        chosen = self._proxies()
        if not chosen:
            return None
        for _, proxy in chosen:
            begin(proxy)
        names = {f"way of {name}" for name, _ in chosen}
        self._busy |= names

        def heal() -> None:
            for _, proxy in chosen:
                end(proxy)
            self._busy.difference_update(names)

        return Undo("network", seconds, heal)

    def delay(self) -> Undo | None:
        seconds = self._rng.uniform(0.05, 0.5)
        return self._way(
            lambda proxy: (proxy.delay(UP, seconds / 2), proxy.delay(DOWN, seconds / 2)), lambda proxy: proxy.heal(), 2.0
        )

    def half_open(self) -> Undo | None:
        """Nothing arrives any more, and nobody says so. What lost bytes never goes on: a stream has no holes."""
        return self._way(
            lambda proxy: (proxy.swallow(UP), proxy.swallow(DOWN)), lambda proxy: (proxy.cut(), proxy.heal()),
            self._rng.uniform(3.0, 7.0),
        )

    def away(self) -> Undo | None:
        """Connections are cut, and new ones refused."""
        def begin(proxy: Proxy) -> None:
            proxy.accepts = False
            proxy.cut()

        return self._way(begin, lambda proxy: proxy.heal(), self._rng.uniform(1.0, 4.0))

    # ---- room

    def _server(self) -> bool:
        return self.world.server.lives and self._free("redis") and self.world.answers()

    def full_disk(self) -> Undo | None:
        if not self._server():
            return None
        self.world.fill_disk(True)
        return Undo("redis", self._rng.uniform(1.0, 4.0), lambda: self.world.fill_disk(False))

    def flicker(self) -> Undo | None:
        """A server that misses its replica, and has it again, within milliseconds: it refuses one write and takes the next."""
        if not self._server():
            return None
        stop, pace = threading.Event(), random.Random(self._rng.random())

        def toggle() -> None:
            with suppress(redis.RedisError), self.world.admin() as admin:
                while not stop.wait(pace.uniform(0.001, 0.02)):
                    admin.config_set("min-replicas-to-write", 1)
                    stop.wait(pace.uniform(0.001, 0.02))
                    admin.config_set("min-replicas-to-write", 0)

        thread = threading.Thread(target=toggle)
        thread.start()

        def end() -> None:
            stop.set()
            thread.join()
            with self.world.admin() as admin:
                admin.config_set("min-replicas-to-write", 0)

        return Undo("redis", self._rng.uniform(1.0, 2.0), end)

    # ---- clocks

    def _jump(self, service: Service) -> Undo | None:
        """Killed, and started again with its clock an hour off, or right again."""
        if COMPILER is None or not service.lives or not self._free(service.name):
            return None
        self.world.restart(service, self._rng.choice((-1, 0, 1)))
        return Undo(service.name)

    def clock_of_engine(self) -> Undo | None:
        name = self._engine()
        return self._jump(self.world.engines[name]) if name else None

    def clock_of_feeder(self) -> Undo | None:
        return self._jump(self.world.feeder)

    def clock_of_trainer(self) -> Undo | None:
        return self._jump(self.world.trainer)

    def clock_of_server(self) -> Undo | None:
        """Ids never fall: where the clock is behind the newest of a stream, the next ones have its time and count on."""
        return self._jump(self.world.server)

    # ---- how many

    def scale(self) -> Undo | None:
        """Another number of engines, by clean stops and new starts."""
        engines = self.world.engines
        wanted = self._rng.choice([n for n in range(1, MOST + 1) if n != len(engines)])
        while len(engines) < wanted:
            self.world.add_engine()
        for name in [name for name, service in engines.items() if service.ready and self._free(name)][:len(engines) - wanted]:
            self.world.drop_engine(name)
        return Undo("scale")

    # ---- input

    def nonsense(self) -> None:
        """Beside each disturbance: a record that is no tick."""
        with suppress(TransportUnreachable):
            self.world.log.append(self._rng.randrange(self.world.log.partitions), [self._rng.choice(NONSENSE)], Kind.TICKS)


KINDS: dict[str, Callable[[Disturbances], Undo | None]] = {
    "kill engine": Disturbances.kill_engine, "kill engine again": Disturbances.kill_engine,
    "kill trainer": Disturbances.kill_trainer, "kill recorder": Disturbances.kill_recorder,
    "kill training": Disturbances.kill_training, "kill feeder": Disturbances.kill_feeder,
    "kill server": Disturbances.kill_server,
    "engine sleeps": Disturbances.sleeping_engine, "engine and heir sleep": Disturbances.sleeping_heir,
    "server stalls": Disturbances.stalled_server,
    "cut": Disturbances.cut, "delay": Disturbances.delay, "half-open": Disturbances.half_open, "away": Disturbances.away,
    "disk full": Disturbances.full_disk, "replicas flicker": Disturbances.flicker,
    "clock of engine": Disturbances.clock_of_engine, "clock of feeder": Disturbances.clock_of_feeder,
    "clock of trainer": Disturbances.clock_of_trainer, "clock of server": Disturbances.clock_of_server,
    "scale": Disturbances.scale,
}
