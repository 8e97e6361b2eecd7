"""The lively market: each trait shows in what is sent, and the calendar holds in weeks when only one town changes clocks."""

from __future__ import annotations

import argparse
import hashlib

import numpy as np
import pytest

from engine.commands import feed
from engine.config import Config
from engine.errors import UsageError
from engine.eventtime import VERDICTS, EventTime, refusals
from engine.feeds import market
from engine.feeds.market import lively
from engine.types import Code, TickBatch

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


def at(utc: str) -> int:
    return int(np.datetime64(utc, "ns").astype(np.int64))


START = at("2024-03-03T22:00")
"""A Sunday, 17:00 in New York, which changes its clocks on the 10th; London does on the 31st."""
DAYS = 33.0
NEITHER = at("2024-03-04"), at("2024-03-09")
ONE = at("2024-03-11"), at("2024-03-30")
BOTH = at("2024-04-01"), at("2024-04-06")


@pytest.fixture(scope="module")
def ticks() -> TickBatch:
    """Five weeks as they are sent."""
    return lively(DAYS, 1, ["SIMEUR"], START)


@pytest.fixture(scope="module")
def taken(ticks: TickBatch) -> TickBatch:
    """What is admitted of them, and what is crossed."""
    verdicts = EventTime().admit(ticks)
    return ticks[(verdicts == 0) | (verdicts == VERDICTS.index(Code.CROSSED))]


@pytest.fixture(scope="module")
def mid(taken: TickBatch) -> np.ndarray:
    return (taken.bid + taken.ask) / 2


@pytest.fixture(scope="module")
def moves(taken: TickBatch, mid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts of all five minutes with ticks in them, and how far the mid went from their end before."""
    grid = np.arange(START, taken.ts[-1], 5 * MINUTE)
    rows = np.searchsorted(taken.ts, grid, "right") - 1
    fresh = np.diff(rows[1:]) > 0
    return grid[1:-1][fresh], np.diff(mid[rows[1:]])[fresh]


def digest(ticks: TickBatch) -> str:
    return hashlib.sha256(b"".join(column.tobytes() for column in ticks.columns().values())).hexdigest()[:16]


def hours(ts: np.ndarray, span: tuple[int, int]) -> np.ndarray:
    """Ticks by hour of the UTC day."""
    inside = ts[(span[0] <= ts) & (ts < span[1])]
    return np.bincount(inside // HOUR % 24, minlength=24)


# ---- the same everywhere


def test_the_arguments_decide_every_byte() -> None:
    """The digests stand for other machines and numpy's other versions: a change of them is a change of the market."""
    assert digest(lively(0.1)) == "5c377be2c6a7d61f"
    assert digest(lively(2.0, 7, ["A"], at("2024-03-30T12:00"))) == "cb6f4382da4d06fe"
    assert digest(lively(0.1)) == digest(lively(0.1))
    assert len({digest(lively(0.1, seed, start=start)) for seed in (1, 2) for start in (START, START + HOUR)}) == 4


def test_a_market_starts_at_its_minute() -> None:
    assert digest(lively(0.01, start=START + 59 * SECOND)) == digest(lively(0.01, start=START))
    first = lively(0.05, start=START).ts
    assert START <= first[0] < START + 10 * MINUTE
    assert START + 0.04 * 24 * HOUR < first[-1] < START + 0.05 * 24 * HOUR


def test_a_further_symbol_leaves_the_others_as_they_were() -> None:
    two, three = lively(0.1), lively(0.1, symbols=(*market.SYMBOLS, "SIMJPY"))
    first = three[three.sid < 2]
    for name in ("sid", "ts", "bid", "ask", "bid_size", "ask_size"):
        np.testing.assert_array_equal(getattr(first, name), getattr(two, name))


def test_the_command_feeds_it() -> None:
    parser = argparse.ArgumentParser()
    feed.add_arguments(parser)
    args = parser.parse_args(["sim", "--lively", "--start", "2024-03-03T22:00:00Z", "--days", "0.05", "--seed", "3"])
    (batch,) = feed._feed(args, Config()).batches()
    assert digest(batch) == digest(lively(0.05, 3, start=START))


@pytest.mark.parametrize(("days", "seed", "start", "code"), [
    (0.0, 1, START, "sim_days"), (61.0, 1, START, "sim_days"), (1.0, -1, START, "sim_seed"), (1.0, 1, 0, "sim_start"),
    (1.0, 1, 2**63 - 1, "sim_start"), (1.5, 1, at("2024-03-09T00:00"), "sim_closed"),
])
def test_what_can_not_be_simulated_is_refused(days: float, seed: int, start: int, code: str) -> None:
    with pytest.raises(UsageError) as refused:
        lively(days, seed, start=start)
    assert refused.value.code == code
    assert refused.value.hint


# ---- what is sent


def test_what_is_sent_can_be_counted(ticks: TickBatch) -> None:
    weekdays = 25
    assert 40_000 < len(ticks) / weekdays < 60_000
    assert min(ticks.bid.min(), ticks.ask.min()) > 50_000
    assert max(ticks.bid.max(), ticks.ask.max()) < 200_000
    assert min(ticks.bid_size.min(), ticks.ask_size.min()) == 0


def test_some_are_late_some_are_there_twice_some_are_crossed(ticks: TickBatch) -> None:
    refused = refusals(EventTime().admit(ticks))
    assert set(refused) == {"late", "duplicate", "crossed"}
    assert 0.0008 < refused["late"] / len(ticks) < 0.0012
    assert 0.0008 < refused["duplicate"] / len(ticks) < 0.0013
    assert 0.004 < refused["crossed"] / len(ticks) < 0.006


# ---- the calendar


def test_nothing_comes_from_friday_to_sunday_17_o_clock_in_new_york(taken: TickBatch) -> None:
    for friday, sunday in (("08T22", "10T21"), ("15T21", "17T21"), ("22T21", "24T21"), ("29T21", "31T21")):
        closes, opens = at(f"2024-03-{friday}"), at(f"2024-03-{sunday}")
        last, first = np.searchsorted(taken.ts, [closes, opens])
        assert last == first
        assert closes - taken.ts[last - 1] < 61 * MINUTE           # a hole may be there
        assert taken.ts[first] - opens < 61 * MINUTE


def test_the_rate_follows_the_day_of_new_york(taken: TickBatch) -> None:
    by_hour = hours(taken.ts - 5 * HOUR, (NEITHER[0] - 5 * HOUR, NEITHER[1] - 5 * HOUR))
    assert by_hour[8:12].min() > 3 * by_hour[17]
    assert by_hour[8:12].mean() > 2 * by_hour[:3].mean()


def test_sessions_move_by_an_hour_of_utc_when_their_town_changes_clocks(taken: TickBatch) -> None:
    """New York opens at 13:00 UTC, from the 10th on at 12:00; London at 8:00, from the 31st on at 7:00; Tokyo at 23:00."""
    neither, one, both = (hours(taken.ts, span) for span in (NEITHER, ONE, BOTH))
    for opens, by_hour in ((13, neither), (12, one), (12, both)):
        assert by_hour[opens] > 1.4 * by_hour[opens - 1]
        assert by_hour[opens - 1] < 1.3 * by_hour[opens - 2]
    for opens, by_hour in ((8, neither), (8, one), (7, both)):
        assert by_hour[opens] > 1.6 * by_hour[opens - 1]
        assert by_hour[opens - 1] < 1.4 * by_hour[opens - 2]
    for by_hour in (neither, one, both):
        assert by_hour[23] > 1.6 * by_hour[22]


@pytest.mark.parametrize(("utc", "open_", "activity", "rollover"), [
    ("2024-03-08T12:59", True, 115, False), ("2024-03-08T13:00", True, 195, False), ("2024-03-08T21:59", True, 95, False),
    ("2024-03-08T22:00", False, 15, True), ("2024-03-10T20:59", False, 15, False), ("2024-03-10T21:00", True, 15, True),
    ("2024-03-10T22:00", True, 15, False), ("2024-03-10T23:00", True, 50, False), ("2024-03-11T08:00", True, 115, False),
    ("2024-03-11T12:00", True, 195, False), ("2024-04-01T07:00", True, 150, False), ("2024-04-01T08:00", True, 115, False),
    ("2024-11-01T20:59", True, 95, False), ("2024-11-03T21:59", False, 15, False), ("2024-11-03T22:00", True, 15, True),
])
def test_the_calendar(utc: str, open_: bool, activity: int, rollover: bool) -> None:
    minute = at(utc) // MINUTE
    told = market._hours(minute - 3000, 3001)
    assert (told.open[-1], told.activity[-1], told.rollover[-1]) == (open_, activity, rollover)


# ---- regimes and volatility


def test_regimes_last_for_hours() -> None:
    regimes = market._regimes(np.random.Generator(np.random.PCG64(1)), 2_000_000)
    assert np.abs(np.diff(regimes)).max() == 1
    turns = np.flatnonzero(np.diff(regimes)) + 1
    lasted, which = np.diff(turns), regimes[turns[:-1]]
    for regime, minutes in ((market.CALM, 240), (market.NORMAL, 206), (market.WILD, 90)):
        assert abs(lasted[which == regime].mean() / minutes - 1) < 0.06


def test_volatility_comes_in_clusters(moves: tuple[np.ndarray, np.ndarray]) -> None:
    """Beyond what the hour of the day tells, too: those are the regimes."""
    ts, move = moves
    hour = ts // HOUR % 24
    size = np.minimum(np.abs(move), 10 * np.median(np.abs(move)))
    by_hour = np.bincount(hour, size, 24) / np.bincount(hour, minlength=24)
    for series in (size, size / by_hour[hour]):
        assert np.corrcoef(series[1:], series[:-1])[0, 1] > 0.1
        assert np.corrcoef(series[12:], series[:-12])[0, 1] > 0.1
    assert abs(np.corrcoef(move[1:], move[:-1])[0, 1]) < 0.06


def test_the_price_goes_further_in_busy_hours(moves: tuple[np.ndarray, np.ndarray]) -> None:
    ts, move = moves
    hour = ts // HOUR % 24
    busy, quiet = (np.median(np.abs(move[np.isin(hour, which)])) for which in ((13, 14, 15), (21, 22)))
    assert busy > 2 * quiet


# ---- the book


def test_quotes_bounce(mid: np.ndarray) -> None:
    move = np.diff(mid)
    assert -0.4 < np.corrcoef(move[1:], move[:-1])[0, 1] < -0.15
    assert abs(np.corrcoef(move[3:], move[:-3])[0, 1]) < 0.02


def test_the_spread_is_wide_at_the_rollover_in_wild_hours_and_at_random(taken: TickBatch) -> None:
    spread, hour = taken.ask - taken.bid, taken.ts // HOUR
    late = hour % 24 == np.where(taken.ts < at("2024-03-10"), 22, 21)
    assert np.median(spread[late]) >= 3 * np.median(spread[~late])
    busy = np.isin(hour % 24, (9, 10, 11))                         # London alone, before and after
    spreads, ranges, wide = [], [], []
    for one in np.unique(hour[busy]):
        there = hour == one
        spreads.append(np.median(spread[there]))
        ranges.append(np.std(taken.bid[there]))
        wide.append(np.mean(spread[there] >= 1.8 * spreads[-1]))
    assert 0.015 < np.median(wide) < 0.04
    assert np.ptp(spreads) >= 6
    assert np.corrcoef(spreads, ranges)[0, 1] > 0.3


def test_some_quotes_are_locked_some_repeated(taken: TickBatch) -> None:
    spread = taken.ask - taken.bid
    assert 0.015 < np.mean(spread == 0) < 0.025
    assert 0.004 < np.mean(spread < 0) < 0.006
    assert spread.min() == -market.CROSSED_BY
    assert 0.08 < np.mean((np.diff(taken.bid) == 0) & (np.diff(taken.ask) == 0)) < 0.20


def test_sizes_lean_before_a_move_and_are_sometimes_zero(taken: TickBatch, mid: np.ndarray) -> None:
    lean = np.sign(taken.bid_size - taken.ask_size)
    step = np.clip(mid[20:] - mid[:-20], -30, 30)
    assert 0.05 < np.corrcoef(lean[:-20], step)[0, 1] < 0.25
    assert abs(np.corrcoef(lean[20:], step)[0, 1]) < 0.02
    for size in (taken.bid_size, taken.ask_size):
        assert 0.004 < np.mean(size == 0) < 0.006


# ---- bursts and holes


def test_bursts_hold_hundreds_of_ticks_in_a_second_under_few_stamps(taken: TickBatch, mid: np.ndarray) -> None:
    _, first, count = np.unique(taken.ts // SECOND, return_index=True, return_counts=True)
    full = count >= 100
    assert 0.8 * DAYS * market.BURSTS_PER_DAY < full.sum() <= DAYS * market.BURSTS_PER_DAY
    assert count.max() > 600
    travelled = []
    for start, ticks in zip(first[full], count[full], strict=True):
        stamps = taken.ts[start:start + ticks]
        assert np.unique(stamps, return_counts=True)[1].max() >= 5
        assert len(np.unique(stamps)) <= market.BURST_STAMPS + 10
        travelled.append(np.ptp(mid[start:start + ticks]))
    assert np.median(travelled) > 20
    assert not np.any(count[~full] > 20)


def test_holes_of_ten_minutes_to_an_hour_and_the_price_goes_on_in_them(taken: TickBatch, mid: np.ndarray) -> None:
    gap = np.diff(taken.ts)
    hole = (gap > 10 * MINUTE) & (gap < 24 * HOUR)
    assert 0.8 * DAYS <= hole.sum() <= DAYS
    assert not np.any((gap > 5 * MINUTE) & (gap < 10 * MINUTE))
    assert gap[hole].max() < 90 * MINUTE
    assert np.count_nonzero(gap > 24 * HOUR) == 4                  # weekends
    assert np.abs(np.diff(mid)[hole]).mean() > 10 * np.abs(np.diff(mid)).mean()
