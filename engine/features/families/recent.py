"""The last ticks one by one: stamp and mid of the last 128, none from before a hole. No columns of its own."""

from __future__ import annotations

from ...jit import subkernel
from ...types import I64
from ..spec import Family

SLOTS = 128
_HEAD, _RING = 0, 2

FAMILY = Family("recent", 1, _RING + 2 * SLOTS, ())


@subkernel
def take(state: I64, at: int, ts: int, mid2: int) -> None:
    slot = at + _RING + 2 * (state[at + _HEAD] & (SLOTS - 1))
    state[slot] = ts
    state[slot + 1] = mid2
    state[at + _HEAD] += 1


@subkernel
def resume(state: I64, at: int) -> None:
    """After a hole."""
    state[at + _HEAD] = 0


@subkernel
def known(state: I64, at: int, back: int) -> bool:
    """Whether there is a tick `back` before the last one."""
    return bool(state[at + _HEAD] > back)


@subkernel
def before(state: I64, at: int, back: int) -> tuple[int, int]:
    """(ts, mid2) of the tick `back` before the last one, back < SLOTS."""
    slot = at + _RING + 2 * ((state[at + _HEAD] - 1 - back) & (SLOTS - 1))
    return state[slot], state[slot + 1]
