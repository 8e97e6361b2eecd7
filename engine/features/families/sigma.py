"""The usual spread and the volatility of now: the two units in which everything else is measured.

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
from ..moments import horizon_width
from ..spec import Column, Family

HALF_LIFE_S = 900.0
GRID_S = 5.0
LONGEST_GRID_S = 300.0
KNOWN = 0.02
"""Weight of moves seen (1 = all of the past) from which sigma counts as known: six 5-second moves."""

_DECAY = -LN2 / HALF_LIFE_S
_DEFAULT = Moments()
_KAPPA, _H_MIN, _H_MAX = _DEFAULT.kappa, _DEFAULT.h_min_s, _DEFAULT.h_max_s
_K_VOL, _K_SPREAD = _DEFAULT.k_vol, _DEFAULT.k_spread

SPREAD, VARIANCE, WEIGHT, GRID_MID, GRID_TS = range(5)

_SOURCE = "exponentially weighted variance: RiskMetrics technical document (1996)"
FAMILY = Family(
    "sigma", 1, 5,
    (
        Column("sigma", "10^4 · sigma / mid", "15 min half-life", "bp per √s", "6 moves of 5 s", _SOURCE),
        Column("spread_rel", "spread / mean spread", "15 min half-life", "1", "1 tick", "ratio"),
        Column("spread_sigma", "mean spread / sigma", "15 min half-life", "√s", "6 moves of 5 s", "ratio"),
        Column("width_sigma", "barrier width / (sigma · √H), default moments", "15 min half-life", "1",
               "6 moves of 5 s", "López de Prado, Advances in Financial Machine Learning (2018), ch. 3"),
    ),
)


@subkernel
def begin(state: I64, real: F64, at: int, ts: int, mid2: int, spread: int) -> None:
    real[at + SPREAD] = float(max(spread, 0))
    real[at + GRID_MID] = 0.5 * mid2
    state[at + GRID_TS] = ts


@subkernel
def step(state: I64, real: F64, at: int, ts: int, previous: int, count: int, mid2: int, spread: int) -> tuple[float, float]:
    """(mean spread, sigma) in points and points per √s at this tick; sigma is NaN until known."""
    dt = min((ts - previous) * 1e-9, 60.0)
    weight = 1.0 - det_exp(_DECAY * max(dt, 0.01))
    if count < 200:
        weight = max(weight, 1.0 / (count + 1))
    real[at + SPREAD] += weight * (max(spread, 0) - real[at + SPREAD])

    elapsed = (ts - state[at + GRID_TS]) * 1e-9
    if elapsed >= GRID_S:
        if elapsed <= LONGEST_GRID_S:
            move = 0.5 * mid2 - real[at + GRID_MID]
            keep = det_exp(_DECAY * elapsed)
            real[at + VARIANCE] = real[at + VARIANCE] * keep + (1.0 - keep) * (move * move / elapsed)
            real[at + WEIGHT] = real[at + WEIGHT] * keep + (1.0 - keep)
        state[at + GRID_TS] = ts
        real[at + GRID_MID] = 0.5 * mid2
    if real[at + WEIGHT] > KNOWN and real[at + VARIANCE] > 0.0:
        return real[at + SPREAD], np.sqrt(real[at + VARIANCE] / real[at + WEIGHT])
    return real[at + SPREAD], np.nan


@subkernel
def write(out: F32, column: int, mid2: int, spread: int, usual: float, sigma: float) -> None:
    out[column] = 2e4 * sigma / mid2
    out[column + 1] = max(spread, 0) / usual if usual > 0.0 else 1.0
    out[column + 2] = usual / sigma
    horizon, width = horizon_width(usual, sigma, _KAPPA, _H_MIN, _H_MAX, _K_VOL, _K_SPREAD)
    out[column + 3] = width / (sigma * np.sqrt(horizon))
