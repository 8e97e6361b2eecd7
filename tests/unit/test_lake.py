"""The lake by itself: names, reading while it is written, one commit point, compaction, quota, the one writer."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

import trainers.lake
from engine.errors import InputRefused, OwnershipLost, TransportUnreachable
from engine.features import FeatureSet
from engine.instruments import Instrument
from engine.manifest import Moments
from engine.transports.memory import MemoryLog
from engine.types import COLUMNS, TickBatch
from engine.wire import frame
from tests.lakes import Crash, Steps, assert_equal, controls_of, days_of_ticks, fill, held, record_all, recorder, truth
from tests.made import made_ticks
from trainers import lake_writer
from trainers.dataset import build
from trainers.lake import OUTCOMES, Lake, Segment, counting, day_of, folder_of, read_commit, segments_in
from trainers.lake_writer import Writer

LEFTOVERS = (".*.tmp", "*/.*.tmp", "*/*/.*.tmp", "*/*/*/.*.tmp")


@pytest.fixture
def log() -> MemoryLog:
    log = MemoryLog(2)
    fill(log, days_of_ticks(3000))
    return log


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three neighbours are put together already."""
    monkeypatch.setattr(lake_writer, "FAN", 3)
    monkeypatch.setattr(lake_writer, "PATIENCE_NS", 50_000_000)


def same(a: TickBatch, b: TickBatch) -> bool:
    return a.symbols == b.symbols and all(np.array_equal(getattr(a, name), getattr(b, name)) for name in COLUMNS)


# ---- names


@pytest.mark.parametrize("symbol", ["EURUSD", "BTC/USDT", "..", ".", "a b%2F", "Ⅷ·€", "×" * 64, "a.b.tmp", "\U0001f511" * 64])
def test_any_symbol_is_one_folder_of_its_own(symbol: str, tmp_path: Path) -> None:
    (tmp_path / folder_of(symbol)).mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [folder_of(symbol)]


def test_no_two_symbols_share_a_folder() -> None:
    symbols = ["A/B", "A%2FB", "A", "a", "×" * 64, "×" * 63 + "÷", "..", "%2E%2E"]
    assert len({folder_of(symbol) for symbol in symbols}) == len(symbols)


def test_a_segment_is_what_its_name_says(tmp_path: Path) -> None:
    segment = Segment(tmp_path, 2, 3, (1_714_953_600_000, 4), (1_714_953_600_001, 0))
    segment.path.touch()
    (tmp_path / f".{segment.path.name}.tmp").touch()
    (tmp_path / "notes.txt").touch()
    assert list(segments_in(tmp_path)) == [segment]


def test_what_lies_beyond_the_commit_or_inside_another_does_not_count(log: MemoryLog, tmp_path: Path) -> None:
    record_all(log, tmp_path)
    commit = Lake(tmp_path / "lake").commit()
    end = commit.parts[0].cursor[1]
    whole, inside, next_one, beyond = (
        Segment(tmp_path, level, 0, (0, first), (0, last))
        for level, first, last in ((1, 1, 9), (0, 1, 4), (0, 10, end), (0, 11, end + 1))
    )
    assert counting([next_one, beyond, inside, whole], commit) == [whole, next_one]


# ---- reading


def test_the_lake_holds_what_the_log_held(log: MemoryLog, tmp_path: Path) -> None:
    record_all(log, tmp_path, commits=7)
    assert_equal(log, tmp_path)
    rows = truth(log, controls_of(log, tmp_path / "keys"))
    assert {row[12] for row in rows["ticks"]} == {"ok", "crossed", "late", "duplicate"}
    assert len({row[6] // 86_400_000_000_000 for row in rows["ticks"]}) >= 3
    assert rows["refused"]
    assert rows["controls"]


def test_it_can_be_learned_from_as_the_files_it_came_from(tmp_path: Path) -> None:
    """Ticks to log to lake: the same dataset, whatever the log refused."""
    log, ticks = MemoryLog(3), made_ticks(30_000, 3, rate=1.0)
    fill(log, ticks)
    record_all(log, tmp_path, commits=5)
    found = Lake(tmp_path / "lake").read()
    assert (np.diff(found.ts) >= 0).all()
    theirs, ours = (build(each, Moments(kind="cusum"), FeatureSet.default()) for each in (ticks, found))
    assert ours.refused == {}
    assert ours.ticks == theirs.ticks
    assert np.array_equal(ours.matrix, theirs.matrix, equal_nan=True)
    assert np.array_equal(ours.y, theirs.y)


def test_ticks_of_one_stamp_stand_as_in_the_log(tmp_path: Path) -> None:
    log = MemoryLog(1)
    ticks = days_of_ticks(500, 2)
    ticks.ts[100:200] = ticks.ts[100]
    log.append(0, [frame.pack(ticks[:150]), frame.pack(ticks[150:])])
    record_all(log, tmp_path, commits=2)
    found = Lake(tmp_path / "lake").read(verdicts=OUTCOMES)
    assert len(found) == 500
    places = list(zip(found.ts.tolist(), found.minor.tolist(), found.ordinal.tolist(), strict=True))
    assert places == sorted(places)


def test_a_part_of_it_is_the_same_part_of_the_whole(log: MemoryLog, tmp_path: Path) -> None:
    record_all(log, tmp_path, commits=5)
    lake = Lake(tmp_path / "lake")
    whole = lake.read()
    start, end = np.quantile(whole.ts, [0.2, 0.7]).astype(np.int64).tolist()
    part = lake.read(["MADE4"], start, end)
    wanted = whole[(whole.sid == whole.symbols.index("MADE4")) & (whole.ts >= start) & (whole.ts < end)]
    assert part.symbols == ["MADE4"]
    assert np.array_equal(part.ts, wanted.ts)
    assert np.array_equal(part.minor, wanted.minor)
    assert sum(map(len, lake.batches())) == len(whole)
    assert len(list(lake.batches())) == len({day_of(ts) for ts in whole.ts.tolist()})


def test_columns_are_what_kernels_take(log: MemoryLog, tmp_path: Path) -> None:
    record_all(log, tmp_path)
    ticks = Lake(tmp_path / "lake").read()
    for name in COLUMNS:
        column = getattr(ticks, name)
        assert column.dtype == np.int64
        assert column.flags.c_contiguous
        assert column.flags.writeable


@pytest.mark.usefixtures("few")
def test_up_to_a_cursor_the_lake_never_changes(log: MemoryLog, tmp_path: Path) -> None:
    """Also where compaction has since put the rows before and after it into one file."""
    lake = Lake(tmp_path / "lake")
    here = recorder(log, tmp_path)
    here.take(log.read(here.cursors, 60))
    here.commit()
    cursors = {p: part.cursor for p, part in enumerate(lake.commit().parts)}
    before = lake.read(verdicts=OUTCOMES)
    while found := log.read(here.cursors, 60):
        here.take(found)
        here.commit()
        assert same(lake.read(upto=cursors, verdicts=OUTCOMES), before)
    assert any(s.level > 0 for folder in (tmp_path / "lake/ticks").glob("*/*") for s in segments_in(folder))
    here.close()


def test_an_unknown_symbol_and_no_lake_are_said(log: MemoryLog, tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="no_lake"):
        Lake(tmp_path / "lake").read()
    record_all(log, tmp_path)
    with pytest.raises(InputRefused, match="lake_symbol"):
        Lake(tmp_path / "lake").read(["EURUSD"])


def test_a_lake_of_another_format_is_refused(log: MemoryLog, tmp_path: Path) -> None:
    record_all(log, tmp_path)
    commit = Lake(tmp_path / "lake").commit()
    (tmp_path / "lake/commit").write_bytes(msgspec.msgpack.encode(msgspec.structs.replace(commit, format=99)))
    with pytest.raises(InputRefused, match="lake_format"):
        record_all(log, tmp_path)
    (tmp_path / "lake/commit").write_bytes(b"\x00rubbish")
    with pytest.raises(InputRefused, match="lake_format"):
        Lake(tmp_path / "lake").read()


def test_the_summary_counts(log: MemoryLog, tmp_path: Path) -> None:
    record_all(log, tmp_path, commits=4)
    rows = held(tmp_path)["ticks"]
    for summary in Lake(tmp_path / "lake").summary():
        own = [row for row in rows if row[0] == summary["symbol"]]
        taken = [row for row in own if row[12] == "ok"]
        assert summary["rows"] == len(taken)
        assert (summary["from"], summary["to"]) == (min(r[6] for r in taken), max(r[6] for r in taken))
        assert sum(summary["refused"].values()) == len(own) - len(taken)
        assert summary["days"] == len({row[6] // 86_400_000_000_000 for row in own})
    assert len(Lake(tmp_path / "lake").summary()) == 3
    assert sum(Lake(tmp_path / "lake").refused().values()) == len(held(tmp_path)["refused"])


@pytest.mark.usefixtures("few")
def test_a_listing_in_the_midst_of_a_commit_is_thrown_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One folder is listed before, the next after files were put together: half of either would be a hole."""
    log = lake_before_a_merge(tmp_path / "0")
    before, calls = Lake(tmp_path / "0/lake").read(), []

    def listing(folder: Path) -> Iterator[Segment]:
        calls.append(folder)
        if len(calls) == at:
            monkeypatch.setattr(trainers.lake, "segments_in", segments_in)
            third_commit(log, tmp_path / str(at))
        return segments_in(folder)

    for at in range(1, len(before.symbols) + 1):
        shutil.copytree(tmp_path / "0", tmp_path / str(at))
        calls.clear()
        monkeypatch.setattr(trainers.lake, "segments_in", listing)
        assert same(Lake(tmp_path / str(at) / "lake").read(), before)
        assert len(calls) == at
        assert len(Lake(tmp_path / str(at) / "lake").read()) > len(before)


# ---- one commit point


def lake_before_a_merge(folder: Path) -> MemoryLog:
    """Two commits are in; the next one puts files together."""
    log = MemoryLog(2)
    fill(log, days_of_ticks(300, 3, 1))
    here = recorder(log, folder)
    for _ in range(2):
        here.take(log.read(here.cursors, 6))
        here.commit()
    here.close()
    return log


def third_commit(log: MemoryLog, folder: Path) -> None:
    here = recorder(log, folder)
    try:
        here.take(log.read(here.cursors, 6))
        here.commit()
    finally:
        here.close()


def test_a_crash_at_any_step_of_a_commit_loses_and_repeats_nothing(
    tmp_path: Path, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = lake_before_a_merge(tmp_path / "0")
    shutil.copytree(tmp_path / "0", tmp_path / "all")
    with monkeypatch.context() as patch:
        steps = Steps(patch, lambda n: "")
        third_commit(log, tmp_path / "all")
    assert steps.count > 20
    before, after = held(tmp_path / "0"), held(tmp_path / "all")
    assert before != after
    outcomes = []
    for step in range(1, steps.count + 1):
        for when in ("before", "after"):
            folder = tmp_path / f"{step}{when}"
            shutil.copytree(tmp_path / "0", folder)
            with monkeypatch.context() as patch:
                Steps(patch, lambda n, step=step, when=when: when if n == step else "")
                with pytest.raises(Crash):
                    third_commit(log, folder)
            outcomes.append(held(folder))          # what a reader sees before anybody has cleaned up
            assert outcomes[-1] in (before, after), (step, when)
            record_all(log, folder, commits=3)
            assert_equal(log, folder)
            assert not [file for pattern in LEFTOVERS for file in (folder / "lake").glob(pattern)]
            shutil.rmtree(folder)
    assert before in outcomes
    assert after in outcomes
    assert outcomes == sorted(outcomes, key=lambda seen: seen == after)


@pytest.mark.parametrize("seed", range(8))
def test_many_crashes_lose_and_repeat_nothing(
    seed: int, tmp_path: Path, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of a start that cleans up after a crash."""
    rng = np.random.default_rng(seed)
    log = MemoryLog(2)
    fill(log, days_of_ticks(1500, 3, 2, seed), seed)
    controls_of(log, tmp_path / "keys")
    crashes = 0
    with monkeypatch.context() as patch:
        Steps(patch, lambda n: rng.choice(["before", "after"]) if rng.random() < 0.02 else "")
        while True:
            try:
                record_all(log, tmp_path, commits=8)
                break
            except Crash:
                crashes += 1
    assert crashes > 2
    assert_equal(log, tmp_path)


def test_a_commit_counts_on_nothing_that_a_power_cut_could_take(
    tmp_path: Path, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content is synced before its name is given, names before the commit that counts on them."""
    log = lake_before_a_merge(tmp_path)
    done: list[tuple[str, str]] = []
    real = {name: getattr(lake_writer.os, name) for name in ("fsync", "mkdir", "replace", "unlink")}

    def watched(name: str, path: Callable[..., str]) -> None:
        def call(*args: object) -> None:
            done.append((name, path(*args)))
            real[name](*args)

        monkeypatch.setattr(lake_writer.os, name, call)

    watched("fsync", lambda handle: str(Path(f"/proc/self/fd/{handle}").readlink()))
    watched("replace", lambda temp, path: str(path))
    watched("mkdir", lambda path, *mode: str(path))
    watched("unlink", lambda path: str(path))
    third_commit(log, tmp_path)
    names = [path for what, path in done if what == "replace"]
    last = max(i for i, (what, path) in enumerate(done) if what == "replace" and path.endswith("/commit"))
    assert sum("/ticks/" in path for path in names) > 4
    for i, (what, path) in enumerate(done):
        if what == "replace" and not path.endswith("/commit"):
            folder, _, name = path.rpartition("/")
            assert ("fsync", f"{folder}/.{name}.tmp") in done[:i]
            assert ("fsync", folder) in done[i:last]
        if what == "mkdir":
            assert ("fsync", str(Path(path).parent)) in done[i:last]
    removed = [i for i, (what, _) in enumerate(done) if what == "unlink"]
    assert removed
    assert min(removed) > last
    assert ("fsync", str(tmp_path / "lake")) in done[last:min(removed)]


def test_a_lost_commit_is_no_reason_to_sweep_the_ticks_away(log: MemoryLog, tmp_path: Path) -> None:
    record_all(log, tmp_path)
    files = sorted((tmp_path / "lake").glob("ticks/*/*/*"))
    (tmp_path / "lake/commit").unlink()
    with pytest.raises(InputRefused, match="lake_damaged"):
        record_all(log, tmp_path)
    assert sorted((tmp_path / "lake").glob("ticks/*/*/*")) == files


# ---- compaction


@pytest.mark.usefixtures("few")
def test_files_are_put_together(log: MemoryLog, tmp_path: Path) -> None:
    record_all(log, tmp_path, commits=60)
    assert_equal(log, tmp_path)
    segments = [s for folder in (tmp_path / "lake/ticks").glob("*/*") for s in segments_in(folder)]
    assert max(segment.level for segment in segments) >= 2
    for folder in (tmp_path / "lake/ticks").glob("*/*"):
        for level in range(4):
            assert sum(s.level == level for s in segments_in(folder)) < 3 * log.partitions


def test_large_files_are_left_alone(log: MemoryLog, tmp_path: Path, few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lake_writer, "FULL", 1)
    record_all(log, tmp_path, commits=12)
    assert {s.level for folder in (tmp_path / "lake/ticks").glob("*/*") for s in segments_in(folder)} == {0}
    assert_equal(log, tmp_path)


# ---- quota


def test_beyond_the_quota_the_oldest_days_go(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = MemoryLog(2)
    fill(log, days_of_ticks(4000, 3, 6), rubbish=False)
    record_all(log, tmp_path / "all", commits=12)
    whole = Lake(tmp_path / "all/lake").read()
    size = sum(file.stat().st_size for file in (tmp_path / "all/lake/ticks").glob("*/*/*"))
    record_all(log, tmp_path, commits=12, quota=size / 2)
    lake = Lake(tmp_path / "lake")
    removed = lake.commit().removed
    kept = lake.read()
    assert removed
    assert "quota_gb" in caplog.text
    assert removed[0] in caplog.text
    days = [day_of(ts) for ts in whole.ts.tolist()]
    assert removed == sorted(set(days))[:len(removed)]
    expected = whole[np.array([day not in removed for day in days])]
    assert np.array_equal(kept.ts, expected.ts)
    assert sum(file.stat().st_size for file in (tmp_path / "lake/ticks").glob("*/*/*")) <= size / 2
    assert all(any(folder.iterdir()) for folder in (tmp_path / "lake").rglob("*/")), "an empty folder was left"
    record_all(log, tmp_path, quota=1.0)                   # nothing to record: nothing is removed without a commit
    assert same(lake.read(), kept)


def test_the_current_day_stays_whatever_it_takes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = MemoryLog(1)
    fill(log, days_of_ticks(1000, 2, 3), rubbish=False)
    record_all(log, tmp_path, quota=1.0)
    left = Lake(tmp_path / "lake").read()
    assert {day_of(ts) for ts in left.ts.tolist()} == {day_of(read_commit(tmp_path / "lake").newest)}
    fill(log, days_of_ticks(1000, 2, 1), rubbish=False)
    assert "removed" in caplog.text


def test_a_removal_that_was_cut_short_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MemoryLog(1)
    fill(log, days_of_ticks(1000, 2, 4), rubbish=False)
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "_remove_days", lambda self, days: (_ for _ in ()).throw(Crash))
        with pytest.raises(Crash):
            record_all(log, tmp_path, quota=1.0)
    seen = Lake(tmp_path / "lake").read()
    assert len({day_of(ts) for ts in seen.ts.tolist()}) == 1
    record_all(log, tmp_path)
    assert len(list((tmp_path / "lake/ticks").glob("*/*/*.parquet"))) == 2
    assert same(Lake(tmp_path / "lake").read(), seen)


def test_a_symbol_without_a_day_left_is_gone_until_it_is_heard_of_again(tmp_path: Path) -> None:
    log = MemoryLog(1)
    tick = b'{"symbol":"%b","ts":%d,"bid":1.5,"ask":1.6}'
    day = 86_400_000_000_000
    here = recorder(log, tmp_path, quota=1.0)

    def record(symbol: bytes, n: int) -> None:
        log.append(0, [tick % (symbol, n * day)])
        here.take(log.read(here.cursors, 10))
        here.commit()

    def folders() -> list[str]:
        return sorted(f"{path.parent.name}/{path.name}" for path in (tmp_path / "lake/ticks").glob("**/*") if path.is_dir())

    record(b"OLD", 1)
    record(b"NEW", 2)
    assert folders() == ["NEW/1970-01-03", "ticks/NEW"]
    assert Lake(tmp_path / "lake").read(["OLD"]).symbols == []
    record(b"OLD", 2)                              # the writer makes again what it removed
    assert len(Lake(tmp_path / "lake").read(["OLD"])) == 1
    here.close()


@pytest.mark.parametrize("killed_at", [1, 2, 3])
def test_empty_folders_that_a_killed_writer_left_are_swept(
    killed_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MemoryLog(1)
    for symbol, n in ((b"OLD", 1), (b"NEW", 1), (b"NEW", 2)):
        log.append(0, [b'{"symbol":"%b","ts":%d,"bid":1.5,"ask":1.6}' % (symbol, n * 86_400_000_000_000)])
    rmdir, steps = lake_writer.os.rmdir, []

    def dying(path: Path) -> None:
        steps.append(path.name)
        if len(steps) == killed_at:
            raise Crash
        rmdir(path)

    with monkeypatch.context() as patch:
        patch.setattr(lake_writer.os, "rmdir", dying)
        with pytest.raises(Crash):
            record_all(log, tmp_path, quota=1.0)
    seen = Lake(tmp_path / "lake").read()
    record_all(log, tmp_path)
    assert [path.name for path in (tmp_path / "lake/ticks").rglob("*") if path.is_dir()] == ["NEW", "1970-01-03"]
    assert Lake(tmp_path / "lake").read().ts.tolist() == seen.ts.tolist() == [2 * 86_400_000_000_000]


# ---- one writer, one log


@pytest.mark.usefixtures("few")
def test_there_is_one_recorder_per_lake(log: MemoryLog, tmp_path: Path) -> None:
    first = recorder(log, tmp_path)
    with pytest.raises(OwnershipLost, match=r"process \d+ on .*lake_locked") as refused:
        recorder(log, tmp_path)
    assert "one recorder per lake" in refused.value.hint
    first.close()
    recorder(log, tmp_path).close()


def test_a_lake_belongs_to_one_log(log: MemoryLog, tmp_path: Path) -> None:
    record_all(log, tmp_path)
    with pytest.raises(TransportUnreachable, match="lake_foreign"):
        record_all(MemoryLog(2), tmp_path)
    assert_equal(log, tmp_path)


def test_other_points_are_read_in_todays(tmp_path: Path) -> None:
    """A symbol that settings counted in finer points since: earlier prices are the same prices."""
    log = MemoryLog(1, identity="i" * 32)
    writer = Writer(tmp_path, log, 1e9, print)
    log.append(0, [b'{"symbol":"X","ts":1714953600000000000,"bid":1.5,"ask":1.6,"bid_size":2}'])
    writer.close()
    record_all(log, tmp_path.parent / tmp_path.name / "r")
    folder = tmp_path / "r" / "lake"
    commit = Lake(folder).commit()
    for scale, bid in ((7, 15_000_000), (1, 15)):
        part = msgspec.structs.replace(commit.parts[0], instruments=[Instrument("X", scale=scale)])
        (folder / "commit").write_bytes(msgspec.msgpack.encode(msgspec.structs.replace(commit, parts=[part])))
        ticks = Lake(folder).read()
        assert (ticks.bid[0], ticks.bid_size[0]) == (bid, 2000)
    part = msgspec.structs.replace(commit.parts[0], instruments=[Instrument("X", scale=0)])
    (folder / "commit").write_bytes(msgspec.msgpack.encode(msgspec.structs.replace(commit, parts=[part])))
    with pytest.raises(InputRefused, match="instrument_changed"):
        Lake(folder).read()


def test_a_read_that_cuts_begins_after_the_last_row_that_todays_points_cant_say(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    day = 86_400_000_000_000
    log = MemoryLog(1)
    for symbol, n, bid in (
        ("X", 1, "1.2"), ("X", 2, "1.25"), ("Y", 2, "1.3"), ("X", 3, "1.26"), ("X", 3, "1.3"), ("X", 4, "1.4"), ("Y", 5, "1.5")
    ):
        log.append(0, [b'{"symbol":"%b","ts":%d,"bid":%b,"ask":2}' % (symbol.encode(), n * day, bid.encode())])
    record_all(log, tmp_path)
    commit = Lake(tmp_path / "lake").commit()
    coarse = [Instrument("X", scale=1), Instrument("Y", scale=1)]
    parts = [msgspec.structs.replace(commit.parts[0], instruments=coarse)]
    (tmp_path / "lake/commit").write_bytes(msgspec.msgpack.encode(msgspec.structs.replace(commit, parts=parts)))
    found = Lake(tmp_path / "lake").read(cut=True)
    assert [(found.symbol(row), found.ts[row] // day, found.bid[row]) for row in range(len(found))] == [
        ("Y", 2, 13), ("X", 4, 14), ("Y", 5, 15)
    ], "the tick of the third day that could be said stands beside one that can't"
    assert len(Lake(tmp_path / "lake").read(["X"], cut=True)) == 1
    assert {message.split()[0] for message in caplog.messages if "finer" in message} == {"X"}
    assert "1970-01-04T00:00:00" in caplog.text
    assert len(Lake(tmp_path / "lake").read(["X"], end=day, cut=True)) == 0
