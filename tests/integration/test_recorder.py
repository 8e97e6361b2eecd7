"""The recorder: logs that grow, processes that are killed, readers beside it, and what the engine makes of the same log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from engine.config import Config, LogSection
from engine.errors import EXIT_DONE, OwnershipLost, TocsinError, TransportUnreachable
from engine.instruments import Instruments
from engine.partition.checkpoint import FORMAT, CheckpointManifest, Checkpoints
from engine.partition.retention import held as holders
from engine.partition.state import Partition
from engine.registry import signing
from engine.registry.append import change
from engine.registry.follow import Change
from engine.registry.rollout import Settings
from engine.registry.store import Registry
from engine.transports import create_log, open_log
from engine.transports.base import Log
from engine.transports.memory import MemoryLog
from engine.types import NOWHERE, Kind, TickBatch
from engine.wire import frame
from engine.wire.ticks import decode
from tests.lakes import assert_equal, controls_of, days_of_ticks, entries_of, fill, held, record_all, recorder, truth
from tests.made import START, made_ticks
from trainers import lake_writer
from trainers import recorder as recording
from trainers.lake import Lake, read_commit

HASTY = "import trainers.recorder as r, trainers.lake_writer as w; r.EVERY_NS = 20_000_000; r.ROWS = 300; w.FAN = 3"


@pytest.fixture(params=["memory", "redis"])
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    url = f"redis+embedded://{request.getfixturevalue('redis_dir')}" if request.param == "redis" else "memory://recorder"
    log = create_log(url, 2)
    yield log
    log.close()


@pytest.fixture
def redis_log(redis_dir: Path) -> Iterator[Log]:
    log = create_log(f"redis+embedded://{redis_dir}", 2)
    yield log
    log.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "EVERY_NS", 5_000_000)
    monkeypatch.setattr(recording, "BLOCK_MS", 2)
    monkeypatch.setattr(lake_writer, "FAN", 2)


def config_of(log: Log, folder: Path) -> Config:
    """With the keys and the lake that the helpers of tests/lakes.py use."""
    return msgspec.structs.replace(Config(), home=str(folder), log=LogSection(transport=log.url))


def caught_up(log: Log, folder: Path) -> bool:
    commit = read_commit(folder / "lake")
    return commit is not None and all(log.extent(p).last == part.cursor for p, part in enumerate(commit.parts))


# ---- a log that grows


@pytest.mark.usefixtures("hasty")
def test_a_growing_log_is_recorded_row_by_row(log: Log, tmp_path: Path) -> None:
    here = recorder(log, tmp_path)
    feeding = threading.Thread(target=slowly, args=(open_log(log.url), days_of_ticks(2000), 0.02, threading.Event()))
    feeding.start()
    here.run(lambda: not feeding.is_alive())
    here.run(lambda: caught_up(log, tmp_path))
    feeding.join()
    here.close()
    assert caught_up(log, tmp_path)
    assert Lake(tmp_path / "lake").commit().number > 2
    assert_equal(log, tmp_path)
    status = json.loads((tmp_path / "lake/status").read_text())
    rows = truth(log, controls_of(log, tmp_path / "keys"))
    assert status["pid"] == os.getpid()
    assert status["rows"] == len(rows["ticks"])
    assert sum(status["verdicts"].values()) == len(rows["ticks"]) + len(rows["refused"])
    assert (status["behind"], status["lag_s"], status["gaps"]) == (0, 0.0, 0)
    files = [file.stat().st_size for file in (tmp_path / "lake").rglob("*.parquet")]
    assert (status["files"], status["bytes"]) == (len(files), sum(files))


def test_a_tick_stamped_after_the_log_took_it_is_marked(redis_log: Log, tmp_path: Path) -> None:
    for ahead in (0, 60):
        ts = time.time_ns() + ahead * 10**9
        redis_log.append(0, [b'{"symbol":"X","ts":%d,"bid":1.5,"ask":1.6}' % ts])
    record_all(redis_log, tmp_path)
    assert_equal(redis_log, tmp_path)
    assert Lake(tmp_path / "lake").rows("ticks", "X")["verdict"].to_list() == ["ok", "future"]


@pytest.mark.usefixtures("hasty")
def test_verdicts_are_the_engines_own_across_settings(log: Log, tmp_path: Path) -> None:
    """A partition of the engine on the same log refuses what the lake marks, with the same codes, before and after."""
    controls = controls_of(log, tmp_path / "keys")
    registry = Registry(tmp_path / "registry", tmp_path / "keys" / signing.PUBLIC)
    private = signing.load_private(tmp_path / "keys" / signing.PRIVATE)
    ticks = days_of_ticks(1000)
    fill(log, ticks[:500])
    for n, rules in enumerate(({"*": {"scale": 6}}, {"MADE4": {"scale": 5, "crossed": "keep"}})):
        settings = Settings(instruments=Instruments(rules).to_dict())
        change(log, registry, private, lambda seen, settings=settings: settings, "test", "")  # type: ignore[misc]
        fill(log, ticks[100:600] if n else ticks[500:1000], seed=n)     # the last again: late, but for who starts anew
    record_all(log, tmp_path, commits=1)           # one commit holds ticks counted in three ways
    assert_equal(log, tmp_path)
    lake = Lake(tmp_path / "lake")
    assert {row[-2] for row in held(tmp_path)["ticks"]} == {5, 6}
    expected = {}
    for number in range(log.partitions):
        part = Partition(number, 1, Instruments())
        for entry in entries_of(log, number):
            if entry.kind is Kind.CONTROL:
                if not entry.payload.startswith(b"forged") and (control := controls.check(entry, part.followed)):
                    part.follow(Change(control, None))
                continue
            batch, _ = decode([entry], part.symbols)
            _, untimely = part.admit(batch)
            expected |= {(number, item.position): item.code.value for item in untimely}
    found = {
        (row[1], ((row[2], row[3]), row[4])): row[12] for row in held(tmp_path)["ticks"] if row[12] != "ok"
    }
    assert found == expected
    resumed = recorder(log, tmp_path)              # the state it goes on with is the one it had
    fill(log, made_ticks(300, 5, seed=9))
    resumed.take(log.read(resumed.cursors, 10**6))
    resumed.commit()
    resumed.close()
    assert_equal(log, tmp_path)
    assert lake.commit().parts[0].followed == {"settings": 3}


# ---- killed


def child(log: Log, folder: Path) -> subprocess.Popen[bytes]:
    config = msgspec.json.encode(config_of(log, folder)).decode()
    code = (
        f"{HASTY}\nimport sys, msgspec\nfrom engine.config import Config\nfrom engine.stopping import Stop\n"
        f"r.record(msgspec.json.decode(sys.argv[1], type=Config), Stop(), lambda: False)"
    )
    return subprocess.Popen([sys.executable, "-c", code, config])


def test_after_seeded_sigkills_the_lake_equals_the_log(redis_log: Log, tmp_path: Path) -> None:
    rng = np.random.default_rng(int(os.environ.get("TOCSIN_SEED", "3")))
    controls_of(redis_log, tmp_path / "keys")
    ended = threading.Event()
    feeding = threading.Thread(target=slowly, args=(open_log(redis_log.url), days_of_ticks(100_000, days=9), 0.05, ended))
    feeding.start()
    killed_at = []
    try:
        for _ in range(5):
            process = child(redis_log, tmp_path)
            enough = _number(tmp_path) + int(rng.integers(1, 12))      # the first is that of the start
            while _number(tmp_path) < enough:
                assert process.poll() is None
                time.sleep(0.002)
            time.sleep(rng.uniform(0.0, 0.03))
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed_at.append(_number(tmp_path))
    finally:
        ended.set()
        feeding.join()
    last = child(redis_log, tmp_path)
    deadline = time.monotonic() + 60
    while _number(tmp_path) == killed_at[-1] or not caught_up(redis_log, tmp_path):
        assert time.monotonic() < deadline
        assert last.poll() is None
        time.sleep(0.02)
    last.terminate()
    assert last.wait(20) == EXIT_DONE
    assert killed_at[-1] > 2 * len(killed_at)      # they had work to be killed in
    assert_equal(redis_log, tmp_path)


def slowly(log: Log, ticks: TickBatch, pause: float, ended: threading.Event) -> None:
    for at in range(0, len(ticks), 100):
        fill(log, ticks[at:at + 100], seed=at)
        if ended.wait(pause):
            break
    log.close()


def _number(folder: Path) -> int:
    commit = read_commit(folder / "lake")
    return commit.number if commit else 0


def test_a_second_recorder_is_told_who_records(redis_log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lake_writer, "PATIENCE_NS", 10_000_000)
    controls_of(redis_log, tmp_path / "keys")
    process = child(redis_log, tmp_path)
    try:
        while not _number(tmp_path):
            time.sleep(0.01)
        with pytest.raises(OwnershipLost, match=f"process {process.pid} "):
            recording.record(config_of(redis_log, tmp_path), lambda: True, lambda: False)
    finally:
        process.kill()
        process.wait()
    recording.record(config_of(redis_log, tmp_path), lambda: True, lambda: False)


def test_a_successor_waits_for_a_recorder_that_is_just_ending(tmp_path: Path) -> None:
    log = MemoryLog(1)
    first = recorder(log, tmp_path)
    threading.Timer(0.3, first.close).start()
    recorder(log, tmp_path).close()


# ---- readers beside it


@pytest.mark.usefixtures("hasty")
def test_readers_see_whole_commits_while_files_are_put_together(tmp_path: Path) -> None:
    log = MemoryLog(2)
    fill(log, days_of_ticks(1200, days=2))
    rows = [row for row in truth(log, controls_of(log, tmp_path / "keys"))["ticks"] if row[12] == "ok"]
    here = recorder(log, tmp_path)
    done = threading.Event()
    wrong: list[str] = []
    seen: set[int] = set()

    def reading() -> None:
        lake = Lake(tmp_path / "lake")
        while not done.is_set():
            try:
                ticks = lake.read()
            except Exception as error:
                wrong.append(repr(error))
                return
            places = set(zip(ticks.sid.tolist(), ticks.minor.tolist(), ticks.ordinal.tolist(), strict=True))
            if len(places) != len(ticks):
                wrong.append("a row twice")
            for symbol in ticks.symbols:
                own = [row[3:5] for row in rows if row[0] == symbol]
                got = {place[1:] for place in places if place[0] == ticks.symbols.index(symbol)}
                if got != {row for row in own if row[0] <= max((minor for minor, _ in got), default=0)}:
                    wrong.append(f"{symbol}: a hole")
            seen.add(len(ticks))
            time.sleep(0.001)

    readers = [threading.Thread(target=reading) for _ in range(2)]
    for reader in readers:
        reader.start()
    while found := log.read(here.cursors, 8):
        here.take(found)
        here.commit()
    done.set()
    for reader in readers:
        reader.join()
    here.close()
    assert not wrong
    assert len(seen) > 5
    assert len(Lake(tmp_path / "lake").read()) == len(rows)


# ---- what it tells the log, and what the log no longer tells it


def test_nothing_that_isnt_in_files_may_be_trimmed(log: Log, tmp_path: Path) -> None:
    fill(log, days_of_ticks(600, days=1))
    here = recorder(log, tmp_path)

    def posted() -> dict[int, tuple[int, int]]:
        (found,) = [holders(log.posts("hold.recorder."), p) for p in (0,)]
        assert list(found) == [f"hold.recorder.{Lake(tmp_path / 'lake').commit().lake[:12]}"]
        return {p: next(iter(holders(log.posts("hold.recorder."), p).values())) for p in range(log.partitions)}

    assert posted() == {0: (0, 0), 1: (0, 0)}
    here.take(log.read(here.cursors, 20))
    assert posted() == {0: (0, 0), 1: (0, 0)}
    here.commit()
    assert posted() == here.cursors
    assert set(posted().values()) != {(0, 0)}
    for partition, cursor in here.cursors.items():     # an owner trims up to the hold
        epoch = log.claim(partition, "engine", log.ownership(partition))
        assert epoch
        log.trim(partition, epoch, cursor, 10**6)
    while found := log.read(here.cursors, 20):
        here.take(found)
        here.commit()
    here.close()
    assert Lake(tmp_path / "lake").commit().gaps == []


@pytest.mark.parametrize("recorded", [0, 20])
def test_what_the_log_lost_is_a_gap_said_aloud(
    recorded: int, log: Log, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Trimmed in spite of the hold, or before there was one."""
    log.append(1, [frame.pack(made_ticks(10))] * 300)
    here = recorder(log, tmp_path)
    if recorded:
        here.take(log.read(here.cursors, recorded))
        here.commit()
    here.close()
    after = Lake(tmp_path / "lake").commit().parts[1].cursor
    epoch = log.claim(1, "engine", log.ownership(1))
    assert epoch
    log.trim(1, epoch, entries_of(log, 1)[200].cursor, 10**6)
    first = log.extent(1).first
    assert first > after
    record_all(log, tmp_path, commits=3)
    (gap,) = Lake(tmp_path / "lake").commit().gaps
    assert (gap.partition, gap.after, gap.before) == (1, after, first)
    assert "no longer holds" in caplog.text
    assert Lake(tmp_path / "lake").rows("ticks", "MADE0").height == 10 * (recorded + log.extent(1).kept)


@pytest.mark.parametrize("recorded", [False, True])
def test_settings_that_were_trimmed_away_hold_all_the_same(recorded: bool, log: Log, tmp_path: Path) -> None:
    """For a lake that begins behind their copy, and for one that was away while the log forgot it."""
    controls_of(log, tmp_path / "keys")
    registry = Registry(tmp_path / "registry", tmp_path / "keys" / signing.PUBLIC)
    private = signing.load_private(tmp_path / "keys" / signing.PRIVATE)
    fine = b'{"symbol":"MADE0","ts":%d,"bid":1.1234567,"ask":1.2}'
    log.append(1, [b'{"symbol":"MADE0","ts":1,"bid":1.1,"ask":1.2}'] * 200)
    if recorded:
        record_all(log, tmp_path)
    finer = Settings(instruments=Instruments({"*": {"scale": 7}}).to_dict())
    change(log, registry, private, lambda seen: finer, "test", "")
    log.append(1, [fine % ts for ts in range(2, 1000)])
    epoch = log.claim(1, "engine", log.ownership(1))
    assert epoch
    log.trim(1, epoch, entries_of(log, 1)[900].cursor, 10**6)
    assert all(entry.kind is Kind.TICKS for entry in entries_of(log, 1))
    record_all(log, tmp_path, commits=2)
    lake = Lake(tmp_path / "lake")
    assert lake.refused() == {}
    rows = lake.rows("ticks", "MADE0")
    assert rows.filter(rows["scale"] == 7).height == log.extent(1).kept
    assert set(rows["bid"].to_list()) == {11_234_567} | ({110_000} if recorded else set())


def test_a_day_has_a_checkpoint_to_start_from(redis_log: Log, tmp_path: Path) -> None:
    """The newest one that the lake reaches, whole."""
    part = Partition(1, 1, Instruments())
    epoch = redis_log.claim(1, "engine", redis_log.ownership(1))
    assert epoch
    part.epoch = epoch
    checkpoints = Checkpoints(redis_log, time.monotonic_ns)
    ticks = made_ticks(400, 2)
    for at in (0, 200):
        redis_log.append(1, [frame.pack(ticks[at:at + 200])])
        entries = entries_of(redis_log, 1)[-1:]
        taken, _ = part.admit(decode(entries, part.symbols)[0])
        part.add(taken, None, [], entries, (1, 1))
        batch = part.cut(keep=True)
        assert batch
        redis_log.publish(1, epoch, [], checkpoints.stage(part, batch, NOWHERE))
        redis_log.settle()
    here = recorder(redis_log, tmp_path)
    here.take(redis_log.read(here.cursors, 1))     # the lake is at the first one's record
    here.commit()
    redis_log.append(0, [b"{}"])
    while found := redis_log.read(here.cursors, 10):
        here.take(found)
        here.commit()
    here.close()
    rows = Lake(tmp_path / "lake").rows("checkpoints")
    manifest = msgspec.msgpack.decode(rows["payload"][0], type=CheckpointManifest)
    assert rows["name"].to_list() == ["manifest", *(symbol.blob for symbol in manifest.symbols)]
    assert set(rows["deployment"]) == {"main"}
    assert manifest.cursor == (rows["major"][0], rows["minor"][0]) == entries_of(redis_log, 1)[0].cursor
    restored = Partition(1, 2, Instruments())
    for sid, symbol in enumerate(manifest.symbols):
        restored.symbols.restore(symbol.instrument)
        restored.restore(sid, rows["payload"][sid + 1])
    assert restored.snapshot(0)


def test_a_disk_that_refuses_is_a_coded_error(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("not a folder")
    with pytest.raises(TocsinError, match="lake_write"):
        recorder(MemoryLog(1), tmp_path)


# ---- the verb


def lake_list(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "engine.cli", "lake", "list", "--home", str(folder), *flags], capture_output=True, text=True,
        check=False,
    )


def test_lake_list_says_what_there_is(tmp_path: Path) -> None:
    nothing = lake_list(tmp_path)
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "tocsin run trainer" in nothing.stderr
    assert json.loads(lake_list(tmp_path, "--json").stdout) is None
    log = MemoryLog(2)
    fill(log, days_of_ticks(1000))
    record_all(log, tmp_path, commits=3)
    answer = json.loads(lake_list(tmp_path, "--json").stdout)
    rows = held(tmp_path)
    assert answer["rows"] == sum(row[12] == "ok" for row in rows["ticks"])
    assert sum(answer["refused"].values()) == len(rows["refused"])
    assert [symbol["symbol"] for symbol in answer["symbols"]] == ["MADE3", "MADE4", "MADE5"]
    assert answer["partitions"] == [{"partition": p, "cursor": list(log.extent(p).last)} for p in (0, 1)]
    assert (answer["gaps"], answer["removed"], answer["identity"]) == ([], [], log.identity)
    shown = lake_list(tmp_path).stdout
    assert "MADE4" in shown
    assert "2024-05-06T" in shown
    assert str(START)[:4] not in shown.split("MADE3")[0]


def test_a_log_put_in_the_place_of_this_one_stays_out_of_its_lake(redis_log: Any, tmp_path: Path) -> None:
    fill(redis_log, days_of_ticks(500))
    here = recorder(redis_log, tmp_path)
    here.take(redis_log.read(here.cursors, 1000))
    here.commit()
    held = lake_rows(tmp_path)
    redis_log._ask("FLUSHALL")
    other = create_log(redis_log.url, 2)
    fill(other, days_of_ticks(700), rubbish=False)
    here.take(redis_log.read(here.cursors, 1000))
    with pytest.raises(TransportUnreachable, match="another log"):
        here.commit()
    here.close()
    other.close()
    assert lake_rows(tmp_path) == held


def lake_rows(folder: Path) -> int:
    return sum(found["rows"] for found in Lake(folder / "lake").summary())


def test_ticks_before_the_settings_copy_are_counted_as_the_engine_did(log: Log, tmp_path: Path) -> None:
    """A lake that begins on a trimmed log: the oldest checkpoint knows what held where the log begins."""
    controls_of(log, tmp_path / "keys")
    registry = Registry(tmp_path / "registry", tmp_path / "keys" / signing.PUBLIC)
    private = signing.load_private(tmp_path / "keys" / signing.PRIVATE)
    fine = b'{"symbol":"MADE0","ts":%d,"bid":1.1234567,"ask":1.2345678}'        # too fine for the log's own rules
    cursors = log.append(1, [fine % ts for ts in range(1, 1000)])
    settings = Settings(instruments=Instruments({"*": {"scale": 7}}).to_dict())
    copied = change(log, registry, private, lambda seen: settings, "test", "")[1][1]
    log.append(1, [fine % ts for ts in range(1000, 1100)])
    epoch = log.claim(1, "engine", log.ownership(1))
    assert epoch
    kept = CheckpointManifest(
        FORMAT, log.identity, "", epoch, cursors[500], "", NOWHERE, 501, {}, ("", ""), ("", ""), False, Settings(), []
    )
    log.publish(1, epoch, [], msgspec.msgpack.encode(kept))
    log.settle()
    assert log.trim(1, epoch, cursors[500], 10**6).ticks
    record_all(log, tmp_path)
    lake = Lake(tmp_path / "lake")
    taken = lake.rows("ticks", "MADE0").select("major", "minor").rows()
    assert len(taken) == 100
    assert min(taken) > copied
    assert lake.refused()["scale"] > 400
