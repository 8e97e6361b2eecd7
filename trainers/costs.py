"""The one rule of money: what a trade nets between two quotes, after the spread.

Labels, backtests and the evidence all count with it. Prices are points of the instrument's scale.
"""

from __future__ import annotations

import numpy as np

from engine.types import F64, I64


def executable(bid: I64, ask: I64, spread: F64) -> tuple[F64, F64]:
    """The bid and ask one can count on: never closer together than the mean spread, around the same mid.

    bid, ask: (n,) quoted points; spread: (n,) mean spread known at each tick, points. A locked or crossed quote
    (bid ≥ ask) would trade free otherwise.
    """
    mid = 0.5 * (bid + ask)
    half = 0.5 * np.maximum(ask - bid, spread)
    return mid - half, mid + half


def net(entry_bid: F64, entry_ask: F64, exit_bid: F64, exit_ask: F64) -> tuple[F64, F64]:
    """Points a long and a short net: in at one side of the entry's executable quote, out at the other of the exit's."""
    return exit_bid - entry_ask, entry_bid - exit_ask
