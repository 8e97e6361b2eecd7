"""How busy the market is: ticks of the minute against the five minutes', and the pace of the last ten."""

from __future__ import annotations

import numpy as np

from ...jit import subkernel
from ...types import F32, I64
from ..spec import Column, Family, Tick
from . import recent
from .panes import Windows

PACE = 10
_LONG_NS = 300_000_000_000

FAMILY = Family(
    "activity", 1, 0,
    (
        Column("rate_60s", "ticks per second over 60 s / over 300 s", "300 s", "1", "300 s", "every tick", "ratio"),
        Column("pace_10t", "d / (d + D), d: a tenth of the time since 10 ticks ago, D: 300 s / ticks of 300 s", "300 s", "1",
               "300 s and 11 ticks", "every tick", "durations: Engle & Russell (1998)"),
    ),
)


@subkernel
def step(state: I64, at: int, tick: Tick, last: Windows, per_ticks300: float, out: F32, column: int) -> None:
    """at: of `recent`."""
    out[column] = 5.0 * last.ticks60 * per_ticks300
    took = float(tick.ts - recent.before(state, at, PACE)[0])
    usual = (PACE * _LONG_NS) * per_ticks300
    out[column + 1] = took / (took + usual) if recent.known(state, at, PACE) else np.nan
