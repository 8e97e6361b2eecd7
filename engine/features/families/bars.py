"""Minute bars of the mid: a bar is [start, end), closed by the first tick past its end; a minute without ticks makes none.

No columns of its own. Longer bars are made of these when they close. Where a bar was closed before the next tick came (by
a watermark), the open one is empty until then.
"""

from __future__ import annotations

from typing import NamedTuple

from ...jit import subkernel
from ...types import I64
from ..spec import Family

MINUTE = 60_000_000_000
_BUCKET, _HIGH, _LOW, _CLOSE = range(4)

LOWEST, HIGHEST = -(2**62), 2**62
"""High and low of an empty bar."""

FAMILY = Family("bars", 1, 4, ())


class Bar(NamedTuple):
    """A closed bar, in half-points; start: ns UTC."""

    start: int
    high: int
    low: int
    close: int


@subkernel
def begin(state: I64, at: int, ts: int) -> None:
    """An empty bar that holds ts."""
    state[at + _BUCKET] = ts // MINUTE
    state[at + _HIGH] = LOWEST
    state[at + _LOW] = HIGHEST


@subkernel
def is_over(state: I64, at: int, ts: int) -> bool:
    """Whether the open bar holds a tick, and ends at or before ts."""
    return bool(ts // MINUTE != state[at + _BUCKET] and state[at + _HIGH] > LOWEST)


@subkernel
def closed(state: I64, at: int) -> Bar:
    """The open bar as it closes."""
    return Bar(state[at + _BUCKET] * MINUTE, state[at + _HIGH], state[at + _LOW], state[at + _CLOSE])


@subkernel
def take(state: I64, at: int, ts: int, mid2: int) -> None:
    if ts // MINUTE != state[at + _BUCKET]:
        begin(state, at, ts)
    state[at + _HIGH] = max(state[at + _HIGH], mid2)
    state[at + _LOW] = min(state[at + _LOW], mid2)
    state[at + _CLOSE] = mid2
