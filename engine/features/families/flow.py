"""Which side presses: the quote's own sizes, the order flow of the minute, the direction of ticks."""

from __future__ import annotations

import numpy as np

from ...jit import subkernel
from ...types import F32
from ..spec import SIZES, Column, Family, Tick
from .panes import Windows

FAMILY = Family(
    "flow", 1, 0,
    (
        Column("imbalance", "(bid size − ask size) / (bid size + ask size)", "1 tick", "1", "1 tick with sizes", "every tick",
               "queue imbalance: Gould & Bonart (2016)", SIZES),
        Column("ofi_60s", "Σ order flow / Σ (bid size + ask size)", "60 s in panes of 1 s", "1", "60 s with sizes", "every tick",
               "order flow imbalance: Cont, Kukanov & Stoikov (2014)", SIZES),
        *(
            Column(f"flow_{w}s", "Σ direction of the last move / ticks", f"{w} s in panes of {p} s", "1", f"{w} s", "every tick",
                   "tick rule: Lee & Ready (1991)")
            for w, p in ((60, 1), (300, 5))
        ),
    ),
)


@subkernel
def step(tick: Tick, last: Windows, known60: float, per_ticks300: float, out: F32, column: int) -> None:
    size = tick.bid_size + tick.ask_size
    out[column] = (tick.bid_size - tick.ask_size) / size if size > 0 else np.nan
    out[column + 1] = last.flow60 / last.size60 * known60 if last.size60 > 0 else np.nan
    out[column + 2] = last.signs60 / last.ticks60 * known60
    out[column + 3] = last.signs300 * per_ticks300
