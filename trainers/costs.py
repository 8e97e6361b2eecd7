"""The one rule of money: what a trade nets between two quotes, after spread, slippage and commission.

Labels, backtests and the evidence all count with it. Prices are points of the instrument's scale. Slippage and
commission are taken from each quote once and for all: what a sale brings, what a purchase takes. A trade's net is then
the difference of two such quotes, and falls as the exit's gets worse, to the last bit: what holds for the best quote
of many holds for each.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from engine.instruments import Instrument
from engine.jit import kernel, subkernel
from engine.types import F64, I64


class Costs(NamedTuple):
    """What a trade costs beyond the spread, as an `Instrument` says it; by default nothing.

    commission_bp: at entry and again at exit, in 1/10,000 of the price. slippage: points, at entry and again at exit.
    delay_ms: from a decision to the quote it can trade on.
    """

    commission_bp: float = 0.0
    slippage: float = 0.0
    delay_ms: float = 100.0

    @classmethod
    def of(cls, instrument: Instrument) -> Costs:
        return cls(instrument.commission_bp, instrument.slippage, instrument.delay_ms)


NO_COSTS = Costs()


def executable(bid: I64, ask: I64, spread: F64, costs: Costs = NO_COSTS) -> tuple[F64, F64]:
    """The bid and ask one can count on: never closer together than the mean spread, around the same mid, after costs.

    bid, ask: (n,) quoted points; spread: (n,) mean spread known at each tick, points. A locked or crossed quote
    (bid ≥ ask) would trade free otherwise.
    """
    net_bid, net_ask = np.empty(bid.size), np.empty(bid.size)
    _executable(bid, ask, spread, costs.commission_bp / 1e4, float(costs.slippage), net_bid, net_ask)
    return net_bid, net_ask


@kernel
def _executable(
    bid: I64, ask: I64, spread: F64, commission: float, slippage: float, net_bid: F64, net_ask: F64
) -> None:
    for i in range(bid.size):
        mid = 0.5 * (bid[i] + ask[i])
        half = 0.5 * max(float(ask[i] - bid[i]), spread[i])
        net_bid[i] = (mid - half) * (1.0 - commission) - slippage
        net_ask[i] = (mid + half) * (1.0 + commission) + slippage


@subkernel
def net(entry_bid: float, entry_ask: float, exit_bid: float, exit_ask: float) -> tuple[float, float]:
    """Points a long and a short net: in at one side of the entry's executable quote, out at the other of the exit's."""
    return exit_bid - entry_ask, entry_bid - exit_ask
