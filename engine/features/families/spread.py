"""The spread of this tick against what is usual, and its rank among those of the last five minutes."""

from __future__ import annotations

import numpy as np

from ...jit import as_halves, subkernel
from ...types import F32, F64, I64
from ..spec import QUOTES, Column, Family, Tick

SAMPLES = 64
_LARGEST = 2**31 - 2
"""Points above which a spread counts as so large; the ring holds 32 bits of it."""
_NOTHING = 2**31 - 1
"""In a place of the ring that holds no spread."""
_HEAD, _LAST, _FRESH, _RANK, _RING = 0, 1, 2, 3, 4

FAMILY = Family(
    "spread", 1, _RING + SAMPLES // 2,
    (
        Column("spread_rel", "spread / mean spread", "15 min half-life", "1", "1 tick", "every tick", "ratio", QUOTES),
        Column("spread_rank",
               "(spreads below this one + ½ · equal ones) / n, of the last ticks of the last n ≤ 64 panes of 5 s that held any",
               "64 panes of 5 s", "1", "1 pane of 5 s", "when the spread changes", "midrank: Kendall (1945)", QUOTES),
    ),
)


@subkernel
def begin(state: I64, at: int) -> None:
    ring = as_halves(state)
    for k in range(SAMPLES):
        ring[2 * (at + _RING) + k] = _NOTHING


@subkernel
def sample(state: I64, at: int, spread: int) -> None:
    """A long pane closed with this spread."""
    as_halves(state)[2 * (at + _RING) + (state[at + _HEAD] & (SAMPLES - 1))] = min(spread, _LARGEST)
    state[at + _HEAD] += 1
    state[at + _FRESH] = 0


@subkernel
def step(state: I64, real: F64, at: int, tick: Tick, out: F32, column: int) -> None:
    out[column] = tick.spread / tick.usual if tick.usual > 0.0 else 1.0
    if state[at + _FRESH] == 0 or tick.spread != state[at + _LAST]:
        ring, now = as_halves(state), np.int32(min(tick.spread, _LARGEST))
        below, equal = np.int32(0), np.int32(0)
        for k in range(SAMPLES):
            below += np.int32(ring[2 * (at + _RING) + k] < now)
            equal += np.int32(ring[2 * (at + _RING) + k] == now)
        real[at + _RANK] = (below + 0.5 * equal) / min(state[at + _HEAD], SAMPLES) if state[at + _HEAD] > 0 else np.nan
        state[at + _LAST] = tick.spread
        state[at + _FRESH] = 1
    out[column + 1] = real[at + _RANK]
