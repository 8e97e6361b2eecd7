"""Realised volatility of the ticks, and how much of the five minutes' moves came in jumps."""

from __future__ import annotations

import numpy as np

from ...jit import subkernel
from ...types import F32
from ..spec import Column, Family
from .panes import Windows

FAMILY = Family(
    "volatility", 1, 0,
    (
        *(
            Column(f"rv_{w}s", f"√(Σ tick moves²) / (sigma · √{w})", f"{w} s in panes of {p} s", "sigma", f"{w} s", "every tick",
                   "realised volatility: Andersen & Bollerslev (1998)")
            for w, p in ((60, 1), (300, 5))
        ),
        Column("jump_300s",
               "1 − (π/2 · Σ |m| · |m₋₁|) / Σ m², m: moves to the closes of the closed panes, none across a hole; from two on",
               "300 s in panes of 5 s", "1", "300 s", "every 5 s",
               "bipower variation: Barndorff-Nielsen & Shephard (2004); relative jump: Huang & Tauchen (2005)"),
    ),
)


@subkernel
def step(last: Windows, unit60: float, unit300: float, known300: float, out: F32, column: int) -> None:
    out[column] = np.sqrt(last.squares60) * unit60
    out[column + 1] = np.sqrt(last.squares300) * unit300
    out[column + 2] = last.jump300 * known300
