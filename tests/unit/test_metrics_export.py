"""What the collectors make of what was counted: parsed back by Prometheus' own parser."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from engine import clock
from engine.errors import InputRefused
from engine.instruments import Instrument, Instruments
from engine.partition.state import Partition
from engine.transports.base import Extent
from engine.transports.memory import MemoryLog
from engine.types import REASONS, SIDES, Code, Entry, Kind, Position, Reason, Refused, TickBatch
from engine.watch import metrics
from engine.watch.observer import BUCKETS_NS, Latency, Observer
from engine.watch.status import Status
from engine.watch.training import TrainerObserver
from tests.made import speaking_bundle

Samples = dict[tuple[str, tuple[str, ...]], float]
"""By name and label values, in the order of the labels' names."""


def scraped(collector: Any) -> Samples:
    registry = CollectorRegistry()
    registry.register(collector)
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode()) for sample in family.samples
    }


class Scene:
    """One engine that owns partitions 1 and 3 of 4, caught in the middle of its work."""

    def __init__(self) -> None:
        self.seen = Observer()
        self.parts = {number: Partition(number, 1, Instruments()) for number in (3, 1)}
        self.inbox: Any = SimpleNamespace(paused={})
        self.keeper: Any = SimpleNamespace(extents={}, over={}, rejects_trimmed=Counter())
        self.loops: list[Any] = []
        self.status = Status("a", MemoryLog(4), self.seen, self.parts, self.inbox, self.keeper, self.loops)
        for number in self.parts:
            self.seen.granted(number, [])

    def scrape(self) -> Samples:
        return scraped(metrics.EngineCollector(self.status))

    def tick(self, number: int, symbols: list[str], status: list[Reason], appended: int = 0, records: int = 1) -> None:
        """One tick of each symbol, taken."""
        sid = np.arange(len(symbols))
        ticks = TickBatch([Instrument(symbol) for symbol in symbols], sid=sid, ts=sid + 1, bid=sid + 1, ask=sid + 2)
        entries = [Entry((0, at), Kind.TICKS, b"", appended) for at in range(records)]
        self.seen.ticks(len(ticks), [], [])
        self.seen.moved(number, entries, ticks, np.array(status, np.int64))


@pytest.fixture
def scene() -> Scene:
    return Scene()


def refused(*codes: Code) -> list[Refused]:
    return [Refused(Position((0, 1), 0), code, b"") for code in codes]


def test_ticks_by_verdict_and_rejects_by_code(scene: Scene) -> None:
    scene.seen.ticks(5, refused(Code.LATE, Code.LATE, Code.MALFORMED), [])
    scene.seen.control_refused(1, InputRefused("control", "unsigned"))
    found = scene.scrape()
    assert {labels[0]: n for (name, labels), n in found.items() if name == "tocsin_ticks_total"} == {
        "taken": 5, "late": 2, "crossed": 0, "future": 0, "duplicate": 0,
    }
    rejects = {labels[0]: n for (name, labels), n in found.items() if name == "tocsin_rejects_total"}
    assert set(rejects) == {code.value for code in Code}
    assert {code for code, n in rejects.items() if n} == {"late", "malformed", "control"}


def test_decisions_by_side_and_reason(scene: Scene) -> None:
    decided: Any = SimpleNamespace(side=np.array([1, 1, 2, 0]), reason=np.array([0, 2, 0, int(Reason.COOLDOWN)]))
    scene.seen.decided(decided)
    scene.seen.decided(decided)
    scene.seen.decided(None)
    found = {labels: n for (name, labels), n in scene.scrape().items() if name == "tocsin_decisions_total"}
    assert len(found) == len(SIDES) * len(REASONS)
    assert {labels: n for labels, n in found.items() if n} == {
        ("decided", "buy"): 2, ("cooldown", "buy"): 2, ("decided", "sell"): 2, ("cooldown", "neutral"): 2,
    }
    assert scene.seen.summary()["signals"] == {"buy": 4, "sell": 2, "neutral": 2}
    assert scene.seen.summary()["reasons"] == {"cooldown": 4, "decided": 4}


def test_the_histogram_has_the_promised_buckets_and_counts_exactly() -> None:
    assert BUCKETS_NS == (
        50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000, 20_000_000, 50_000_000,
        100_000_000, 200_000_000, 500_000_000, 1_000_000_000,
    )
    latency = Latency()
    for ns, times in ((1, 1), (50_000, 2), (50_001, 4), (10**9, 8), (10**9 + 1, 16)):
        latency.add(ns, times)
    assert latency.buckets == [3, 4, *[0] * 11, 8, 16]
    assert latency.total_ns == 1 + 100_000 + 200_004 + 8 * 10**9 + 16 * (10**9 + 1)


def test_tick_to_signal_and_the_queue(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 5_000_000_000
    monkeypatch.setattr(clock, "monotonic_ns", lambda: now)
    acknowledged = scene.seen.publishing(3, now - 70_000)
    scene.seen.publishing(2, now - 70_000)
    found = scene.scrape()
    assert found["tocsin_queue_depth", ("publishing",)] == 5
    assert found["tocsin_queue_depth", ("filling",)] == 0
    assert found["tocsin_tick_to_signal_seconds_count", ()] == 0
    acknowledged()
    found = scene.scrape()
    assert found["tocsin_queue_depth", ("publishing",)] == 2
    assert found["tocsin_tick_to_signal_seconds_count", ()] == 3
    assert found["tocsin_tick_to_signal_seconds_sum", ()] == pytest.approx(210e-6)
    assert found["tocsin_tick_to_signal_seconds_bucket", ("5e-05",)] == 0
    assert found["tocsin_tick_to_signal_seconds_bucket", ("0.0001",)] == 3
    assert found["tocsin_tick_to_signal_seconds_bucket", ("+Inf",)] == 3


def test_what_waits_in_a_batch_is_queued(scene: Scene) -> None:
    for item in refused(Code.LATE, Code.LATE):
        scene.parts[1].refuse(item)
    assert scene.scrape()["tocsin_queue_depth", ("filling",)] == 2


def test_who_owns_what_and_which_bundle_answers(scene: Scene) -> None:
    scene.parts[1].bundle = speaking_bundle("tick", "7")
    scene.parts[1].followed = {"activate": 5, "settings": 9}
    scene.seen.followed(1, (0, 4), 5, "bundle 7 answers", "7")
    scene.seen.followed(1, (0, 5), 9, "other settings", None)
    found = scene.scrape()
    assert [found["tocsin_partition_owned", (str(number),)] for number in range(4)] == [0, 1, 0, 1]
    assert {labels for (name, labels) in found if name == "tocsin_bundle_info"} == {("5", "1", "7")}     # k, partition, version
    assert found["tocsin_swaps_total", ("1",)] == 1
    assert found["tocsin_swaps_total", ("3",)] == 0
    assert scene.seen.summary()["activations"] == [{"bundle": "7", "partition": 1, "cursor": (0, 4), "k": 5}]
    assert next(labels for (name, labels) in found if name == "tocsin_up_info")[:2] == ("main", "a")


def test_lag(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "wall_ns", lambda: 100_000_000_000)
    assert not [name for name, _ in scene.scrape() if name.startswith("tocsin_lag")]         # nobody knows yet
    scene.tick(1, ["A", "B", "C"], [Reason.DECIDED] * 3, appended=60_000_000_000, records=2)  # 1.5 ticks per record
    scene.parts[1].records = 2
    scene.keeper.extents = {1: Extent((0, 1), (0, 9), 12, 4, 1000)}
    found = scene.scrape()
    assert found["tocsin_lag_records", ("1",)] == 10
    assert found["tocsin_lag_ticks", ("1",)] == 15
    assert found["tocsin_lag_seconds", ("1",)] == 40
    assert found["tocsin_log_bytes", ("1",)] == 1000
    assert found["tocsin_log_kept_records", ("1",)] == 4
    assert ("tocsin_lag_records", ("3",)) not in found
    scene.parts[1].records = 12
    assert scene.scrape()["tocsin_lag_records", ("1",)] == 1, "where another deployment has trimmed the count is too low"
    scene.parts[1].records, scene.parts[1].upto = 5, (0, 10)                # more came since the log was last asked
    found = scene.scrape()
    assert found["tocsin_lag_records", ("1",)] == found["tocsin_lag_seconds", ("1",)] == 0


def test_a_paused_partition_lags_by_what_it_waits_in_front_of(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "wall_ns", lambda: 100_000_000_000)
    payload = json.dumps({"k": 3, "verb": "activate", "body": {"version": "8", "manifest": ""}}).encode()
    scene.seen.turned()
    for part in scene.parts.values():
        part.bundle = speaking_bundle("tick", "7")
    assert scene.status.ready().ok
    scene.keeper.extents = {1: Extent((0, 1), (0, 9), 0, 0, 0)}
    scene.inbox.paused[1] = Entry((0, 3), Kind.CONTROL, payload, 93_000_000_000)
    found = scene.scrape()
    assert found["tocsin_paused", ("1",)] == 1
    assert found["tocsin_paused", ("3",)] == 0
    assert found["tocsin_lag_seconds", ("1",)] == 7
    assert scene.status.ready()[:2] == (False, "paused: partition 1 waits for bundle 8")


def test_the_log_over_its_quota(scene: Scene) -> None:
    scene.keeper.over[3] = "hold.recorder.x"
    assert scene.scrape()["tocsin_log_over_quota", ("3",)] == 1
    assert scene.scrape()["tocsin_log_over_quota", ("1",)] == 0


def test_a_full_log(scene: Scene) -> None:
    scene.keeper.extents = {1: Extent((0, 1), (0, 9), 9, 9, 9, full="why"), 3: Extent((0, 1), (0, 9), 9, 9, 9)}
    scene.keeper.rejects_trimmed = Counter({3: 70})
    found = scene.scrape()
    assert [found["tocsin_log_full", (number,)] for number in ("1", "3")] == [1, 0]
    assert [found["tocsin_rejects_trimmed_total", (number,)] for number in ("1", "3")] == [0, 70]


def test_the_age_of_a_symbol_and_of_a_checkpoint(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000_000_000
    monkeypatch.setattr(clock, "wall_ns", lambda: now + 7_000_000_000)
    monkeypatch.setattr(clock, "monotonic_ns", lambda: now)
    scene.seen.granted(1, [Instrument("RESTORED")])
    scene.tick(3, ["A", "B"], [Reason.DECIDED, Reason.WARMUP])
    now += 3_000_000_000
    scene.tick(3, ["A", "B", 'odd"\n\\'], [Reason.DECIDED, Reason.WARMUP, Reason.GAP])
    scene.seen.publishing(0, now, 1)()
    now += 2_000_000_000
    found = scene.scrape()
    ages = {labels[0]: age for (name, labels), age in found.items() if name == "tocsin_last_tick_age_seconds"}
    assert ages == {"RESTORED": 5, "A": 2, "B": 2, 'odd"\n\\': 2}
    assert found["tocsin_last_tick_timestamp_seconds", ()] == 1010
    assert found["tocsin_checkpoint_age_seconds", ("1",)] == 2
    assert found["tocsin_warm_share", ()] == pytest.approx(1 / 3)


def test_the_warm_share_goes_by_the_last_tick_of_each_symbol(scene: Scene) -> None:
    assert scene.seen.warm_share() is None
    scene.seen.granted(1, [Instrument("RESTORED")])
    assert scene.seen.warm_share() is None
    scene.tick(1, ["A", "B"], [Reason.WARMUP, Reason.GAP])
    assert scene.seen.warm_share() == 0.0
    scene.tick(1, ["A", "B"], [Reason.DECIDED, Reason.GAP])
    scene.tick(3, ["C"], [Reason.DECIDED])
    assert scene.seen.warm_share() == pytest.approx(2 / 3)
    again = np.array([0, 0, 0])
    ticks = TickBatch([Instrument("A"), Instrument("B")], sid=again, ts=again, bid=again, ask=again)
    scene.seen.moved(1, [Entry((0, 1), Kind.TICKS, b"")], ticks, np.array([0, 0, int(Reason.GAP)]))
    assert scene.seen.warm_share() == pytest.approx(1 / 3)


# ---- a trainer


def test_a_trainer() -> None:
    seen = TrainerObserver("t", "main")
    found = scraped(metrics.TrainerCollector(seen))
    assert found["tocsin_training_duration_seconds_count", ()] == 0
    assert ("tocsin_training_last_success_timestamp_seconds", ()) not in found
    assert not seen.ready().ok
    seen.turned()
    seen.run_started()
    assert scraped(metrics.TrainerCollector(seen))["tocsin_training_in_progress", ()] == 1
    seen.run_ended("failed", 9000.0, bundle=False)
    assert seen.last_success is None
    seen.run_ended("activated", 8.0, bundle=True)
    seen.bundles, seen.lake_bytes = 4, 10**9
    seen.recorded["taken"] += 100
    seen.recorder_lag_s = 1.5
    found = scraped(metrics.TrainerCollector(seen))
    assert found["tocsin_training_runs_total", ("activated",)] == found["tocsin_training_runs_total", ("failed",)] == 1
    assert found["tocsin_training_in_progress", ()] == 0
    assert found["tocsin_training_duration_seconds_bucket", ("5.0",)] == 0
    assert found["tocsin_training_duration_seconds_bucket", ("10.0",)] == 1
    assert found["tocsin_training_duration_seconds_bucket", ("7200.0",)] == 1
    assert found["tocsin_training_duration_seconds_bucket", ("+Inf",)] == 2
    assert found["tocsin_training_duration_seconds_sum", ()] == 9008
    assert found["tocsin_training_last_success_timestamp_seconds", ()] > 1.7e9
    assert (found["tocsin_bundles", ()], found["tocsin_lake_bytes", ()]) == (4, 1e9)
    assert found["tocsin_recorder_rows_total", ("taken",)] == 100
    assert found["tocsin_recorder_lag_seconds", ()] == 1.5
    assert seen.ready().ok


# ---- names


def families(collector: Any) -> Iterator[Any]:
    registry = CollectorRegistry()
    registry.register(collector)
    yield from registry.collect()


def test_names_units_and_labels_are_as_prometheus_has_them(scene: Scene) -> None:
    scene.tick(1, ["A"], [Reason.DECIDED])
    for collector in (metrics.EngineCollector(scene.status), metrics.TrainerCollector(TrainerObserver())):
        for family in families(collector):
            assert family.name.startswith("tocsin_")
            assert family.documentation.endswith(".")
            assert not family.name.endswith(("_total", "_info", "_ms", "_us", "_ns", "_mb"))
            for sample in family.samples:
                if family.type == "counter":
                    assert sample.name == f"{family.name}_total"
                if family.type in ("counter", "histogram"):
                    assert "symbol" not in sample.labels


# ---- log lines

SPEAK = """
import logging
from engine.watch.logs import configure
configure("engine", {as_json})
log = logging.getLogger("tocsin")
log.info("partition %d: epoch %d", 3, 7)
log.warning("held", extra={{"partition": 3, "cursor": (1, 2)}})
log.debug("never")
logging.getLogger("trainers.fit").info("fitting")
logging.getLogger("elsewhere").info("never")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("broke")
"""


def spoken(as_json: bool) -> str:
    done = subprocess.run([sys.executable, "-c", SPEAK.format(as_json=as_json)], cwd=Path(__file__).parents[2],
                          capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr


def test_log_lines_for_machines() -> None:
    lines = [json.loads(line) for line in spoken(as_json=True).splitlines()]
    assert [list(line)[:5] for line in lines] == [["ts", "level", "service", "logger", "event"]] * 4
    assert [line["event"] for line in lines] == ["partition 3: epoch 7", "held", "fitting", "broke"]
    assert [line["level"] for line in lines] == ["info", "warning", "info", "error"]
    assert (lines[1]["partition"], lines[1]["cursor"]) == (3, [1, 2])
    assert lines[2]["logger"] == "trainers.fit"
    assert {line["service"] for line in lines} == {"engine"}
    assert "ZeroDivisionError" in lines[3]["exception"]
    assert all(line["ts"].endswith("Z") and len(line["ts"]) == 27 for line in lines)


def test_log_lines_for_people() -> None:
    lines = [line.partition(" ")[2] for line in spoken(as_json=False).splitlines()[:4]]
    assert lines == ["INFO partition 3: epoch 7", "WARNING held partition=3 cursor=(1, 2)", "INFO fitting", "ERROR broke"]
