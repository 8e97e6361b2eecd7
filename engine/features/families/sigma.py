"""The volatility and the usual spread of now: the two units in which everything else is measured.

sigma is the exponentially weighted standard deviation of 5-second moves of the mid, half-life 15 minutes of event
time; intervals over 5 minutes are holes and carry no volatility. The spread's mean has the same half-life (a plain
mean over the first 200 ticks).
"""

from __future__ import annotations

import numpy as np

from ...jit import subkernel
from ...manifest import Moments
from ...types import F32, F64, I64
from ..detmath import LN2, det_exp
from ..moments import barrier
from ..spec import MID, QUOTES, Column, Family, Tick

HALF_LIFE_S = 900.0
GRID_S = 5.0
LONGEST_GRID_S = 300.0
KNOWN = 0.02
"""Weight of moves seen (1 = all of the past) from which sigma counts as known: six 5-second moves."""
PLAIN = 200
"""Ticks over which the mean spread begins as a plain mean."""

_DECAY = LN2 / HALF_LIFE_S
_SHORTEST_S, _LONGEST_S = 0.01, 60.0
"""The time one tick's spread may stand for."""
_DEFAULT = Moments()
_KAPPA, _H_MIN, _H_MAX = _DEFAULT.kappa, _DEFAULT.h_min_s, _DEFAULT.h_max_s
_K_VOL, _K_SPREAD = _DEFAULT.k_vol, _DEFAULT.k_spread

_SPREAD, _VARIANCE, _WEIGHT, _GRID_MID, _GRID_TS, _SIGMA, _PER_SIGMA = range(7)

_WARM, _SPAN = "6 moves of 5 s", "15 min half-life"
FAMILY = Family(
    "sigma", 2, 7,
    (
        Column("sigma", "10^4 · sigma / mid", _SPAN, "bp per √s", _WARM, "every tick",
               "exponentially weighted variance: RiskMetrics technical document (1996)", MID),
        Column("spread_sigma", "mean spread / sigma", _SPAN, "√s", _WARM, "every tick", "ratio", QUOTES),
        Column("width_sigma",
               "w / sigma, w = max(½ · sigma · √H, mean spread), √H = 4 · mean spread / sigma within √60 and √3600",
               _SPAN, "√s", _WARM, "every tick", "López de Prado, Advances in Financial Machine Learning (2018), ch. 3", QUOTES),
    ),
)


@subkernel
def begin(state: I64, real: F64, at: int, ts: int, mid2: int, spread: int) -> None:
    real[at + _SPREAD] = float(spread)
    real[at + _GRID_MID] = 0.5 * mid2
    state[at + _GRID_TS] = ts
    real[at + _SIGMA] = np.nan
    real[at + _PER_SIGMA] = np.nan


@subkernel
def measure(
    state: I64, real: F64, at: int, ts: int, previous: int, count: int, mid2: int, spread: int
) -> tuple[float, float, float]:
    """(mean spread, sigma, 1 / sigma) at this tick, points and points per √s; count: ticks before it."""
    weight = _gone(_DECAY * min(max((ts - previous) * 1e-9, _SHORTEST_S), _LONGEST_S))
    if count < PLAIN:
        weight = max(weight, 1.0 / (count + 1))
    real[at + _SPREAD] += weight * (spread - real[at + _SPREAD])

    elapsed = (ts - state[at + _GRID_TS]) * 1e-9
    if elapsed >= GRID_S:
        if elapsed <= LONGEST_GRID_S:
            move = 0.5 * mid2 - real[at + _GRID_MID]
            keep = det_exp(-_DECAY * elapsed)
            real[at + _VARIANCE] = real[at + _VARIANCE] * keep + (1.0 - keep) * (move * move / elapsed)
            real[at + _WEIGHT] = real[at + _WEIGHT] * keep + (1.0 - keep)
            if real[at + _WEIGHT] > KNOWN and real[at + _VARIANCE] > 0.0:
                real[at + _SIGMA] = np.sqrt(real[at + _VARIANCE] / real[at + _WEIGHT])
                real[at + _PER_SIGMA] = 1.0 / real[at + _SIGMA]
        state[at + _GRID_TS] = ts
        real[at + _GRID_MID] = 0.5 * mid2
    return known(real, at)


@subkernel
def known(real: F64, at: int) -> tuple[float, float, float]:
    """(mean spread, sigma, 1 / sigma) as they were measured last."""
    return real[at + _SPREAD], real[at + _SIGMA], real[at + _PER_SIGMA]


@subkernel
def _gone(x: float) -> float:
    """1 − e^−x for 0 <= x <= 0.05, by its Taylor series: the rest is below 1e-13 of it."""
    return x * (1.0 - x * (0.5 - x * (1.0 / 6.0 - x * (1.0 / 24.0 - x * (1.0 / 120.0 - x * (1.0 / 720.0))))))


@subkernel
def step(tick: Tick, out: F32, column: int) -> None:
    out[column] = 2e4 * tick.sigma / tick.mid2
    out[column + 1] = tick.usual * tick.per_sigma
    _, width, _ = barrier(tick.usual, tick.sigma, _KAPPA, _H_MIN, _H_MAX, _K_VOL, _K_SPREAD)
    out[column + 2] = width * tick.per_sigma
