"""NautilusTrader's indicators, fed by `update_raw`: the Cython classes, and those of its Rust core through PyO3.

Both have the parts of ADX (the two Wilder means of directional movement, and a Wilder mean) but not ADX; its last step is
Python here, as a strategy would write it. The signal of MACD is an EMA beside it. Both lack a standard deviation by itself:
it is inside the Bollinger bands. %D is theirs alone: sums of three ranges, one over the other, instead of a mean of three %K.
The bands take the typical price of what they are given, and are given the close three times.

Of Rust's: ATR is always a plain mean. In 1.221 RSI takes 2 / (n + 1) for its means, whatever is asked for, and may stand at 1
until the price is below its first; and Donchian looks back 1,024 ticks whatever its period, for 2.8 µs a tick (issue 4238 of
nautechsystems/nautilus_trader): it is left out where it does. 1.231 has both right.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from .base import TickByTick

_DAY = datetime(2024, 1, 1, tzinfo=UTC)
"""Of every tick: VWAP begins anew each day."""


def _cython() -> Callable[[], Any]:
    from nautilus_trader import indicators
    from nautilus_trader.indicators import MovingAverageType

    return _maker(indicators, MovingAverageType.EXPONENTIAL, MovingAverageType.WILDER, _DAY)


def _rust() -> Callable[[], Any]:
    from nautilus_trader.core import nautilus_pyo3

    kinds = nautilus_pyo3.MovingAverageType
    return _maker(nautilus_pyo3, kinds.Exponential, kinds.Wilder, _DAY.timestamp())


def _forgets(channel: Any) -> bool:
    """Whether a Donchian channel of 2 forgets the third price back."""
    for high in (3.0, 2.0, 1.0):
        channel.update_raw(high, 0.5)
    return bool(channel.upper == 2.0)


def _maker(library: Any, exponential: Any, wilder: Any, day: Any) -> Callable[[], Any]:
    """Both have the same names."""
    channel = _forgets(library.DonchianChannel(2))

    def make() -> Any:
        average, smoother = library.ExponentialMovingAverage, library.WilderMovingAverage
        ema12, ema26, signal = average(12), average(26), average(9)
        macd = library.MovingAverageConvergenceDivergence(12, 26, exponential)
        rsi, atr = library.RelativeStrengthIndex(14, wilder), library.AverageTrueRange(14, wilder)
        bands, stochastic = library.BollingerBands(20, 2.0), library.Stochastics(14, 3)
        movement, trend = library.DirectionalMovement(14, wilder), smoother(14)
        cci, donchian = library.CommodityChannelIndex(20, 0.015), library.DonchianChannel(20)
        vwap = library.VolumeWeightedAveragePrice()
        take12, take26, take_macd, take_signal = ema12.update_raw, ema26.update_raw, macd.update_raw, signal.update_raw
        take_rsi, take_atr, take_bands, take_stochastic = rsi.update_raw, atr.update_raw, bands.update_raw, stochastic.update_raw
        take_movement, take_trend, take_cci = movement.update_raw, trend.update_raw, cci.update_raw
        take_donchian, take_vwap = donchian.update_raw, vwap.update_raw

        def take(high: float, low: float, close: float, volume: float) -> None:
            take12(close)
            take26(close)
            take_macd(close)
            take_signal(macd.value)
            take_rsi(close)
            take_atr(high, low, close)
            take_bands(close, close, close)
            take_stochastic(high, low, close)
            take_movement(high, low)
            plus, minus = movement.pos, movement.neg
            take_trend(abs(plus - minus) / (plus + minus or 1.0))
            take_cci(high, low, close)
            if channel:
                take_donchian(high, low)
            take_vwap((high + low + close) / 3.0, volume, day)

        def values() -> dict[str, float]:
            found = {
                "ema_12": ema12.value, "ema_26": ema26.value, "macd": macd.value, "macd_signal": signal.value,
                "rsi": 100.0 * rsi.value, "atr": atr.value, "bollinger_upper": bands.upper, "bollinger_lower": bands.lower,
                "stochastic_k": stochastic.value_k, "stochastic_d": stochastic.value_d, "adx": 100.0 * trend.value,
                "cci": cci.value, "vwap": vwap.value,
            }
            return found | {"donchian_high": donchian.upper, "donchian_low": donchian.lower} if channel else found

        return take, values

    return make


CYTHON = TickByTick("NautilusTrader, Cython", "nautilus_trader", _cython, 4000, frozenset({"stochastic_d"}))
RUST = TickByTick("NautilusTrader, Rust", "nautilus_trader", _rust, 8000, frozenset({"stochastic_d", "atr", "rsi"}))
