"""Files of bars through the same kernel: the bars come out as they went in, and what they can't tell is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from engine.bars import LENGTHS, bars_from_frame, read_bars
from engine.errors import InputRefused, UsageError
from engine.eventtime import EventTime
from engine.features import FeatureSet
from engine.instruments import Instruments
from engine.types import TickBatch
from tests.made import made_ticks
from tests.oracle import oracle

START = 1_714_953_600_000_000_000


def walk(n: int, seconds: int = 60, seed: int = 1, quotes: bool = True) -> pl.DataFrame:
    """n bars of a random walk, in prices of five digits, with gaps now and then."""
    rng = np.random.default_rng(seed)
    close = 110_000 + np.cumsum(rng.integers(-30, 31, n))
    opened = close + rng.integers(-20, 21, n)
    high, low = np.maximum(opened, close) + rng.integers(0, 15, n), np.minimum(opened, close) - rng.integers(0, 15, n)
    ts = START + seconds * 10**9 * np.cumsum(np.where(rng.random(n) < 0.01, 30, 1))
    columns = {"symbol": ["EURUSD"] * n, "ts": ts}
    for side, off in (("bid_", 0), ("ask_", 4)) if quotes else (("", 0),):
        columns |= {f"{side}{name}": (price + off) / 1e5 for name, price in
                    (("open", opened), ("high", high), ("low", low), ("close", close))}
    return pl.DataFrame(columns)


def bars(frame: pl.DataFrame, length: str = "1m") -> TickBatch:
    return bars_from_frame(frame, length, Instruments())


@pytest.mark.parametrize("length", ["1m", "5m"])
def test_indicators_of_bars_are_those_of_the_bars_given(length: str) -> None:
    """TA-Lib on the very file against the columns of its own length; TA-Lib's starts, see test_features_oracle.py."""
    talib = pytest.importorskip("talib", reason="TA-Lib's wheel isn't installed")
    frame = walk(600, LENGTHS[length])
    features = FeatureSet.for_bars(length)
    found = dict(zip(features.names, features.compute(bars(frame, length)).T, strict=True))
    high, low, close = (((frame[f"bid_{k}"] + frame[f"ask_{k}"]) / 2).to_numpy() for k in ("high", "low", "close"))
    atr = talib.ATR(high, low, close, 14)
    for name, theirs in {
        "rsi": talib.RSI(close, 14) / 100, "macd": talib.MACD(close, 12, 26, 9)[0] / atr,
        "adx": talib.ADX(high, low, close, 14) / 100,
        "stoch": talib.STOCH(high, low, close, 14, 3, 0, 3, 0)[0] / 100, "cci": talib.CCI(high, low, close, 20) / 100,
    }.items():
        known = ~np.isnan(theirs)
        assert known.sum() > 500
        np.testing.assert_allclose(found[f"{name}_{length}"][known], theirs[known], rtol=1e-5, atol=1e-6, err_msg=name)
    unit = found["sigma"] * close / 1e4 * np.sqrt(LENGTHS[length])
    known = ~np.isnan(atr) & ~np.isnan(unit)
    np.testing.assert_allclose(found[f"atr_{length}"][known], (atr / unit)[known], rtol=1e-5)


def test_one_row_per_bar_at_its_end() -> None:
    frame = walk(300)
    found = FeatureSet.for_bars("1m").frame(bars(frame))
    assert found["row"].to_list() == list(range(300))
    assert (found["ts"].to_physical() - frame["ts"]).unique().to_list() == [60_000_000_000]


def test_the_nine_time_features_are_of_the_bars_closes() -> None:
    from engine.features.kernel import augment_time_features

    frame = walk(400)
    features = FeatureSet.for_bars("1m")
    found = dict(zip(features.names, features.compute(bars(frame)).T, strict=True))
    close = ((frame["bid_close"] + frame["ask_close"]) / 2).to_numpy()
    raw = augment_time_features(close)
    sigma = found["sigma"].astype(np.float64) / 1e4
    for k, name in enumerate(("ret1", "ret1_lag1", "ret1_lag2", "ret1_lag5", "ret1_lag8", "vol14", "vol50")):
        known = ~np.isnan(found[f"{name}_s"])
        assert known.sum() > 300
        np.testing.assert_allclose(found[f"{name}_s"][known], (raw[:, k] / sigma / np.sqrt(60))[known], rtol=1e-4, atol=1e-6)


def test_what_bars_tell_depends_on_their_length_and_quotes() -> None:
    minute, five = FeatureSet.for_bars("1m"), FeatureSet.for_bars("5m")
    assert set(five.names) < set(minute.names) < set(FeatureSet.default().names)
    assert not set(minute.names) & {"move_10t", "rv_60s", "flow_60s", "imbalance", "pace_10t", "vwap_300s"}
    assert not [name for name in five.names if name.endswith("_1m") or name.startswith("ret1")]
    one_price = FeatureSet.for_bars("1m", quotes=False)
    assert set(minute.names) - set(one_price.names) == {"spread_sigma", "width_sigma", "spread_rel", "spread_rank"}
    assert len({minute.fingerprint, five.fingerprint, one_price.fingerprint, FeatureSet.default().fingerprint}) == 4
    with pytest.raises(UsageError) as refused:
        FeatureSet.for_bars("1h")
    assert refused.value.code == "bar_length"


def test_bars_of_one_price_stand_around_the_declared_spread() -> None:
    frame = walk(200, quotes=False)
    plain = bars_from_frame(frame, "1m", Instruments())
    assert (plain.bid == plain.ask).all()
    wide = bars_from_frame(frame, "1m", Instruments({"*": {"spread": 6}}))
    quoted = wide.bid > 0
    assert (wide.ask - wide.bid)[quoted].tolist() == [6] * int(quoted.sum())
    assert ((wide.bid + wide.ask) == (plain.bid + plain.ask))[quoted].all()


def test_any_cutting_of_bars_gives_the_same_bits() -> None:
    batch = bars(walk(500))
    features = FeatureSet.for_bars("1m")
    whole = features.compute(batch)
    stream, parts = features.stream(), []
    for at in range(0, len(batch), 7):
        parts.append(stream.update(batch[at:at + 7]))
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert whole.shape == (500, len(features.names))


def test_later_bars_change_no_earlier_row() -> None:
    frame = walk(300)
    features = FeatureSet.for_bars("1m")
    changed = frame.with_columns([
        pl.when(pl.int_range(pl.len()) >= 200).then(pl.col(name) + 0.001).otherwise(pl.col(name)).round(5)
        for name in frame.columns[2:]
    ])
    before, after = features.compute(bars(frame)), features.compute(bars(changed))
    assert before[:200].tobytes() == after[:200].tobytes()
    assert before[200:].tobytes() != after[200:].tobytes()


def test_bars_of_ticks_are_the_ticks_own() -> None:
    """Minute bars drawn from ticks give the columns on bars that the ticks give, at each minute's end."""
    ticks = made_ticks(6000, rate=1.5, flaws=False)
    ticks = ticks[EventTime().admit(ticks) == 0]
    mid = ticks.bid + ticks.ask
    minute = ticks.ts // 60_000_000_000
    first = np.flatnonzero(np.diff(minute, prepend=-1))
    last = np.append(first[1:], len(ticks)) - 1
    high, low = np.maximum.reduceat(mid, first), np.minimum.reduceat(mid, first)
    prices = {"open": mid[first], "high": high, "low": low, "close": mid[last]}
    frame = pl.DataFrame({"symbol": ["MADE0"] * len(first), "ts": minute[first] * 60_000_000_000}
                         | {name: price / 2e5 for name, price in prices.items()})
    features = FeatureSet.for_bars("1m", quotes=False)
    rows = features.compute(bars_from_frame(frame, "1m", Instruments({"*": {"scale": 6}})))
    names, expected = oracle(ticks, first[1:])             # the tick past the end sees the bar closed
    for name in features.names:
        if name.partition("_")[0] in ("rsi", "macd", "stoch", "cci", "adx"):
            theirs, ours = expected[:, names.index(name)], rows[:-1, features.names.index(name)]
            assert np.array_equal(np.isnan(theirs), np.isnan(ours)), name
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6, err_msg=name)


BROKEN = {
    "columns": lambda frame: frame.drop("bid_open"),
    "bars_grid": lambda frame: frame.with_columns(pl.col("ts") + 30_000_000_000),
    "row": lambda frame: frame.with_columns(pl.col("bid_high") * 0.9),
}
LIKEWISE = {
    "no stamp": lambda frame: frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 7).then(None).otherwise(pl.col("ts")).alias("ts")),
    "no symbol": lambda frame: frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 7).then(None).otherwise(pl.col("symbol")).alias("symbol")),
    "1970": lambda frame: frame.with_columns(pl.col("ts") // 10**6),
}


@pytest.mark.parametrize("case", LIKEWISE)
def test_a_bar_without_a_place_is_refused(case: str) -> None:
    with pytest.raises(InputRefused) as refused:
        bars(LIKEWISE[case](walk(50)))
    assert refused.value.code == "row"


def test_a_price_below_half_the_spread_is_refused() -> None:
    with pytest.raises(InputRefused, match="below half its instrument's spread"):
        bars_from_frame(walk(50, quotes=False), "1m", Instruments({"*": {"spread": 300_000}}))


def test_bars_longer_than_said_would_be_known_too_early() -> None:
    with pytest.raises(InputRefused) as refused:
        bars(walk(200, seconds=300), "1m")
    assert refused.value.code == "bars_grid"


@pytest.mark.parametrize("code", BROKEN)
def test_what_are_no_bars_says_so(code: str) -> None:
    with pytest.raises(InputRefused) as refused:
        bars(BROKEN[code](walk(50)).with_columns(pl.col(pl.Float64).round(5)))
    assert refused.value.code == code
    assert refused.value.hint


def test_a_price_finer_than_the_scale_is_refused() -> None:
    with pytest.raises(InputRefused, match="finer than the instrument's scale"):
        bars_from_frame(walk(50), "1m", Instruments({"*": {"scale": 4}}))


@pytest.mark.parametrize("name", ["GBPUSD_FXCM-NAUT-M1-2012", "USDJPY_FXCM-NAUT-M1-2013"])
def test_a_year_of_real_bars(name: str) -> None:
    import os

    folder = os.environ.get("TOCSIN_DATA")
    file = Path(folder or "", "bars", f"{name}.parquet")
    if not file.is_file():
        pytest.skip("no real bars: TOCSIN_DATA is not set, or has none")
    batch = read_bars(file, "1m")
    features = FeatureSet.for_bars("1m")
    matrix = features.compute(batch)
    assert matrix.shape == (len(batch) // 5, len(features.names))
    assert np.isnan(matrix[5000:]).mean() < 0.001
