"""The 12 indicators in loops anyone can check, as their authors and TA-Lib define them.

EMA: 2 / (n + 1). MACD: Appel (1979), its signal an EMA of 9. RSI, ATR, ADX: Wilder (1978), means of 1 / n. Bollinger (2001):
2 population deviations. Stochastic: Lane (1984), %K not smoothed, %D its mean of 3. CCI: Lambert (1980). Donchian: highest
high and lowest low. VWAP: of (high + low + close) / 3, since the first tick.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

from engine.types import F64

INDICATORS: dict[str, tuple[str, ...]] = {
    "EMA 12": ("ema_12",), "EMA 26": ("ema_26",), "MACD 12/26/9": ("macd", "macd_signal"), "RSI 14": ("rsi",), "ATR 14": ("atr",),
    "Bollinger 20/2": ("bollinger_upper", "bollinger_lower"), "stochastic 14/3": ("stochastic_k", "stochastic_d"),
    "ADX 14": ("adx",), "CCI 20": ("cci",), "standard deviation 20": ("deviation",),
    "Donchian 20": ("donchian_high", "donchian_low"), "VWAP": ("vwap",),
}
"""The values of each indicator, by name."""


def reference(high: F64, low: F64, close: F64, volume: F64) -> dict[str, float]:
    """Every value after the last tick."""
    highs, lows, closes = high.tolist(), low.tolist(), close.tolist()
    bars = list(zip(highs, lows, closes, strict=True))
    typical = [sum(bar) / 3.0 for bar in bars]
    fast, slow = smoothed(closes, 2 / 13), smoothed(closes, 2 / 27)
    macd = [a - b for a, b in zip(fast, slow, strict=True)]
    changes = [after - before for before, after in pairwise(closes)]
    gain = smoothed([max(change, 0.0) for change in changes], 1 / 14)[-1]
    loss = smoothed([max(-change, 0.0) for change in changes], 1 / 14)[-1]
    ranges = [max(high, before) - min(low, before) for (_, _, before), (high, low, _) in pairwise(bars)]
    mean, off = sum(closes[-20:]) / 20, deviation(closes[-20:])
    k = [100.0 * (closes[i] - min(lows[i - 13:i + 1])) / (max(highs[i - 13:i + 1]) - min(lows[i - 13:i + 1]))
         for i in range(len(closes) - 3, len(closes))]
    centre = sum(typical[-20:]) / 20
    return {
        "ema_12": fast[-1], "ema_26": slow[-1], "macd": macd[-1], "macd_signal": smoothed(macd, 2 / 10)[-1],
        "rsi": 100.0 * gain / (gain + loss), "atr": smoothed(ranges, 1 / 14)[-1],
        "bollinger_upper": mean + 2.0 * off, "bollinger_lower": mean - 2.0 * off,
        "stochastic_k": k[-1], "stochastic_d": sum(k) / 3, "adx": adx(bars),
        "cci": (typical[-1] - centre) / (0.015 * sum(abs(price - centre) for price in typical[-20:]) / 20),
        "deviation": off, "donchian_high": max(highs[-20:]), "donchian_low": min(lows[-20:]),
        "vwap": sum(price * size for price, size in zip(typical, volume.tolist(), strict=True)) / float(volume.sum()),
    }


def smoothed(values: Sequence[float], share: float) -> list[float]:
    """An exponential mean that begins at the first value."""
    means = [values[0]]
    for value in values[1:]:
        means.append(means[-1] + share * (value - means[-1]))
    return means


def deviation(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return sqrt(sum((value - mean) ** 2 for value in values) / len(values))


def adx(bars: Sequence[tuple[float, float, float]]) -> float:
    ups = [after[0] - before[0] for before, after in pairwise(bars)]
    downs = [before[1] - after[1] for before, after in pairwise(bars)]
    moves = list(zip(ups, downs, strict=True))
    plus = smoothed([up if up > down and up > 0 else 0.0 for up, down in moves], 1 / 14)
    minus = smoothed([down if down > up and down > 0 else 0.0 for up, down in moves], 1 / 14)
    apart = [abs(p - m) / (p + m) if p + m > 0 else 0.0 for p, m in zip(plus, minus, strict=True)]
    return 100.0 * smoothed(apart, 1 / 14)[-1]
