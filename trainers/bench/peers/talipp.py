"""talipp: incremental indicators in Python, an object each (its README: construct once, `add` what comes)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .base import TickByTick


def _load() -> Callable[[], Any]:
    from talipp.indicators import ADX, ATR, BB, CCI, EMA, MACD, RSI, VWAP, DonchianChannels, StdDev, Stoch
    from talipp.ohlcv import OHLCV

    def make() -> Any:
        ema12, ema26, macd, rsi, bands, deviation = EMA(12), EMA(26), MACD(12, 26, 9), RSI(14), BB(20, 2.0), StdDev(20)
        atr, stochastic, adx, cci, donchian, vwap = ATR(14), Stoch(14, 3), ADX(14, 14), CCI(20), DonchianChannels(20), VWAP()
        of_close = [one.add for one in (ema12, ema26, macd, rsi, bands, deviation)]
        of_bar = [one.add for one in (atr, stochastic, adx, cci, donchian, vwap)]

        def take(high: float, low: float, close: float, volume: float) -> None:
            bar = OHLCV(close, high, low, close, volume)
            for add in of_close:
                add(close)
            for add in of_bar:
                add(bar)

        def values() -> dict[str, float]:
            return {
                "ema_12": ema12[-1], "ema_26": ema26[-1], "macd": macd[-1].macd, "macd_signal": macd[-1].signal, "rsi": rsi[-1],
                "atr": atr[-1], "bollinger_upper": bands[-1].ub, "bollinger_lower": bands[-1].lb,
                "stochastic_k": stochastic[-1].k, "stochastic_d": stochastic[-1].d, "adx": adx[-1].adx, "cci": cci[-1],
                "deviation": deviation[-1], "donchian_high": donchian[-1].ub, "donchian_low": donchian[-1].lb, "vwap": vwap[-1],
            }

        return take, values

    return make


TALIPP = TickByTick("talipp", "talipp", _load, 1500)
