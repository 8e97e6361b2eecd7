"""The quote itself: what moved since the last tick, holes. Every other family stands on it. No columns of its own."""

from __future__ import annotations

from ...jit import subkernel
from ...types import I64
from ..spec import Family

HOLE = 600_000_000_000
"""ns without a tick after which windows no longer describe the present: decisions wait until they are full again."""

LARGEST_SIZE = 2**43
"""Size points above which a size counts as so large: sums of sizes stay within int64."""

TS, BID, ASK, BID_SIZE, ASK_SIZE, MID2, SIGN, COUNT, HOLES, SINCE, BARS = range(11)
"""The last tick (MID2 is bid + ask, twice the mid, exact); last direction; ticks seen; holes seen; first stamp since the
last hole; minute bars closed since then."""

FAMILY = Family("quote", 2, 11, ())


@subkernel
def begin(state: I64, at: int, ts: int, bid: int, ask: int, bid_size: int, ask_size: int) -> None:
    """A symbol's first tick stands after itself."""
    state[at + SINCE] = ts
    end(state, at, ts, bid, ask, bid_size, ask_size, 0)
    state[at + COUNT] = 0


@subkernel
def last(state: I64, at: int) -> tuple[int, int, int, int]:
    """(bid, ask, bid size, ask size) of the last tick."""
    return state[at + BID], state[at + ASK], state[at + BID_SIZE], state[at + ASK_SIZE]


@subkernel
def flow(state: I64, at: int, bid: int, ask: int, bid_size: int, ask_size: int) -> int:
    """Order flow of one quote after another (Cont, Kukanov & Stoikov, The Price Impact of Order Book Events, 2014, eq. 2)."""
    bid_size, ask_size = min(bid_size, LARGEST_SIZE), min(ask_size, LARGEST_SIZE)
    e = 0
    if bid >= state[at + BID]:
        e += bid_size
    if bid <= state[at + BID]:
        e -= state[at + BID_SIZE]
    if ask <= state[at + ASK]:
        e -= ask_size
    if ask >= state[at + ASK]:
        e += state[at + ASK_SIZE]
    return e


@subkernel
def resume(state: I64, at: int, ts: int) -> None:
    """Windows begin anew after a hole, or at another price."""
    state[at + HOLES] += 1
    state[at + BARS] = 0
    state[at + SINCE] = ts


@subkernel
def end(state: I64, at: int, ts: int, bid: int, ask: int, bid_size: int, ask_size: int, sign: int) -> None:
    """Remember the tick, after every family has seen the one before it."""
    state[at + TS] = ts
    state[at + BID] = bid
    state[at + ASK] = ask
    state[at + BID_SIZE] = min(bid_size, LARGEST_SIZE)
    state[at + ASK_SIZE] = min(ask_size, LARGEST_SIZE)
    state[at + MID2] = bid + ask
    state[at + SIGN] = sign
    state[at + COUNT] += 1
