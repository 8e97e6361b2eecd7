"""river: online statistics, in Rust behind Python objects; the indicators are put together from them.

It lacks CCI: no mean absolute deviation of a window.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

from .base import TickByTick


def _load() -> Callable[[], Any]:
    from river.stats import EWMean, Mean, RollingMax, RollingMin, Var
    from river.utils import Rolling

    def make() -> Any:
        ema12, ema26, signal = EWMean(2 / 13), EWMean(2 / 27), EWMean(2 / 10)
        gain, loss, range_, plus, minus, trend = (EWMean(1 / 14) for _ in range(6))
        mean, variance, smooth = Rolling(Mean, 20), Rolling(Var, 20, ddof=0), Rolling(Mean, 3)
        highest20, lowest20, highest14, lowest14 = RollingMax(20), RollingMin(20), RollingMax(14), RollingMin(14)
        vwap = Mean()
        last: tuple[float, float, float] | None = None
        raw = 0.0

        def take(high: float, low: float, close: float, volume: float) -> None:
            nonlocal last, raw
            ema12.update(close)
            ema26.update(close)
            signal.update(ema12.get() - ema26.get())
            if last is not None:
                last_high, last_low, last_close = last
                change, up, down = close - last_close, high - last_high, last_low - low
                gain.update(change if change > 0.0 else 0.0)
                loss.update(-change if change < 0.0 else 0.0)
                range_.update(max(high, last_close) - min(low, last_close))
                plus.update(up if up > down and up > 0.0 else 0.0)
                minus.update(down if down > up and down > 0.0 else 0.0)
                p, m = plus.get(), minus.get()
                trend.update(abs(p - m) / (p + m) if p + m > 0.0 else 0.0)
            mean.update(close)
            variance.update(close)
            highest20.update(high)
            lowest20.update(low)
            highest14.update(high)
            lowest14.update(low)
            lowest = lowest14.get()
            raw = 100.0 * (close - lowest) / (highest14.get() - lowest)
            smooth.update(raw)
            vwap.update((high + low + close) / 3.0, volume)
            last = high, low, close

        def values() -> dict[str, float]:
            off = sqrt(variance.get())
            return {
                "ema_12": ema12.get(), "ema_26": ema26.get(), "macd": ema12.get() - ema26.get(), "macd_signal": signal.get(),
                "rsi": 100.0 * gain.get() / (gain.get() + loss.get()), "atr": range_.get(),
                "bollinger_upper": mean.get() + 2.0 * off, "bollinger_lower": mean.get() - 2.0 * off,
                "stochastic_k": raw, "stochastic_d": smooth.get(), "adx": 100.0 * trend.get(), "deviation": off,
                "donchian_high": highest20.get(), "donchian_low": lowest20.get(), "vwap": vwap.get(),
            }

        return take, values

    return make


RIVER = TickByTick("river", "river", _load, 3000)
