"""The demo: the first half of a source trains a bundle, the second half streams through it, and half way another takes over.

Engine, feeder and trainer are processes of their own, started as a user would start them. The first half goes into the
log before the first bundle is activated: it warms the engine, and the trainer records it. What was published is held
against a replay of the log, swap included. Everything lies in one folder of this run, removed when all went well.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from engine.config import Config
from engine.errors import EXIT_DONE, EXIT_FAILED, TocsinError, UsageError
from engine.features import FeatureSet
from engine.feeds.send import Pace, send
from engine.files import read_ticks, write_ticks
from engine.jit import is_cold
from engine.manifest import Moments
from engine.registry import signing
from engine.registry.activate import activate
from engine.registry.decisions import FAILED, Decision, decision
from engine.registry.store import CHAMPION, Registry
from engine.replay import first_row, replay_log
from engine.stopping import Stop
from engine.terminal import answer_json, note, whoever
from engine.transports import open_log
from engine.transports.base import Log, Topic
from engine.types import NOWHERE, TickBatch
from engine.wire.records import Signal, canonical, signal_decoder

from .demo_screen import Screen
from .pipeline import Trained, train
from .progress import Bars
from .training import start_fits

FEWEST, MOST = 100_000, 600_000
"""Rows of a file the demo picks by itself."""

KEPT = "kept"
"""A file of this name in a run's folder: something was wrong there, and somebody may want to look."""

FRAME = 4096
"""Ticks per record of the first half."""

SETTINGS = {
    "TOCSIN_ENGINE_LISTEN": "", "TOCSIN_TRAINER_LISTEN": "", "TOCSIN_TRAINER_EVERY": "", "TOCSIN_TRAINER_ACTIVATE": "always",
    "TOCSIN_LOG_KEEP_MB": "1000000",
}
"""Of the processes: no ports, one training when asked, and a log that keeps everything until it has been replayed."""

PATIENCE_S = 20.0
"""So long nothing may be published, after the last tick, before signals count as lost."""


def demo(
    source: Sequence[str] | None, duration: float, experts: str, config: Config, as_json: bool, stop: Stop
) -> int:
    """Returns the exit code: 1 if a signal was lost, said twice, or differs from the replay."""
    if duration <= 0:
        raise UsageError("duration", f"--duration {duration}: above 0", hint="leave it out for 30 seconds")
    demos = config.home_path.absolute() / "demo"
    _remove_dead(demos)
    folder = demos / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder.mkdir(parents=True)
    rules = config.rules()
    registry = Registry(folder / "registry", folder / "keys/public.pem")
    url = f"redis+embedded://{folder / 'log'}"
    if is_cold():
        note("the first run compiles kernels for this machine, which takes about half a minute; the next starts at once")
    with ExitStack() as stack:
        fits = stack.enter_context(start_fits(experts, "lean", config))
        name, ticks = _source(source, config)
        middle = first_row(ticks, int(ticks.ts[len(ticks) // 2]))
        first, second = ticks[:middle], ticks[middle:]
        write_ticks(second, folder / "second.parquet")
        note(f"{name}: {len(ticks):,} ticks; the first {len(first):,} train and warm, {len(second):,} stream in {duration:g} s")

        features = FeatureSet.of(config.features)
        signing.generate(folder / "keys")
        private = signing.load_private(folder / "keys/private.pem")
        log = open_log(url, create=config.log.partitions, rules=rules)
        stack.callback(log.close)
        send(log, first, Pace(), FRAME, stop)
        engine = stack.enter_context(_Process(folder, url, "run", "engine", "--json"))
        with Bars() as bars:
            trained = train(first, registry, private, rules, fits, Moments(), bars.show, features)
        registry.set_alias(CHAMPION, trained.version)
        engine.wait_until_ready()
        begun = activate(log, registry, private, trained.version, whoever(), "demo", features=features)
        feeder = stack.enter_context(
            _Process(folder, url, "feed", "files", str(folder / "second.parquet"), "--duration", str(duration), "--json")
        )
        trainer = stack.enter_context(_Process(folder, url, "run", "trainer", experts=experts))
        second_training = _SecondTraining(trainer, registry, time.monotonic() + duration / 2)
        screen = stack.enter_context(Screen(len(second), duration))
        published = _Published(log)

        def meanwhile() -> None:
            engine.check()
            second_training.go_on()
            screen.show(published)

        while (feeder.running or second_training.decision is None) and not stop():
            published.read(200)
            meanwhile()
        if stop():
            stack.close()
            shutil.rmtree(folder)
            return stop.exit
        feeder.finish()
        again = second_training.decision or second_training.missing()

        expected = replay_log(log, registry, features).signals
        published.read_until(len(expected), PATIENCE_S, meanwhile)
        counts = engine.finish()
        screen.close()
        swaps = [
            {"bundle": swap["bundle"], "partition": swap["partition"], "cursor": log.format(tuple(swap["cursor"]))}
            for swap in counts["activations"] if swap["k"] > begun.k
        ]
        report = _report(name, trained, counts, published, expected, swaps, again)
    good = report["lost"] == report["twice"] == report["different"] == 0
    if good:
        shutil.rmtree(folder)
    else:
        (folder / KEPT).touch()
    if as_json:
        answer_json(report)
    else:
        print(in_words(report, trained, None if good else folder))
    return EXIT_DONE if good else EXIT_FAILED


def _remove_dead(demos: Path) -> None:
    """What killed demos left: folders whose process, named last in the folder's name, is gone and that failed nothing."""
    for folder in demos.glob("*-*-*"):
        try:
            os.kill(int(folder.name.rpartition("-")[2]), 0)
        except (ValueError, ProcessLookupError):
            if not (folder / KEPT).exists():
                shutil.rmtree(folder)


# ---- the source


def _source(source: Sequence[str] | None, config: Config) -> tuple[str, TickBatch]:
    if source and list(source) != ["sim"]:
        return ", ".join(Path(file).name for file in source), read_ticks(source, config.rules())
    file = None if source else _from_data(config)
    if file:
        return file.name, read_ticks(file, config.rules())
    from engine.feeds.sim import simulate

    return "simulated ticks (seed 1)", simulate()


def _from_data(config: Config) -> Path | None:
    """The first file by name in $TOCSIN_DATA/ticks of a size that suits a demo."""
    import polars as pl

    if not config.data:
        return None
    for file in sorted(Path(config.data, "ticks").glob("*.parquet")):
        rows = pl.scan_parquet(file).select(pl.len()).collect().item()
        if FEWEST <= rows <= MOST:
            return file
    return None


# ---- processes


class _Process:
    """A tocsin command beside us; ended with us, whatever happens."""

    def __init__(self, folder: Path, url: str, *argv: str, experts: str = "") -> None:
        self._what = " ".join(argv[:2])
        self._log = folder / f"{'-'.join(argv[:2])}.log"
        environ = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")} | SETTINGS
        if experts:
            environ["TOCSIN_TRAINER_EXPERTS"] = experts
        command = [sys.executable, "-P", "-m", "trainers.demo_child", *argv, "--home", str(folder), "--transport", url]
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
                env=environ,
            )

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def ask(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def check(self) -> None:
        """Raises TocsinError with the last words of a process that should be running and isn't."""
        if not self.running:
            self._failed()

    @property
    def is_ready(self) -> bool:
        return b"ready:" in self._log.read_bytes()

    def wait_until_ready(self) -> None:
        while not self.is_ready:
            self.check()
            time.sleep(0.01)

    def finish(self) -> dict[str, Any]:
        """Have it stop (a feeder stops by itself), and what it said on stdout. Raises TocsinError if it failed."""
        if self.running:
            self._process.terminate()
        if self._process.wait(60) != 0 or self._process.stdout is None:
            self._failed()
        return json.loads(self._process.stdout.read())  # type: ignore[no-any-return]

    def _failed(self) -> NoReturn:
        words = self._log.read_text(errors="replace").strip().splitlines()
        raise TocsinError("demo_process", f"`{self._what}` ended with {self._process.returncode}: "
                          f"{' '.join(words[-2:]) or 'it said nothing'}", hint=f"all it said is in {self._log}")


class _SecondTraining:
    """The trainer's one training: asked for half way, looked for afterwards."""

    def __init__(self, trainer: _Process, registry: Registry, at: float) -> None:
        """at: of the monotonic clock, in seconds."""
        self._trainer = trainer
        self._registry = registry
        self._at = at
        self._asked = False
        self.decision: Decision | None = None

    def go_on(self) -> None:
        """Raises TocsinError if the trainer is gone or its training failed."""
        self._trainer.check()
        if not self._asked and time.monotonic() >= self._at and self._trainer.is_ready:
            self._trainer.ask(signal.SIGUSR1)
            self._asked = True
        if self._asked and self.decision is None:
            self.decision = decision(self._registry, "2")
            if self.decision is None and (failed := decision(self._registry, FAILED)):
                raise TocsinError("demo_training", f"the second training failed: {failed.why}",
                                  hint="a source of some days of ticks has events enough for two trainings")

    def missing(self) -> NoReturn:
        raise TocsinError("demo_training", "nothing was decided about the second training", hint="this should not have happened")


# ---- what was published


class _Published:
    """Signals as they come."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._after = dict.fromkeys(range(log.partitions), NOWHERE)
        self.records: list[bytes] = []
        self.sides: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.last: list[Signal] = []

    def read(self, wait_ms: int) -> int:
        before = len(self.records)
        for partition, found in self._log.follow(Topic.SIGNALS, self._after, 2000, wait_ms).items():
            self._after[partition] = found[-1][0]
            for _, record in found:
                signal = signal_decoder.decode(record)
                self.records.append(record)
                self.sides[signal.side] += 1
                self.reasons[signal.reason] += 1
                if signal.side != "neutral":
                    self.last = [*self.last[-7:], signal]
        return len(self.records) - before

    def read_until(self, count: int, patience_s: float, meanwhile: Callable[[], object]) -> None:
        """Until so many are there, or nothing has come for so long; then what else is at hand."""
        last = time.monotonic()
        while len(self.records) < count and time.monotonic() - last < patience_s:
            if self.read(100):
                last = time.monotonic()
            meanwhile()
        while self.read(0):
            meanwhile()


# ---- the report


def _report(
    name: str, trained: Trained, counts: dict[str, Any], published: _Published, expected: list[bytes],
    swaps: list[dict[str, Any]], again: Decision,
) -> dict[str, Any]:
    said = Counter(_id(record) for record in published.records)
    due = {_id(record): canonical(record) for record in expected}
    got = {_id(record): canonical(record) for record in published.records}
    return {
        "source": name,
        "ticks": counts["ticks"],
        "signals": counts["signals"],
        "reasons": counts["reasons"],
        "swaps": swaps,
        "latency_us": counts["latency_us"],
        "lost": len(due.keys() - got.keys()),
        "twice": sum(n - 1 for n in said.values()),
        "different": sum(due.get(key) != record for key, record in got.items()),
        "rejected": counts["rejected"],
        "bundle": trained.version,
        "activations": counts["activations"],
        "licence": "shut",
        "training": trained.metrics,
        "second_training": {"bundle": again.about, "if_better": again.better, "why": again.why, "seconds": again.seconds},
    }


def _id(record: bytes) -> str:
    return _named.decode(record).id


class _Named(msgspec.Struct):
    id: str


_named = msgspec.json.Decoder(_Named)


def in_words(report: dict[str, Any], trained: Trained, kept: Path | None) -> str:
    """What happened and why, for a person."""
    sides, latency, against = report["signals"], report["latency_us"], report["training"]["against_prior"]
    lines = [
        "",
        f"{report['ticks']:,} ticks became {sum(sides.values()):,} decisions: "
        f"{sides['buy']:,} buy, {sides['sell']:,} sell, {sides['neutral']:,} neutral.",
        f"Why: {_counts(report['reasons'])}.",
    ]
    if report["rejected"]:
        lines.append(f"Refused: {_counts(report['rejected'])} (kept whole in rejects).")
    if latency["p50"] is not None:
        lines.append(
            f"From a tick read to its signal acknowledged: {latency['p50']:,.0f} µs at the median, "
            f"{latency['p99']:,.0f} µs at the 99th percentile."
        )
    lines += [
        f"Held against a replay of the same ticks: {report['lost']} lost, {report['twice']} said twice, "
        f"{report['different']} different.",
        f"The model, on {against['events']:,} events it had not seen, is {abs(against['mean']):.4f} ± "
        f"{against['standard_error']:.4f} nats {'better' if against['mean'] >= 0 else 'worse'} than always naming the "
        f"average: that {'is more than chance' if trained.better_than_prior else 'may be chance'}.",
        _swapped(report),
        "Its licence is shut: a better forecast is not yet money after the spread, and nothing here has shown that it is.",
        "Every signal says so; whoever risks money should act on open licences only.",
        f"Something went wrong; everything is kept in {kept}" if kept else
        "Next: tocsin train --ticks YOUR.csv --map bid=Bid,ask=Ask,ts=Time:ms · tocsin run engine --help · README.md",
    ]
    return "\n".join(lines)


def _swapped(report: dict[str, Any]) -> str:
    """Where the second bundle took over, and whether it would have, had it been asked to be better."""
    again = report["second_training"]
    places = ", ".join(f"{swap['partition']}: {swap['cursor']}" for swap in report["swaps"]) or "nowhere yet"
    return (
        f"While ticks flowed, bundle {again['bundle']} was trained on what had been recorded and took over in the log at "
        f"(partition: cursor) {places}.\nAsked to be better first, it would {'' if again['if_better'] else 'not '}have: "
        f"{again['why']}."
    )


def _counts(counted: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in sorted(counted.items(), key=lambda item: -item[1]))
