"""The nine time features, from closes on a clock, in two forms that share one state.

Raw: `ret1`, its lags 1, 2, 5, 8, `vol14`, `vol50` (sample standard deviation of the last 14 / 50 ret1), `mom5`,
`mom15` (price differences). Scale-free, for models that must travel between symbols and years: returns and
volatilities over sigma · √60, momenta over sigma · √(60 k), named with `_s` so that nobody mistakes one for the other.

A close is the mid of the last tick of a closed one-minute bar (a bar is [start, end), closed by the first tick past
its end; a minute without ticks makes no bar), or of every tick. NaN until enough closes exist.
"""

from __future__ import annotations

import numpy as np

from ...jit import subkernel
from ...types import F32, F64, I64
from ..spec import MID, Column, Family, Tick

CLOSES, RETURNS = 16, 64
COUNT, NINE = 0, 1
_CLOSE_RING = NINE + 9
_RETURN_RING = _CLOSE_RING + CLOSES
_WORDS = _RETURN_RING + RETURNS

READY = 51
"""Closes until all nine are known."""

NAMES = ("ret1", "ret1_lag1", "ret1_lag2", "ret1_lag5", "ret1_lag8", "vol14", "vol50", "mom5", "mom15")
_FORMULAS = (
    "c / c₋₁ − 1", "ret1 one bar earlier", "ret1 two bars earlier", "ret1 five bars earlier", "ret1 eight bars earlier",
    "sample std of the last 14 ret1 (ddof 1)", "sample std of the last 50 ret1 (ddof 1)", "c − c₋₅", "c − c₋₁₅",
)
_NEEDS = (2, 3, 4, 7, 10, 15, 51, 6, 16)
_SECONDS = (60, 60, 60, 60, 60, 60, 60, 300, 900)
_PER_ROOT = 1.0 / np.sqrt(np.array(_SECONDS, np.float64))
_SOURCE = "definition of the experts' time features"

SCALE_FREE = Family(
    "time", 2, _WORDS,
    tuple(
        Column(f"{name}_s", f"({formula}) / (sigma{'' if 'mom' in name else ' / mid'} · √{seconds})", "closed bars of 1m",
               "sigma", f"{needs} closes", "every tick", _SOURCE, MID, "1m")
        for name, formula, seconds, needs in zip(NAMES, _FORMULAS, _SECONDS, _NEEDS, strict=True)
    ),
)
RAW = Family(
    "time_raw", 2, _WORDS,
    tuple(
        Column(name, formula, "the clock's closes", "price" if "mom" in name else "1", f"{needs} closes",
               "every close", _SOURCE, MID)
        for name, formula, needs in zip(NAMES, _FORMULAS, _NEEDS, strict=True)
    ),
)


@subkernel
def begin(real: F64, at: int) -> None:
    for k in range(9):
        real[at + NINE + k] = np.nan


@subkernel
def add_close(state: I64, real: F64, at: int, close: float) -> None:
    """Take one close and compute the nine anew, each from its ring in a fixed order (nothing drifts)."""
    n = state[at + COUNT]
    closes = at + _CLOSE_RING
    returns = at + _RETURN_RING
    nine = at + NINE
    if n > 0:
        ret1 = close / real[closes + (n - 1) % CLOSES] - 1.0
        real[returns + n % RETURNS] = ret1
        real[nine] = ret1
    for k, lag in enumerate((1, 2, 5, 8)):
        if n > lag:
            real[nine + 1 + k] = real[returns + (n - lag) % RETURNS]
    for k, length in enumerate((14, 50)):
        if n >= length:
            mean = 0.0
            for j in range(length):
                mean += real[returns + (n - j) % RETURNS]
            mean /= length
            squares = 0.0
            for j in range(length):
                off = real[returns + (n - j) % RETURNS] - mean
                squares += off * off
            real[nine + 5 + k] = np.sqrt(squares / (length - 1))
    for k, back in enumerate((5, 15)):
        if n >= back:
            real[nine + 7 + k] = close - real[closes + (n - back) % CLOSES]
    real[closes + n % CLOSES] = close
    state[at + COUNT] = n + 1


@subkernel
def step(real: F64, at: int, tick: Tick, out: F32, column: int) -> None:
    """The scale-free form."""
    relative = 0.5 * tick.mid2 * tick.per_sigma
    for k in range(7):
        out[column + k] = real[at + NINE + k] * relative * _PER_ROOT[k]
    for k in range(7, 9):
        out[column + k] = 0.5 * real[at + NINE + k] * tick.per_sigma * _PER_ROOT[k]


@subkernel
def write_raw(real: F64, at: int, out: F32, column: int, unit: float) -> None:
    """unit: the price of one unit of `close`."""
    for k in range(7):
        out[column + k] = real[at + NINE + k]
    for k in range(7, 9):
        out[column + k] = real[at + NINE + k] * unit
