"""Ticks for those who have none: a made market with a latent drift that a model can find, sized to gain a known little.

The price steps up or down by half a pip at the moments of a Poisson process. A step is up with probability
½ + drift / 2, where the drift returns to zero over ten minutes (Ornstein & Uhlenbeck, 1930): it shows in the steps of
the last minutes and nowhere else. Sessions and bursts add quotes that repeat the price, so they change the rate of
ticks, never how far or how fast the price goes. Day follows day, without weekends.

Why steps of one size and a steady volatility: barrier and horizon of a label follow the volatility as estimated. Were
prices finer, the estimate's own error, which the features show, would tell how near the barrier lies and so of neutral
outcomes. Here a label's barrier is the third step for every estimate within a fifth of the truth, and with effect 0
nothing can be learnt, neither which way nor whether.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np

from ..types import F64, I64, TickBatch
from .base import Feed
from .made import START, SYMBOLS, Quotes, as_sent, stream, together

PRICE, STEP, SPREAD = 110_000, 5, 2
"""Points: where the mid starts, how far it steps, and the usual spread; one quote of ten is twice as wide."""
STEPS_PER_S = 0.3

DRIFT = 0.12
"""Standard deviation of the drift at effect 1: steps up less steps down, as a share of steps."""
RETURN_S = 600.0
"""Time constant with which it returns to zero."""

REPEATS_PER_S = 0.1
HOURS = np.array([2, 2, 2, 2, 2, 2, 3, 6, 8, 8, 7, 7, 10, 12, 12, 11, 8, 6, 5, 4, 3, 2, 1, 1])
"""Mean rate of repeated quotes, and their shares by hour of the UTC day: Asia, London, both, New York."""
BURSTS_PER_DAY, BURST_QUOTES, BURST_MS = 40, 30, 3000


class SimFeed(Feed):
    """The ticks of `simulate` at effect 1. Raises UsageError as it does."""

    waits = False                                  # it stands for a market, and markets don't

    def __init__(self, days: float = 1.0, seed: int = 1) -> None:
        self._ticks = simulate(days, seed)

    def batches(self) -> Iterator[TickBatch]:
        yield self._ticks


def simulate(days: float = 4.0, seed: int = 1, effect: float = 1.0, symbols: Sequence[str] = SYMBOLS) -> TickBatch:
    """Ticks of independent markets in the order they are sent, with late ones and duplicates; about 71,000 a day.

    effect: multiplies the drift; 1 lets LightGBM gain about 0.02 nats over the prior on four days, 0 leaves nothing
    to gain. Prices of scale 5. The same arguments give the same bytes on every machine: only numpy's integer and
    uniform streams, sums, products and a square root decide them. Raises UsageError (sim_days, sim_seed).
    """
    rng = stream(days, seed)
    return together(symbols, [as_sent(rng, _quotes(rng, days, effect)) for _ in symbols], START)


def _quotes(rng: np.random.Generator, days: float, effect: float) -> Quotes:
    """Every quote of one market, in order of time."""
    seconds = int(days * 86_400)
    end = 1000 * seconds
    steps = rng.integers(0, end, round(STEPS_PER_S * seconds))        # so many, anywhere: a Poisson process
    up = rng.random(steps.size) < 0.5 + 0.5 * effect * _drift(rng, seconds)[steps // 1000]
    unmoved = np.concatenate([_repeats(rng, end), _bursts(rng, end, round(BURSTS_PER_DAY * days))])
    ts = np.concatenate([steps, unmoved])
    move = np.concatenate([np.where(up, STEP, -STEP), np.zeros_like(unmoved)])

    order = np.argsort(ts, kind="stable")
    ts, mid = ts[order], PRICE + np.cumsum(move[order])
    half = np.where(rng.integers(0, 10, ts.size) == 0, SPREAD, SPREAD // 2)
    bid_size, ask_size = 1000 * rng.integers(1, 51, (2, ts.size))
    return Quotes(ts, ts, mid - half, mid + half, bid_size, ask_size)


def _drift(rng: np.random.Generator, seconds: int) -> F64:
    """The drift of each second at effect 1: a first-order autoregression from zero."""
    keep = 1.0 - 1.0 / RETURN_S
    shocks = DRIFT * math.sqrt(12.0 * (1.0 - keep * keep)) * (rng.random(seconds) - 0.5)
    return np.fromiter(accumulate(shocks.tolist(), lambda drift, shock: keep * drift + shock), np.float64, seconds)


def _repeats(rng: np.random.Generator, end: int) -> I64:
    """Stamps drawn at the busiest hour's rate, then thinned by the hour."""
    most = int(HOURS.max())
    drawn = rng.integers(0, end, round(REPEATS_PER_S * end / 1000 * most / HOURS.mean()))
    hour = (START // 1_000_000 + drawn) // 3_600_000 % 24
    kept: I64 = drawn[rng.integers(0, most, drawn.size) < HOURS[hour]]
    return kept


def _bursts(rng: np.random.Generator, end: int, bursts: int) -> I64:
    """Stamps of a few seconds full of quotes, at any hour."""
    first = rng.integers(0, end, (bursts, 1))
    return (first + rng.integers(0, BURST_MS, (bursts, BURST_QUOTES))).ravel()
