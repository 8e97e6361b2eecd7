"""Where the mid stands in the five minutes: in their range, from their volume-weighted mid, from their mean."""

from __future__ import annotations

import numpy as np

from ...jit import subkernel
from ...types import F32
from ..spec import SIZES, Column, Family, Tick
from .panes import Windows

_SPAN = "300 s in panes of 5 s"
_LARGEST = 2.0**62
"""Up to here Σ size · distance can't have wrapped."""

FAMILY = Family(
    "distance", 1, 0,
    (
        Column("donchian_300s", "(mid − lowest) / (highest − lowest); ½ where they are one", _SPAN, "1", "300 s", "every tick",
               "price channel: Donchian (1960)"),
        Column("vwap_300s", "(mid − Σ size · mid / Σ size) / (sigma · √300), size: bid size + ask size", _SPAN, "sigma",
               "300 s with sizes", "every tick",
               "volume-weighted average price: Berkowitz, Logue & Noser (1988)", SIZES),
        Column("zscore_300s", "(mid − mean) / standard deviation (ddof 0), of the closes of the closed panes", _SPAN, "1",
               "300 s", "every tick", "standard score"),
    ),
)


@subkernel
def step(tick: Tick, last: Windows, unit300: float, known300: float, out: F32, column: int) -> None:
    span = last.high300 - last.low300
    out[column] = ((tick.mid2 - last.low300) / span if span > 0 else 0.5) * known300
    exact = last.size300 > 0 and float(last.size300) * float(span) < _LARGEST
    out[column + 1] = -(last.moment300 / last.size300) * unit300 if exact else np.nan
    out[column + 2] = ((tick.mid2 - last.close300) - last.mean300) * last.per_deviation300 * known300
