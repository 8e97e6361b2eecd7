"""Every feature column against the slow second telling of docs/features.md in tests/oracle.py: on made ticks with all that
feeds and clocks do, on real files, against TA-Lib; that none has a unit, and that none looks ahead."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.eventtime import EventTime
from engine.features import FeatureSet
from engine.files import read_ticks
from engine.instruments import Instrument, Instruments
from engine.types import F32, F64, I64, TickBatch
from tests.made import START, made_ticks, real_file
from tests.oracle import LENGTHS, RAW, SECOND, Bar, History, oracle, raw_oracle

FEATURES = FeatureSet.default()
NAMES = FEATURES.names
HOLE = 600 * SECOND

EXACT = frozenset({
    "spread_rank", "week", "tokyo", "london", "new_york", "jump_300s", "imbalance", "ofi_60s", "flow_60s", "flow_300s",
    "rate_60s", "pace_10t", "donchian_300s", "zscore_300s",
})
"""Columns of whole numbers up to a last division or root: nothing but the rounding to float32 may differ."""


def admitted(ticks: TickBatch) -> TickBatch:
    return ticks[EventTime().admit(ticks) == 0]


def bits(matrix: F32) -> I64:
    return matrix.view(np.int32)


def differences(
    names: list[str], found: F32, wanted: F64, rows: I64, exact: frozenset[str] = frozenset(), within: float = 1e-6
) -> list[str]:
    """A line for each column that isn't the oracle's: where it's known, to 1e-6 of its scale, or to the last bit."""
    told = []
    for name, one, other in zip(names, found.T, wanted.T, strict=True):
        wrong = np.isnan(one) != np.isnan(other)
        known = ~np.isnan(one) & ~np.isnan(other)
        apart = np.abs(one - other)
        scale = np.maximum(np.std(other[known]) if known.any() else 0.0, np.abs(other))
        tolerance = within * np.maximum(scale, 1e-12)
        if name in exact:
            nearest = other.astype(np.float32)
            apart, tolerance = np.abs(one - nearest), np.spacing(np.abs(nearest))
        wrong[known] |= ~(apart[known] <= tolerance[known])
        if wrong.any():
            k = int(np.argmax(wrong))
            told.append(f"{name}: {wrong.sum()} of {wrong.size} rows, first row {rows[k]}: {one[k]} for {other[k]}")
    return told


def compare(ticks: TickBatch, rows: Iterable[int] | None = None, exact: frozenset[str] = EXACT, within: float = 1e-6) -> F64:
    """All 64 columns of admitted ticks at some rows, and the nine raw ones on both clocks; the oracle's matrix."""
    at = np.arange(len(ticks)) if rows is None else np.array(sorted(set(rows)))
    names, wanted = oracle(ticks, at)
    assert names == NAMES
    wrong = differences(NAMES, FEATURES.compute(ticks)[at], wanted, at, exact, within)
    for clock in ("1m", "tick"):
        raw = FeatureSet.time_features(clock).compute(ticks)[at]
        wrong += [f"{clock} clock: {line}" for line in differences(RAW, raw, raw_oracle(ticks, clock, at), at)]
    assert not wrong, "\n".join(wrong)
    return wanted


def told(wanted: F64) -> set[str]:
    """The columns that are known somewhere."""
    return {name for name, column in zip(NAMES, wanted.T, strict=True) if not np.isnan(column).all()}


# ---- made ticks


def ns(stamp: str) -> int:
    return int(datetime.fromisoformat(stamp).replace(tzinfo=UTC).timestamp()) * SECOND


def quotes(ts: I64, seed: int = 1, *, step: int = 3, spread: int = 9, size: int = 5000, crossed: float = 0.0) -> TickBatch:
    """A walk of about `step` points a tick, spreads of 0 to `spread` - 1 points, a part of them crossed by 2 points, sizes of
    0 to `size` - 1 points."""
    rng = np.random.default_rng(seed)
    bid = 10**6 + np.cumsum(rng.integers(-step, step + 1, ts.size))
    ask = bid + np.where(rng.random(ts.size) < crossed, -2, rng.integers(0, max(spread, 1), ts.size))
    sizes = rng.integers(0, max(size, 1), (2, ts.size))
    return admitted(TickBatch(
        [Instrument("MADE", crossed="keep")], sid=np.zeros(ts.size, np.int64), ts=ts, bid=bid, ask=ask,
        bid_size=sizes[0], ask_size=sizes[1],
    ))


def stamps(start: str, end: str, seconds: float, seed: int = 1) -> I64:
    """From start to end, about `seconds` apart: a tenth of the gaps are 0, a tenth three times as long, none a hole."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(seconds, int((ns(end) - ns(start)) / SECOND / seconds) + 1)
    kind = rng.random(gaps.size)
    gaps[kind < 0.1] = 0
    gaps[kind > 0.9] *= 3
    ts = ns(start) + np.cumsum((np.minimum(gaps, 600) * SECOND).astype(np.int64))
    return ts[ts < ns(end)]


MADE = {
    "minutes of ticks, a hole of a quarter of an hour, repeats, late ticks": lambda: admitted(made_ticks(6000)),
    "an hour and a half": lambda: admitted(made_ticks(4000, seed=3, rate=0.7)),
    "two days, so that bars of an hour are known": lambda: quotes(stamps("2024-05-06", "2024-05-08", 45)),
    "New York has changed its clocks, London hasn't": lambda: quotes(stamps("2024-03-09", "2024-04-02", 400)),
    "London has changed its clocks back, New York hasn't": lambda: quotes(stamps("2024-10-25", "2024-11-05", 200)),
    "a month ends": lambda: quotes(stamps("2024-04-30T20:00", "2024-05-01T04:00", 8)),
    "a leap day": lambda: quotes(stamps("2024-02-28T22:00", "2024-03-01T02:00", 40)),
    "a year ends": lambda: quotes(stamps("2023-12-31T20:00", "2024-01-01T06:00", 10)),
    "no sizes": lambda: quotes(stamps("2024-05-06", "2024-05-06T03:00", 4), size=0),
    "locked throughout": lambda: quotes(stamps("2024-05-06", "2024-05-06T03:00", 4), spread=0),
    "only the ask moves": lambda: quotes(stamps("2024-05-06", "2024-05-06T03:00", 4), step=0),
    "locked, and the price never moves": lambda: quotes(stamps("2024-05-06", "2024-05-06T03:00", 8), step=0, spread=0),
    "after 2038": lambda: quotes(stamps("2040-02-28T22:00", "2040-03-01T02:00", 60)),
}


@pytest.mark.parametrize("case", MADE)
def test_made_ticks(case: str) -> None:
    compare(MADE[case]())


def test_a_price_that_never_moves() -> None:
    ticks = quotes(stamps("2024-05-06", "2024-05-06T03:00", 4), step=0, spread=0)
    ticks.ask += 3
    wanted = compare(ticks)
    assert not told(wanted) & {"sigma", "move_60s", "macd_1m", "atr_1m"}     # nothing to measure by
    assert told(wanted) >= {"move_10t", "rsi_1m", "stoch_1m", "adx_1m", "cci_1m"}


def test_holes_of_eleven_minutes_and_of_a_weekend() -> None:
    parts = [
        stamps("2024-05-03T18:00", "2024-05-03T19:30", 3, seed=1), stamps("2024-05-03T19:41", "2024-05-03T21:00", 3, seed=2),
        stamps("2024-05-05T21:00", "2024-05-05T22:20", 3, seed=3),
    ]
    ticks = quotes(np.concatenate(parts))
    assert (np.diff(ticks.ts) > HOLE).sum() == 2
    compare(ticks)


def test_the_jump_of_a_hole_is_in_no_window_after_it() -> None:
    """The five minutes after a hole are known when they have passed, and hold nothing of what was before."""
    seconds = np.arange(600) * SECOND
    ticks = quotes(np.concatenate([ns("2024-05-03T20:50") + seconds, ns("2024-05-05T22:00:01") + seconds]))
    ticks.bid[ticks.ts > ns("2024-05-04")] += 2000
    ticks.ask[ticks.ts > ns("2024-05-04")] += 2000
    compare(ticks)


def test_bursts_with_equal_stamps() -> None:
    rng = np.random.default_rng(5)
    ts = START + np.sort(rng.integers(0, 600, 5000)) * SECOND       # on whole seconds: every pane's and minute's edge too
    compare(quotes(ts), range(0, 5000, 2))


def test_gaps_at_every_threshold() -> None:
    """Gaps of just less than, exactly and just more than what the page names; panes without ticks."""
    edges = np.array([0.01, 1, 4, 5, 10, 15, 59, 60, 61, 295, 300, 305, 599, 600, 601])
    gaps = np.concatenate([(edges * SECOND).astype(np.int64) + nudge for nudge in (-1, 0, 1)])
    order = np.random.default_rng(2).permutation(np.repeat(np.concatenate([gaps, np.full(600, SECOND)]), 4))
    compare(quotes(START + np.cumsum(order)))


def test_crossed_quotes_that_are_kept() -> None:
    """A crossed quote's spread is 0 wherever a spread is spoken of."""
    compare(quotes(stamps("2024-05-06", "2024-05-06T02:00", 3), crossed=0.1))


def test_prices_counted_finely() -> None:
    """8 decimals and 60,000 dollars, moves of some dollars a tick: what a scale of 8 makes of Bitcoin. Sums do without the
    mid's last bits then, and know its moves to a hundred thousandth."""
    ticks = quotes(stamps("2024-05-06", "2024-05-06T00:20", 0.5))
    for column in (ticks.bid, ticks.ask):
        column *= 2 * 10**8
        column -= 2 * 10**14 - 6 * 10**12
    compare(ticks, range(0, len(ticks), 2), exact=frozenset(), within=1e-5)


@pytest.mark.parametrize("off", [-1, 1])
def test_the_oracle_tells_a_column_that_is_off_by_a_bit_or_so(off: int) -> None:
    ticks = admitted(made_ticks(4000, seed=3, rate=0.7))
    rows = np.arange(3000, 3500)
    wanted = oracle(ticks, rows)[1]
    found = wanted.astype(np.float32)
    known = [j for j, name in enumerate(NAMES) if np.unique(found[:, j][~np.isnan(found[:, j])]).size > 1]
    for j in known:
        bent = found.copy()
        steps = 2 if NAMES[j] in EXACT else 64
        for _ in range(steps):
            bent[:, j] = np.nextafter(bent[:, j], np.float32(off * np.inf))
        assert [line.split(":")[0] for line in differences(NAMES, bent, wanted, rows, EXACT)] == [NAMES[j]]
    assert len(known) > 40


# ---- real files


class Slice(NamedTuple):
    """From start to end, the oracle at every `every`-th tick."""

    file: str
    start: str
    end: str
    every: int
    rules: dict[str, dict[str, Any]] = {}  # noqa: RUF012


KEEP: dict[str, dict[str, Any]] = {"*": {"crossed": "keep"}}
SLICES = {
    "three days: the ADX of an hour is known": Slice("EURUSD_OANDA-LEAN2014", "2014-05-05", "2014-05-08", 400),
    "a weekend": Slice("EURUSD_OANDA-LEAN2014", "2014-05-02T19:30", "2014-05-04T23:30", 40),
    "crossed quotes refused": Slice("EURUSD_FXCM-LEAN2014", "2014-05-02T12:00", "2014-05-02T14:30", 50),
    "crossed quotes kept": Slice("EURUSD_FXCM-LEAN2014", "2014-05-02T12:00", "2014-05-02T14:30", 50, KEEP),
    "the Swiss shock": Slice("USDSGD_DUKASCOPY-FXBT201501", "2015-01-15T08:00", "2015-01-15T11:30", 9),
    "a day of shock": Slice("USDSGD_DUKASCOPY-FXBT201501", "2015-01-14T20:00", "2015-01-16T06:00", 200),
    "a hole of 18 minutes": Slice("GBPJPY_DUKASCOPY-NINETY47", "2012-12-03", "2012-12-04", 90, {"*JPY": {"scale": 3}}),
    "zero sizes": Slice("XAGUSD_DUKASCOPY-FXBT201405", "2014-05-13T12:00", "2014-05-14T06:00", 40),
    "a year ends": Slice("EURGBP_DUKASCOPY-TRI2010", "2009-12-31T21:00", "2010-01-01T21:00", 150),
    "784 ticks in a second": Slice("BTCUSDT_BINANCE-USDM20240808", "2024-08-08T23:00", "2024-08-09T01:00", 97),
    "a month's last evening": Slice("USDSGD_DUKASCOPY-FXBT201405", "2014-05-29T20:00", "2014-05-31", 70),
    "fractions of milliseconds": Slice("XAUUSD_OANDA-LEAN2014", "2014-05-01T12:00", "2014-05-01T15:00", 50),
}


def real_ticks(part: Slice) -> TickBatch:
    ticks = admitted(read_ticks(real_file(part.file), Instruments(part.rules)))
    start, end = np.searchsorted(ticks.ts, [ns(part.start), ns(part.end)])
    return ticks[int(start):int(end)]


@pytest.mark.parametrize("case", SLICES)
def test_real_ticks(case: str) -> None:
    """Every so-many-th tick, and each around which something happens: after a hole, and with the largest moves."""
    part = SLICES[case]
    ticks = real_ticks(part)
    holes = np.flatnonzero(np.diff(ticks.ts) > HOLE) + 1
    near = [np.flatnonzero((ticks.ts > ticks.ts[hole] + 295 * SECOND) & (ticks.ts < ticks.ts[hole] + 307 * SECOND))
            for hole in holes]
    shocks = np.argsort(-np.abs(np.diff(ticks.bid + ticks.ask)))[:20] + 1
    empty = np.flatnonzero(ticks.bid_size + ticks.ask_size == 0)[:20]
    wanted = compare(ticks, np.concatenate([np.arange(0, len(ticks), part.every), holes, *near, shocks, empty]).tolist())
    assert len(wanted) > 100
    if case.startswith("three days"):
        assert told(wanted) == set(NAMES) - {"imbalance", "ofi_60s", "vwap_300s"}     # this feed has no sizes
    if case == "zero sizes":
        assert 0 < empty.size < 20


# ---- TA-Lib


def talib_columns(talib: Any, bars: list[Bar]) -> dict[str, F64]:
    """TA-Lib's own output for closed bars, divided as the page says; ATR and Bollinger width still in points."""
    high, low, close = (np.array([bar[k] for bar in bars]) / 2 for k in (2, 3, 4))
    shift = close[0]                               # less rounding in its running sums; no width depends on it
    upper, _, lower = talib.BBANDS(close - shift, 20, 2.0, 2.0)
    atr = talib.ATR(high, low, close, 14)
    return {
        "rsi": talib.RSI(close, 14) / 100,
        "macd": talib.MACD(close, 12, 26, 9)[0] / atr,
        "stoch": talib.STOCH(high, low, close, 14, 3, 0, 3, 0)[0] / 100,
        "cci": talib.CCI(high - shift, low - shift, close - shift, 20) / 100,
        "adx": talib.ADX(high, low, close, 14) / 100,
        "boll": upper - lower, "atr": atr,
    }


FIRST = {"rsi": 15, "macd": 34, "stoch": 18, "cci": 20, "adx": 28, "boll": 20, "atr": 15}
"""Closed bars after which TA-Lib says something."""

FROM_TALIB = {
    "made ticks of three days": lambda: quotes(stamps("2024-05-06", "2024-05-09", 20), step=40),
    "made ticks of ten days": lambda: quotes(stamps("2024-05-06", "2024-05-16", 240), step=40),
    "EURUSD": lambda: real_ticks(SLICES["three days: the ADX of an hour is known"]),
    "USDSGD": lambda: real_ticks(Slice("USDSGD_DUKASCOPY-FXBT201501", "2015-01-13", "2015-01-17", 1)),
    "GBPJPY": lambda: real_ticks(SLICES["a hole of 18 minutes"]),
}


@pytest.mark.parametrize("case", FROM_TALIB)
def test_indicators_are_ta_libs(case: str) -> None:
    """At every tick after which TA-Lib knows a value, on bars that this test builds.

    Two differences are meant: RSI and stochastic of nothing over nothing stand at ½ where TA-Lib says 0 (no bars here are
    so); and TA-Lib keeps its MACD line and slow %K back until their signal lines are known (bars 34 and 18), where the
    columns are known from bars 26 and 16 on.
    """
    talib = pytest.importorskip("talib", reason="TA-Lib's wheel isn't installed; the oracle tells the same indicators")
    ticks = FROM_TALIB[case]()
    state = FeatureSet.default().state().update(ticks)
    history = History(ticks)
    for length, seconds in LENGTHS.items():
        bars = history.bars[seconds]
        ends = np.array([bar.end for bar in bars])
        closed = np.searchsorted(ends, ticks.ts, side="right") - 1       # the last closed bar at each tick
        seen = closed >= 0
        unit = state.sigma * np.sqrt(seconds)
        for name, series in talib_columns(talib, bars).items():
            wanted = np.where(seen, series[closed], np.nan)
            if name in ("boll", "atr"):
                wanted = wanted / unit
            found = state.matrix[:, NAMES.index(f"{name}_{length}")]
            known = ~np.isnan(wanted)
            assert known.any() == (len(bars) > FIRST[name]), (name, length)
            if not known.any():
                continue
            apart = np.abs(found - wanted)[known] / np.maximum(np.std(wanted[known]), np.abs(wanted[known]))
            assert (apart < 1e-6).all(), (name, length, float(np.nanmax(apart)), int((~(apart < 1e-6)).sum()))


# ---- no unit


@given(seed=st.integers(0, 2**32 - 1), rate=st.sampled_from([0.02, 0.2, 1.0, 5.0]))
@settings(max_examples=12, deadline=None)
def test_no_column_has_a_unit(seed: int, rate: float) -> None:
    """Prices ten times as high, counted in the same points, and sizes seven times as large."""
    ticks = made_ticks(3000, seed=seed, rate=rate)
    large = TickBatch(ticks.instruments, **ticks.columns() | {
        "bid": 10 * ticks.bid, "ask": 10 * ticks.ask, "bid_size": 7 * ticks.bid_size, "ask_size": 7 * ticks.ask_size,
    })
    found, wanted = FEATURES.compute(large), FEATURES.compute(ticks)
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    for name, one, other in zip(NAMES, found.T.astype(float), wanted.T.astype(float), strict=True):
        known = ~np.isnan(other)
        if known.any():
            scale = np.maximum(max(np.std(other[known]), 1e-12), np.abs(other[known]))
            assert (np.abs(one - other)[known] <= 1e-6 * scale).all(), name


# ---- nothing of the future


PAST = admitted(made_ticks(4000, seed=11, rate=0.02))
"""Two days and a half: bars of an hour are known from the middle on."""


def later_changed(ticks: TickBatch, t: int, seed: int) -> TickBatch:
    """The same up to row t; after it other prices, sizes and stamps, the first of them days later."""
    rng = np.random.default_rng(seed)
    columns = {name: column.copy() for name, column in ticks.columns().items()}
    n = len(ticks) - t - 1
    columns["bid"][t + 1:] = rng.integers(50_000, 200_000, n)
    columns["ask"][t + 1:] = columns["bid"][t + 1:] + rng.integers(1, 500, n)
    columns["bid_size"][t + 1:] = rng.integers(0, 10**6, n)
    columns["ask_size"][t + 1:] = rng.integers(0, 10**6, n)
    wait = rng.integers(0, 3) * timedelta(days=1, hours=7).total_seconds()
    columns["ts"][t + 1:] = ticks.ts[t] + np.cumsum(rng.integers(1, 120 * SECOND, n)) + int(wait) * SECOND
    return TickBatch(ticks.instruments, **columns)


@pytest.mark.parametrize("t", [0, 1, 199, 1000, 1999, 2000, 2001, 3000, len(PAST) - 2])
def test_no_column_knows_a_later_tick(t: int) -> None:
    whole = bits(FEATURES.compute(PAST))
    for seed in range(3):
        changed = bits(FEATURES.compute(later_changed(PAST, t, seed)))
        assert np.array_equal(changed[:t + 1], whole[:t + 1])
        assert not np.array_equal(changed[t + 1:], whole[t + 1:])


def test_a_column_that_looked_one_tick_ahead_would_be_seen() -> None:
    """Each column in turn shifted up by a row is caught by the comparison above, at a tick whose minute isn't over."""
    minutes = PAST.ts // (60 * SECOND)
    within = 1000 + np.flatnonzero(minutes[1000:-1] == minutes[1001:])[::200]
    whole = bits(FEATURES.compute(PAST))
    varies = (whole != whole[0]).any(axis=0)
    caught = np.zeros(len(NAMES), bool)
    for t in within.tolist():
        for seed in range(3):
            changed = bits(FEATURES.compute(later_changed(PAST, t, seed)))
            caught |= (changed[1:t + 2] != whole[1:t + 2]).any(axis=0)
    assert varies.all()
    assert [name for name, seen in zip(NAMES, caught, strict=True) if not seen] == []
