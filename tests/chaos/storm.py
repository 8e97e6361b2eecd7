"""Everything that can be disturbed is, on a Redis server of its own, in an order that a seed gives; then the proof."""

from __future__ import annotations

import random
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from engine.files import write_ticks
from engine.outage import PASSING
from engine.transports.base import Topic
from engine.types import NOWHERE
from engine.wire import journal
from tests.chaos import truth
from tests.chaos.disturbances import KINDS, Disturbances
from tests.chaos.harness import TOCSIN, Failed, Spy, sim, wait_for
from tests.chaos.reader import Reader
from tests.chaos.sabotage import engine_without
from tests.chaos.scenarios import COMPLETED_S, DAY, PATIENCE_S, prove
from tests.chaos.server import RedisWorld
from tests.trace import check_trace

RATE = 2000
"""Ticks per second."""
PAUSE_S = 0.5, 3.0
"""Between two disturbances."""
COMPILED_S = 300.0
"""Kernels are compiled once per machine, and a busy one takes its time."""
RULES = ("policy.buy=0.03", "policy.sell=-0.03", "policy.cooldown_s=3600")
"""Under which nearly every decision hangs on those before it: 3 s of ticks at this pace."""
MOST_MB = 700
"""No engine and no recorder may ever take more."""

DOCUMENTED = {
    "e": {4: PASSING}, "feeder": {4: PASSING}, "trainer": {4: PASSING, 1: frozenset({"recorder_died"})},
}
"""Ends that docs/failures.md names, by who and exit code: a log that can't be reached at a start is told at once."""


def storm(
    folder: Path, seed: int, disturbances: int, kinds: Sequence[str] = tuple(KINDS), command: Path = TOCSIN,
    engine: Sequence[str] = (), pause_s: tuple[float, float] = PAUSE_S,
) -> dict[str, Any]:
    """So many disturbances, and the proof. Raises Failed; returns what happened, in figures."""
    rng = random.Random(seed)
    seconds = 90 + disturbances * (sum(pause_s) / 2 + 1.0)        # more than it takes: the ticks must not run out
    with RedisWorld(folder, command, engine, TOCSIN_TRAINER_EVERY="5s") as world:
        reader = Reader(world.url)
        world.run("models", "keygen")
        for _ in range(2):
            world.add_engine()
        wait_for("the engines", lambda: all(engine.ready for engine in world.engines.values()), COMPILED_S)
        spy = Spy(world)
        world.feed(sim(2.5 + RATE * seconds / DAY, seed), 2 * DAY, rng.choice((1, 16)), RATE)
        world.trainer = world.start("trainer", str(command), "run", "trainer")
        k = spy.next("activate", 120.0)
        wait_for("the first bundle in every partition", lambda: spy.copied(k), COMPLETED_S)
        world.run("settings", "set", *RULES)
        weather = Disturbances(world, rng, kinds)
        memory: Counter[str] = Counter()
        began = time.monotonic()
        for number in range(disturbances):
            time.sleep(rng.uniform(*pause_s))
            kind = weather.next()
            print(f"  {number:4} {time.monotonic() - began:6.1f} s  {kind}", file=sys.stderr, flush=True)
            weather.nonsense()
            _glance(world, reader, memory)
        weather.over()
        world.reopen()
        wait_for("a bundle beside the first", lambda: len(truth.bundles(world.log)) > 1, PATIENCE_S, 0.5)
        report = prove(world, list(world.engines.values()), world.trainer)
        for service in world.left:
            service.gone()
        reader.close()
        _glance(world, reader, memory)
        report |= _rest(world, reader)
        report |= {
            "tick to signal s": reader.said(), "MB at most": dict(memory),
            "ends by themselves": _ends(world), "disturbances": dict(weather.counts),
        }
    return report


SABOTAGE = {
    "fence": ("engine and heir sleep",),
    "readback": ("kill engine",),
    "cut": ("kill engine",),
    "tail": ("replicas flicker",),
}
"""A protection, and what happens when it is needed."""


def caught(way: str, folder: Path, seed: int) -> str:
    """A storm over engines that lack a protection: what it fails of; empty if it doesn't."""
    try:
        storm(folder, seed, 6, SABOTAGE[way], engine=engine_without(way), pause_s=(4.0, 12.0))
    except Failed as failed:
        return str(failed)
    return ""


def _glance(world: RedisWorld, reader: Reader, memory: Counter[str]) -> None:
    """What can be looked at while all goes on."""
    if reader.wrong:
        raise Failed("; ".join(reader.wrong[:5]))
    _ends(world)
    for service in world.supervisor.services:
        who = "engine" if service.name in world.engines else service.name
        try:
            process = psutil.Process(service.process.pid)
            for each in (process, *process.children()):
                name = who if each is process else f"{who}'s child"
                memory[name] = max(memory[name], each.memory_info().rss // 2**20)
        except psutil.Error:
            continue
    for who in ("engine", "trainer", "feeder"):
        if memory[who] > MOST_MB:
            raise Failed(f"{who} takes {memory[who]} MB")


def _rest(world: RedisWorld, reader: Reader) -> dict[str, Any]:
    """The epoch trace, the journal, what the reader heard."""
    try:
        claims = check_trace(world.log)
    except AssertionError as error:
        raise Failed(f"the epoch trace: {error}") from None
    notes = [
        (p, journal.decoder.decode(record)) for p in range(world.log.partitions)
        for _, record in world.log.published(p, Topic.JOURNAL, NOWHERE, 10**9)
    ]
    if suffered := [note for note in notes if not isinstance(note[1], journal.Runtime)]:
        raise Failed(f"the journal: {suffered}")
    signals = truth.count(world.log)
    if len(reader.heard) != signals:
        raise Failed(f"a reader heard {len(reader.heard)} signals of {signals}")
    return {"claims": claims, "heard again": reader.again}


def _ends(world: RedisWorld) -> dict[str, int]:
    """By who, exit code and word. Raises Failed for any that isn't documented."""
    found: Counter[str] = Counter()
    for service in world.supervisor.services:
        who = "e" if re.fullmatch(r"e\d", service.name) else service.name
        for end in service.unasked:
            code = int(end.split()[1].rstrip(":"))
            words = re.findall(r"\[(\w+)\]", end)
            if not words or words[-1] not in DOCUMENTED.get(who, {}).get(code, frozenset()):
                raise Failed(f"{service.name} ended by itself: {end}")
            found[f"{who}: {code} {words[-1]}"] += 1
        said = service.words()
        for word in ("Traceback", "should not have happened"):
            if word in said:
                raise Failed(f"{service.said}: {word}: {said[said.index(word):][:1500]}")
    return dict(found)


def _all_waits(reader: Reader, weather: Disturbances) -> list[float]:
    """From SIGKILL of an engine to the first new signal of each partition it held, whatever else happened meanwhile."""
    return [
        heard - strike.at for strike in weather.strikes if strike.kind == "kill" for partition in strike.held
        if (heard := reader.first_after(strike.at, partition)) is not None
    ]


def _waits(reader: Reader, weather: Disturbances) -> dict[str, float]:
    waits = _all_waits(reader, weather)
    return {"median": round(statistics.median(waits), 2), "longest": round(max(waits), 2)} if waits else {}


def restarts(folder: Path, seed: int, kills: int = 10, rate: int = 10_000) -> dict[str, Any]:
    """One engine of one name, killed again and again at full pace: how long its partitions are silent."""
    rng = random.Random(seed)
    with RedisWorld(folder, TOCSIN_TRAINER_EVERY="") as world:
        reader = Reader(world.url)
        ticks = sim((DAY + rate * (30 + 6 * kills)) / DAY + 0.5, seed)
        write_ticks(ticks[:DAY], folder / "train.parquet")
        world.run("train", "--ticks", str(folder / "train.parquet"), "--activate", "always", "--transport", world.url)
        world.feed(ticks, DAY, 16, rate)
        world.add_engine()
        weather = Disturbances(world, rng, ())
        for _ in range(kills):
            heard = len(reader.heard)
            wait_for("signals", lambda heard=heard: len(reader.heard) > heard, PATIENCE_S)
            time.sleep(rng.uniform(3.0, 6.0))
            weather.one("kill engine")
        wait_for("the last restart", lambda: len(_all_waits(reader, weather)) >= kills, PATIENCE_S)
        world.feeder.stop()
        reader.close()
        return {"after a kill s": _waits(reader, weather), "kills": kills, "ticks per second": rate}
