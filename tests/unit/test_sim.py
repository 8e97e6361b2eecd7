"""The simulator: what it sends, when, and what its price is made of (integration/test_sim_effect: what it is worth)."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from engine.errors import UsageError
from engine.eventtime import VERDICTS, EventTime
from engine.feeds import sim
from engine.feeds.sim import SimFeed, simulate
from engine.types import Code, TickBatch

MS = 1_000_000
HOUR = 3_600_000 * MS
DAY = 24 * HOUR


@pytest.fixture(scope="module")
def ticks() -> TickBatch:
    """Four days as they are sent."""
    return simulate()


@pytest.fixture(scope="module")
def taken(ticks: TickBatch) -> list[TickBatch]:
    """What is admitted of them, by symbol."""
    admitted = ticks[EventTime().admit(ticks) == 0]
    return [admitted[admitted.sid == sid] for sid in range(len(ticks.instruments))]


def mid(ticks: TickBatch) -> np.ndarray:
    return (ticks.bid + ticks.ask) // 2


def digest(ticks: TickBatch) -> str:
    return hashlib.sha256(b"".join(column.tobytes() for column in ticks.columns().values())).hexdigest()[:16]


# ---- the same everywhere


def test_the_arguments_decide_every_byte() -> None:
    """The digest stands for other machines and numpy's other versions: a change of it is a change of the simulator."""
    assert digest(simulate(0.1)) == "0713ccded943886e"
    assert digest(simulate(0.1)) == digest(simulate(0.1))
    assert len({digest(simulate(0.1, seed, effect)) for seed in (1, 2) for effect in (0.0, 1.0)}) == 4


def test_the_clock_is_fixed(ticks: TickBatch) -> None:
    start = np.datetime64("2024-01-01T22:00", "ns").astype(np.int64)
    assert 0 <= ticks.ts.min() - start < 60_000 * MS
    assert -60_000 * MS < ticks.ts.max() - start - 4 * DAY <= sim.BURST_MS * MS
    assert (ticks.ts % MS == 0).all()


def test_a_further_symbol_leaves_the_others_as_they_were() -> None:
    two, three = simulate(0.1), simulate(0.1, symbols=(*sim.SYMBOLS, "SIMJPY"))
    assert three.symbols == ["SIMEUR", "SIMGBP", "SIMJPY"]
    first = three[three.sid < 2]
    for name in ("sid", "ts", "bid", "ask", "bid_size", "ask_size"):
        np.testing.assert_array_equal(getattr(first, name), getattr(two, name))


def test_the_feed_gives_the_same_ticks() -> None:
    assert digest(TickBatch.concat(list(SimFeed(days=0.5, seed=7).batches()))) == digest(simulate(0.5, 7))


@pytest.mark.parametrize(("days", "seed", "code"), [(0.0, 1, "sim_days"), (61.0, 1, "sim_days"),
                                                   (float("nan"), 1, "sim_days"), (1.0, -1, "sim_seed")])
def test_what_cannot_be_simulated_is_refused(days: float, seed: int, code: str) -> None:
    with pytest.raises(UsageError) as refused:
        SimFeed(days, seed)
    assert refused.value.code == code
    assert refused.value.hint


# ---- what is sent


def test_as_many_ticks_as_a_demo_takes(ticks: TickBatch) -> None:
    assert 250_000 <= len(ticks) <= 300_000
    assert 0.45 < np.mean(ticks.sid) < 0.55
    assert all(instrument.scale == 5 for instrument in ticks.instruments)
    assert min(ticks.bid.min(), ticks.bid_size.min(), ticks.ask_size.min()) > 0


def test_late_and_duplicate_ticks_are_refused_as_such(ticks: TickBatch) -> None:
    """One in a thousand each, found here by plain reading; the event clock refuses exactly these."""
    expected: list[Code | None] = []
    newest: dict[int, int] = {}
    there: set[tuple[int, ...]] = set()
    columns = (ticks.sid, ticks.ts, ticks.bid, ticks.ask, ticks.bid_size, ticks.ask_size)
    for tick in zip(*(column.tolist() for column in columns), strict=True):
        sid, ts = tick[:2]
        if ts < newest.get(sid, 0):
            assert 10 * MS <= newest[sid] - ts <= 500 * MS
            expected.append(Code.LATE)
        else:
            expected.append(Code.DUPLICATE if tick in there else None)
            newest[sid] = ts
            there.add(tick)
    assert [VERDICTS[verdict] for verdict in EventTime().admit(ticks)] == expected
    for code in (Code.LATE, Code.DUPLICATE):
        assert 0.0008 < expected.count(code) / len(expected) < 0.0012


def test_sessions_change_the_rate_of_ticks_and_nothing_else(taken: list[TickBatch]) -> None:
    for market in taken:
        hour = market.ts // HOUR % 24
        rate = np.bincount(hour, minlength=24)
        moved = np.bincount(hour[1:][np.diff(mid(market)) != 0], minlength=24)
        assert rate[12:16].mean() > 1.4 * rate[:6].mean()
        assert np.corrcoef(rate, sim.HOURS)[0, 1] > 0.9
        assert np.abs(moved / moved.mean() - 1).max() < 0.08


def test_bursts_repeat_the_price(taken: list[TickBatch]) -> None:
    for market in taken:
        span = sim.BURST_QUOTES - 1
        full = np.flatnonzero(market.ts[span:] - market.ts[:-span] <= sim.BURST_MS * MS)
        starts = full[np.append(True, np.diff(market.ts[full]) > 60_000 * MS)]
        assert 0.8 < len(starts) / (4 * sim.BURSTS_PER_DAY) <= 1.0
        moves = sum(np.count_nonzero(np.diff(mid(market)[at:at + span + 1])) for at in starts)
        seconds = float(np.sum(market.ts[starts + span] - market.ts[starts])) / 1e9
        assert abs(moves / seconds / sim.STEPS_PER_S - 1.0) < 0.25


# ---- what the price is made of


def test_the_price_moves_in_single_steps_around_its_spread(ticks: TickBatch, taken: list[TickBatch]) -> None:
    assert set(np.unique(ticks.ask - ticks.bid)) == {2, 4}
    assert abs(np.mean(ticks.ask - ticks.bid) - 2.2) < 0.02
    for market in taken:
        moves = np.diff(mid(market))
        assert set(np.unique(moves)) == {-5, 0, 5}
        assert abs(np.count_nonzero(moves) / (4 * 86_400 * sim.STEPS_PER_S) - 1.0) < 0.01


def test_the_drift_returns_to_zero_over_ten_minutes() -> None:
    drift = sim._drift(np.random.Generator(np.random.PCG64(1)), 30 * 86_400)
    assert abs(drift.std() / sim.DRIFT - 1.0) < 0.05
    assert abs(drift.mean()) < 0.1 * sim.DRIFT
    after = [np.corrcoef(drift[:-lag], drift[lag:])[0, 1] for lag in (300, 600, 1200)]
    np.testing.assert_allclose(after, np.exp([-0.5, -1.0, -2.0]), atol=0.06)


def test_past_moves_tell_of_the_next_only_where_there_is_an_effect() -> None:
    for effect, low, high in ((1.0, 0.1, 0.6), (0.0, -0.06, 0.06)):
        ticks = simulate(4.0, 3, effect)
        market = ticks[(EventTime().admit(ticks) == 0) & (ticks.sid == 0)]
        per_minute = np.arange(market.ts[0], market.ts[-1], 60_000 * MS)
        closes = mid(market)[np.searchsorted(market.ts, per_minute, "right") - 1]
        last_five, next_one = closes[5:-1] - closes[:-6], closes[6:] - closes[5:-1]
        assert low < np.corrcoef(last_five, next_one)[0, 1] < high
