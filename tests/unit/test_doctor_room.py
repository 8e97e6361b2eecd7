"""What doctor says of room: at the pace of what has come lately, and not at all where nothing has."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from engine.commands import doctor
from engine.config import Config, FeedSection, LakeSection, LogSection, load
from engine.feeds.spool import Spool, Spooled
from engine.transports import create_log
from engine.transports.base import Extent
from engine.transports.memory import MemoryLog
from engine.types import Cursor, Entry, Kind

NOW = 1_700_000_000.0


class Stamped(MemoryLog):
    """A log whose cursors are stamps in ms, as a Redis has them: `each` bytes, at these ages in seconds."""

    def __init__(self, ages: list[float], each: int, kept: int | None = None, full: str = "") -> None:
        super().__init__(1)
        stamps = [int((NOW - age) * 1000) for age in sorted(ages, reverse=True)]
        self.entries = [Entry((ms, 0), Kind.TICKS, b"", ms * 1_000_000) for ms in stamps]
        self.each, self.kept, self.why = each, len(ages) if kept is None else kept, full

    def extent(self, partition: int) -> Extent:
        return Extent((1, 0), (2, 0), self.kept, self.kept, self.kept * self.each, full=self.why)

    def read(self, after: dict[int, Cursor], count: int, block_ms: int = 0) -> dict[int, list[Entry]]:  # type: ignore[override]
        found = [entry for entry in self.entries if entry.cursor > after[0]][:count]
        return {0: found} if found else {}


@pytest.fixture(autouse=True)
def fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)


def room(log: MemoryLog, keep_mb: int = 100) -> doctor.Finding:
    return doctor._room(log, Config(log=LogSection(keep_mb=keep_mb)))


def test_old_ticks_say_nothing_of_the_pace() -> None:
    found = room(Stamped([4000 + n for n in range(500)], 1000))
    assert found.state == "ok"
    assert "nothing has come for an hour" in found.found
    assert "full in" not in found.found


@pytest.mark.parametrize(("ages", "kept", "said"), [
    ([n * 3.6 for n in range(1000)], 1000, "1.0 MB an hour, full in 4 days"),             # 1 MB an hour, 1 of 100 MB there
    ([n * 0.001 for n in range(9000)], 52_000, "3,433.2 MB an hour, full in 1 minutes"),  # a burst: a thousand a second
])
def test_full_in_what_the_last_hour_says(ages: list[float], kept: int, said: str) -> None:
    found = room(Stamped(ages, 1000, kept))
    assert said in found.found, found.found


def test_a_log_that_refuses_or_will() -> None:
    assert room(Stamped([1.0], 1000, full="why")).state == "missing"
    assert "partition 0: why" in room(Stamped([1.0], 1000, full="why")).found
    held = room(Stamped([n * 3.6 for n in range(1000)], 1000, 150_000))
    assert (held.state, "full in 2 days" in held.found) == ("missing", True), held


def test_a_spool_that_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(flags={"home": str(tmp_path), "feed.spool_mb": 1})
    assert doctor._spools(config) == []
    monkeypatch.setattr("engine.clock.wall_ns", lambda: int((NOW - 100) * 1e9))
    spool = Spool(config.spool_path / "sim-1", "0" * 32, 2**20)
    spool.add([Spooled(0, 1, b"x" * 1000)] * 500)
    segment = next((config.spool_path / "sim-1").glob("*.spool"))
    os.utime(segment, (NOW - 1, NOW - 1))
    assert "full in 2 minutes" in doctor._spools(config)[0].found
    os.utime(segment, (NOW - 7200, NOW - 7200))
    assert "wait, since 2 hours" in doctor._spools(config)[0].found
    spool.sent(spool.first(2**30))
    assert doctor._spools(config) == []
    spool.close()


def test_a_lake_that_lasts(tmp_path: Path) -> None:
    config = Config(home=str(tmp_path), lake=LakeSection(quota_gb=1.0), feed=FeedSection())
    lake = config.lake_path
    (lake / "ticks").mkdir(parents=True)
    for name, size, age in (("old", 50_000_000, 20 * 86_400), ("a", 6_000_000, 40_000), ("b", 6_000_000, 10)):
        with (lake / "ticks" / f"{name}.parquet").open("wb") as file:
            file.truncate(size)
        os.utime(lake / "ticks" / f"{name}.parquet", (NOW - age, NOW - age))
    (lake / "lock").write_text("")
    (lake / "status").write_text('{"bytes":62000000,"lag_s":3.0}')
    for name in ("lock", "status"):
        os.utime(lake / name, (NOW - 5, NOW - 5))
    assert "room for 78 days" in doctor._lake(config).found            # 12 MB a day, 938 MB left
    os.utime(lake / "status", (NOW - 7200, NOW - 7200))
    assert "not recorded for 2 hours" in doctor._lake(config).found


def test_a_real_log_has_a_pace(redis_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    log = create_log(f"redis+embedded://{redis_dir}", 1)
    assert "nothing has come" in room(log).found
    log.append(0, [b"x" * 500] * 1000)
    assert "full in" in room(log).found
    log.close()
