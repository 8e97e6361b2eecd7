"""pandas-ta-classic: functions of pandas Series, called on the last rows at every tick. A window doesn't hold the day's VWAP."""

from __future__ import annotations

from collections.abc import Callable

from engine.types import F64

from .base import OnWindow


def _load() -> Callable[..., dict[str, float]]:
    import pandas as pd
    import pandas_ta_classic as ta

    def compute(high: F64, low: F64, close: F64, volume: F64) -> dict[str, float]:
        h, l, c = pd.Series(high), pd.Series(low), pd.Series(close)  # noqa: E741
        macd, bands = ta.macd(c, 12, 26, 9), ta.bbands(c, 20, 2.0)
        stochastic, donchian = ta.stoch(h, l, c, k=14, d=3, smooth_k=1), ta.donchian(h, l, 20, 20)
        columns = {
            "ema_12": ta.ema(c, 12), "ema_26": ta.ema(c, 26), "macd": macd["MACD_12_26_9"], "macd_signal": macd["MACDs_12_26_9"],
            "rsi": ta.rsi(c, 14), "atr": ta.atr(h, l, c, 14), "bollinger_upper": bands["BBU_20_2.0"],
            "bollinger_lower": bands["BBL_20_2.0"], "stochastic_k": stochastic["STOCHk_14_3_1"],
            "stochastic_d": stochastic["STOCHd_14_3_1"], "adx": ta.adx(h, l, c, 14)["ADX_14"], "cci": ta.cci(h, l, c, 20),
            "deviation": ta.stdev(c, 20, ddof=0), "donchian_high": donchian["DCU_20_20"], "donchian_low": donchian["DCL_20_20"],
        }
        return {name: float(column.iat[-1]) for name, column in columns.items()}

    return compute


PANDAS_TA = OnWindow("pandas-ta-classic", "pandas-ta-classic", _load, 10)
