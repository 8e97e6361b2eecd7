"""The trainer's service: what outlives its children, a recorder that hangs, when trainings begin and what they read."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import psutil
import pytest

from engine.config import Config, load
from engine.errors import ModelRefused
from engine.instruments import Instruments
from engine.registry import Registry, decisions, signing
from engine.registry.append import change
from engine.registry.decisions import Decision
from engine.registry.rollout import Settings
from engine.transports import create_log
from engine.transports.memory import MemoryLog
from engine.types import Cursor, Entry
from engine.wire import frame
from tests import lakes
from tests.engines import publish_speaking
from tests.lakes import record_all
from tests.made import made_ticks
from trainers import recorder, service, training
from trainers.lake import read_status
from trainers.service import Service
from trainers.sources import _admitted, ticks_of_log


def config_of(folder: Path, **changes: object) -> Config:
    """With a key pair of its own."""
    signing.generate(folder / "keys")
    flags = {"home": str(folder), "log.transport": "memory://service", "trainer.listen": ""}
    return load(None, {}, flags | {name.replace("__", "."): value for name, value in changes.items()})


def private_of(config: Config) -> Any:
    return signing.load_private(config.keys_path / signing.PRIVATE)


# ---- what outlives its children


def test_whoever_asks_or_is_asked_may_be_killed_at_any_moment() -> None:
    hurry = service._Bell()
    fork = multiprocessing.get_context("fork")
    ready, theirs = fork.Pipe(duplex=False)

    def asking() -> None:
        theirs.send(None)
        while True:
            hurry.ring()
            hurry.rung()

    for _ in range(5):
        killed = fork.Process(target=asking)
        killed.start()
        ready.recv()
        time.sleep(0.02)
        killed.kill()
        killed.join()
    for _ in range(2):
        next_one = fork.Process(target=hurry.ring)
        next_one.start()
        next_one.join(10)
        alive = next_one.is_alive()
        next_one.kill()
        next_one.join()
        assert not alive, "it hangs where the other died"
        assert hurry.rung()
        assert not hurry.rung()


# ---- a recorder that hangs


def brisk(*args: Any) -> None:
    """A recorder that tells how far it is five times a second."""
    recorder.EVERY_NS = 200_000_000
    service._record(*args)


def test_a_recorder_that_hangs_is_seen_and_replaced(
    redis_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service, "_record", brisk)
    monkeypatch.setattr(service, "LOOK_S", 0.05)
    monkeypatch.setattr(service, "QUIET_S", 1.0)
    here = Service(config_of(tmp_path, log__transport=f"redis+embedded://{redis_dir}"))

    def turn_until(what: Callable[[], object], why: str) -> None:
        deadline = time.monotonic() + 60
        while not what():
            assert time.monotonic() < deadline, why
            here._look()
            here._keep_recording()
            time.sleep(0.02)

    def recording() -> int | None:
        status = read_status(tmp_path / "lake")
        return status.pid if status and here.recorder and status.pid == here.recorder.pid else None

    try:
        turn_until(recording, "no recorder")
        first = recording()
        assert first
        calm = time.monotonic() + 4.0
        turn_until(lambda: time.monotonic() > calm or here.seen.recorder_lag_s, "")
        assert (here.seen.recorder_lag_s, recording()) == (0.0, first), "idle isn't late"
        os.kill(first, signal.SIGSTOP)
        turn_until(lambda: here.seen.recorder_lag_s > 1.0, "nobody sees that it hangs")
        assert here.recorder
        here.recorder._heard -= service.HANG_S
        here._turned -= service.STOOD_S
        here._keep_recording()
        assert psutil.pid_exists(first), "the service itself stood still"
        monkeypatch.setattr(service, "HANG_S", 3.0)
        turn_until(lambda: not psutil.pid_exists(first), "it is left hanging")
        monkeypatch.undo()                         # the next one may take its time to begin
        turn_until(recording, "it isn't started again")
        assert recording() != first
        turn_until(lambda: here.seen.recorder_lag_s == 0.0, "the lag stays")
        assert len(here._deaths) == 1
        assert "said nothing for 3 s" in caplog.text
    finally:
        if here.recorder:
            here.recorder.end()
        here.close()


# ---- when


def test_an_interval_counts_from_the_start_of_this_deployments_last_training(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    private, registry = private_of(config), Registry(config.registry_path, config.trust_path)
    here = Service(config)
    try:
        assert here._last_start() is None
        for about, at, deployment, seconds in (
            (publish_speaking(registry, private), "2026-01-01T02:00:00Z", "main", 7200.0),
            (publish_speaking(registry, private), "2026-01-02T02:00:00Z", "paper", 1.0),
            (decisions.FAILED, "2026-01-03T02:00:00Z", "paper", 1.0),
        ):
            decisions.keep(
                registry, Decision(about, at, deployment, "schedule", "if-better", True, True, "why", seconds), private
            )
        assert here._last_start() == datetime(2026, 1, 1, tzinfo=UTC)
        failed = Decision(decisions.FAILED, "2026-01-03T02:00:00Z", "main", "schedule", "if-better", False, False, "why", 60.0)
        decisions.keep(registry, failed, private)
        assert here._last_start() == datetime(2026, 1, 3, 1, 59, tzinfo=UTC)
    finally:
        here.close()


# ---- what a training leaves


def test_a_bundle_that_cant_be_activated_counts_among_those_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(tmp_path, registry__keep=2)
    private, registry = private_of(config), Registry(config.registry_path, config.trust_path)

    def refused(*args: Any, **options: Any) -> NoReturn:
        publish_speaking(registry, private)
        raise ModelRefused("engine_refused", "an engine can't answer with it", hint="")

    monkeypatch.setattr(training, "start_fits", lambda *args: nullcontext())
    monkeypatch.setattr(training, "train_and_decide", refused)
    log = create_log(config.url, 1)
    try:
        for _ in range(4):
            with pytest.raises(ModelRefused, match="engine_refused"):
                service._train_once(config, "schedule", lambda: None)
        assert registry.versions() == ["3", "4"]
    finally:
        log.close()


# ---- what a training reads


class Fed(MemoryLog):
    """Whoever reads it finds something, however often."""

    turns = 0

    def read(self, after: Mapping[int, Cursor], count: int, block_ms: int = 0) -> dict[int, list[Entry]]:
        self.turns += 1
        assert self.turns < 100, "it reads for ever"
        more = made_ticks(50, flaws=False)
        more.ts += self.turns * 10**18
        self.append(0, [frame.pack(more)])
        return super().read(after, count, block_ms)


def test_a_log_that_is_fed_meanwhile_is_read_as_far_as_it_went_at_first() -> None:
    still, fed, ticks = MemoryLog(2), Fed(2), made_ticks(1000)
    for log in (still, fed):
        log.append(0, [frame.pack(ticks[:600])])
        log.append(1, [frame.pack(ticks[600:])])
    expected, found = _admitted(still, Instruments()), _admitted(fed, Instruments())
    assert len(found) > 500
    assert np.array_equal(found.ts, expected.ts)
    assert np.array_equal(found.bid, expected.bid)


def test_trainings_go_on_when_prices_are_counted_in_coarser_points(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = config_of(tmp_path)
    registry, log = Registry(config.registry_path, config.trust_path), MemoryLog(1)
    tick = b'{"symbol":"X","ts":%d,"bid":%b,"ask":2}'
    log.append(0, [tick % (1, b"1.12345"), tick % (2, b"1.12")])
    coarser = Settings(instruments=Instruments({"*": {"scale": 2}}).to_dict())
    change(log, registry, private_of(config), lambda seen: coarser, "test", "")
    log.append(0, [tick % (3, b"1.13")])
    record_all(log, tmp_path)
    ticks, rules = ticks_of_log(log, registry, config, 0.0)
    assert ticks.ts.tolist() == [2, 3]
    assert ticks.bid.tolist() == [112, 113]
    assert ticks.instruments == [rules.get("X")]
    assert "X is read from after" in caplog.text


def test_a_recorder_that_commits_half_is_asked_again(tmp_path: Path) -> None:
    """It was behind when it was asked: its next commit by itself may be ten seconds away."""
    config = config_of(tmp_path)
    log, ticks = MemoryLog(1), made_ticks(1000, flaws=False)
    for at in range(0, 1000, 100):
        log.append(0, [frame.pack(ticks[at:at + 100])])
    slow = lakes.recorder(log, tmp_path)
    slow._tell()
    asked: list[int] = []

    def hurry() -> None:
        asked.append(len(asked))
        slow.take(log.read(slow.cursors, 4))
        slow.commit()

    read, _ = ticks_of_log(log, Registry(config.registry_path, config.trust_path), config, 0.0, hurry)
    slow.close()
    assert len(asked) == 3
    assert len(read) == 1000
