"""Three ways to kill what runs, each with its proof at the end. All raise Failed; all return what happened, in figures."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from engine.files import write_ticks
from engine.partitioner import partition_of
from engine.transports.base import Topic
from engine.types import NOWHERE, TickBatch
from engine.wire.records import canonical, signal_decoder
from tests.chaos import truth
from tests.chaos.dying import ACTIVATE, FIRST_COPY, PREPARE
from tests.chaos.harness import (
    NONSENSE,
    PARTITIONS,
    RATE,
    TOCSIN,
    Failed,
    Service,
    Spy,
    World,
    family_of,
    sim,
    wait_for,
)
from tests.children import recorder, training

ROOT = Path(__file__).parents[2]

Kill = tuple[str, str]
"""Who (engine, recorder, training, trainer), and when: at any moment, or at a control record."""

ANY = "any moment"
CONTROL = ("prepare", "activate", "copy 0", "copy 1", "copy 2")

COMPLETED_S = 20.0
"""So long it may take until a change whose writer was killed stands in every partition; an engine killed with it must
start and catch up first."""
FAMILY_S = 8.0
"""So long the children of a killed service may outlive it."""
PATIENCE_S = 90.0
"""So long an engine may take to catch up on a busy machine, or the recorder to write what is left."""

DAY = 142_000
"""About so many ticks has a simulated day of four symbols."""


# ---- real trainings, everything killed


def swaps(
    folder: Path, seed: int, plan: Sequence[Kill], rows: int, command: Path = TOCSIN, days: float = 30.0, rate: int = RATE
) -> dict[str, Any]:
    """Ticks flow, bundles are trained and swapped in one after another, and what runs is killed as planned.

    rows: ticks per record; rate: ticks per second. days: simulated, 7 s of ticks each at the usual rate; there must be
    ticks until the last kill.
    """
    rng = random.Random(seed)
    with World(folder, command) as world:
        world.run("models", "keygen")
        spy = Spy(world)
        world.feed(sim(days, seed), 2 * DAY, rows, rate)
        engine, trainer = world.keep("run", "engine"), world.keep("run", "trainer")
        first = spy.next("activate", 120.0)
        wait_for("the first bundle in every partition", lambda: spy.copied(first), COMPLETED_S)
        completed: dict[str, float] = {}
        for who, when in plan:
            time.sleep(rng.uniform(0, 1.5))
            took = _strike(world, engine, trainer, rng, who, when)
            completed[when] = max(completed.get(when, 0.0), took)
            world.log.append(rng.randrange(PARTITIONS), [rng.choice(NONSENSE)])
            _unasked(engine)
            _unasked(trainer)
            if not world.flowing:
                raise Failed("ticks flow no more")
        report = prove(world, [engine], trainer)
        _unasked(engine)
        _unasked(trainer)
    return report | {"kills": dict(world.kills), "copied within s": {k: round(v, 1) for k, v in completed.items() if v}}


def _strike(world: World, engine: Service, trainer: Service, rng: random.Random, who: str, when: str) -> float:
    """One kill; how long it took until a change then on its way stood in every partition (0: none was)."""
    victim = _training(world, trainer) if who == "training" else None
    spy = Spy(world)
    k = 0
    if when == ANY:
        time.sleep(rng.uniform(0, 2.5))
    else:
        k = spy.next("prepare")
        if when != "prepare":
            k = spy.next("activate")
        if when.startswith("copy"):
            partition = int(when.split()[1])
            wait_for(when, lambda: spy.copied(k, partition), COMPLETED_S, 0.0)
    if who == "engine":
        engine.kill()
    elif who == "trainer":
        children = family_of(trainer.process.pid)
        trainer.kill()
        wait_for("the end of a killed service's children", lambda: not any(map(_lives, children)), FAMILY_S)
    elif who == "recorder":
        _kill_recorder(world, trainer)
    else:
        if victim is None or not _lives(victim):
            victim = _training(world, trainer)
        victim.kill()
    world.kills[f"{who}, {when}"] += 1
    return wait_for(f"copies of {k} after {who} was killed", lambda: spy.copied(k), COMPLETED_S) if when in CONTROL[1:] else 0.0


def _training(world: World, trainer: Service) -> psutil.Process:
    wait_for("a training", lambda: training(trainer.process.pid, world.home), 60.0)
    return training(trainer.process.pid, world.home) or _training(world, trainer)


def _kill_recorder(world: World, trainer: Service) -> None:
    service = trainer.process.pid
    wait_for("a recorder", lambda: recorder(service, world.home), 30.0)
    killed = recorder(service, world.home)
    if killed is None:
        raise Failed("the recorder came and went")
    killed.kill()

    def another() -> bool:
        now = recorder(trainer.process.pid, world.home)
        return now is not None and now.pid != killed.pid

    wait_for("another recorder", another, 30.0)
    if trainer.process.pid != service:
        raise Failed("the service didn't start its recorder again: it was started again itself")


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


# ---- exact places


Place = tuple[int, str]
"""Number of the write, before or after."""

PLACES: list[Place] = [(n, when) for n in range(PREPARE, FIRST_COPY + PARTITIONS) for when in ("before", "after")]


def places(
    folder: Path, seed: int, chosen: Sequence[tuple[Place, bool]], rows: int, command: Path = TOCSIN
) -> dict[str, Any]:
    """Whoever activates dies at exactly these writes, while ticks flow; the engine with it where it says so."""
    with World(folder, command) as world:
        ticks = sim(30, seed)
        _two_bundles(world, ticks)
        engine = world.keep("run", "engine")
        wait_for("the engine", lambda: engine.ready, 120.0)
        world.run("models", "activate", "1")
        world.feed(ticks, DAY, rows)
        completed = 0.0
        for (n, when), with_engine in chosen:
            completed = max(completed, _die(world, engine, n, when, with_engine))
        report = prove(world, [engine], None)
        _unasked(engine)
    return report | {"kills": dict(world.kills), "copied within s": round(completed, 1)}


def _die(world: World, engine: Service, n: int, when: str, with_engine: bool) -> float:
    """One activation whose writer dies; how long it took until the change, if there is one, stood in every partition."""
    before = truth.newest(world)
    version = "2" if before == "1" else "1"
    spy = Spy(world)
    code = subprocess.run(
        [sys.executable, "-m", "tests.chaos.dying", world.url, str(world.home), version, str(n), when], cwd=ROOT, check=False
    ).returncode
    if code != -signal.SIGKILL:
        raise Failed(f"the writer that should die {when} write {n} ended with {code}")
    if with_engine:
        engine.kill()
        world.kills["engine, with the writer"] += 1
    world.kills["writer, exact place"] += 1
    decided = n > ACTIVATE or (n == ACTIVATE and when == "after")
    if truth.newest(world) != (version if decided else before):
        raise Failed(f"dead {when} write {n}: `models` says {truth.newest(world)}")
    if not decided:
        return 0.0
    k = max(k for k, _ in world.log.controls())
    return wait_for(f"copies, dead {when} write {n}", lambda: spy.copied(k), COMPLETED_S)


def _two_bundles(world: World, ticks: TickBatch) -> None:
    """Versions 1 and 2 in the registry."""
    for first in (0, DAY):
        write_ticks(ticks[first:first + DAY], world.folder / "train.parquet")
        world.run("train", "--ticks", str(world.folder / "train.parquet"), "--activate", "manual")


# ---- trimming


def trimming(folder: Path, seed: int, kills: int, command: Path = TOCSIN) -> dict[str, Any]:
    """The engine is killed while it trims. All it ever published, and all that is kept, is what an untrimmed run says."""
    rng = random.Random(seed)
    with World(folder, command, partitions=2, TOCSIN_LOG_KEEP_MB="4") as world:
        ticks = sim(30, seed)
        _two_bundles(world, ticks)
        engine = world.keep("run", "engine")
        wait_for("the engine", lambda: engine.ready, 120.0)
        world.run("models", "activate", "1")
        world.feed(ticks, 0, 256, 2 * RATE)
        heard: dict[int, list[bytes]] = {0: [], 1: []}
        after = dict.fromkeys(heard, NOWHERE)

        def hear(until: float) -> None:
            while time.monotonic() < until:
                for partition, records in world.log.follow(Topic.SIGNALS, after, 5000, 100).items():
                    after[partition] = records[-1][0]
                    heard[partition] += [record for _, record in records]

        def trimmed() -> int:
            extents = [world.log.extent(partition) for partition in heard]
            return min(extent.appended - extent.kept for extent in extents)

        seen = 0
        for _ in range(kills):
            deadline = time.monotonic() + 90
            while trimmed() <= seen:
                hear(time.monotonic() + 0.2)
                if time.monotonic() > deadline:
                    raise Failed(f"nothing more was trimmed within 90 s: {[world.log.extent(p) for p in heard]}")
            hear(time.monotonic() + rng.uniform(0, 1.5))
            engine.kill()
            world.kills["engine, trimming"] += 1
            seen = trimmed()
        sent = world.dry_up()
        write_ticks(ticks[:sent], folder / "sent.parquet")
        lines = world.run("replay", str(folder / "sent.parquet"), "--bundle", "1").splitlines()
        expected: dict[int, list[bytes]] = {0: [], 1: []}
        for line in lines:
            expected[partition_of(signal_decoder.decode(line).symbol, 2)].append(canonical(line))

        def all_heard() -> bool:
            hear(time.monotonic() + 0.2)
            return all(len(heard[p]) >= len(expected[p]) for p in heard)

        wait_for("the last signals", all_heard, PATIENCE_S)
        engine.stop()
        _unasked(engine)
        kept = truth.published(world.log, Topic.SIGNALS)
        for partition, due in expected.items():
            if [canonical(record) for record in heard[partition]] != due:
                raise Failed(f"partition {partition}: {len(heard[partition])} signals heard, {len(due)} due, not equal")
            still = [canonical(record) for record in kept[partition]]
            if not still or still != due[-len(still):]:
                raise Failed(f"partition {partition}: the {len(still)} signals kept aren't the last of the {len(due)} due")
        return {
            "ticks": sent, "signals": len(lines), "signals kept": sum(map(len, kept.values())), "records trimmed": trimmed(),
            "kills": dict(world.kills),
        }


# ---- the proof


def prove(world: World, engines: Sequence[Service], trainer: Service | None) -> dict[str, Any]:
    """Stop everything cleanly, then hold signals, rejects, lake and partitions against the log."""
    sent = world.dry_up()
    if trainer:
        children = family_of(trainer.process.pid)
        trainer.stop()
        wait_for("the end of the service's children", lambda: not any(map(_lives, children)), 1.0)
    alone = wait_for("one bundle in every partition, by the engines alone",
                     lambda: set(truth.ends(world).values()) == {truth.newest(world)}, PATIENCE_S, 0.5)
    recording = world.keep("run", "trainer", TOCSIN_TRAINER_EVERY="")       # records what is left, trains no more
    wait_for("the lake", lambda: recording.ready and truth.recorded(world), PATIENCE_S, 0.2)
    recording.stop()
    _unasked(recording)
    rejects = world.folder / "rejects"
    expected = world.run("replay", world.url, "--canonical", "--rejects", str(rejects))
    wait_for("the last signals", lambda: truth.count(world.log) >= expected.count(b"\n"), PATIENCE_S, 0.5)
    for engine in engines:
        engine.stop()
    report: dict[str, Any] = {"ticks": sent}
    report |= truth.check_signals(expected, world.run("signals", "--canonical"))
    report["rejects"] = truth.check_rejects(world.log, rejects.read_bytes())
    report |= truth.check_lake(world)
    report["ends on"] = truth.check_ends(world)
    report["engines alone s"] = round(alone, 1)
    if report["bundles"] < 2:
        raise Failed("no bundle was swapped: this run proves nothing")
    return report


def _unasked(service: Service) -> None:
    """Nothing ended by itself, nothing said what should never be said."""
    if service.unasked:
        raise Failed(f"{service.said.stem} ended by itself: {service.unasked}")
    for word in ("Traceback", "should not have happened"):
        if word in service.words():
            raise Failed(f"{service.said}: {word}")


# ---- plans


def plan(seed: int) -> list[Kill]:
    """Every kind of kill, in an order that the seed gives: what runs at any moment, and at two of the control records."""
    rng = random.Random(seed)
    kills = [
        *[("engine", ANY)] * 3, *[("recorder", ANY)] * 2, ("training", ANY), ("trainer", ANY),
        *[("training", when) for when in rng.sample(CONTROL, 2)],
        *[("engine", when) for when in rng.sample(CONTROL, 2)],
        ("trainer", rng.choice(CONTROL)),
    ]
    rng.shuffle(kills)
    return kills


__all__ = ["ANY", "CONTROL", "PLACES", "Failed", "Kill", "Place", "places", "plan", "prove", "swaps", "trimming"]
