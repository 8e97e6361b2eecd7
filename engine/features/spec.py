"""What a feature column is, in words a person can check; and what the present tick looks like to a family."""

from __future__ import annotations

from typing import NamedTuple

MID, QUOTES, SIZES, TICKS = "mid", "quotes", "sizes", "ticks"
"""What a column needs of its input: any price; bid and ask; both sizes; every tick."""


class Column(NamedTuple):
    """One column of the matrix, NaN until known."""

    name: str
    formula: str
    window: str
    unit: str
    warmup: str
    cost: str
    """When its value is computed anew; what a tick pays is that, or a copy."""
    source: str
    needs: str = TICKS
    bar: str = ""
    """Length of the closed bars it's computed of."""
    awaited: bool = True
    """Whether decisions wait until it is known. Slow columns don't: experts learn and meet them as NaN."""


class Family(NamedTuple):
    """A file of `families/`: the words of state it needs per symbol, its columns, and its version.

    version: raised with every change of a formula; part of the fingerprint, so that a bundle trained on the old
    formula is refused.
    """

    name: str
    version: int
    words: int
    columns: tuple[Column, ...]


class Tick(NamedTuple):
    """The tick at hand and what is known beside it. Prices in half-points where named mid2, else in points.

    move: mid2 less the one before. sign: of the last
    move that wasn't zero. flow: the order flow of this tick. elapsed: ns since the first tick, or the first after a hole.
    usual: mean spread, points. sigma: points per √second, NaN until known; per_sigma: its reciprocal.
    """

    ts: int
    bid: int
    ask: int
    bid_size: int
    ask_size: int
    mid2: int
    spread: int
    move: int
    sign: int
    flow: int
    elapsed: int
    usual: float
    sigma: float
    per_sigma: float
