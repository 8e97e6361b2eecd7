"""RSI, MACD, stochastic, CCI, ADX, Bollinger width and ATR of the mid, on closed bars of several lengths.

Definitions and starts are TA-Lib's (github.com/TA-Lib/ta-lib, src/ta_func), scaled so that no unit is left; where it
divides nothing by nothing, RSI and stochastic stand at ½ instead of 0. A column changes when a bar of its length closes:
a longer bar that is still open says nothing. Only ATR and Bollinger width move in between, with sigma.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...config import TIMEFRAMES
from ...jit import as_singles, subkernel
from ...types import F32, F64, I64
from ..spec import MID, Column, Family, Tick
from .bars import HIGHEST, LOWEST, Bar

USUAL = ("1m", "5m", "15m", "1h")
"""Out of TIMEFRAMES. A bar begins at a multiple of its length since 1970 UTC."""

WILDER, FAST, SLOW, BAND, STOCHASTIC, SMOOTH = 14, 12, 26, 20, 14, 3
_FAST_SHARE, _SLOW_SHARE = 2.0 / (FAST + 1), 2.0 / (SLOW + 1)

COUNT = 7
RSI, MACD, STOCH, CCI, ADX, BOLL, ATR = range(COUNT)
_VALUES = 4
"""Words for the seven values of a length as float32, at the head of the family: what every tick reads."""

_BUCKET, _HIGH, _LOW, _CLOSE, _BARS, _LAST_HIGH, _LAST_LOW, _LAST_CLOSE = range(8)
_GAIN, _LOSS, _RANGE, _RANGES, _UP, _DOWN, _TREND, _QUICK, _SLUGGISH = range(8, 17)
_LONG_RING, _SHORT_RING = 32, 16
_CLOSES = 17
_TYPICALS = _CLOSES + _LONG_RING
_HIGHS = _TYPICALS + _LONG_RING
_LOWS = _HIGHS + _SHORT_RING
_RAWS = _LOWS + _SHORT_RING
_WORDS = _RAWS + 4

_WILDER_1978 = "Wilder, New Concepts in Technical Trading Systems (1978)"
_KINDS = (
    ("rsi", "g / (g + l), g, l: Wilder means (14) of gains and losses", "1", 15, "each bar", _WILDER_1978),
    ("macd", "(EMA 12 − EMA 26) / ATR 14", "ATR", 26, "each bar", "Appel (1979)"),
    ("stoch", "mean of 3 of (close − lowest 14) / (highest 14 − lowest 14)", "1", 16, "each bar", "Lane (1984)"),
    ("cci", "(tp − mean 20) / (0.015 · mean deviation 20) / 100, tp = (high + low + close) / 3", "1", 20, "each bar",
     "Lambert (1980)"),
    ("adx", "Wilder mean (14) of |DI⁺ − DI⁻| / (DI⁺ + DI⁻)", "1", 28, "each bar", _WILDER_1978),
    ("boll", "4 · std (ddof 0) of 20 closes / (sigma · √T)", "sigma", 20, "every tick", "Bollinger (2001)"),
    ("atr", "Wilder mean (14) of true ranges / (sigma · √T)", "sigma", 15, "every tick", _WILDER_1978),
)


class Lengths(NamedTuple):
    """The bars' lengths as the kernel sees them: ns, and 1 / √seconds, of each."""

    size: int
    ns: I64
    per_root: F64


def family(timeframes: tuple[str, ...]) -> Family:
    """The family on bars of these lengths, names out of TIMEFRAMES."""
    return Family(
        "indicators", 1, len(timeframes) * (_VALUES + _WORDS),
        tuple(
            Column(f"{name}_{length}", formula.replace("√T", f"√{TIMEFRAMES[length]}"), f"closed bars of {length}", unit,
                   f"{bars} bars of {length}", cost, f"{source}; as TA-Lib", MID, length, length == "1m")
            for length in timeframes for name, formula, unit, bars, cost, source in _KINDS
        ),
    )


@subkernel
def begin(state: I64, real: F64, at: int, lengths: Lengths) -> None:
    for k in range(lengths.size):
        for v in range(COUNT):
            as_singles(state)[2 * (at + k * _VALUES) + v] = np.nan
        _open(state, at + lengths.size * _VALUES + k * _WORDS)


@subkernel
def _open(state: I64, at: int) -> None:
    """An empty bar: which one, its first minute says."""
    state[at + _HIGH] = LOWEST
    state[at + _LOW] = HIGHEST


@subkernel
def take(state: I64, real: F64, at: int, lengths: Lengths, minute: Bar, ts: int) -> None:
    """A minute bar closed, and the next tick is at ts: into every open bar, and close those that are over."""
    for k in range(lengths.size):
        own = at + lengths.size * _VALUES + k * _WORDS
        if state[own + _HIGH] == LOWEST:
            state[own + _BUCKET] = minute.start // lengths.ns[k]
        state[own + _HIGH] = max(state[own + _HIGH], minute.high)
        state[own + _LOW] = min(state[own + _LOW], minute.low)
        state[own + _CLOSE] = minute.close
        if ts // lengths.ns[k] != state[own + _BUCKET]:
            _close(state, real, own, 2 * (at + k * _VALUES))
            _open(state, own)


@subkernel
def _close(state: I64, real: F64, at: int, values: int) -> None:
    """A bar of one length is over: its seven values anew, from float32 number `values` on."""
    told = as_singles(state)
    n = state[at + _BARS]
    high, low, close = state[at + _HIGH], state[at + _LOW], state[at + _CLOSE]
    state[at + _CLOSES + (n & (_LONG_RING - 1))] = close
    state[at + _TYPICALS + (n & (_LONG_RING - 1))] = high + low + close
    state[at + _HIGHS + (n & (_SHORT_RING - 1))] = high
    state[at + _LOWS + (n & (_SHORT_RING - 1))] = low
    if n > 0:
        change = close - state[at + _LAST_CLOSE]
        true_range = max(high, state[at + _LAST_CLOSE]) - min(low, state[at + _LAST_CLOSE])
        up, down = high - state[at + _LAST_HIGH], state[at + _LAST_LOW] - low
        real[at + _GAIN] = _wilder(real[at + _GAIN], max(change, 0), n)
        real[at + _LOSS] = _wilder(real[at + _LOSS], max(-change, 0), n)
        real[at + _RANGE] = _wilder(real[at + _RANGE], true_range, n)
        real[at + _RANGES] = _wilder_sum(real[at + _RANGES], true_range, n)
        real[at + _UP] = _wilder_sum(real[at + _UP], up if up > 0 and up > down else 0, n)
        real[at + _DOWN] = _wilder_sum(real[at + _DOWN], down if down > 0 and down > up else 0, n)
    state[at + _LAST_HIGH] = high
    state[at + _LAST_LOW] = low
    state[at + _LAST_CLOSE] = close
    n += 1
    state[at + _BARS] = n

    if n > WILDER:
        both = real[at + _GAIN] + real[at + _LOSS]
        told[values + RSI] = real[at + _GAIN] / both if both > 0.0 else 0.5
        told[values + ATR] = real[at + _RANGE]
        _trend(real, at, n)
    if n >= 2 * WILDER:
        told[values + ADX] = real[at + _TREND]
    if n >= SLOW:
        _averages(state, real, at, n)
        spread = real[at + _QUICK] - real[at + _SLUGGISH]
        told[values + MACD] = spread / real[at + _RANGE] if real[at + _RANGE] > 0.0 else np.nan
    if n >= STOCHASTIC:
        real[at + _RAWS + n % SMOOTH] = _raw_stochastic(state, at, close)
    if n >= STOCHASTIC + SMOOTH - 1:
        told[values + STOCH] = (real[at + _RAWS] + real[at + _RAWS + 1] + real[at + _RAWS + 2]) / SMOOTH
    if n >= BAND:
        told[values + CCI] = _channel(state, at, n)
        told[values + BOLL] = 4.0 * _deviation(state, at, n)


@subkernel
def _wilder(mean: float, x: float, n: int) -> float:
    """Wilder's mean after the n-th x: a sum until there are 14, then a mean that keeps 13/14 of itself."""
    if n < WILDER:
        return mean + x
    if n == WILDER:
        return (mean + x) / WILDER
    return (mean * (WILDER - 1) + x) / WILDER


@subkernel
def _wilder_sum(total: float, x: float, n: int) -> float:
    """Wilder's sum after the n-th x: plain until there are 13, then it loses 1/14 of itself each time."""
    return total + x if n < WILDER else total - total / WILDER + x


@subkernel
def _trend(real: F64, at: int, n: int) -> None:
    """ADX after n > 14 bars: the mean of 14 DX first, then Wilder's; a DX of nothing leaves it as it is."""
    both = real[at + _UP] + real[at + _DOWN]
    usable = real[at + _RANGES] > 0.0 and both > 0.0
    dx = abs(real[at + _UP] - real[at + _DOWN]) / both if usable else 0.0
    if n < 2 * WILDER:
        real[at + _TREND] += dx
    elif n == 2 * WILDER:
        real[at + _TREND] = (real[at + _TREND] + dx) / WILDER
    elif usable:
        real[at + _TREND] = (real[at + _TREND] * (WILDER - 1) + dx) / WILDER


@subkernel
def _averages(state: I64, real: F64, at: int, n: int) -> None:
    """The two exponential means of the closes; both begin at the 26th as plain means of the last 12 and 26."""
    close = state[at + _LAST_CLOSE]
    if n == SLOW:
        real[at + _QUICK] = _sum_of_closes(state, at, n, FAST) / FAST
        real[at + _SLUGGISH] = _sum_of_closes(state, at, n, SLOW) / SLOW
    else:
        real[at + _QUICK] += _FAST_SHARE * (close - real[at + _QUICK])
        real[at + _SLUGGISH] += _SLOW_SHARE * (close - real[at + _SLUGGISH])


@subkernel
def _sum_of_closes(state: I64, at: int, n: int, length: int) -> int:
    total = 0
    for k in range(n - length, n):
        total += state[at + _CLOSES + (k & (_LONG_RING - 1))]
    return total


@subkernel
def _raw_stochastic(state: I64, at: int, close: int) -> float:
    n = state[at + _BARS]
    high, low = close, close
    for k in range(n - STOCHASTIC, n):
        high = max(high, state[at + _HIGHS + (k & (_SHORT_RING - 1))])
        low = min(low, state[at + _LOWS + (k & (_SHORT_RING - 1))])
    return (close - low) / (high - low) if high > low else 0.5


@subkernel
def _channel(state: I64, at: int, n: int) -> float:
    """CCI / 100 from exact sums of the typical prices."""
    total, off = 0, 0
    for k in range(n - BAND, n):
        total += state[at + _TYPICALS + (k & (_LONG_RING - 1))]
    for k in range(n - BAND, n):
        off += abs(BAND * state[at + _TYPICALS + (k & (_LONG_RING - 1))] - total)
    now = BAND * state[at + _TYPICALS + ((n - 1) & (_LONG_RING - 1))] - total
    return now * BAND / (1.5 * off) if off > 0 else 0.0


@subkernel
def _deviation(state: I64, at: int, n: int) -> float:
    """Standard deviation of the closes, ddof 0, from sums about the last one."""
    total, squares = 0.0, 0.0
    for k in range(n - BAND, n):
        off = float(state[at + _CLOSES + (k & (_LONG_RING - 1))] - state[at + _LAST_CLOSE])
        total += off
        squares += off * off
    mean = total / BAND
    return float(np.sqrt(max(squares / BAND - mean * mean, 0.0)))


@subkernel
def step(state: I64, at: int, lengths: Lengths, tick: Tick, out: F32, column: int) -> None:
    told = as_singles(state)
    for k in range(lengths.size):
        values, to = 2 * (at + k * _VALUES), column + k * COUNT
        for v in range(BOLL):
            out[to + v] = told[values + v]
        unit = 0.5 * tick.per_sigma * lengths.per_root[k]
        out[to + BOLL] = told[values + BOLL] * unit
        out[to + ATR] = told[values + ATR] * unit
