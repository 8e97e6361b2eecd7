"""TA-Lib's C: its functions over whole arrays, and the handles of its stream functions (since 0.8), opened on a history.

It lacks VWAP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from engine.types import F64

from .base import TickByTick, WholeArrays

HISTORY = 64
"""Ticks on which the handles are opened: MACD and ADX need some thirty."""

_BY_INPUT = (
    ("ema_12", "ema_26", "macd", "rsi", "bands", "deviation"), ("atr", "stochastic", "adx", "cci"), ("highest",), ("lowest",),
)
"""What takes the close, the bar, the high, the low."""


def _whole() -> Callable[..., dict[str, Any]]:
    import talib

    def compute(high: F64, low: F64, close: F64, volume: F64) -> dict[str, Any]:
        return _values(_applied(talib, high, low, close), lambda column: column)

    return compute


def _stream() -> Callable[[], Any]:
    from talib import stream

    def make() -> Any:
        history: list[tuple[float, float, float]] = []
        handles: dict[str, Any] = {}
        updates: list[list[Callable[..., Any]]] = []

        def take(high: float, low: float, close: float, volume: float) -> None:
            if not updates:
                history.append((high, low, close))
                if len(history) == HISTORY:
                    handles.update(_applied(stream, *np.array(history).T.copy()))
                    updates.extend([handles[name].update for name in names] for names in _BY_INPUT)
                return
            of_close, of_bar, of_high, of_low = updates
            for update in of_close:
                update(close)
            for update in of_bar:
                update(high, low, close)
            for update in of_high:
                update(high)
            for update in of_low:
                update(low)

        return take, lambda: _values(handles, lambda handle: handle.value)

    return make


def _applied(library: Any, high: F64, low: F64, close: F64) -> dict[str, Any]:
    """The functions of either kind, which have the same names and arguments."""
    return {
        "ema_12": library.EMA(close, 12), "ema_26": library.EMA(close, 26), "macd": library.MACD(close, 12, 26, 9),
        "rsi": library.RSI(close, 14), "atr": library.ATR(high, low, close, 14), "bands": library.BBANDS(close, 20, 2.0, 2.0),
        "stochastic": library.STOCH(high, low, close, fastk_period=14, slowk_period=1, slowd_period=3),
        "adx": library.ADX(high, low, close, 14), "cci": library.CCI(high, low, close, 20),
        "deviation": library.STDDEV(close, 20), "highest": library.MAX(high, 20), "lowest": library.MIN(low, 20),
    }


def _values(of: dict[str, Any], read: Callable[[Any], Any]) -> dict[str, Any]:
    """By the names of the reference. read: what one function's answer holds."""
    found = {name: read(answer) for name, answer in of.items()}
    macd, bands, stochastic = found.pop("macd"), found.pop("bands"), found.pop("stochastic")
    return found | {
        "macd": macd[0], "macd_signal": macd[1], "bollinger_upper": bands[0], "bollinger_lower": bands[2],
        "stochastic_k": stochastic[0], "stochastic_d": stochastic[1],
        "donchian_high": found.pop("highest"), "donchian_low": found.pop("lowest"),
    }


WHOLE = WholeArrays("TA-Lib, C functions", "TA-Lib", _whole, 100_000)
STREAM = TickByTick("TA-Lib, stream handles", "TA-Lib", _stream, 10_000)
