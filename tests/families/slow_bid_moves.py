"""The same in plain Python: slow, and the same bits."""

from engine.features import QUOTES, Column, Family


def step(state, real, seen, out):
    out[0] = (seen.bid - state[1]) / seen.spread if state[0] > 0 and seen.spread > 0.0 else float("nan")
    state[0] += 1
    state[1] = seen.bid


FAMILY = Family(
    "slow_bid_moves", 1, 3,
    (Column("slow_bid_move", "bid − the last bid, over mean spread", "1 tick", "spreads", "2 ticks", "every tick", "-", QUOTES),),
)
