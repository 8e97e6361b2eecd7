"""What is off in a lake is found and named; ticks of files are taken in whole, beside what was recorded, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from engine.cli import main
from engine.config import load
from engine.errors import InputRefused, OwnershipLost
from engine.files import write_ticks
from engine.instruments import Instruments
from engine.registry import signing
from engine.registry.rollout import Settings
from engine.transports import open_log
from engine.transports.memory import MemoryLog
from engine.types import Kind, TickBatch
from tests.lakes import Crash, Steps, assert_equal, controls_of, days_of_ticks, fill, held, record_all
from tests.made import write as write_control
from trainers import lake_writer
from trainers.lake import DAY_NS, FORMAT, TICKS, Lake, day_of, digest_of, read_commit, segments_in
from trainers.lake_import import Origin, origin, take_in
from trainers.lake_verify import Fault, verify
from trainers.lake_writer import Writer

TOLD: list[str] = []


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of two partitions, three symbols, four days."""
    folder = tmp_path_factory.mktemp("recorded")
    log, ticks = MemoryLog(2), days_of_ticks(3000, days=4)
    ticks.ts = ticks.ts + DAY_NS // 4              # the first day begins in the morning
    fill(log, ticks)
    record_all(log, folder, commits=5)
    return folder


@pytest.fixture
def lake(recorded: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(recorded / "lake", tmp_path / "lake"))


def a_file(lake: Path, table: str = "ticks/*") -> Path:
    return sorted(lake.glob(f"{table}/*/*.parquet"))[0]


def rewritten(file: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> str:
    """As if it had been written so from the start: with the digest of its new bytes. Its name."""
    frame = change(pl.read_parquet(file))
    frame.write_parquet(file)
    head, _, _ = file.stem.rpartition("-")
    new = file.with_name(f"{head}-{digest_of(file.read_bytes())}.parquet")
    file.rename(new)
    return new.name


# ---- verify


def test_a_lake_as_it_was_written_is_whole(lake: Path) -> None:
    found = verify(Lake(lake))
    assert (found.faults, found.undigested) == ([], 0)
    assert found.files == len(list(lake.rglob("*.parquet")))
    counted = read_commit(lake)
    assert counted
    assert counted.rows
    assert found.rows == sum(sum(days.values()) for days in counted.rows.values())


def test_a_bit_that_fell_over_is_found(lake: Path) -> None:
    for table in ("ticks/*", "refused", "controls"):
        copy = Path(shutil.copytree(lake, lake.with_name(f"copy-{table[0]}")))
        file = a_file(copy, table)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        name = str(file.relative_to(copy))
        assert Fault(name, None, "its bytes aren't those that were written") in verify(Lake(copy)).faults


def test_a_file_that_is_gone_or_cut_off_is_missed(lake: Path) -> None:
    file = a_file(lake)
    rows = pl.read_parquet(file).height
    day = file.parent.name
    due = (read_commit(lake).rows or {})[TICKS][day]  # type: ignore[union-attr]
    missing = Fault(f"ticks/*/{day}", None, f"{due:,} rows were committed, {due - rows:,} are there")
    content = file.read_bytes()
    file.write_bytes(content[:-100])
    faults = verify(Lake(lake)).faults
    assert missing in faults
    assert any(fault.what.startswith("it can't be read") for fault in faults)
    file.unlink()
    assert missing in verify(Lake(lake)).faults


def at(row: int, column: str, value: pl.Expr) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Another value in one row."""
    return lambda f: f.with_columns(pl.when(pl.int_range(pl.len()) == row).then(value).otherwise(column).alias(column))


SPOILED: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], int | None, str]] = {
    "order": (lambda f: pl.concat([f[:5], f[6:7], f[5:6], f[7:]]), 6, "stands behind"),
    "twice": (lambda f: pl.concat([f[:6], f[5:]]), 6, "stands behind"),
    "day": (at(5, "ts", pl.col("ts") + DAY_NS), 5, "not of"),
    "end": (lambda f: f[:-1], None, "what its name says"),
    "verdict": (at(5, "verdict", pl.lit("late")), 5, "its verdict is 'late'"),
    "unknown": (at(5, "verdict", pl.lit("odd")), 5, "its verdict is 'odd'"),
    "late": (at(8, "ts", pl.col("ts").min()), 8, "its verdict is 'ok'"),
    "column": (lambda f: f.drop("ordinal"), None, "can't be read"),
}


@pytest.mark.parametrize("how", SPOILED)
def test_rows_that_cannot_be_are_named(lake: Path, how: str) -> None:
    change, row, what = SPOILED[how]
    file = a_file(lake)
    assert pl.read_parquet(file)["verdict"][:9].to_list() == ["ok"] * 9
    name = rewritten(file, change)
    found = [fault for fault in verify(Lake(lake)).faults if fault.file.endswith(name) and what in fault.what]
    assert [fault.row for fault in found] == [row], verify(Lake(lake)).faults


def test_settings_may_begin_event_time_anew(tmp_path: Path) -> None:
    """A symbol that is counted otherwise takes a tick that would be late else; without the copy of the settings it may not."""
    log = MemoryLog(1)
    controls_of(log, tmp_path / "keys")
    log.append(0, [b'{"symbol":"X","ts":%d,"bid":1.5,"ask":1.6}' % (100 + n) for n in range(3)])
    rules = Instruments({"X": {"scale": 6, "crossed": "keep"}})
    private = signing.load_private(tmp_path / "keys/private.pem")
    _, payload = write_control(log, private, Settings(instruments=rules.to_dict()))
    log.append(0, [payload], Kind.CONTROL)
    log.append(0, [b'{"symbol":"X","ts":50,"bid":1.7,"ask":1.6}'])
    record_all(log, tmp_path)
    assert Lake(tmp_path / "lake").rows("ticks", "X")["verdict"].to_list() == ["ok"] * 4
    assert verify(Lake(tmp_path / "lake")).faults == []
    shutil.rmtree(tmp_path / "lake/controls")
    assert "its verdict is 'ok', which event time doesn't say of it" in {f.what for f in verify(Lake(tmp_path / "lake")).faults}


def test_a_lake_of_the_first_format_is_read_counted_and_gone_on_with(lake: Path) -> None:
    before = Lake(lake).read()
    old = msgspec.msgpack.decode((lake / "commit").read_bytes())
    del old["rows"], old["imports"]
    (lake / "commit").write_bytes(msgspec.msgpack.encode({**old, "format": 1}))
    for file in lake.rglob("*.parquet"):
        file.rename(file.with_name(f"{file.stem.rpartition('-')[0]}.parquet"))
    found = verify(Lake(lake))
    assert (found.faults, found.undigested) == ([], found.files)
    assert np.array_equal(Lake(lake).read().ts, before.ts)
    more = days_of_ticks(50, days=1)
    more.ts = more.ts - 30 * DAY_NS
    take_in(lake, origin(Lake(lake).commit()), more, ["more.parquet"], 1e9, TOLD.append)
    now = Lake(lake).commit()
    assert now.format == FORMAT
    assert now.rows
    assert verify(Lake(lake)).faults == []
    next(lake.glob("ticks/*/*/*.parquet")).unlink()
    assert verify(Lake(lake)).faults != []


def test_the_verb_says_it_and_leaves_with_1(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = ["--home", str(lake.parent)]
    assert main(["lake", "verify", "--json", *home]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["ok"], answer["faults"], answer["gaps"]) == (True, [], [])
    file = a_file(lake)
    rewritten(file, SPOILED["verdict"][0])
    assert main(["lake", "verify", *home]) == 1
    said = capsys.readouterr()
    assert f"{file.parent.relative_to(lake)}" in said.out
    assert "row 5: its verdict is 'late'" in said.out
    assert "[lake_off]" in said.err
    assert main(["lake", "verify", "--json", *home]) == 1
    assert json.loads(capsys.readouterr().out)["faults"][0]["row"] == 5


# ---- import


def earlier(n: int = 1500, days: int = 3, seed: int = 3) -> TickBatch:
    """Flawed ticks of the same symbols, of days before the recorded ones."""
    ticks = days_of_ticks(n, days=days, seed=seed)
    ticks.ts = ticks.ts - 10 * DAY_NS
    return ticks


def imported(lake: Path, ticks: TickBatch, quota: float = 1e9) -> Any:
    return take_in(lake, origin(Lake(lake).commit()), ticks, ["some.parquet"], quota, TOLD.append)


def test_what_is_taken_in_is_read_as_the_file_and_leaves_the_rest_as_it_was(lake: Path) -> None:
    before, ticks = Lake(lake).read(), earlier()
    taken = imported(lake, ticks)
    assert taken.rows == len(ticks)
    assert set(taken.refused) == {"late", "duplicate", "crossed"}
    now = Lake(lake).read()
    assert np.array_equal(now.ts[-len(before):], before.ts)
    mine = Lake(lake).read(end=int(before.ts[0]) // DAY_NS * DAY_NS, verdicts=("ok", "late", "duplicate", "crossed"))
    order = np.argsort(ticks.ts, kind="stable")
    assert np.array_equal(mine.ts, ticks.ts[order])
    assert np.array_equal(mine.bid, ticks.bid[order])
    assert len(now) == len(before) + taken.rows - sum(taken.refused.values())
    assert verify(Lake(lake)).faults == []


def test_the_recorder_goes_on_beside_it(tmp_path: Path) -> None:
    """A lake that begins with files, then is recorded, then gets more files: every row once, each where it belongs."""
    log, ticks = MemoryLog(2), days_of_ticks(1200)
    controls_of(log, tmp_path / "keys")
    lake = tmp_path / "lake"
    source = Origin(log.identity, 2, log.rules)
    take_in(lake, source, earlier(), ["first.parquet"], 1e9, TOLD.append)
    fill(log, ticks)
    record_all(log, tmp_path, commits=4)
    older = earlier(seed=9)
    older.ts = older.ts - 20 * DAY_NS
    take_in(lake, source, older, ["second.parquet"], 1e9, TOLD.append)
    log.append(0, [b"more"])
    record_all(log, tmp_path, commits=1)
    commit = Lake(lake).commit()
    assert [taken.files for taken in commit.imports] == [["first.parquet"], ["second.parquet"]]
    assert [taken.rows for taken in commit.imports] == [1500, 1500]
    assert commit.newest == int(Lake(lake).read().ts.max())
    assert verify(Lake(lake)).faults == []
    rows = held(tmp_path)["ticks"]
    assert sum(row[1] == 2 for row in rows) == 3000
    shutil.rmtree(lake)
    record_all(log, tmp_path)
    assert_equal(log, tmp_path)
    assert held(tmp_path)["ticks"] == [row for row in rows if row[1] < 2]


def test_days_that_are_there_are_refused_unless_the_rows_lie_before(lake: Path) -> None:
    whole, files = Lake(lake).read(), sorted(lake.rglob("*.parquet"))
    first = int(whole.ts[0])
    day = first // DAY_NS * DAY_NS
    assert first > day
    ticks = earlier(200, 1)
    ticks.ts = np.sort(np.random.default_rng(1).integers(day, first, len(ticks)))
    over = TickBatch(ticks.instruments, **{**ticks.columns(), "ts": ticks.ts + (first - int(ticks.ts[-1])) + 10**12})
    with pytest.raises(InputRefused, match=f"has MADE[0-9] on {day_of(first)} already") as refused:
        imported(lake, over)
    assert refused.value.code == "lake_day"
    assert sorted(lake.rglob("*.parquet")) == files
    assert imported(lake, ticks).days == 1
    with pytest.raises(InputRefused, match="lake_day"):
        imported(lake, ticks)                  # what was taken in is there, too
    assert verify(Lake(lake)).faults == []


def test_what_does_not_fit_is_not_taken_in(lake: Path) -> None:
    before = {file: file.stat().st_size for file in lake.rglob("*.parquet")}
    with pytest.raises(InputRefused, match="lake_full"):
        imported(lake, earlier(), quota=sum(before.values()) + 1000)
    assert {file: file.stat().st_size for file in lake.rglob("*.parquet")} == before
    assert verify(Lake(lake)).faults == []


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lake_writer, "FAN", 3)
    monkeypatch.setattr(lake_writer, "PATIENCE_NS", 50_000_000)


@pytest.mark.usefixtures("few")
def test_a_crash_at_any_step_takes_in_all_or_nothing(lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks, later = earlier(60, 1), earlier(60, 1)
    imported(lake, ticks)
    later.ts = later.ts - 5 * DAY_NS

    def attempt(folder: Path, crash: Callable[[int], str]) -> Steps:
        with monkeypatch.context() as patch:
            steps = Steps(patch, crash)
            with suppress(Crash):
                imported(folder, later)
            return steps

    before = len(Lake(lake).read())
    shutil.copytree(lake, tmp_path / "all")
    count = attempt(tmp_path / "all", lambda n: "").count
    after = len(Lake(tmp_path / "all").read())
    assert after > before
    outcomes = []
    for step in range(1, count + 1, 2):
        folder = tmp_path / str(step)
        shutil.copytree(lake, folder)
        attempt(folder, lambda n, step=step: "after" if n == step else "")
        outcomes.append(len(Lake(folder).read()))
        assert verify(Lake(folder)).faults == []
        if outcomes[-1] == before:
            imported(folder, later)            # the next one cleans up
        assert len(Lake(folder).read()) == after
        assert not list(folder.rglob(".*.tmp"))
    assert set(outcomes) == {before, after}
    assert outcomes == sorted(outcomes)


@pytest.mark.usefixtures("few")
def test_nobody_takes_in_while_another_writes(lake: Path) -> None:
    writer = Writer(lake, origin(Lake(lake).commit()), 1e9, TOLD.append)
    try:
        with pytest.raises(OwnershipLost, match="lake_locked"):
            imported(lake, earlier())
    finally:
        writer.close()


def test_the_verb_takes_files_in(lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_ticks(earlier(), tmp_path / "first.parquet")
    home = ["--home", str(tmp_path)]
    before = len(Lake(lake).read())
    assert main(["lake", "import", str(tmp_path / "first.parquet"), "--json", *home]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["rows"] == 1500
    assert len(Lake(lake).read()) == before + 1500 - sum(answer["refused"].values())
    assert main(["lake", "list", "--json", *home]) == 0
    assert [(i["files"], i["rows"]) for i in json.loads(capsys.readouterr().out)["imports"]] == [(["first.parquet"], 1500)]
    assert main(["lake", "list", *home]) == 0
    assert "1,500 rows of first.parquet" in capsys.readouterr().out
    assert main(["lake", "import", str(tmp_path / "first.parquet"), *home]) == 3
    assert "[lake_day]" in capsys.readouterr().err
    for argv in (["lake", "import"], ["lake", "verify", "x"], ["lake", "list", "--map", "bid=b"]):
        assert main([*argv, *home]) == 2


def test_a_lake_is_made_of_the_configured_log_where_there_is_none(
    tmp_path: Path, redis_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recorder that comes later finds it to be its own log's."""
    url = f"redis+embedded://{redis_dir}"
    write_ticks(earlier(300, 1), tmp_path / "first.parquet")
    assert main(["lake", "import", str(tmp_path / "first.parquet"), "--home", str(tmp_path), "--transport", url]) == 0
    log = open_log(url)
    try:
        assert Lake(tmp_path / "lake").commit().identity == log.identity
        fill(log, days_of_ticks(200))
        record_all(log, tmp_path)
        assert verify(Lake(tmp_path / "lake")).faults == []
    finally:
        log.close()
    (tmp_path / "tocsin.toml").write_text('[instruments."MADE*"]\nscale = 3\n')
    config = str(tmp_path / "tocsin.toml")
    assert load(config, {}).instruments
    assert main(["lake", "import", "x.parquet", "--home", str(tmp_path), "--config", config]) == 2
    assert "settings_differ" in capsys.readouterr().err
    assert [s for f in (tmp_path / "lake/ticks").glob("*/*") for s in segments_in(f) if not s.digest] == []
