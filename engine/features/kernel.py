"""The fused kernel: one pass over the ticks, every family in turn, the state of a symbol in one row.

Engine and trainer run this very code. To add a family: a file in `families/`, its place in LAYOUT, and its line below.
"""

from __future__ import annotations

from itertools import accumulate

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InputRefused
from ..jit import as_floats, kernel, pointer, subkernel
from ..types import F32, F64, I64, Reason
from .families import (
    activity,
    bars,
    calendar,
    distance,
    flow,
    indicators,
    panes,
    quote,
    recent,
    returns,
    sigma,
    spread,
    time_features,
    volatility,
)
from .families.calendar import Clocks
from .families.indicators import Lengths
from .spec import Family, Tick

FIXED: tuple[Family, ...] = (
    quote.FAMILY, panes.FAMILY, recent.FAMILY, bars.FAMILY, time_features.SCALE_FREE, sigma.FAMILY, spread.FAMILY,
    calendar.FAMILY, returns.FAMILY, volatility.FAMILY, flow.FAMILY, activity.FAMILY, distance.FAMILY,
)
"""Order of the columns and of the words in a symbol's row. The indicators follow, on as many bar lengths as are asked for."""

_WORDS = dict(zip([f.name for f in FIXED] + ["indicators"], accumulate((f.words for f in FIXED), initial=0), strict=True))
_COLUMNS = dict(zip(_WORDS, accumulate((len(f.columns) for f in FIXED), initial=0), strict=True))
_QUOTE, _PANES, _RECENT, _BARS, _TIME, _SIGMA, _SPREAD, _CALENDAR = list(_WORDS.values())[:8]
_INDICATORS = _WORDS["indicators"]
_TIME_COLUMN, _SIGMA_COLUMN, _SPREAD_COLUMN, _CALENDAR_COLUMN = list(_COLUMNS.values())[4:8]
_RETURNS_COLUMN, _VOLATILITY_COLUMN, _FLOW_COLUMN, _ACTIVITY_COLUMN, _DISTANCE_COLUMN, _INDICATORS_COLUMN = (
    list(_COLUMNS.values())[8:]
)

RAW: tuple[Family, ...] = (bars.FAMILY, time_features.RAW)
_RAW, _STARTED = bars.FAMILY.words, bars.FAMILY.words + time_features.RAW.words
RAW_WORDS = _STARTED + 1

_WARMUP, _GAP, _READY = int(Reason.WARMUP), int(Reason.GAP), int(Reason.DECIDED)
_MINUTE_NS, _LONG_NS = 60_000_000_000, 300_000_000_000
_ROOT60, _ROOT300 = np.sqrt(60.0), np.sqrt(300.0)


def layout(timeframes: tuple[str, ...]) -> tuple[Family, ...]:
    """The families of the default set on bars of these lengths."""
    return (*FIXED, indicators.family(timeframes))


@kernel
def update(
    sid: I64, ts: I64, bid: I64, ask: I64, bid_size: I64, ask_size: I64, starts: I64, rows: I64, table: F32, lengths: I64,
    per_root: F64, states: I64, out: F32, usual_spread: F64, sigma_now: F64, status: I64,
) -> bool:
    """Ticks in, one row of features per tick out; False, and nothing done, where a sid has no row of states.

    starts, rows, table: the calendar's clocks; lengths: ns of the indicators' bars, per_root: 1 / √seconds of them.
    out: (n, columns), NaN until known; usual_spread: points; sigma_now: points per √second, NaN until known; status:
    Reason.DECIDED where decisions need wait no longer, else WARMUP, or GAP after a hole.
    """
    clocks = Clocks(starts.size, pointer(starts, 0), pointer(rows, 0), pointer(table, 0))
    scales = Lengths(lengths.size, pointer(lengths, 0), pointer(per_root, 0))
    for i in range(ts.size):
        if sid[i] < 0 or sid[i] >= states.shape[0]:
            return False
    for i in range(ts.size):
        state = pointer(states, sid[i])
        usual_spread[i], sigma_now[i], status[i] = step(
            ts[i], bid[i], ask[i], bid_size[i], ask_size[i], clocks, scales, state, as_floats(state), pointer(out, i),
        )
    return True


@subkernel
def step(
    ts: int, bid: int, ask: int, bid_size: int, ask_size: int, clocks: Clocks, lengths: Lengths,
    state: I64, real: F64, out: F32,
) -> tuple[float, float, int]:
    """One tick of one symbol, or a watermark (bid 0): time passes to ts without a quote. A symbol's first tick is taken as if
    it had stood there before.
    """
    quoted = bid > 0
    if not quoted:
        bid, ask, bid_size, ask_size = quote.last(state, _QUOTE)
    mid2, gap = bid + ask, max(ask - bid, 0)
    if state[_QUOTE + quote.COUNT] == 0:
        quote.begin(state, _QUOTE, ts, bid, ask, bid_size, ask_size)
        panes.begin(state, real, _PANES, ts, mid2)
        bars.begin(state, _BARS, ts)
        time_features.begin(real, _TIME)
        sigma.begin(state, real, _SIGMA, ts, mid2, gap)
        spread.begin(state, _SPREAD)
        indicators.begin(state, real, _INDICATORS, lengths)

    # time passes
    if panes.roll(state, real, _PANES, ts, state[_QUOTE + quote.MID2], mid2):
        spread.sample(state, _SPREAD, max(state[_QUOTE + quote.ASK] - state[_QUOTE + quote.BID], 0))
        if bars.is_over(state, _BARS, ts):
            bar = bars.closed(state, _BARS)
            bars.begin(state, _BARS, ts)
            time_features.add_close(state, real, _TIME, float(bar.close))
            indicators.take(state, real, _INDICATORS, lengths, bar, ts)
            state[_QUOTE + quote.BARS] += 1
    if ts - state[_QUOTE + quote.TS] > quote.HOLE or panes.is_elsewhere(state, _PANES, mid2):
        quote.resume(state, _QUOTE, ts)
        panes.begin(state, real, _PANES, ts, mid2)
        recent.resume(state, _RECENT)

    # the tick is taken
    previous, move = state[_QUOTE + quote.TS], mid2 - state[_QUOTE + quote.MID2]
    sign = 1 if move > 0 else -1 if move < 0 else state[_QUOTE + quote.SIGN]
    flowed = quote.flow(state, _QUOTE, bid, ask, bid_size, ask_size)
    if quoted:
        usual, now, per_sigma = sigma.measure(state, real, _SIGMA, ts, previous, state[_QUOTE + quote.COUNT], mid2, gap)
    else:
        usual, now, per_sigma = sigma.known(real, _SIGMA)
    tick = Tick(
        ts, bid, ask, bid_size, ask_size, mid2, gap, move, sign, flowed, ts - state[_QUOTE + quote.SINCE],
        usual, now, per_sigma,
    )
    if quoted:
        panes.take(state, _PANES, tick)
        recent.take(state, _RECENT, ts, mid2)
        bars.take(state, _BARS, ts, mid2)
        quote.end(state, _QUOTE, ts, bid, ask, bid_size, ask_size, sign)

    # what is known of it
    last = panes.windows(state, real, _PANES, mid2)
    known60 = 1.0 if tick.elapsed >= _MINUTE_NS else np.nan
    known300 = 1.0 if tick.elapsed >= _LONG_NS else np.nan
    unit60, unit300 = 0.5 * per_sigma / _ROOT60 * known60, 0.5 * per_sigma / _ROOT300 * known300
    per_ticks300 = known300 / last.ticks300

    time_features.step(real, _TIME, tick, out, _TIME_COLUMN)
    sigma.step(tick, out, _SIGMA_COLUMN)
    spread.step(state, real, _SPREAD, tick, out, _SPREAD_COLUMN)
    calendar.step(state, _CALENDAR, clocks, tick, out, _CALENDAR_COLUMN)
    returns.step(state, _RECENT, tick, last, unit60, unit300, out, _RETURNS_COLUMN)
    volatility.step(last, unit60, unit300, known300, out, _VOLATILITY_COLUMN)
    flow.step(tick, last, known60, per_ticks300, out, _FLOW_COLUMN)
    activity.step(state, _RECENT, tick, last, per_ticks300, out, _ACTIVITY_COLUMN)
    distance.step(tick, last, unit300, known300, out, _DISTANCE_COLUMN)
    indicators.step(state, _INDICATORS, lengths, tick, out, _INDICATORS_COLUMN)

    if now > 0.0 and state[_QUOTE + quote.BARS] >= time_features.READY:
        return usual, now, _READY
    return usual, now, _GAP if state[_QUOTE + quote.HOLES] > 0 else _WARMUP


@kernel
def update_time(sid: I64, ts: I64, bid: I64, ask: I64, units: F64, every_tick: bool, ints: I64, floats: F64, out: F32) -> None:
    """The nine raw time features alone; `units`: per symbol, the price of a half-point."""
    for i in range(ts.size):
        state = ints[sid[i]]
        real = floats[sid[i]]
        mid2 = bid[i] + ask[i]
        if state[_STARTED] == 0:
            state[_STARTED] = 1
            bars.begin(state, 0, ts[i])
            time_features.begin(real, _RAW)
        if every_tick:
            time_features.add_close(state, real, _RAW, float(mid2))
        elif bars.is_over(state, 0, ts[i]):
            time_features.add_close(state, real, _RAW, float(bars.closed(state, 0).close))
        bars.take(state, 0, ts[i], mid2)
        time_features.write_raw(real, _RAW, out[i], 0, units[sid[i]])


@kernel
def nine_of_closes(closes: F64, state: I64, real: F64, out: F32) -> None:
    """The nine raw time features of plain closes, one row per close; `state`, `real`: one zeroed row, seen twice."""
    time_features.begin(real, 0)
    for i in range(closes.size):
        time_features.add_close(state, real, 0, closes[i])
        time_features.write_raw(real, 0, out[i], 0, 1.0)


def augment_time_features(close: ArrayLike) -> F32:
    """(n,) closes -> (n, 9) float32: ret1, its lags 1, 2, 5, 8, vol14, vol50, mom5, mom15; NaN until known.

    Raises InputRefused (`closes`).
    """
    closes = np.asarray(close)
    if closes.ndim != 1 or closes.dtype.kind not in "fiu":
        raise InputRefused("closes", f"closes of shape {closes.shape} and type {closes.dtype}", hint="give (n,) numbers")
    row = np.zeros(time_features.RAW.words, np.int64)
    out = np.empty((closes.size, 9), np.float32)
    nine_of_closes(np.ascontiguousarray(closes, np.float64), row, row.view(np.float64), out)
    return out
