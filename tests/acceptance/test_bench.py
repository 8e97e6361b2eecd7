"""`tocsin bench`: that it runs and that its figures are of what it says it measured. How fast it is, is not asked here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.eventtime import EventTime
from engine.feeds.sim import simulate
from tests.acceptance.conftest import Tocsin, left_behind
from trainers.bench.answerers import OTHERS
from trainers.bench.experts import QUICK as EXPERTS_QUICK
from trainers.bench.experts import SIZES
from trainers.bench.features import QUICK as FEATURES_QUICK
from trainers.bench.peers import PEERS
from trainers.bench.pipeline import QUICK, RATE
from trainers.bench.six import SIX

KEYS = {"what", "ours", "peer", "theirs", "unit", "ratio", "rounds", "target", "met", "counts", "reason"}


def measured(installed: Path, folder: Path, what: str) -> Any:
    """What `tocsin bench WHAT --quick --json` says."""
    temporary = folder / "tmp"
    temporary.mkdir()
    report = Tocsin(installed, folder).json("bench", what, "--quick", environ={"TMPDIR": str(temporary)})
    assert not left_behind(folder), "a process was left behind"
    assert not list(temporary.glob("tocsin-bench-*")), "a folder was left behind"
    return report


@pytest.fixture(scope="module")
def report(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return measured(installed, tmp_path_factory.mktemp("bench"), "pipeline")


@pytest.fixture(scope="module")
def features(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return measured(installed, tmp_path_factory.mktemp("features"), "features")


@pytest.fixture(scope="module")
def experts(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return measured(installed, tmp_path_factory.mktemp("experts"), "experts")


def rows(report: Any, *words: str) -> list[Any]:
    """Those of whose names every word is a part."""
    return [row for row in report["rows"] if all(word in row["what"] for word in words)]


def test_every_row_is_well_formed_and_measured(report: Any) -> None:
    assert {"cpu", "cores", "versions", "date", "pinned"} <= report["machine"].keys()
    assert {"tocsin", "python", "redis-server", "redis", "hiredis", "numba", "lightgbm"} <= report["machine"]["versions"].keys()
    for row in report["rows"]:
        assert row.keys() == KEYS
        assert row["rounds"] == QUICK.rounds
        assert math.isfinite(row["ours"])
        assert row["ours"] > 0
        assert row["theirs"] > 0
        assert row["reason"] == ""
        assert row["ratio"] == pytest.approx(row["ours"] / row["theirs"])
        assert (row["met"] is None) == (row["target"] == "")
        assert all(row[key] for key in ("what", "peer", "unit"))


def test_what_was_drained_is_what_was_simulated(report: Any) -> None:
    ticks = simulate(QUICK.days)
    refused = int(np.count_nonzero(EventTime().admit(ticks)))
    assert refused > 10
    every = [row for row in rows(report, "every tick") if row["unit"] == "ticks/s"]
    assert len(every) == 3
    for row in every:
        assert row["counts"] == {"ticks": len(ticks), "refused": refused, "decisions": len(ticks) - refused}
    moments = [row for row in rows(report, "moments") if row["unit"] == "ticks/s"]
    assert len(moments) == 3
    assert {tuple(row["counts"].items()) for row in moments} == {tuple(moments[0]["counts"].items())}
    assert 0.01 * len(ticks) < moments[0]["counts"]["decisions"] < 0.1 * len(ticks)


def test_a_flood_of_junk_is_refused_whole_and_the_good_ticks_are_decided_about(report: Any) -> None:
    flooded = rows(report, "as much junk")
    assert len(flooded) == 2
    for row in flooded:
        assert 0.4 * row["counts"]["ticks"] < row["counts"]["refused"] < row["counts"]["ticks"]


def test_latency_and_swap_lost_nothing(report: Any) -> None:
    sent = int(RATE * QUICK.latency_s)
    latencies = rows(report, "p50") + rows(report, "p99")
    assert len(latencies) == 4
    for row in latencies:
        assert row["counts"] == {"ticks": 2 * sent, "refused": 0, "decisions": sent}
    for p50, p99 in zip(rows(report, "p50"), rows(report, "p99"), strict=True):
        assert p50["ours"] <= p99["ours"]
        assert p50["theirs"] <= p99["theirs"]
    for row in rows(report, "swap"):
        counts = row["counts"]
        assert counts["decisions"] == counts["ticks"] - counts["refused"] > 0


def test_start_and_memory_stand_beside_the_library(report: Any) -> None:
    (start,) = rows(report, "exec")
    (memory,) = rows(report, "memory")
    assert "lightgbm" in start["peer"]
    assert "lightgbm" in memory["peer"]
    assert 10 < memory["theirs"] < 10_000


# ---- features


def test_every_row_of_features_is_well_formed_and_measured(features: Any) -> None:
    assert {"cpu", "cores", "versions", "date", "pinned"} <= features["machine"].keys()
    assert {"tocsin", "python", "numpy", "numba", "polars"} <= features["machine"]["versions"].keys()
    for row in features["rows"]:
        assert row.keys() == KEYS
        assert row["rounds"] == FEATURES_QUICK.rounds
        assert math.isfinite(row["ours"])
        assert row["ours"] > 0
        assert row["what"]
        assert row["unit"] in ("ns/tick", "µs", "s", "MB")
        assert row["ratio"] == (pytest.approx(row["ours"] / row["theirs"]) if row["theirs"] else None)
    assert len({(row["what"], row["peer"]) for row in features["rows"]}) == len(features["rows"])


def test_a_peer_stands_there_with_its_version_or_with_the_line_that_installs_it(features: Any) -> None:
    for peer in PEERS:
        told = [row for row in features["rows"] if row["peer"] == f"{peer.name} {peer.version}" if peer.version]
        missing = [row for row in features["rows"] if row["peer"] == peer.name]
        assert told or missing
        assert not (told and missing)
        for row in told:
            assert row["theirs"] > 0
            assert row["reason"] == ""
        for row in missing:
            assert row["theirs"] is row["ratio"] is row["met"] is None
            assert row["reason"].endswith(f"pip install {peer.package}")


def test_a_state_takes_the_memory_it_says(features: Any) -> None:
    (memory,) = rows(features, "memory")
    assert memory["theirs"] <= memory["ours"] < memory["theirs"] + 2.0


# ---- experts


def test_every_row_of_experts_is_well_formed_and_measured(experts: Any) -> None:
    versions = experts["machine"]["versions"]
    assert {"tocsin", "python", "numpy", "numba", "lightgbm", "catboost", "forests answered by"} <= versions.keys()
    for row in experts["rows"]:
        assert row.keys() == KEYS
        assert math.isfinite(row["ours"])
        assert row["ours"] >= 0
        assert row["ratio"] == (pytest.approx(row["ours"] / row["theirs"]) if row["theirs"] else None)
        assert (row["met"] is None) == (row["target"] == "")
        assert row["rounds"] in (1, EXPERTS_QUICK.rounds)
    assert len({(row["what"], row["peer"]) for row in experts["rows"]}) == len(experts["rows"])


def test_six_together_and_each_alone_stand_beside_the_libraries(experts: Any) -> None:
    for size in SIZES:
        together = [row for row in experts["rows"] if row["what"] == f"six in one pass, {_so_many(size)}" and row["theirs"]]
        assert len(together) == 3
        assert all(row["counts"].keys() == SIX.keys() for row in together)
    assert together[0]["counts"] == {
        "lightgbm": 150, "xgboost": 150, "xgboost_rf": 60, "xgboost_dart": 150, "catboost": 50, "catboost_alt": 50,
    }
    for name, kind in SIX.items():
        alone = [row for row in rows(experts, f"{name} alone") if row["peer"] == kind.library]
        assert len(alone) == 3
        assert all(row["theirs"] > 0 for row in alone)


def _so_many(size: int) -> str:
    return "one row" if size == 1 else f"{size:,} rows"


def test_what_the_six_answer_is_the_libraries(experts: Any) -> None:
    off = rows(experts, "largest difference")
    assert len(off) == 2 * len(SIX)
    assert all(row["met"] for row in off)
    (bits,) = rows(experts, "whose bits depend")
    assert bits["ours"] == 0
    assert bits["met"]


def test_others_are_part_of_the_mix_or_said_to_be_missing(experts: Any) -> None:
    for other in OTHERS:
        missing = [row for row in experts["rows"] if row["peer"] == other.name]
        assert bool(missing) == (other.version is None)
        assert all(row["theirs"] is None and "pip install" in row["reason"] for row in missing)


def test_processes_that_serve_the_six_were_started(experts: Any) -> None:
    (start,) = rows(experts, "exec")
    assert start["theirs"] > 0.1
    (memory,) = rows(experts, "resident memory")
    (above,) = rows(experts, "the same, above")
    assert 10 < above["ours"] < memory["ours"] < 10_000
    assert 10 < above["theirs"] < memory["theirs"] < 10_000
