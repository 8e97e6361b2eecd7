"""Minute bars of the mid: a bar is [start, end), closed by the first tick past its end; a minute without ticks makes none.

No columns of its own. Longer bars are made of these when they close.
"""

from __future__ import annotations

from typing import NamedTuple

from ...jit import subkernel
from ...types import I64
from ..spec import Family

MINUTE = 60_000_000_000
_BUCKET, _HIGH, _LOW, _CLOSE = range(4)

FAMILY = Family("bars", 1, 4, ())


class Bar(NamedTuple):
    """A closed bar, in half-points; start: ns UTC."""

    start: int
    high: int
    low: int
    close: int


@subkernel
def begin(state: I64, at: int, ts: int, mid2: int) -> None:
    state[at + _BUCKET] = ts // MINUTE
    _open(state, at, mid2)


@subkernel
def _open(state: I64, at: int, mid2: int) -> None:
    state[at + _HIGH] = mid2
    state[at + _LOW] = mid2
    state[at + _CLOSE] = mid2


@subkernel
def is_over(state: I64, at: int, ts: int) -> bool:
    """Whether the open bar ends at or before ts."""
    return bool(ts // MINUTE != state[at + _BUCKET])


@subkernel
def closed(state: I64, at: int) -> Bar:
    """The open bar as it closes."""
    return Bar(state[at + _BUCKET] * MINUTE, state[at + _HIGH], state[at + _LOW], state[at + _CLOSE])


@subkernel
def take(state: I64, at: int, ts: int, mid2: int) -> None:
    if is_over(state, at, ts):
        begin(state, at, ts, mid2)
    state[at + _HIGH] = max(state[at + _HIGH], mid2)
    state[at + _LOW] = min(state[at + _LOW], mid2)
    state[at + _CLOSE] = mid2
