"""Ticks for those who have none: a made market with a latent drift that a model can find, sized to gain a known little.

Prices step up or down by half a pip at the moments of a Poisson process. A step is up with probability ½ + lean / 2,
where the lean returns to zero over ten minutes (Ornstein and Uhlenbeck, 1930); it shows in the steps of the last
minutes and in nothing else. Sessions and bursts add quotes that repeat the price: they change the rate of ticks, never
how far or how fast the price goes.

Why steps on a lattice and a steady volatility: the labels' barrier and horizon follow the volatility as estimated.
Were prices continuous, the estimate's own error, which the features show, would tell of the width of the barrier and
so of neutral outcomes. Here the barrier falls on the third step for every estimate within a fifth of the truth, so
with effect 0 there is nothing to learn, neither of the side nor of whether.

Only integers and uniforms of the generator, additions, products and one square root decide: the same bytes anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from ..errors import UsageError
from ..instruments import Instrument
from ..types import I64, TickBatch
from .base import Feed

SYMBOLS = ("SIMEUR", "SIMGBP")
START_MS = 1_704_146_400_000
"""Monday 2024-01-01 22:00 UTC, in ms: the fixed clock. Days follow each other without weekends."""
LONGEST_DAYS = 60.0

RETURN_S = 600.0
"""Time constant of the lean."""
LEAN = 0.1
"""Standard deviation of the lean at effect 1."""

PRICE = 110_000
STEP = 5
SPREAD = 2
"""Points. The mid starts at PRICE and moves by STEP; the spread is SPREAD, and twice that in one quote of ten."""
STEPS_PER_S = 0.3

REPEATS_PER_S = 0.08
HOURS = np.array([2, 2, 2, 2, 2, 2, 3, 6, 8, 8, 7, 7, 10, 12, 12, 11, 8, 6, 5, 4, 3, 2, 1, 1])
"""Mean rate of repeated quotes, and how it is spread over the hours of the UTC day: Asia, London, both, New York."""
BURSTS_PER_DAY, BURST_QUOTES, BURST_MS = 60, 30, 3000

ODD = 1000
"""One tick in so many is sent twice, and one in so many is followed by a late one."""
LATE_MS = (10, 500)

BATCH = 10_000


class SimFeed(Feed):
    """The ticks of `simulate` at effect 1, in batches of 10,000. Raises UsageError as it does."""

    def __init__(self, days: float = 1.0, seed: int = 1) -> None:
        self._ticks = simulate(days, seed)

    def batches(self) -> Iterator[TickBatch]:
        for at in range(0, len(self._ticks), BATCH):
            yield self._ticks[at:at + BATCH]


def simulate(days: float = 4.0, seed: int = 1, effect: float = 1.0, symbols: Sequence[str] = SYMBOLS) -> TickBatch:
    """Ticks of independent markets in the order they are sent, with late ones and duplicates; about 69,000 a day.

    effect: times the lean of every symbol; 1 lets LightGBM gain about 0.02 nats over the prior on four days, with 0
    there is nothing to gain. Scale 5; the same arguments give the same bytes. Raises UsageError (sim_days).
    """
    if not 0.001 <= days <= LONGEST_DAYS:
        raise UsageError(
            "sim_days", f"{days:g} simulated days can't be had", hint=f"ask for 0.001 to {LONGEST_DAYS:g} days"
        )
    rng = np.random.Generator(np.random.PCG64(seed))
    markets = [_sent(_market(rng, days, effect), rng) for _ in symbols]
    sid = np.repeat(np.arange(len(symbols)), [ticks.sent.size for ticks in markets])
    merged = _Ticks(*(np.concatenate(column) for column in zip(*markets, strict=True)))
    order = np.argsort(merged.sent, kind="stable")
    ticks = merged.at(order)
    return TickBatch(
        [Instrument(symbol) for symbol in symbols], sid=sid[order], ts=1_000_000 * (START_MS + ticks.ts),
        bid=ticks.bid, ask=ticks.ask, bid_size=ticks.bid_size, ask_size=ticks.ask_size,
    )


class _Ticks(NamedTuple):
    """Columns of one market: when sent and the stamp, ms after START_MS; points; size points."""

    sent: I64
    ts: I64
    bid: I64
    ask: I64
    bid_size: I64
    ask_size: I64

    def at(self, rows: I64) -> _Ticks:
        return _Ticks(*(column[rows] for column in self))


def _market(rng: np.random.Generator, days: float, effect: float) -> _Ticks:
    """Every quote of one symbol, in order of time: steps, repeated quotes of the sessions, bursts."""
    seconds = int(days * 86_400)
    end = 1000 * seconds
    lean = effect * _lean(rng, seconds)
    stepped = rng.integers(0, end, round(STEPS_PER_S * seconds))
    up = rng.random(stepped.size) < 0.5 + 0.5 * lean[stepped // 1000]
    quotes = np.concatenate([stepped, _repeats(rng, end), _bursts(rng, end, round(BURSTS_PER_DAY * days))])
    moves = np.zeros(quotes.size, np.int64)
    moves[:stepped.size] = np.where(up, STEP, -STEP)

    order = np.argsort(quotes, kind="stable")
    ts, mid = quotes[order], PRICE + np.cumsum(moves[order])
    half = SPREAD // 2 * (1 + (rng.integers(0, 10, ts.size) == 0))
    sizes = 1000 * rng.integers(1, 51, (2, ts.size))
    return _Ticks(ts, ts, mid - half, mid + half, sizes[0], sizes[1])


def _lean(rng: np.random.Generator, seconds: int) -> np.ndarray:
    """The lean in each second: a first-order autoregression, 0 before the start."""
    keep = 1.0 - 1.0 / RETURN_S
    shocks = (LEAN * (12.0 * (1.0 - keep * keep)) ** 0.5) * (rng.random(seconds) - 0.5)
    return np.fromiter(accumulate(shocks.tolist(), lambda lean, shock: keep * lean + shock), np.float64, seconds)


def _repeats(rng: np.random.Generator, end: int) -> I64:
    """Stamps of repeated quotes, more in busy hours: drawn at the busiest rate, then thinned."""
    most = int(HOURS.max())
    drawn = rng.integers(0, end, round(REPEATS_PER_S * end / 1000 * most / HOURS.mean()))
    hour = (START_MS + drawn) // 3_600_000 % 24
    return drawn[rng.integers(0, most, drawn.size) < HOURS[hour]]


def _bursts(rng: np.random.Generator, end: int, bursts: int) -> I64:
    starts = rng.integers(0, end, (bursts, 1))
    return (starts + rng.integers(0, BURST_MS, (bursts, BURST_QUOTES))).ravel()


def _sent(ticks: _Ticks, rng: np.random.Generator) -> _Ticks:
    """What is sent: here and there a tick twice, or after it the quote before it, stamped 10 to 500 ms earlier."""
    n = ticks.ts.size
    again = np.flatnonzero(rng.integers(0, ODD, n) == 0)
    overtaken = np.flatnonzero(rng.integers(0, ODD, n) == 0)
    late = ticks.at(np.maximum(overtaken - 1, 0))._replace(
        sent=ticks.sent[overtaken], ts=ticks.ts[overtaken] - rng.integers(LATE_MS[0], LATE_MS[1] + 1, overtaken.size)
    )
    parts = (ticks, ticks.at(again), late)
    sent = _Ticks(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    return sent.at(np.argsort(sent.sent, kind="stable"))
