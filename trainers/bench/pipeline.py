"""The whole way of a tick, and the engine's start, measured beside bare Redis and the training libraries.

Engine and feeder are processes of their own, started as a user starts them, over an embedded Redis. Where there are
two cores, the engine (or the bare reader that takes its place) has the last one for itself; Redis, senders and those
who listen share the others. Ours and theirs alternate within a round, every figure is the median over the rounds, and
the counts of each round must agree: ticks sent, taken and refused, decisions the engine says it made and records the
log holds. Where they don't, nothing is reported but that.

Throughput, from XADD: a sender writes pipelined XADDs as fast as they go while the engine, ready since before, or the
bare reader reads. The clock runs from the first XADD until the last record is read, or the last publish acknowledged:
until a reader sees the reject of a last record that is no tick, put at the end of every partition.

Throughput of a full log: it is filled first, with the activations of one deployment per round before the ticks. An
engine of each deployment then drains the very same records. Its clock runs from `ready:`, so that start-up isn't
counted, the bare reader's from its first XREAD. Nothing is harder to stand beside: that reader only parses.

Junk: two full logs of the same single ticks, one with a record between any two that must be refused. Both are drained in
turn as above; what was decided of the good ticks must be the same bytes.

Latency: the sender puts its own clock into each record as the tick's `ts` before it writes XADD. Whoever listens, to
the ticks without an engine or to the signals with one, subtracts `ts` from its own clock when the record has come.
The engine's histogram says how long it took from a tick read from the socket to its publish acknowledged.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np

from engine import clock
from engine.errors import TocsinError
from engine.feeds.send import Pace, send
from engine.inbox import READ, READ_BYTES
from engine.partitioner import partition_of
from engine.transports.base import Log, Topic
from engine.types import I64, NOWHERE, TickBatch
from engine.wire import frame
from engine.wire import ticks as wire
from engine.wire.records import Timing

from ..experts.lightgbm import LightGBMExpert
from . import bare
from .machine import describe, installed, resident_mb
from .processes import Child, tocsin
from .rounds import Tell
from .rows import Row
from .setting import PARTITIONS, Bench, Place, Scale

FULL = Scale(rounds=5, days=3.0, latency_s=4.0, swap_s=5.0)
QUICK = Scale(rounds=2, days=0.25, latency_s=0.5, swap_s=3.0)

PEERS = ("lightgbm", "xgboost", "catboost")
"""Training libraries that could serve what they have fitted."""
LIBRARIES = ("numpy", "numba", "msgspec", "orjson", "redis", "hiredis", *PEERS)
FRAME = 1000
RATE = 1000.0
"""Ticks a second whose latency is measured."""
SWAP_RATE = 20_000.0
AFTER_NS = 100_000_000
"""Of a swap: so long after the first record of the new bundle still counts as around it."""
START_NS = 300_000_000
"""Publishes so soon after the first don't count as usual."""
BARE = "bare Redis"


def measure(scale: Scale, tell: Tell) -> tuple[dict[str, Any], list[Row]]:
    """The machine and the rows. Raises TocsinError (`bench_count`, `bench_process`), DeviceMissing (no Redis, no library)."""
    with ExitStack() as stack:
        bench = Bench(Path(stack.enter_context(TemporaryDirectory(prefix="tocsin-bench-"))), scale, tell, stack)
        with bench.place("machine") as place:
            machine = describe(bench.cores, LIBRARIES, {"redis-server": place.redis.info("server")["redis_version"]})
        rows = [
            *flow(bench), *throughput(bench, 1), *throughput(bench, FRAME), *junk(bench), *latency(bench), *swap(bench),
            *start(bench),
        ]
    return machine, rows


# ---- throughput


def throughput(bench: Bench, rows: int) -> list[Row]:
    """Ticks a second of a log that is drained: bare, asked at moments, asked at every tick."""
    what = "single JSON ticks" if rows == 1 else f"frames of {rows:,} ticks"
    rounds = range(bench.scale.rounds)
    versions = {"moments": bench.bundles.moments, "tick": bench.bundles.tick}
    rates: dict[str, list[float]] = {kind: [] for kind in ("bare", *versions)}
    counts: dict[str, dict[str, int]] = {}
    with bench.place(f"drain-{rows}") as place:
        for kind, version in versions.items():
            for k in rounds:
                bench.activate(place, f"{kind}-{k}", version)
        sent = send(place.log, bench.ticks, Pace(), rows, lambda: False)
        ends = place.end()
        records = place.length(place.ticks)
        at_once = max(1, min(READ, READ_BYTES // len(frame.pack(bench.ticks[:rows]))))         # as the engine reads
        for k in rounds:
            bench.round(what, k)
            began, ended = _all_read(bench.instead.submit(bare.receive, place.socket, place.ticks, records, at_once))
            rates["bare"].append(sent / (ended - began))
            for kind in versions:
                deployment = f"{kind}-{k}"
                with bench.engine(place, deployment) as engine:
                    began = engine.ready()
                    rates[kind].append(sent / (place.wait_for(ends, deployment, engine) - began))
                    counts[kind] = place.account(engine.stop(), deployment, sent, len(ends))
                place.forget(deployment)
    return _rates(f"{what} of a full log", rates, counts, f"{BARE}: XREAD of the same log", rows == 1)


def flow(bench: Bench) -> list[Row]:
    """Single ticks a second through XADD at full speed and whoever reads at the same time: bare, at moments, every tick."""
    records = [(_stream(bench.ticks, row), wire.encode(bench.ticks, row)) for row in range(len(bench.ticks))]
    versions = {"moments": bench.bundles.moments, "tick": bench.bundles.tick}
    rates: dict[str, list[float]] = {kind: [] for kind in ("bare", *versions)}
    counts: dict[str, dict[str, int]] = {}
    for k in range(bench.scale.rounds):
        bench.round("single JSON ticks, XADD meanwhile", k)
        with bench.place(f"flow-{k}-bare") as place:
            read = bench.instead.submit(bare.receive, place.socket, place.ticks, len(records), READ)
            began = bench.sender.submit(bare.flood, place.socket, records).result()
            rates["bare"].append(len(records) / (_all_read(read)[1] - began))
        for kind, version in versions.items():
            with bench.place(f"flow-{k}-{kind}") as place:
                bench.activate(place, "main", version)
                with bench.engine(place, "main") as engine:
                    engine.ready()
                    began = bench.sender.submit(bare.flood, place.socket, records).result()
                    rates[kind].append(len(records) / (place.wait_for(place.end(), "main", engine) - began))
                    counts[kind] = place.account(engine.stop(), "main", len(records), PARTITIONS)
    return _rates("single JSON ticks, XADD to signal", rates, counts, f"{BARE}: XADD to XREAD", single=True)


def _all_read(read: Future[tuple[float, float]]) -> tuple[float, float]:
    """What bare.receive says. Raises TocsinError where records were missing."""
    began, ended = read.result()
    if not math.isfinite(ended):
        raise TocsinError("bench_count", "bare Redis: not every record was read", hint="please report it")
    return began, ended


def _rates(
    what: str, rates: dict[str, list[float]], counts: dict[str, dict[str, int]], peer: str, single: bool
) -> list[Row]:
    """Asked at moments, asked at every tick. The target of single ticks is a part of the bare rate."""
    theirs = median(rates["bare"])
    share = counts["moments"]["decisions"] / counts["moments"]["ticks"]

    def row(kind: str, asked: str, target: str, least: float) -> Row:
        ours, rounds = median(rates[kind]), len(rates[kind])
        return Row(f"{what}, asked at {asked}", ours, peer, theirs, "ticks/s", rounds, target, ours >= least, counts[kind])

    asked = f"moments ({share:.1%} of ticks)"
    if single:
        return [row("moments", asked, "≥ 25 %", theirs / 4), row("tick", "every tick", "≥ 25 %", theirs / 4)]
    return [
        row("moments", asked, "≥ 1,000,000/s", 1e6),
        row("tick", "every tick", "≥ 25,000/s, stretch 100,000/s", 25_000),
    ]


# ---- a flood of what is refused


_JUNK: tuple[Callable[[bytes], bytes], ...] = (
    lambda tick: tick[:-9], lambda tick: b"no tick", lambda tick: tick.replace(b'"bid":', b'"bid":-'), lambda tick: tick,
)
"""Of a good tick: cut, no JSON, below 0, the same again."""


def junk(bench: Bench) -> list[Row]:
    """µs per good tick of a full log, as many records that are refused between them, and without them."""
    good = [(_stream(bench.ticks, row), wire.encode(bench.ticks, row)) for row in range(len(bench.ticks))]
    logs = {
        "alone": good,
        "flooded": [
            record for k, (stream, tick) in enumerate(good) for record in ((stream, tick), (stream, _JUNK[k % len(_JUNK)](tick)))
        ],
    }
    versions = {"moments": bench.bundles.moments, "tick": bench.bundles.tick}
    took: dict[tuple[str, str], list[float]] = {(name, kind): [] for name in logs for kind in versions}
    counts: dict[tuple[str, str], dict[str, int]] = {}
    decided: dict[tuple[str, str], list[bytes]] = {}
    with ExitStack() as stack:
        places = {name: stack.enter_context(bench.place(f"junk-{name}")) for name in logs}
        ends = {}
        for name, place in places.items():
            for k in range(bench.scale.rounds):
                for kind, version in versions.items():
                    bench.activate(place, f"{kind}-{k}", version)
            bench.sender.submit(bare.flood, place.socket, logs[name]).result()
            ends[name] = place.end()
        for k in range(bench.scale.rounds):
            bench.round("junk", k)
            for kind in versions:
                deployment = f"{kind}-{k}"
                for name, place in places.items():
                    with bench.engine(place, deployment) as engine:
                        began = engine.ready()
                        took[name, kind].append(1e6 * (place.wait_for(ends[name], deployment, engine) - began) / len(good))
                        counts[name, kind] = place.account(engine.stop(), deployment, len(logs[name]), PARTITIONS)
                    decided[name, kind] = place.published(deployment)
                    place.forget(deployment)
                if decided["alone", kind] != decided["flooded", kind]:
                    raise TocsinError("bench_count", "other signals where junk is between the ticks", hint="please report it")
    share = counts["alone", "moments"]["decisions"] / len(good)

    def row(kind: str, asked: str) -> Row:
        ours, theirs = (median(took[name, kind]) for name in ("flooded", "alone"))
        return Row(
            f"a good single JSON tick of a full log with as much junk, asked at {asked}", ours, "the same ticks alone", theirs,
            "µs", bench.scale.rounds, "≤ 2×", ours <= 2.0 * theirs, counts["flooded", kind],
        )

    return [row("moments", f"moments ({share:.1%} of ticks)"), row("tick", "every tick")]


# ---- latency


def latency(bench: Bench) -> list[Row]:
    """From a tick to its signal at RATE, asked at every tick, beside the same records through bare Redis."""
    ticks = bench.ticks[:int(RATE * bench.scale.latency_s)]
    records = [_around_stamp(ticks, row) for row in range(len(ticks))]
    found: dict[str, list[tuple[float, float]]] = {"bare": [], "engine": [], "end to end": []}
    counts: dict[str, int] = {}
    for k in range(bench.scale.rounds):
        bench.round("latency", k)
        with bench.place(f"latency-{k}") as place:
            heard = bench.instead.submit(bare.listen, place.socket, place.ticks, len(ticks))
            bench.sender.submit(bare.send, place.socket, records, RATE).result()
            found["bare"].append(_quantiles(heard.result(), len(ticks)))

            bench.activate(place, "main", bench.bundles.tick)
            with bench.engine(place, "main") as engine:
                engine.ready()
                place.wait_for(place.end(), "main", engine)
                heard = bench.listener.submit(bare.listen, place.socket, place.signals("main"), len(ticks))
                bench.sender.submit(bare.send, place.socket, records, RATE).result()
                found["end to end"].append(_quantiles(heard.result(), len(ticks)))
                summary = engine.stop()
            counts = place.account(summary, "main", 2 * len(ticks), PARTITIONS)
            found["engine"].append((summary["latency_us"]["p50"], summary["latency_us"]["p99"]))

    def row(what: str, q: int, target: str, slack: float) -> Row:
        ours, theirs = (median(pair[q] for pair in found[who]) for who in (what, "bare"))
        name = f"{('p50', 'p99')[q]} at {RATE:,.0f} ticks/s asked at every tick, " + {
            "engine": "tick read → publish acknowledged", "end to end": "sender's XADD → signal read by a follower",
        }[what]
        return Row(name, ours, f"{BARE}: sender's XADD → record read", theirs, "µs", bench.scale.rounds, target,
                   ours <= 2.0 * theirs + slack if target else None, counts)

    return [
        row("engine", 0, "≤ 2×", 0.0), row("engine", 1, "≤ 2× + 500 µs", 500.0),
        row("end to end", 0, "", 0.0), row("end to end", 1, "", 0.0),
    ]


def _around_stamp(ticks: TickBatch, row: int) -> tuple[str, bytes, bytes]:
    """A tick's stream, and its record before and after the stamp."""
    before, _, after = wire.encode(ticks, row).partition(str(int(ticks.ts[row])).encode())
    return _stream(ticks, row), before, after


def _stream(ticks: TickBatch, row: int) -> str:
    return f"ticks.{{{partition_of(ticks.symbol(row), PARTITIONS)}}}"


def _quantiles(ns: list[int], expected: int) -> tuple[float, float]:
    """p50 and p99, µs."""
    if len(ns) != expected:
        raise TocsinError("bench_count", f"{len(ns):,} of {expected:,} records were heard", hint="please report it")
    p50, p99 = np.percentile(ns, (50, 99)) / 1e3
    return float(p50), float(p99)


# ---- a swap under load


class _Said(msgspec.Struct):
    """What is looked at of a signal."""

    bundle: str
    timing: Timing


def swap(bench: Bench) -> list[Row]:
    """The longest silence around a swap at SWAP_RATE, beside what is usual. A publish's time is its own stamp."""
    days = SWAP_RATE * bench.scale.swap_s / (len(bench.ticks) / bench.scale.days)
    silences: list[tuple[float, float, float]] = []
    counts: dict[str, int] = {}
    for k in range(bench.scale.rounds):
        bench.round("swap", k)
        with bench.place(f"swap-{k}") as place:
            bench.activate(place, "main", bench.bundles.tick)
            with bench.engine(place, "main") as engine:
                engine.ready()
                with tocsin(
                    bench.home, bench.cores.others, "feed", "sim", "--days", f"{days:.4f}", "--rate", str(SWAP_RATE),
                    "--transport", place.url,
                ) as feeder:
                    _wait_for_half(place, SWAP_RATE * bench.scale.swap_s, feeder)
                    called = clock.wall_ns()
                    bench.activate(place, "main", bench.bundles.other)
                    sent = feeder.result()["sent"]
                place.wait_for(place.end(), "main", engine)
                counts = place.account(engine.stop(), "main", sent, PARTITIONS)
            published, swapped = _publishes(place.log, bench.bundles.other)
            silences.append(_silences(published, called, swapped))
    around, p99, usual = (median(column) for column in zip(*silences, strict=True))
    what = f"longest gap between publishes around a swap, {SWAP_RATE:,.0f} single ticks/s asked at every tick"
    return [
        Row(what, around, "p99 of all other gaps", p99, "ms", bench.scale.rounds, "≤ 2×", around <= 2.0 * p99, counts),
        Row(what, around, "longest gap in as long a stretch without a swap", usual, "ms", bench.scale.rounds, counts=counts),
    ]


def _wait_for_half(place: Place, ticks: float, feeder: Child) -> None:
    while place.length(place.ticks) < ticks / 2:
        feeder.check()
        time.sleep(0.01)


def _publishes(log: Log, other: str) -> tuple[I64, int]:
    """When something was published, ns rising, and when the other bundle's first signal was. Raises TocsinError."""
    decoder = msgspec.json.Decoder(_Said)
    stamps: set[int] = set()
    swapped = 0
    for records in log.follow(Topic.SIGNALS, dict.fromkeys(range(PARTITIONS), NOWHERE), 10**9).values():
        for _, record in records:
            said = decoder.decode(record)
            stamps.add(said.timing.published)
            if said.bundle == other:
                swapped = min(swapped or said.timing.published, said.timing.published)
    if not swapped:
        raise TocsinError("bench_swap", "the second bundle never answered", hint="please report it")
    return np.array(sorted(stamps), np.int64), swapped


def _silences(published: I64, called: int, swapped: int) -> tuple[float, float, float]:
    """ms: the longest gap that touches the swap, p99 of the others, and the longest others in stretches as long."""
    gaps, begin, end = np.diff(published) / 1e6, published[:-1], published[1:]
    until = swapped + AFTER_NS
    around = (end > called) & (begin < until)
    usual = ~around & (begin > published[0] + START_NS)
    stretch = (begin[usual] - published[0]) // (until - called)
    longest = [float(gaps[usual][stretch == s].max()) for s in np.unique(stretch)]
    return float(gaps[around].max()), float(np.percentile(gaps[usual], 99)), median(longest)


# ---- start and memory


_SERVE = """
import sys, numpy, lightgbm
model = lightgbm.Booster(model_file=sys.argv[1])
model.predict(numpy.zeros((1, model.num_feature())))
print("ready:", file=sys.stderr, flush=True)
sys.stdin.read()
"""


def start(bench: Bench) -> list[Row]:
    """exec → ready of an engine that takes its partitions back, and its memory; kernels are in the cache by now."""
    peers = [name for name in PEERS if installed(name)]
    imports = f"import sys, {', '.join(peers)}; print('ready:', file=sys.stderr, flush=True)"
    model = str(bench.home / "registry" / bench.bundles.moments / LightGBMExpert.library_file)
    ours: list[float] = []
    theirs: list[float] = []
    our_memory: list[float] = []
    their_memory: list[float] = []
    with bench.place("start") as place:
        bench.activate(place, "main", bench.bundles.moments)
        sent = send(place.log, bench.ticks, Pace(), FRAME, lambda: False)
        with bench.engine(place, "main") as engine:
            engine.ready()
            place.wait_for(place.end(), "main", engine)
            counts = place.account(engine.stop(), "main", sent, PARTITIONS)
        for k in range(bench.scale.rounds):
            bench.round("start", k)
            with bench.engine(place, "main") as engine:
                ours.append(engine.ready() - engine.started)
                place.wait_for(place.end(), "main", engine)    # the bundle is loaded, the rest of the log read again
                our_memory.append(resident_mb(engine.process.pid))
                engine.stop()
            with bench.python("imports", imports) as peer:
                theirs.append(peer.ready() - peer.started)
            with bench.python("the library's model", _SERVE, model) as peer:
                peer.ready()
                their_memory.append(resident_mb(peer.process.pid))
    rounds, mine, library = bench.scale.rounds, median(our_memory), median(their_memory)
    return [
        Row("exec → ready, warm kernels, one expert", median(ours), f"importing {', '.join(peers)}", median(theirs),
            "s", rounds, "≤ 0.5 s (with six)", median(ours) <= 0.5, counts),
        Row("resident memory of the ready engine, one expert", mine, f"a process that serves it with {LightGBMExpert.name}",
            library, "MB", rounds, "≤ 50 %", mine <= 0.5 * library, counts),
    ]
