"""A family of one's own as a user would write it: how far the bid moved since the last tick, in mean spreads; compiled."""

import numpy as np
from numba import njit

from engine.features import QUOTES, Column, Family


@njit
def step(state, real, seen, out):
    out[0] = (seen.bid - state[1]) / seen.spread if state[0] > 0 and seen.spread > 0.0 else np.nan
    state[0] += 1
    state[1] = seen.bid


FAMILY = Family(
    "bid_moves", 1, 3,
    (Column("bid_move", "(bid − the last bid) / mean spread", "1 tick", "spreads", "2 ticks", "every tick", "a test", QUOTES),),
)
