"""Engines that run in threads over one embedded log, and signed bundles that speak."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine.app import Engine
from engine.config import Config, load
from engine.feeds.send import Pace, send
from engine.instruments import Instruments
from engine.manifest import Golden, Policy
from engine.registry import Registry, signing
from engine.registry.append import change
from engine.registry.rollout import Activate, Body
from engine.runtimes.ensemble import Ensemble
from engine.runtimes.forest.runtime import ForestRuntime
from engine.transports import create_log
from engine.transports.base import Topic
from engine.types import NOWHERE, START, Cursor, Entry, Kind, Position, TickBatch
from engine.wire.records import Signal, signal_decoder
from tests.made import made_ticks, speaking_bundle, speaking_forest

PARTITIONS = 2
SYMBOLS = 5
"""MADE4 lives in partition 0, the others in partition 1."""

PATIENCE_S = 90.0
ALL = 10**9


def ticks(n: int) -> TickBatch:
    """One a minute and symbol, so that a few hundred of them warm every symbol up; each taken, none flawed."""
    return made_ticks(n, symbols=SYMBOLS, rate=0.02, flaws=False)


def wait_for(what: Callable[[], object], why: str = "") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, why or "waited in vain"
        time.sleep(0.02)


def publish_speaking(
    registry: Registry, private: Ed25519PrivateKey, seed: int = 1, policy: Policy | None = None, rules: Instruments | None = None,
    fingerprint: str = "",
) -> str:
    """A bundle of two experts that is asked at every tick; its version. fingerprint: of its features, where not ours."""
    plain = speaking_bundle("tick", policy=policy or Policy(0.02, -0.02), rules=rules).manifest
    experts = [
        msgspec.structs.replace(plain.experts[0], name=name, idx=idx, file=f"{name}.forest", weight=0.5)
        for idx, name in enumerate(("one", "two"), 1)
    ]
    forests = {expert.name: speaking_forest(100 * expert.idx + seed) for expert in experts}
    rows = np.random.default_rng(seed).normal(size=(3, len(plain.features.names))).astype(np.float32)
    golden = Ensemble([ForestRuntime(forests)], experts).predict_proba(rows)
    features = msgspec.structs.replace(plain.features, fingerprint=fingerprint or plain.features.fingerprint)
    manifest = msgspec.structs.replace(
        plain, version="", experts=experts, features=features, golden=Golden(rows.tolist(), golden.tolist())
    )
    return registry.publish(manifest, {f"{name}.forest": forest.to_bytes() for name, forest in forests.items()}, private)


class Site:
    """A folder with keys and a registry, and a log in an embedded server."""

    def __init__(
        self, folder: Path, redis: Path, rules: Instruments | None = None, partitions: int = PARTITIONS
    ) -> None:
        """rules: as its log counts from the first tick on."""
        self.folder = folder
        private, public = signing.generate(folder / "keys")
        self.private = signing.load_private(private)
        self.registry = Registry(folder / "registry", public)
        self.url = f"redis+embedded://{redis}"
        self.log = create_log(self.url, partitions, rules or Instruments())

    def config(self, file: str | None = None, **changes: object) -> Config:
        """`engine__batch=7` is [engine] batch = 7."""
        flags = {
            "home": str(self.folder), "log.transport": self.url, "engine.name": "one", "engine.listen": "", "engine.lease_s": 1.0,
        }
        return load(file, {}, flags | {name.replace("__", "."): value for name, value in changes.items()})

    def publish(
        self, seed: int = 1, policy: Policy | None = None, rules: Instruments | None = None, fingerprint: str = ""
    ) -> str:
        return publish_speaking(self.registry, self.private, seed, policy, rules, fingerprint)

    def activation(self, version: str) -> Activate:
        """Its body."""
        return Activate(version, self.registry.read(version).digest)

    def change(self, body: Body) -> dict[int, Cursor]:
        """Write a record and its copies, whatever speaks against it; where they stand."""
        return change(self.log, self.registry, self.private, lambda seen: body, "ann", "")[1]

    def send(self, batch: TickBatch, rate: float | None = None) -> None:
        send(self.log, batch, Pace(rate=rate), 1, lambda: False)

    def signals(self) -> dict[tuple[int, Position], Signal]:
        return {
            (p, position): signal_decoder.decode(record)
            for p in range(self.log.partitions) for position, record in self.log.published(p, Topic.SIGNALS, NOWHERE, ALL)
        }

    def published(self) -> list[bytes]:
        return [r for p in range(self.log.partitions) for _, r in self.log.published(p, Topic.SIGNALS, NOWHERE, ALL)]

    def entries(self, partition: int) -> list[Entry]:
        return self.log.read({partition: START}, ALL).get(partition, [])

    def copies(self, partition: int, k: int) -> list[Cursor]:
        """Where a control record stands."""
        record = dict(self.log.controls())[k]
        return [e.cursor for e in self.entries(partition) if e.kind is Kind.CONTROL and e.payload == record]

    def verbs(self) -> list[str]:
        """Of `models`, in order."""
        return [msgspec.json.decode(record)["verb"] for _, record in self.log.controls()]

    def close(self) -> None:
        self.log.close()


class Running:
    """`with Running(config) as engine:` it runs, ready; afterwards it has ended. What it died of is in `error`."""

    def __init__(self, config: Config, warm: Sequence[Path] = (), accept_gap: bool = False) -> None:
        self._config = config
        self._accept_gap = accept_gap
        self._warm = warm
        self._stop = Event()
        self._ready = Event()
        self.error: BaseException | None = None
        self.summary: dict[str, Any] = {}
        self._thread = Thread(target=self._run, name=config.name)

    def __enter__(self) -> Running:
        self._thread.start()
        wait_for(lambda: self._ready.is_set() or self.error)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the engine doesn't stop"
        if self.error and kind is None:
            raise self.error

    def died(self) -> BaseException:
        """What it died of, once it has; then it counts as heard."""
        self._thread.join(PATIENCE_S)
        assert self.error, "it lives"
        error, self.error = self.error, None
        return error

    def _run(self) -> None:
        try:
            engine = Engine(self._config, self._warm, accept_gap=self._accept_gap)
            try:
                self.summary = engine.run(self._stop.is_set, self._ready.set)
            finally:
                engine.close()
        except BaseException as error:
            self.error = error
