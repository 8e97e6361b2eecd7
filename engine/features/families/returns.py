"""How far the mid came: over the last 10 and 100 ticks in spreads, over the last 60 and 300 seconds in sigmas."""

from __future__ import annotations

import numpy as np

from ...jit import subkernel
from ...types import F32, I64
from ..spec import Column, Family, Tick
from . import recent
from .panes import Windows

TICKS = (10, 100)
_ROOT60, _ROOT300 = np.sqrt(60.0), np.sqrt(300.0)

FAMILY = Family(
    "returns", 1, 0,
    (
        *(
            Column(f"move_{n}t", f"(mid − mid {n} ticks ago) / mean spread", f"{n} ticks", "spreads",
                   f"{n + 1} ticks without a hole", "every tick", "ratio")
            for n in TICKS
        ),
        *(
            Column(f"move_{w}s", f"(mid − mid {w} s ago) / (sigma · √{w})", f"{w} s in panes of {p} s", "sigma", f"{w} s",
                   "every tick", "standardised return")
            for w, p in ((60, 1), (300, 5))
        ),
    ),
)


@subkernel
def step(state: I64, at: int, tick: Tick, last: Windows, unit60: float, unit300: float, out: F32, column: int) -> None:
    """at: of `recent`."""
    per_spread = 0.5 / tick.usual if tick.usual > 0.0 else np.nan
    for k in range(2):
        back = TICKS[k]
        moved = tick.mid2 - recent.before(state, at, back)[1]
        out[column + k] = moved * per_spread if recent.known(state, at, back) else np.nan
    out[column + 2] = (tick.mid2 - last.base60) * unit60
    out[column + 3] = (tick.mid2 - last.base300) * unit300
