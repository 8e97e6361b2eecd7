"""Ticks like those of a market: what an engine meets, where `sim` makes what a model can find.

Its calendar is that of three towns in their own time zones, so the weeks in which only one of them has changed its
clocks are right. Activity is what they do together: ticks come in proportion to it, and so does the variance, which
makes moves per tick alike at any hour (Clark, 1973). Beneath it one of three regimes, calm, normal or wild, lasts for
hours: a Markov chain of minutes, which clusters the volatility. The price behind the quotes is a random walk in that
variance; it goes on in holes and over the weekend, so that what follows opens elsewhere.

Quotes stand around it: off by a bounce of their own (Roll, 1984), with a spread that follows the regime, is wide in
the hour of the rollover and sometimes for a single quote, and now and then is nothing or less. Sizes lean towards the
next move, weakly. Bursts hold hundreds of ticks in a second under few stamps.

Variances and rates are whole numbers, exact in every sum. Shocks are sums of uniform integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..types import F64, I64, TickBatch
from ..zones import offsets
from .base import Feed
from .made import START, SYMBOLS, Quotes, as_sent, stream, together

MINUTE_MS = 60_000
MINUTE = 1_000_000 * MINUTE_MS
DAY_S = 86_400
STARTS = (DAY_S * 10**9, 2**62)
"""ns UTC: from 1970 until 2116, so that no stamp is negative or too large."""

NEW_YORK = "America/New_York"
TOWNS = {"Asia/Tokyo": 35, "Europe/London": 100, NEW_YORK: 80}
"""Activity a town adds from 8:00 to 17:00 of its own clock, in hundredths."""
NIGHT = 15
"""Activity at every hour."""
WORK_S = (8 * 3600, 17 * 3600)
WEEKEND_S = (4 * DAY_S + 17 * 3600, 6 * DAY_S + 17 * 3600)
"""Friday 17:00 to Sunday 17:00, New York, in seconds of a week from Monday."""
ROLLOVER_S = (17 * 3600, 18 * 3600)
"""The hour in which positions go over to the next day, New York."""

CALM, NORMAL, WILD = range(3)
LEAVE = ((0.0, 1 / 240), (1 / 360, 1 / 480), (1 / 90, 0.0))
"""By regime: the chance in a minute to become calmer, and wilder. They last 4, 3.4 and 1.5 hours on average."""
VARIANCES = np.array([25, 100, 625])
RATES = np.array([70, 100, 160])
"""By regime: variance of the price and rate of ticks, in hundredths of normal."""

TICKS_PER_S, VOLATILITY = 0.6, 1.3
"""At activity 1 in the normal regime: ticks per second; points per √second."""
PRICE = 110_000
"""Points: where the price starts."""
BOUNCE = 2
"""Points a quote's mid may be off, either way, each as likely."""
SPREADS = np.array([4, 6, 12])
"""Points, by regime, give or take one."""
ROLLOVER_SPREAD, WIDE, WIDE_SPREAD = 4, 40, (2, 4)
"""Times the spread: in the rollover hour, and for one quote in so many."""
LOCKED, CROSSED, CROSSED_BY = 20, 5, 3
"""Quotes in a thousand whose spread is 0, or below; points at most."""
REPEATED, SIZELESS = 12, 200
"""One quote in so many has the prices of the one before; one size in so many is 0."""
LEAN_TICKS, LEAN, LEANS = 20, 3, 4
"""In one quote of four, the side to which the price goes in the next 20 quotes is three times as large."""

BURSTS_PER_DAY, BURST_TICKS, BURST_STAMPS, BURST_STEP = 6, (150, 800), 20, 1.5
"""Ticks in one second, stamps among them, and points that each moves the price besides."""
HOLES_PER_DAY, HOLE_MS = 1, (10 * MINUTE_MS, 60 * MINUTE_MS)


class MarketFeed(Feed):
    """The ticks of `lively`. Raises as it does."""

    waits = False                                  # it stands for a market, and markets don't

    def __init__(self, days: float = 1.0, seed: int = 1, start: int = START) -> None:
        self._ticks = lively(days, seed, start=start)

    def batches(self) -> Iterator[TickBatch]:
        yield self._ticks


def lively(days: float = 5.0, seed: int = 1, symbols: Sequence[str] = SYMBOLS, start: int = START) -> TickBatch:
    """Ticks of independent markets in the order they are sent, with late ones and duplicates; about 100,000 on a weekday.

    start: ns UTC, taken down to its minute. Prices of scale 5. The same arguments give the same bytes on every machine:
    only numpy's integer and uniform streams, sums, products and square roots decide them.
    Raises UsageError (sim_days, sim_seed, sim_start, sim_closed).
    """
    rng = stream(days, seed)
    if not STARTS[0] <= start <= STARTS[1]:
        raise UsageError("sim_start", f"a market that starts at {start} ns", hint="start it between 1970-01-02 and 2116")
    seconds = int(days * DAY_S)
    minute = start // MINUTE
    hours = _hours(minute, -(-seconds // 60))
    markets = [as_sent(rng, _quotes(rng, 1000 * seconds, hours)) for _ in symbols]
    return together(symbols, markets, minute * MINUTE)


# ---- the calendar


class _Hours(NamedTuple):
    """By minute: whether the market is open, what its activity is in hundredths, and whether it's the rollover's hour."""

    open: NDArray[np.bool_]
    activity: I64
    rollover: NDArray[np.bool_]


def _hours(minute: int, minutes: int) -> _Hours:
    """Of so many minutes from that one since 1970 on."""
    utc = 60 * np.arange(minute, minute + minutes)
    activity = np.full(minutes, NIGHT)
    for town, share in TOWNS.items():
        activity += share * _within(_local(town, utc) % DAY_S, WORK_S)
    local = _local(NEW_YORK, utc)
    weekend = _within((local + 3 * DAY_S) % (7 * DAY_S), WEEKEND_S)      # 1970 began on a Thursday
    return _Hours(~weekend, np.where(weekend, NIGHT, activity), _within(local % DAY_S, ROLLOVER_S))


def _within(second: I64, span: tuple[int, int]) -> NDArray[np.bool_]:
    return (span[0] <= second) & (second < span[1])


def _local(town: str, utc: I64) -> I64:
    """A town's own clock, in seconds."""
    starts, ahead = offsets(town)
    local: I64 = utc + ahead[np.searchsorted(starts, 10**9 * utc, "right") - 1]
    return local


# ---- one market


def _quotes(rng: np.random.Generator, end: int, hours: _Hours) -> Quotes:
    """Every quote of one market, in order of time."""
    regime = _regimes(rng, hours.open.size)
    ts, burst = _stamps(rng, end, hours.open * hours.activity * RATES[regime])
    price = _price(rng, ts, burst, hours.activity * VARIANCES[regime])
    minute = ts // MINUTE_MS
    mid = np.rint(price).astype(np.int64) + rng.integers(-BOUNCE, BOUNCE + 1, ts.size)
    spread = _spread(rng, regime[minute], hours.rollover[minute])
    repeated = rng.integers(0, REPEATED, ts.size) == 0
    shown = np.maximum.accumulate(np.where(repeated, 0, np.arange(ts.size)))
    bid = (mid - spread // 2)[shown]
    bid_size, ask_size = _sizes(rng, price)
    return Quotes(ts, ts, bid, bid + spread[shown], bid_size, ask_size)


def _regimes(rng: np.random.Generator, minutes: int) -> I64:
    """The regime of each minute, from normal."""
    def following(regime: int, draw: float) -> int:
        calmer, wilder = LEAVE[regime]
        return regime - (draw < calmer) + (draw >= 1.0 - wilder)

    return np.fromiter(accumulate(rng.random(minutes).tolist(), following, initial=NORMAL), np.int64, minutes)


def _stamps(rng: np.random.Generator, end: int, rate: I64) -> tuple[I64, NDArray[np.bool_]]:
    """Stamps before `end`, in order, and which belong to a burst. rate: by minute, in ten thousandths of TICKS_PER_S.

    They are drawn at the highest rate and thinned to the minute's. Raises UsageError if none is left.
    """
    most = int(rate.max())
    drawn = rng.integers(0, end, round(TICKS_PER_S * end / 1000 * most / 10_000))
    single = drawn[rng.integers(0, max(most, 1), drawn.size) < rate[drawn // MINUTE_MS]]
    if not single.size:
        raise UsageError("sim_closed", "no tick falls in the time asked for; the market is closed from Friday to Sunday 17:00 "
                         "New York time", hint="start elsewhere, or ask for more days")
    days = end / (1000 * DAY_S)
    bursts = _bursts(rng, _some(rng, single, round(BURSTS_PER_DAY * days)))
    ts, burst = np.concatenate([single, bursts]), np.repeat([False, True], [single.size, bursts.size])
    order = np.argsort(ts, kind="stable")
    order = order[~_in_hole(rng, ts[order], round(HOLES_PER_DAY * days))]
    return ts[order], burst[order]


def _some(rng: np.random.Generator, ts: I64, n: int) -> I64:
    return ts[rng.integers(0, ts.size, n)]


def _bursts(rng: np.random.Generator, around: I64) -> I64:
    """Stamps within the seconds of those given, so that no burst outlasts the market's hours."""
    second = around[:, None] // 1000 * 1000
    stamps = second + 1000 // BURST_STAMPS * rng.integers(0, BURST_STAMPS, (around.size, BURST_TICKS[1]))
    ticks = rng.integers(BURST_TICKS[0], BURST_TICKS[1] + 1, (around.size, 1))
    kept: I64 = stamps[np.arange(BURST_TICKS[1]) < ticks]
    return kept


def _in_hole(rng: np.random.Generator, ts: I64, holes: int) -> NDArray[np.bool_]:
    """Which of the stamps, in order, fall out; before the first hole there are ticks."""
    first = _some(rng, ts, holes)
    last = first + rng.integers(*HOLE_MS, holes, endpoint=True)
    lost = np.zeros(ts.size, np.bool_)
    for begin, end in zip(np.searchsorted(ts, first, "right"), np.searchsorted(ts, last), strict=True):
        lost[begin:end] = True
    return lost


def _price(rng: np.random.Generator, ts: I64, burst: NDArray[np.bool_], variance: I64) -> F64:
    """Points. variance: by minute, in ten thousandths of VOLATILITY²; its sum to a stamp is exact."""
    minute = ts // MINUTE_MS
    until = np.append(0, np.cumsum(MINUTE_MS * variance))[minute] + variance[minute] * (ts % MINUTE_MS)
    since = np.diff(until, prepend=0) * (VOLATILITY * VOLATILITY / 10_000_000)
    shock = (sum(rng.integers(0, 2**20, ts.size) for _ in range(12)) - 6 * 2**20) / 2**20      # its variance is 1
    price: F64 = PRICE + np.cumsum(np.sqrt(since + BURST_STEP * BURST_STEP * burst) * shock)
    return price


def _spread(rng: np.random.Generator, regime: I64, rollover: NDArray[np.bool_]) -> I64:
    n = regime.size
    usual = SPREADS[regime] + rng.integers(-1, 2, n)
    usual *= np.where(rollover, ROLLOVER_SPREAD, 1)
    usual *= np.where(rng.integers(0, WIDE, n) == 0, rng.integers(*WIDE_SPREAD, n, endpoint=True), 1)
    odd = rng.integers(0, 1000, n)
    below = np.where(odd < LOCKED, 0, -rng.integers(1, CROSSED_BY + 1, n))
    return np.where(odd < LOCKED + CROSSED, below, usual)


def _sizes(rng: np.random.Generator, price: F64) -> I64:
    """Of bid and ask."""
    n = price.size
    ahead = price[np.minimum(np.arange(n) + LEAN_TICKS, n - 1)] - price
    leans = rng.integers(0, LEANS, n) == 0
    larger = np.where(leans & (np.stack([ahead, -ahead]) > 0), LEAN, 1)
    there = rng.integers(0, SIZELESS, (2, n)) > 0
    sizes: I64 = 1000 * rng.integers(1, 51, (2, n)) * larger * there
    return sizes
