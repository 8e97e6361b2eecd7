"""Panes: ticks summed into seconds and 5-second stretches, from which windows of 60 and 300 seconds are read.

A window is the running pane and those of the 59 pane lengths before it. All sums are int64, so adding and taking away is
exact and nothing drifts, however long it runs. Where a sum may pass 2^63 it wraps, and is read only relative to the
present mid, where it is small again: arithmetic modulo 2^64 is exact.

Prices are half-points; where a symbol's mid has more than 32 bits (a bitcoin counted to the eighth digit), sums are of mids
without their last bits: what is left tells prices apart to two parts in a billion, and squares stay small. How many bits,
the first mid tells, and the first after a hole, or after a jump to eight times the price or an eighth of it.

No columns of its own. The minute's panes and the five minutes' share one layout but for what only one of them needs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...jit import subkernel
from ...types import F64, I64
from ..spec import Family, Tick
from .quote import LARGEST_SIZE

SECOND = 1_000_000_000
MINUTE_PANE, LONG_PANE = SECOND, 5 * SECOND
KEPT = 60
"""Panes of a window."""

MID_BITS = 32
LARGEST_MOVE = 2**28
"""Units of the sums, never less than a sixteenth of the price, above which a single move counts as so large."""

TICKS, SIGNS, SQUARES, SIZE, EXTRA = range(5)
"""Sums. EXTRA is the order flow in the minute's panes, size × (mid − ANCHOR) in the long ones."""
_SUMS = 5

# of one ring: number of the open pane, head, tail, mid2 before the window, sums of the open pane, of the closed ones
_NUMBER, _HEAD, _TAIL, _BASE, _OPEN, _CLOSED = 0, 1, 2, 3, 4, 9
_RING = 14
_MINUTE, _LONG = 0, _RING
# of the long panes alone: extremes of the open pane and of the closed ones, moves from close to close, closes
_HIGH, _LOW, _HIGHEST, _LOWEST, _LAST_CLOSE, _LAST_MOVE, _MOVES2, _BIPOWER, _ANCHOR, _SUM, _SUM2 = range(28, 39)
# bits that mids lose; float64: half-points per unit of the sums, mean of the closes less the last one, 1 / their deviation,
# relative jump
_LOST, _UNIT, _MEAN, _PER_DEVIATION, _JUMP, _FIRST = range(39, 45)

# a slot of the rings: number, sums, close; long ones also high, low, squared move, bipower
_S_NUMBER, _S_SUMS, _S_CLOSE, _S_HIGH, _S_LOW, _S_MOVE2, _S_BIPOWER = 0, 1, 6, 7, 8, 9, 10
_MINUTE_SLOT, _LONG_SLOT, _SLOTS = 8, 12, 64
_MINUTE_RING = 48
_LONG_RING = _MINUTE_RING + _SLOTS * _MINUTE_SLOT

FAMILY = Family("panes", 1, _LONG_RING + _SLOTS * _LONG_SLOT, ())

EXACT_RANGE = 2**28
"""Units between the highest and the lowest mid of a window, up to which sums about the present mid are exact."""


class Windows(NamedTuple):
    """What the last 60 and 300 seconds hold, this tick included."""

    ticks60: int
    signs60: int
    squares60: float
    size60: int
    flow60: int
    base60: int
    ticks300: int
    signs300: int
    squares300: float
    size300: int
    moment300: float
    """Σ size · (mid2 − this tick's mid2)."""
    base300: int
    high300: int
    low300: int
    close300: int
    """The last closed pane's mid2; mean300 and per_deviation300 are about it."""
    mean300: float
    per_deviation300: float
    jump300: float


@subkernel
def begin(state: I64, real: F64, at: int, ts: int, mid2: int) -> None:
    """From nothing: whatever was there is forgotten."""
    for k in range(FAMILY.words):
        state[at + k] = 0
    state[at + _FIRST] = mid2
    state[at + _MINUTE + _NUMBER] = ts // MINUTE_PANE
    state[at + _LONG + _NUMBER] = ts // LONG_PANE
    state[at + _MINUTE + _BASE] = mid2
    state[at + _LONG + _BASE] = mid2
    state[at + _LAST_CLOSE] = mid2
    while mid2 >> (MID_BITS + state[at + _LOST]) > 0:
        state[at + _LOST] += 1
    real[at + _UNIT] = float(1 << state[at + _LOST])
    state[at + _ANCHOR] = mid2 >> state[at + _LOST]
    _open(state, at, mid2)
    _forget_extremes(state, at)
    for k in (_MEAN, _PER_DEVIATION, _JUMP):
        real[at + k] = np.nan


@subkernel
def _open(state: I64, at: int, mid2: int) -> None:
    state[at + _HIGH] = mid2
    state[at + _LOW] = mid2


@subkernel
def _forget_extremes(state: I64, at: int) -> None:
    state[at + _HIGHEST] = -(2**62)
    state[at + _LOWEST] = 2**62


@subkernel
def roll(state: I64, real: F64, at: int, ts: int, previous_mid2: int, mid2: int) -> bool:
    """Time passes to ts: close the panes that are over, drop those that left the windows. Whether a long one closed."""
    number = ts // MINUTE_PANE
    if number == state[at + _MINUTE + _NUMBER]:
        return False
    slot = at + _MINUTE_RING + (state[at + _MINUTE + _HEAD] & (_SLOTS - 1)) * _MINUTE_SLOT
    _close(state, at + _MINUTE, slot, previous_mid2)
    state[at + _MINUTE + _NUMBER] = number
    while state[at + _MINUTE + _TAIL] < state[at + _MINUTE + _HEAD]:
        slot = at + _MINUTE_RING + (state[at + _MINUTE + _TAIL] & (_SLOTS - 1)) * _MINUTE_SLOT
        if state[slot + _S_NUMBER] > number - KEPT:
            break
        _drop(state, at + _MINUTE, slot)

    number = ts // LONG_PANE
    if number == state[at + _LONG + _NUMBER]:
        return False
    slot = at + _LONG_RING + (state[at + _LONG + _HEAD] & (_SLOTS - 1)) * _LONG_SLOT
    _close(state, at + _LONG, slot, previous_mid2)
    _close_long(state, at, slot, previous_mid2)
    state[at + _LONG + _NUMBER] = number
    while state[at + _LONG + _TAIL] < state[at + _LONG + _HEAD]:
        slot = at + _LONG_RING + (state[at + _LONG + _TAIL] & (_SLOTS - 1)) * _LONG_SLOT
        if state[slot + _S_NUMBER] > number - KEPT:
            break
        _drop(state, at + _LONG, slot)
        _drop_long(state, at, slot)
    _summarise(state, real, at)
    _open(state, at, mid2)
    return True


@subkernel
def _close(state: I64, ring: int, slot: int, close: int) -> None:
    """The open pane goes into its slot and into the window's sums."""
    state[slot + _S_NUMBER] = state[ring + _NUMBER]
    for k in range(_SUMS):
        state[slot + _S_SUMS + k] = state[ring + _OPEN + k]
        state[ring + _CLOSED + k] += state[ring + _OPEN + k]
        state[ring + _OPEN + k] = 0
    state[slot + _S_CLOSE] = close
    state[ring + _HEAD] += 1


@subkernel
def _drop(state: I64, ring: int, slot: int) -> None:
    for k in range(_SUMS):
        state[ring + _CLOSED + k] -= state[slot + _S_SUMS + k]
    state[ring + _BASE] = state[slot + _S_CLOSE]
    state[ring + _TAIL] += 1


@subkernel
def _close_long(state: I64, at: int, slot: int, close: int) -> None:
    state[slot + _S_HIGH] = state[at + _HIGH]
    state[slot + _S_LOW] = state[at + _LOW]
    state[at + _HIGHEST] = max(state[at + _HIGHEST], state[at + _HIGH])
    state[at + _LOWEST] = min(state[at + _LOWEST], state[at + _LOW])
    move = abs(_move(state, at, state[at + _LAST_CLOSE], close))
    state[slot + _S_MOVE2] = move * move
    alone = state[at + _LONG + _HEAD] - state[at + _LONG + _TAIL] == 1
    state[slot + _S_BIPOWER] = 0 if alone else move * state[at + _LAST_MOVE]
    state[at + _MOVES2] += state[slot + _S_MOVE2]
    state[at + _BIPOWER] += state[slot + _S_BIPOWER]
    state[at + _LAST_CLOSE] = close
    state[at + _LAST_MOVE] = move
    off = (close >> state[at + _LOST]) - state[at + _ANCHOR]
    state[at + _SUM] += off
    state[at + _SUM2] += off * off


@subkernel
def _drop_long(state: I64, at: int, slot: int) -> None:
    state[at + _MOVES2] -= state[slot + _S_MOVE2]
    following = at + _LONG_RING + (state[at + _LONG + _TAIL] & (_SLOTS - 1)) * _LONG_SLOT      # its product is with this one
    if state[at + _LONG + _TAIL] < state[at + _LONG + _HEAD]:
        state[at + _BIPOWER] -= state[following + _S_BIPOWER]
        state[following + _S_BIPOWER] = 0
    off = (state[slot + _S_CLOSE] >> state[at + _LOST]) - state[at + _ANCHOR]
    state[at + _SUM] -= off
    state[at + _SUM2] -= off * off
    if state[slot + _S_HIGH] == state[at + _HIGHEST] or state[slot + _S_LOW] == state[at + _LOWEST]:
        _forget_extremes(state, at)
        for k in range(state[at + _LONG + _TAIL], state[at + _LONG + _HEAD]):
            other = at + _LONG_RING + (k & (_SLOTS - 1)) * _LONG_SLOT
            state[at + _HIGHEST] = max(state[at + _HIGHEST], state[other + _S_HIGH])
            state[at + _LOWEST] = min(state[at + _LOWEST], state[other + _S_LOW])


@subkernel
def _summarise(state: I64, real: F64, at: int) -> None:
    """Mean and deviation of the closes, and the jumps' share of their moves: they change only here."""
    real[at + _MEAN] = np.nan
    real[at + _PER_DEVIATION] = np.nan
    real[at + _JUMP] = np.nan
    n = state[at + _LONG + _HEAD] - state[at + _LONG + _TAIL]
    if n < 2 or (state[at + _HIGHEST] - state[at + _LOWEST]) >> state[at + _LOST] >= EXACT_RANGE:
        return
    off = (state[at + _LAST_CLOSE] >> state[at + _LOST]) - state[at + _ANCHOR]
    total = state[at + _SUM] - n * off
    squares = state[at + _SUM2] - 2 * off * state[at + _SUM] + n * off * off
    mean = total / n
    variance = squares / n - mean * mean
    real[at + _MEAN] = mean * real[at + _UNIT]
    if variance > 0.0:
        real[at + _PER_DEVIATION] = 1.0 / (np.sqrt(variance) * real[at + _UNIT])
    if state[at + _MOVES2] > 0:
        real[at + _JUMP] = 1.0 - 0.5 * np.pi * (state[at + _BIPOWER] / state[at + _MOVES2])


@subkernel
def take(state: I64, at: int, tick: Tick) -> None:
    """The tick goes into both open panes."""
    move = _move(state, at, tick.mid2 - tick.move, tick.mid2)
    size = min(tick.bid_size, LARGEST_SIZE) + min(tick.ask_size, LARGEST_SIZE)
    minute, long = at + _MINUTE + _OPEN, at + _LONG + _OPEN
    state[minute + TICKS] += 1
    state[minute + SIGNS] += tick.sign
    state[minute + SQUARES] += move * move
    state[minute + SIZE] += size
    state[minute + EXTRA] += tick.flow
    state[long + TICKS] += 1
    state[long + SIGNS] += tick.sign
    state[long + SQUARES] += move * move
    state[long + SIZE] += size
    state[long + EXTRA] += size * ((tick.mid2 >> state[at + _LOST]) - state[at + _ANCHOR])
    state[at + _HIGH] = max(state[at + _HIGH], tick.mid2)
    state[at + _LOW] = min(state[at + _LOW], tick.mid2)


@subkernel
def _move(state: I64, at: int, before: int, after: int) -> int:
    """In units of the sums."""
    move = (after >> state[at + _LOST]) - (before >> state[at + _LOST])
    return int(min(max(move, -LARGEST_MOVE), LARGEST_MOVE))


@subkernel
def is_elsewhere(state: I64, at: int, mid2: int) -> bool:
    """Whether the price is another than windows began with: a symbol reused, a wrong scale, a first tick that was none."""
    return bool(mid2 > 8 * state[at + _FIRST] or 8 * mid2 < state[at + _FIRST])


@subkernel
def windows(state: I64, real: F64, at: int, mid2: int) -> Windows:
    a, b = at + _MINUTE, at + _LONG
    unit = real[at + _UNIT]
    size = state[b + _CLOSED + SIZE] + state[b + _OPEN + SIZE]
    moment = state[b + _CLOSED + EXTRA] + state[b + _OPEN + EXTRA] - size * ((mid2 >> state[at + _LOST]) - state[at + _ANCHOR])
    return Windows(
        state[a + _CLOSED + TICKS] + state[a + _OPEN + TICKS],
        state[a + _CLOSED + SIGNS] + state[a + _OPEN + SIGNS],
        (state[a + _CLOSED + SQUARES] + state[a + _OPEN + SQUARES]) * (unit * unit),
        state[a + _CLOSED + SIZE] + state[a + _OPEN + SIZE],
        state[a + _CLOSED + EXTRA] + state[a + _OPEN + EXTRA],
        state[a + _BASE],
        state[b + _CLOSED + TICKS] + state[b + _OPEN + TICKS],
        state[b + _CLOSED + SIGNS] + state[b + _OPEN + SIGNS],
        (state[b + _CLOSED + SQUARES] + state[b + _OPEN + SQUARES]) * (unit * unit),
        size,
        moment * unit,
        state[b + _BASE],
        max(state[at + _HIGHEST], state[at + _HIGH]),
        min(state[at + _LOWEST], state[at + _LOW]),
        state[at + _LAST_CLOSE],
        real[at + _MEAN],
        real[at + _PER_DEVIATION],
        real[at + _JUMP],
    )
