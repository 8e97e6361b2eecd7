"""The quote itself: mid, time since the last tick, holes. Every other family stands on it. No columns of its own."""

from __future__ import annotations

from ...jit import subkernel
from ...types import I64
from ..spec import Family

HOLE = 600_000_000_000
"""ns without a tick after which windows no longer describe the present: decisions wait until they are full again."""

TS, MID2, SIGN, COUNT, HOLES, BARS = range(6)
"""Last stamp; last bid + ask (twice the mid, exact); last direction; ticks seen; holes seen; bars closed since the last hole."""

FAMILY = Family("quote", 1, 6, ())


@subkernel
def begin(state: I64, at: int, ts: int, mid2: int) -> None:
    """A symbol's first tick."""
    state[at + TS] = ts
    state[at + MID2] = mid2


@subkernel
def end(state: I64, at: int, ts: int, mid2: int) -> None:
    """Remember the tick, after every family has seen the one before it."""
    if ts - state[at + TS] > HOLE:
        state[at + HOLES] += 1
        state[at + BARS] = 0
    if mid2 > state[at + MID2]:
        state[at + SIGN] = 1
    elif mid2 < state[at + MID2]:
        state[at + SIGN] = -1
    state[at + TS] = ts
    state[at + MID2] = mid2
    state[at + COUNT] += 1
