"""What all rows share: bundles, cores, processes that wait for something to do, and a log per measurement."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from engine.errors import TocsinError
from engine.features import FeatureSet
from engine.feeds.sim import simulate
from engine.instruments import Instruments
from engine.manifest import Moments
from engine.redis_server import with_server
from engine.registry import signing
from engine.registry.activate import activate
from engine.registry.store import Registry
from engine.transports import open_log
from engine.transports.base import Log, Topic
from engine.types import LAST_ORDINAL, Cursor, Position
from engine.wire.records import canonical

from ..experts.devices import cpu_budget
from ..experts.lightgbm import LightGBMExpert
from ..fit import Fits
from ..pipeline import train
from . import bare
from .machine import Cores, pin, split_cores
from .processes import Child, tocsin
from .rounds import Tell

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PARTITIONS = 4
MODEL_DAYS = 1.0
SPARSE = Moments(c=1.5)
"""Asked at about 3 % of simulated ticks, as the default is on a month of real EUR/USD: the simulator's prices move more."""
END = b"end"
"""A record that is no tick: its reject says that all before it is done."""


class Scale(NamedTuple):
    """How much is measured. days: of simulated ticks that are drained."""

    rounds: int
    days: float
    latency_s: float
    swap_s: float


class Bundles(NamedTuple):
    """Versions of one and the same fit: asked at moments, at every tick, and another at every tick to swap to."""

    moments: str
    tick: str
    other: str


class Bench:
    """A folder with keys and bundles, the cores, and three processes that wait for something to do.

    Pins this process to the cores that aren't the engine's. `stack`: ends the three.
    """

    def __init__(self, home: Path, scale: Scale, tell: Tell, stack: ExitStack) -> None:
        self.home = home
        self.scale = scale
        self.tell = tell
        self.cores: Cores = split_cores()
        signing.generate(home / "keys")
        self.private: Ed25519PrivateKey = signing.load_private(home / "keys/private.pem")
        self.registry = Registry(home / "registry", home / "keys/public.pem")
        tell(f"training a bundle on {MODEL_DAYS:g} simulated days")
        self.ticks = simulate(scale.days)
        self.bundles = self._train()
        pin(0, self.cores.others)

        def process(cores: frozenset[int]) -> ProcessPoolExecutor:
            pool = stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))
            pool.submit(bare.settle, cores).result()
            return pool

        self.instead = process(self.cores.engine)
        """In the engine's place."""
        self.sender = process(self.cores.others)
        self.listener = process(self.cores.others)

    def _train(self) -> Bundles:
        with Fits([LightGBMExpert.name], "lean", cpu_budget()) as fits:
            fitted = train(
                simulate(MODEL_DAYS), self.registry, self.private, Instruments(), fits, Moments(kind="tick"),
                lambda *progress: None, FeatureSet.default(),
            )
        contents = self.registry.read(fitted.version)

        def again(moments: Moments) -> str:
            manifest = msgspec.structs.replace(contents.manifest, moments=moments)
            return self.registry.publish(manifest, contents.files, self.private)

        return Bundles(again(SPARSE), fitted.version, again(Moments(kind="tick")))

    @contextmanager
    def place(self, name: str) -> Iterator[Place]:
        """A new log on a new server; both are gone afterwards."""
        with with_server(self.home / name) as server:
            url = f"redis+embedded://{server.folder}"
            log = open_log(url, create=PARTITIONS)
            try:
                yield Place(url, str(server.socket), log, bare.connect(str(server.socket)))
            finally:
                log.close()

    def activate(self, place: Place, deployment: str, version: str) -> None:
        log = open_log(place.url, deployment=deployment)
        try:
            activate(log, self.registry, self.private, version, "bench")
        finally:
            log.close()

    def engine(self, place: Place, deployment: str) -> Child:
        return tocsin(
            self.home, self.cores.engine, "run", "engine", "--transport", place.url, "--deployment", deployment,
            "--name", "bench",
        )

    def python(self, what: str, code: str, *argv: str) -> Child:
        return Child(what, [sys.executable, "-c", code, *argv], self.home, self.cores.engine)

    def round(self, what: str, number: int) -> None:
        self.tell(f"{what}: round {number + 1} of {self.scale.rounds}")


class Place(NamedTuple):
    """A log and the ways to it."""

    url: str
    socket: str
    log: Log
    redis: Any

    @property
    def ticks(self) -> list[str]:
        return [f"ticks.{{{p}}}" for p in range(PARTITIONS)]

    def signals(self, deployment: str) -> list[str]:
        return [f"signals.{deployment}.{{{p}}}" for p in range(PARTITIONS)]

    def length(self, streams: list[str]) -> int:
        return sum(self.redis.xlen(stream) for stream in streams)

    def end(self) -> dict[int, Cursor]:
        """Put the record that is no tick at the end of every partition."""
        return {partition: self.log.append(partition, [END])[0] for partition in range(PARTITIONS)}

    def wait_for(self, ends: dict[int, Cursor], deployment: str, engine: Child) -> float:
        """Until the engine has refused the ends; when, by time.monotonic. Raises TocsinError if it ends instead."""
        log = open_log(self.url, deployment=deployment)
        after = {partition: _before(end) for partition, end in ends.items()}
        try:
            while any(after[partition].cursor < end for partition, end in ends.items()):
                for partition, records in log.follow(Topic.REJECTS, after, 1000, 1000).items():
                    after[partition] = records[-1][0]
                engine.check()
            return time.monotonic()
        finally:
            log.close()

    def published(self, deployment: str) -> list[bytes]:
        """Its signals without `log` and `timing`, partition after partition."""
        return [
            canonical(fields[b"v"]) for stream in self.signals(deployment) for _, fields in self.redis.xrange(stream)
        ]

    def account(self, summary: dict[str, Any], deployment: str, sent: int, ends: int) -> dict[str, int]:
        """Ticks, refused and decisions of a run. Raises TocsinError where engine, log and sender differ."""
        refused = sum(summary["rejected"].values()) - ends
        decisions = sum(summary["signals"].values())
        held = self.length(self.signals(deployment))
        if summary["ticks"] + refused != sent or decisions != held:
            raise TocsinError(
                "bench_count", f"{sent:,} ticks were sent; the engine took {summary['ticks']:,}, refused {refused:,} and made "
                f"{decisions:,} decisions, of which the log holds {held:,}",
                hint="nothing measured here counts; please report it",
            )
        return {"ticks": sent, "refused": refused, "decisions": decisions}

    def forget(self, deployment: str) -> None:
        """What a deployment published, so that the server's memory doesn't grow from round to round."""
        self.redis.unlink(*self.redis.keys(f"*.{deployment}.*"))


def _before(cursor: Cursor) -> Position:
    """Behind it the first that is published is about that record."""
    ms, seq = cursor
    return Position((ms, seq - 1) if seq else (ms - 1, LAST_ORDINAL), LAST_ORDINAL)
