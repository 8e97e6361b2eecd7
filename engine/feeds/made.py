"""What every made market shares: its columns, what may be asked for, and the way its ticks are sent, some late or twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import UsageError
from ..instruments import Instrument
from ..types import I64, TickBatch

SYMBOLS = ("SIMEUR", "SIMGBP")
START = 1_704_146_400_000_000_000
"""Monday 2024-01-01 22:00, ns UTC: the fixed clock."""
LONGEST_DAYS = 60.0
"""In more the price could wander down to zero."""

ODD = 1000
"""One tick in so many is sent twice, and after one in so many comes a late one."""
LATE_MS = (10, 500)


class Quotes(NamedTuple):
    """Columns of one market. sent, ts: when, and the stamp, in ms after the start; prices and sizes in points."""

    sent: I64
    ts: I64
    bid: I64
    ask: I64
    bid_size: I64
    ask_size: I64

    def at(self, rows: I64) -> Quotes:
        return Quotes(*(column[rows] for column in self))


def stream(days: float, seed: int) -> np.random.Generator:
    """The chance a market is made of: the same numbers on every machine. Raises UsageError (sim_days, sim_seed)."""
    if not 0.001 <= days <= LONGEST_DAYS:
        raise UsageError("sim_days", f"{days:g} simulated days", hint=f"ask for 0.001 to {LONGEST_DAYS:g} days")
    if seed < 0:
        raise UsageError("sim_seed", f"seed {seed} is negative", hint="a seed is 0 or more")
    return np.random.Generator(np.random.PCG64(seed))


def as_sent(rng: np.random.Generator, quotes: Quotes) -> Quotes:
    """What is sent: now and then a tick twice, or after it the quote before it, with a stamp 10 to 500 ms earlier."""
    twice, followed = (np.flatnonzero(rng.integers(0, ODD, quotes.ts.size) == 0) for _ in range(2))
    delay = rng.integers(LATE_MS[0], LATE_MS[1] + 1, followed.size)
    late = quotes.at(np.maximum(followed - 1, 0))._replace(sent=quotes.sent[followed], ts=quotes.ts[followed] - delay)
    sent = _joined([quotes, quotes.at(twice), late])
    return sent.at(np.argsort(sent.sent, kind="stable"))


def together(symbols: Sequence[str], markets: Sequence[Quotes], start: int) -> TickBatch:
    """The markets of the symbols in the order they are sent."""
    sid = np.repeat(np.arange(len(symbols)), [quotes.ts.size for quotes in markets])
    quotes = _joined(markets)
    order = np.argsort(quotes.sent, kind="stable")
    quotes = quotes.at(order)
    return TickBatch(
        [Instrument(symbol) for symbol in symbols], sid=sid[order], ts=start + 1_000_000 * quotes.ts,
        bid=quotes.bid, ask=quotes.ask, bid_size=quotes.bid_size, ask_size=quotes.ask_size,
    )


def _joined(parts: Sequence[Quotes]) -> Quotes:
    return Quotes(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
