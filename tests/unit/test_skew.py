"""Stamps of another clock are told by the hours they are off, and stamps in UTC are never doubted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.cli import main
from engine.files import read_ticks, write_ticks
from engine.instruments import Instrument
from engine.skew import doubts, future_doubt
from engine.types import I64, Code, Entry, Kind, Position, Refused, TickBatch
from engine.watch.observer import LOOKED_AT, Observer
from engine.wire.ticks import encode
from engine.zones import offsets
from tests.made import real_file

SECOND = 10**9
HOUR = 3600 * SECOND
WEEKENDS = (
    "EURUSD_FXCM-LEAN2014", "EURUSD_OANDA-LEAN2014", "XAUUSD_OANDA-LEAN2014", "XAGUSD_DUKASCOPY-FXBT201405",
    "XAGUSD_DUKASCOPY-FXBT201501", "USDSGD_DUKASCOPY-FXBT201405", "USDSGD_DUKASCOPY-FXBT201501", "USDSGD_DUKASCOPY-FXBT201508",
)


def batch(ts: I64, symbol: str = "EURUSD", calendar: str = "", zone: str = "UTC", appended: I64 | None = None) -> TickBatch:
    one = np.ones(ts.size, np.int64)
    columns = {} if appended is None else {"appended": appended}
    return TickBatch([Instrument(symbol, calendar=calendar, zone=zone)], sid=0 * one, ts=ts, bid=one, ask=one + 1, **columns)


def weeks(start: str = "2024-02-20", days: int = 60, opens: float = 0.0, closes: float = 0.0) -> I64:
    """A tick a minute while New York's week is open; it opens and closes so many hours after Sunday and Friday 17:00."""
    first = int(np.datetime64(start, "ns").astype(np.int64))
    ts = np.arange(first, first + days * 24 * HOUR, 60 * SECOND)
    starts, seconds = offsets("America/New_York")
    hour = ((ts + SECOND * seconds[np.searchsorted(starts, ts, "right") - 1]) // (HOUR // 60) / 60) % 168
    return ts[(hour < 41 + closes) | (hour >= 89 + opens)]


# ---- weekends


def test_weekends_in_utc_are_not_doubted_whatever_a_venue_s_hours() -> None:
    for opens, closes in ((0, 0), (1, 0), (-2, 0), (0, -1), (1, -1), (0.3, -0.3), (0, -2.4)):
        assert doubts(batch(weeks(opens=opens, closes=closes))) == []


@pytest.mark.parametrize("hours", [-10, -5, -2, 2, 3, 7, 14])
@pytest.mark.parametrize("opens", [0, 1, -2])
def test_weekends_elsewhere_name_the_clock_and_what_to_do(hours: int, opens: int) -> None:
    (said,) = doubts(batch(weeks(opens=opens) + hours * HOUR))
    assert f"look like UTC{hours:+d}." in said
    assert f'[instruments] EURUSD.zone = "Etc/GMT{-hours:+d}"' in said


def test_most_weekends_must_agree() -> None:
    """A file of two clocks has no name; a holiday isn't one."""
    ts = weeks()
    midweek = int(np.datetime64("2024-04-04", "ns").astype(np.int64))
    few, most = ts + 3 * HOUR * (ts > midweek), ts + 3 * HOUR * (ts < midweek)
    assert doubts(batch(few)) == []
    assert len(doubts(batch(most))) == 1


def test_what_it_says_to_do_mends_it(tmp_path: Path) -> None:
    import polars as pl

    from engine.instruments import Instruments

    right = weeks(days=20)
    write_ticks(batch(right + 3 * HOUR), tmp_path / "a.parquet")
    (said,) = doubts(read_ticks(tmp_path / "a.parquet"))
    assert '"Etc/GMT-3"' in said
    frame = pl.read_parquet(tmp_path / "a.parquet")
    frame.with_columns(pl.col("ts").dt.replace_time_zone(None)).write_parquet(tmp_path / "b.parquet")
    mended = read_ticks(tmp_path / "b.parquet", Instruments({"EURUSD": {"zone": "Etc/GMT-3"}}))
    assert np.array_equal(mended.ts, right)
    assert doubts(mended) == []


def test_the_text_is_for_a_person() -> None:
    assert doubts(batch(weeks("2024-07-01", 10) + 3 * HOUR)) == [
        "EURUSD: by its stamps a week ends at 2024-07-05T23:59:00Z, not on Friday 17:00 New York: they look like UTC+3. Convert "
        'them, or set [instruments] EURUSD.zone = "Etc/GMT-3" and write stamps without a zone into files'
    ]
    (said,) = doubts(batch(weeks() + 3 * HOUR, zone="Europe/Athens"))
    assert "its zone isn't Europe/Athens" in said


@pytest.mark.parametrize("verb", [["features", "compute", "{}", "--out", "f.parquet"], ["feed", "files", "{}", "--speed", "max"],
                                  ["train", "--ticks", "{}"]])
def test_who_reads_files_hears_it_once(
    verb: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOCSIN_LOG_TRANSPORT", "memory://skew" if verb[0] == "feed" else "")
    write_ticks(batch(weeks(days=9)[::5] + 2 * HOUR), tmp_path / "a.parquet")
    write_ticks(batch(weeks(days=9)[::5]), tmp_path / "utc.parquet")
    main([part.format("a.parquet") for part in verb])          # whatever becomes of it: nothing can be learned from these
    assert capsys.readouterr().err.count("look like UTC+2.") == 1
    main([part.format("utc.parquet") for part in verb])
    assert "look like" not in capsys.readouterr().err


def test_only_what_closes_with_new_york_is_looked_at() -> None:
    off = weeks() + 3 * HOUR
    assert doubts(batch(off, "EURUSD", calendar="always")) == []
    assert doubts(batch(off, "STRANGER")) == []
    assert len(doubts(batch(off, "STRANGER", calendar="currency"))) == 1
    assert len(doubts(batch(off, "EUR/USD"))) == 1


def test_other_gaps_are_no_weekends() -> None:
    monday = int(np.datetime64("2024-05-06", "ns").astype(np.int64))
    hours = np.arange(0, 21 * 24 * HOUR, HOUR)
    office = (hours // HOUR % 24 >= 9) & (hours // HOUR % 24 < 17) & (hours // (24 * HOUR) % 7 < 5)
    for ts in (monday + hours, monday + hours[office], monday + np.arange(6) * 30 * HOUR, monday + hours[:1], hours[:0]):
        assert doubts(batch(ts)) == []


@pytest.mark.parametrize("name", WEEKENDS)
def test_real_weekends(name: str) -> None:
    ticks = read_ticks(real_file(name))
    utc = ticks.ts
    for hours in (0, 2, 3, -5):
        ticks.ts = utc + hours * HOUR
        said = doubts(ticks)
        assert len(said) == bool(hours)
        assert all(f"look like UTC{hours:+d}." in text for text in said)


# ---- stamped after they were stored


@pytest.mark.parametrize(("ahead", "says"), [
    (3 * HOUR - 80 * SECOND, "UTC+3."), (HOUR, "UTC+1."), (5.5 * HOUR + SECOND, "UTC+5:30."), (14 * HOUR, "UTC+14."),
    (3 * SECOND, ""), (9 * 60 * SECOND, ""), (3.25 * HOUR, ""), (15 * HOUR, ""), (3 * HOUR - 11 * 60 * SECOND, ""),
])
def test_hours_ahead_of_the_log_are_a_zone(ahead: float, says: str) -> None:
    stored = 10**18 + np.arange(50) * SECOND
    jitter = np.arange(50) * 10**6
    said = doubts(batch(stored + int(ahead) - jitter, appended=stored))
    assert len(said) == bool(says)
    assert all(says in text for text in said)
    assert doubts(batch(stored + int(ahead))) == []           # nobody says when they were stored
    some = np.where(np.arange(50) < 40, 0, stored)
    assert len(doubts(batch(stored + int(ahead), appended=some))) == bool(says)
    assert future_doubt(np.zeros(0, np.int64)) == ""


def test_one_odd_stamp_among_others_is_no_clock() -> None:
    ahead = np.full(21, 4 * SECOND)
    ahead[:10] = 3 * HOUR
    assert future_doubt(ahead) == ""


def observed(tell: Callable[[str], None], ahead: int, many: int) -> Observer:
    seen = Observer(tell)
    stored = 10**18
    ticks = batch(np.full(1, stored + ahead))
    for at in range(many):
        place = Position((5, at), 0)
        late = Refused(Position((5, at), 1), Code.LATE, b"no JSON at all")
        seen.ticks(0, [late, Refused(place, Code.FUTURE, encode(ticks, 0))], [Entry((5, at), Kind.TICKS, b"", stored)])
    return seen


def test_an_engine_says_it_once() -> None:
    said: list[str] = []
    seen = observed(said.append, 2 * HOUR, 5 * LOOKED_AT)
    assert seen.rejected["future"] == 5 * LOOKED_AT
    assert len(said) == 1
    assert "UTC+2." in said[0]
    observed(said.append, 2 * HOUR, LOOKED_AT - 1)
    observed(said.append, 20 * 60 * SECOND, 5 * LOOKED_AT)
    assert len(said) == 1
