"""The commands as a user drives them: answers on stdout, words on stderr, exit codes, nothing half done."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from engine.cli import VERBS
from engine.files import write_ticks
from engine.transports import open_log
from engine.transports.base import Topic
from engine.types import NOWHERE
from engine.wire.records import schemas
from tests.acceptance.conftest import ROOT, Tocsin, left_behind
from tests.made import made_ticks, real_file

URL = "redis+embedded://.tocsin/log"


def test_help_of_every_verb_has_an_example(tocsin: Tocsin) -> None:
    overview = tocsin("--help")
    for verb in VERBS:
        assert f"  {verb} " in overview
        said = tocsin(verb, "--help")
        assert "example:" in said
        assert f"tocsin {verb}" in said


@pytest.mark.parametrize(("argv", "code"), [
    (["nonsense"], 2), (["train"], 2), (["replay", "missing.parquet"], 5), (["models", "show", "9"], 5),
    (["feed", "files"], 2), (["feed", "files", "missing.parquet"], 3), (["signals"], 4), (["run", "engine"], 2),
    (["config", "show", "--config", "missing.toml"], 2), (["signals", "--transport", "nonsense://localhost"], 2),
    (["signals", "--transport", "redis://127.0.0.1:1"], 4), (["train", "--ticks", "missing.parquet"], 3),
    (["train", "--ticks", "x.parquet", "--experts", "nobody"], 2),
    (["train", "--ticks", "x.parquet", "--experts", "lightgbm,lightgbm"], 2), (["demo", "--duration", "0"], 2),
    (["feed", "sim", "--start", "2024-03-08T12:00:00Z"], 2), (["feed", "sim", "--lively", "--days", "0"], 2),
    (["train", "--ticks", "x.parquet", "--labels", "missing.parquet"], 3), (["train", "--ticks", "x", "--moments", "bar:2m"], 2),
])
def test_what_can_not_be_done_says_why_and_what_to_do(tocsin: Tocsin, argv: list[str], code: int) -> None:
    assert tocsin(*argv, code=code) == ""
    assert "→" in tocsin.stderr or "usage:" in tocsin.stderr


def test_the_whole_way_live_and_replayed_for_every_batch(ours: Tocsin) -> None:
    """replay --batch 1, 7, 256, 4096, and Redis with JSON records and with frames: the same canonical bytes."""
    start = (ours.folder / "start").read_text()
    for batch in (1, 7, 256, 4096):
        ours("replay", "both.parquet", "--from", start, "--canonical", "--batch", batch, "--out", f"{batch}.jsonl",
             "--rejects", f"{batch}.rejects")
    expected = (ours.folder / "1.jsonl").read_bytes()
    assert expected.count(b"\n") > 300
    rejects = (ours.folder / "1.rejects").read_bytes()
    assert rejects.count(b"\n") > 100
    for batch in (7, 256, 4096):
        assert (ours.folder / f"{batch}.jsonl").read_bytes() == expected
        assert (ours.folder / f"{batch}.rejects").read_bytes() == rejects
    for rows in (1, 777):
        home = ours.folder / f"live-{rows}"
        shutil.copytree(ours.folder / ".tocsin", home)
        there = ("--home", home)
        engine = ours.start("run", "engine", "--warm", "first.parquet", "--json", *there)
        ours.wait_until_ready(engine)
        ours("models", "activate", "champion", *there)
        ours("feed", "files", "second.parquet", "--speed", "max", "--frame", rows, *there)
        live = wait_for(home, expected.count(b"\n"))
        engine.terminate()
        assert engine.wait(30) == 0
        assert engine.stdout
        summary = json.loads(engine.stdout.read())
        assert sum(summary["signals"].values()) == live
        assert ours("signals", "--canonical", *there).encode() == expected
        schema = jsonschema.Draft202012Validator(schemas()["signal"])
        for line in ours("signals", "--json", *there).splitlines():
            schema.validate(json.loads(line))
    manifest = json.loads((ours.folder / ".tocsin/registry/1/manifest.json").read_bytes())
    jsonschema.validate(manifest, json.loads((ROOT / "docs/schemas/manifest.json").read_bytes()))


def wait_for(home: Path, signals: int) -> int:
    log = open_log(f"redis+embedded://{home / 'log'}")
    try:
        deadline = time.monotonic() + 60
        while True:
            after = dict.fromkeys(range(log.partitions), NOWHERE)
            count = sum(map(len, log.follow(Topic.SIGNALS, after, 10**6).values()))
            if count >= signals or time.monotonic() > deadline:
                return count
            time.sleep(0.1)
    finally:
        log.close()


def test_records_that_are_no_ticks_end_whole_in_rejects(ours: Tocsin) -> None:
    engine = ours.start("run", "engine", "--warm", "first.parquet")
    ours.wait_until_ready(engine)
    ours("models", "activate", "1")
    log = open_log(f"redis+embedded://{ours.folder / '.tocsin/log'}")
    try:
        far = b'{"symbol":"EURUSD","ts":9000000000000000000,"bid":1.1,"ask":1.2}'
        bad = [b"garbage", b"\xff\xfe", far, b'{"symbol":"EURUSD","ts":1,"bid":1.2,"ask":1.1}']
        log.append(2, bad)
        found: list[Any] = []
        deadline = time.monotonic() + 30
        while len(found) < len(bad) and time.monotonic() < deadline:
            found = [json.loads(record) for _, record in log.published(2, Topic.REJECTS, NOWHERE, 100)]
            time.sleep(0.05)
        assert [r["code"] for r in found] == ["malformed", "malformed", "future", "crossed"]
        assert found[0]["payload"] == "garbage"
        assert json.loads(found[2]["payload"]) == json.loads(far)
        for record in found:
            jsonschema.validate(record, schemas()["reject"])
        assert engine.poll() is None
    finally:
        log.close()


def test_an_engine_without_a_bundle_says_so_and_names_the_command(ours: Tocsin) -> None:
    engine = ours.start("run", "engine")
    ours.wait_until_ready(engine)
    said = (ours.folder / "run-0.log").read_text()
    assert "no bundle" in said
    command = next(line for line in said.splitlines() if "models activate" in line).strip()
    ours("feed", "files", "second.parquet", "--speed", "max", "--frame", 1000)
    ours(*command.removeprefix("tocsin ").split())
    ours("feed", "sim", "--days", "0.1", "--speed", "max")
    assert wait_for(ours.folder / ".tocsin", 1) > 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_clean_stops(ours: Tocsin, number: int, code: int) -> None:
    engine = ours.start("run", "engine")
    ours.wait_until_ready(engine)
    engine.send_signal(number)
    assert engine.wait(20) == code
    assert "Traceback" not in (ours.folder / "run-0.log").read_text()


def test_a_bundle_that_was_touched_answers_nothing(ours: Tocsin) -> None:
    registry = ours.folder / ".tocsin/registry"
    for file, code in (("lightgbm.npz", "altered"), ("manifest.json", "signature"), ("manifest.sig", "signature")):
        whole = (registry / "1" / file).read_bytes()
        (registry / "1" / file).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        ours("replay", "second.parquet", code=5)
        assert f"[{code}]" in ours.stderr
        assert ours.json("models", "list")[0]["status"] == code
        (registry / "1" / file).write_bytes(whole)
    (registry / "1" / "manifest.sig").unlink()
    ours("replay", "second.parquet", code=5)
    assert "[unsigned]" in ours.stderr


def test_an_engine_that_counts_prices_otherwise_refuses_the_bundle(ours: Tocsin) -> None:
    (ours.folder / "tocsin.toml").write_text('[instruments]\n"*" = {scale = 6}\n')
    ours("replay", "second.parquet", code=5)
    assert "[instruments_differ]" in ours.stderr


def test_a_failed_training_changes_nothing(ours: Tocsin) -> None:
    write_ticks(made_ticks(3000), ours.folder / "few.parquet")
    before = sorted(p for p in (ours.folder / ".tocsin").rglob("*"))
    ours("train", "--ticks", "few.parquet", code=3)
    assert sorted(p for p in (ours.folder / ".tocsin").rglob("*")) == before


def test_noise_does_not_become_champion(ours: Tocsin) -> None:
    report = ours.json("train", "--ticks", "both.parquet")
    assert not report["activated"]
    listed = ours.json("models", "list")
    assert [m["version"] for m in listed] == ["1", "2"]
    assert listed[0]["aliases"] == ["champion"]
    assert ours.json("models", "verify", "2")


def test_labels_of_ones_own_are_learned(ours: Tocsin) -> None:
    import polars as pl

    both = pl.read_parquet(ours.folder / "both.parquet")[::40].unique(["symbol", "ts"])
    own = both.select("symbol", "ts", end=pl.col("ts") + pl.duration(minutes=3), label=pl.col("bid_size").cast(pl.Int64) % 3 - 1)
    own.write_parquet(ours.folder / "own.parquet")
    report = ours.json("train", "--ticks", "both.parquet", "--labels", "own.parquet", "--moments", "bar:5m")
    assert sum(report["events"].values()) + sum(report["dropped"].values()) <= own.height
    shown = ours.json("models", "show", report["version"])
    assert (shown["training"]["labels"], shown["moments"]["kind"]) == ("own.parquet", "bar:5m")
    jsonschema.validate(
        json.loads((ours.folder / ".tocsin/registry" / report["version"] / "manifest.json").read_bytes()),
        json.loads((ROOT / "docs/schemas/manifest.json").read_bytes()),
    )
    assert "labels" not in ours.json("models", "show", "1")["training"]


def test_features_go_into_a_file(ours: Tocsin) -> None:
    import polars as pl

    said = ours.json("features", "compute", "second.parquet", "--out", "f.parquet")
    names = [column["name"] for column in ours.json("features", "list")["columns"]]
    frame = pl.read_parquet(ours.folder / "f.parquet")
    assert frame.columns == ["symbol", "ts", "row", *names]
    assert said["rows"] == frame.height


def test_tables_for_people(ours: Tocsin) -> None:
    assert "champion" in ours("models", "list")
    assert "redis server" in ours("doctor")
    assert "log.transport" in ours("config", "show")
    assert "ret1_s" in ours("features", "list")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_demo_that_is_stopped_or_killed_leaves_no_process(tocsin: Tocsin, number: int, code: int) -> None:
    demo = tocsin.start("demo", "--source", "sim", "--duration", "60")
    deadline = time.monotonic() + 120
    while b"signals (" not in (tocsin.folder / "demo-0.log").read_bytes():
        assert demo.poll() is None, (tocsin.folder / "demo-0.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(left_behind(tocsin.folder)) > 2
    demo.send_signal(number)
    assert demo.wait(30) == code
    deadline = time.monotonic() + 30
    while left_behind(tocsin.folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left_behind(tocsin.folder)
    assert any((tocsin.folder / ".tocsin/demo").iterdir()) == (number == signal.SIGKILL)
    tocsin("demo", "--source", "missing.parquet", code=3)
    kept = [folder for folder in (tocsin.folder / ".tocsin/demo").iterdir() if str(demo.pid) in folder.name]
    assert not kept, "the next demo removes what a killed one left"


def test_a_feed_that_nobody_listens_to_any_more_still_stops_the_server_it_was_the_last_to_use(ours: Tocsin) -> None:
    feed = ours.start("feed", "files", "second.parquet", "--duration", "60", "--json")
    server = ours.folder / ".tocsin/log/redis.pid"
    deadline = time.monotonic() + 60
    while not server.exists():
        assert feed.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    assert feed.stdout is not None
    feed.stdout.close()
    feed.terminate()
    assert feed.wait(30) == 0
    assert not left_behind(ours.folder)


@pytest.mark.parametrize("source", ["sim", "EURUSD_OANDA-LEAN2014"])
def test_demo(tocsin: Tocsin, source: str) -> None:
    file = source if source == "sim" else str(real_file(source))
    report = tocsin.json("demo", "--source", file, "--duration", "8")
    assert report["lost"] == report["twice"] == report["different"] == 0
    assert all(report["signals"][side] > 0 for side in ("buy", "sell", "neutral"))
    assert report["ticks"] > 100_000
    assert report["latency_us"]["p50"] <= report["latency_us"]["p99"]
    assert not any((tocsin.folder / ".tocsin/demo").iterdir())


def test_a_bundle_of_all_six_answers_where_no_training_library_is(ours: Tocsin) -> None:
    six = {"lightgbm", "xgboost", "xgboost_rf", "xgboost_dart", "catboost", "catboost_alt"}
    report = ours.json("train", "--ticks", "first.parquet", "--experts", "all", "--activate", "always")
    assert not report["failed"]
    shown = ours.json("models", "show", report["version"])
    assert {expert["name"] for expert in shown["experts"]} == six
    assert all(expert["parity"] <= 1e-6 for expert in shown["experts"])
    gone = ours.folder / "gone"
    gone.mkdir()
    for library in ("lightgbm", "xgboost", "catboost"):
        (gone / f"{library}.py").write_text("raise ImportError('uninstalled')\n")
    replayed = ("replay", "second.parquet", "--bundle", report["version"], "--canonical")
    with_libraries = ours(*replayed)
    assert with_libraries.count("\n") > 100
    assert ours(*replayed, environ={"PYTHONPATH": str(gone)}) == with_libraries
    assert "library_missing" in ours("train", "--ticks", "first.parquet", "--experts", "xgboost", code=6,
                                     environ={"PYTHONPATH": str(gone)}) + ours.stderr
