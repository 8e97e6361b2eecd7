"""polars: the indicators as expressions of one `select`, over a whole frame, or over the last rows at every tick.

Without a rolling mean absolute deviation, CCI's is the sum of 20 shifted columns. A window doesn't hold the day's VWAP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.types import F64

from .base import OnWindow, WholeArrays


def _expressions() -> dict[str, Any]:
    import polars as pl

    high, low, close, volume = (pl.col(name) for name in ("high", "low", "close", "volume"))
    last, typical = close.shift(1), (high + low + close) / 3.0

    def ema(of: pl.Expr, n: int) -> pl.Expr:
        return of.ewm_mean(span=n, adjust=False)

    def wilder(of: pl.Expr) -> pl.Expr:
        return of.ewm_mean(alpha=1 / 14, adjust=False)

    def positive(of: pl.Expr) -> pl.Expr:
        return of.clip(lower_bound=0.0)

    macd = ema(close, 12) - ema(close, 26)
    gain, loss = wilder(positive(close.diff())), wilder(positive(-close.diff()))
    up, down = high.diff(), -low.diff()
    plus, minus = (wilder(positive(a) * (a > b).cast(pl.Float64)) for a, b in ((up, down), (down, up)))
    lowest, highest = low.rolling_min(14), high.rolling_max(14)
    k = 100.0 * (close - lowest) / (highest - lowest)
    apart = ((plus - minus).abs() / (plus + minus)).fill_nan(0.0)            # nothing moved yet
    mean, deviation = close.rolling_mean(20), close.rolling_std(20, ddof=0)
    centre = typical.rolling_mean(20)
    off = pl.sum_horizontal(*((typical.shift(back) - centre).abs() for back in range(20))) / 20.0
    return {
        "ema_12": ema(close, 12), "ema_26": ema(close, 26), "macd": macd, "macd_signal": ema(macd, 9),
        "rsi": 100.0 * gain / (gain + loss),
        "atr": wilder(pl.max_horizontal(high, last) - pl.min_horizontal(low, last)),
        "bollinger_upper": mean + 2.0 * deviation, "bollinger_lower": mean - 2.0 * deviation,
        "stochastic_k": k, "stochastic_d": k.rolling_mean(3), "adx": 100.0 * wilder(apart),
        "cci": (typical - centre) / (0.015 * off), "deviation": deviation,
        "donchian_high": high.rolling_max(20), "donchian_low": low.rolling_min(20),
        "vwap": (typical * volume).cum_sum() / volume.cum_sum(),
    }


def _whole() -> Callable[..., Any]:
    import polars as pl

    expressions = _expressions()

    def compute(high: F64, low: F64, close: F64, volume: F64) -> dict[str, Any]:
        frame = pl.DataFrame({"high": high, "low": low, "close": close, "volume": volume})
        return frame.select(**expressions).to_dict()

    return compute


def _window() -> Callable[..., Any]:
    import polars as pl

    expressions = {name: expression for name, expression in _expressions().items() if name != "vwap"}

    def compute(high: F64, low: F64, close: F64, volume: F64) -> dict[str, Any]:
        frame = pl.DataFrame({"high": high, "low": low, "close": close})
        return frame.select(**expressions).row(-1, named=True)

    return compute


WHOLE = WholeArrays("polars", "polars", _whole, 100_000)
WINDOW = OnWindow("polars", "polars", _window, 150)
