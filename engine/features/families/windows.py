"""Short windows of 10, 60 and 300 seconds: move, realised volatility, direction and rate of ticks.

Ticks are summed into one-second panes; a window is the running second and the panes of the w − 1 seconds before it.
All sums are int64 over half-points, so adding and taking away is exact and nothing drifts, however long it runs.
"""

from __future__ import annotations

import numpy as np

from ...jit import subkernel
from ...types import F32, I64
from ..spec import Column, Family

LENGTHS = (10, 60, 300)
_LENGTHS = np.array(LENGTHS, np.int64)
_ROOTS = np.sqrt(_LENGTHS.astype(np.float64))

SECOND = 1_000_000_000
LARGEST_MOVE = 2**29
"""Half-points (2,684 price units at scale 5) above which a single move counts as so large: squares stay within int64."""

PANES = 512
_SEC, _TICKS, _SIGNS, _SQUARES, _CLOSE = range(5)
_PANE = 5

# open pane, head of the ring, then per window: tail, ticks, signs, squares, mid before the window
_OPEN, _HEAD, _WINDOW, _PER_WINDOW = 0, 5, 6, 5
_TAIL, _BASE = 0, 4
_RING = _WINDOW + 3 * _PER_WINDOW
_WORDS = _RING + PANES * _PANE

_COLUMNS = []
for _w in LENGTHS:
    _span, _warm = f"{_w} s", f"{_w} s"
    _COLUMNS += [
        Column(f"move{_w}", f"(mid − mid {_w} s ago) / (sigma · √{_w})", _span, "sigma", _warm, "standardised return"),
        Column(f"rv{_w}", f"√(Σ tick moves²) / (sigma · √{_w})", _span, "sigma", _warm,
               "realised volatility: Andersen & Bollerslev (1998)"),
        Column(f"flow{_w}", "Σ direction / ticks", _span, "1", _warm, "tick rule: Lee & Ready (1991)"),
    ]
_COLUMNS += [
    Column("rate10", "ticks per second over 10 s / over 300 s", "10 s, 300 s", "1", "300 s", "ratio"),
    Column("rate60", "ticks per second over 60 s / over 300 s", "60 s, 300 s", "1", "300 s", "ratio"),
]
FAMILY = Family("windows", 1, _WORDS, tuple(_COLUMNS))


@subkernel
def begin(state: I64, at: int, ts: int, mid2: int) -> None:
    state[at + _OPEN + _SEC] = ts // SECOND
    for w in range(3):
        state[at + _WINDOW + w * _PER_WINDOW + _BASE] = mid2


@subkernel
def step(state: I64, at: int, ts: int, previous_mid2: int, sign: int, mid2: int) -> None:
    second = ts // SECOND
    if second != state[at + _OPEN + _SEC]:
        _close_pane(state, at, previous_mid2)
        _drop_old_panes(state, at, second)
        state[at + _OPEN + _SEC] = second
    move = mid2 - previous_mid2
    if move > 0:
        sign = 1
    elif move < 0:
        sign = -1
    state[at + _OPEN + _TICKS] += 1
    state[at + _OPEN + _SIGNS] += sign
    counted = min(max(move, -LARGEST_MOVE), LARGEST_MOVE)
    state[at + _OPEN + _SQUARES] += counted * counted


@subkernel
def _close_pane(state: I64, at: int, close: int) -> None:
    """The open pane goes into the ring and into every window's sums."""
    head = state[at + _HEAD]
    pane = at + _RING + (head % PANES) * _PANE
    for k in range(4):
        state[pane + k] = state[at + _OPEN + k]
    state[pane + _CLOSE] = close
    for w in range(3):
        for k in range(_TICKS, _SQUARES + 1):
            state[at + _WINDOW + w * _PER_WINDOW + k] += state[pane + k]
    for k in range(_TICKS, _SQUARES + 1):
        state[at + _OPEN + k] = 0
    state[at + _HEAD] = head + 1


@subkernel
def _drop_old_panes(state: I64, at: int, second: int) -> None:
    head = state[at + _HEAD]
    for w in range(3):
        window = at + _WINDOW + w * _PER_WINDOW
        tail = state[window + _TAIL]
        while tail < head:
            pane = at + _RING + (tail % PANES) * _PANE
            if state[pane + _SEC] > second - _LENGTHS[w]:
                break
            for k in range(_TICKS, _SQUARES + 1):
                state[window + k] -= state[pane + k]
            state[window + _BASE] = state[pane + _CLOSE]
            tail += 1
        state[window + _TAIL] = tail


@subkernel
def write(state: I64, at: int, out: F32, column: int, mid2: int, sigma: float) -> None:
    """Half-points over points: hence 0.5."""
    for w in range(3):
        window = at + _WINDOW + w * _PER_WINDOW
        ticks = state[window + _TICKS] + state[at + _OPEN + _TICKS]
        signs = state[window + _SIGNS] + state[at + _OPEN + _SIGNS]
        squares = state[window + _SQUARES] + state[at + _OPEN + _SQUARES]
        unit = 0.5 / (sigma * _ROOTS[w])
        out[column + 3 * w] = (mid2 - state[window + _BASE]) * unit
        out[column + 3 * w + 1] = np.sqrt(float(squares)) * unit
        out[column + 3 * w + 2] = signs / ticks
    longest = at + _WINDOW + 2 * _PER_WINDOW
    per_second = (state[longest + _TICKS] + state[at + _OPEN + _TICKS]) / 300.0
    for w in range(2):
        window = at + _WINDOW + w * _PER_WINDOW
        ticks = state[window + _TICKS] + state[at + _OPEN + _TICKS]
        out[column + 9 + w] = ticks / _LENGTHS[w] / per_second
