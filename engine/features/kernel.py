"""The fused kernel: one pass over the ticks, every family in turn, the state of a symbol in one row.

Engine and trainer run this very code. To add a family: a file in `families/`, its line in LAYOUT, and its calls below.
"""

from __future__ import annotations

from itertools import accumulate

import numpy as np

from ..jit import kernel
from ..types import F32, F64, I64, Reason
from .families import quote, sigma, time_features, windows
from .spec import Family

LAYOUT: tuple[Family, ...] = (quote.FAMILY, time_features.SCALE_FREE, sigma.FAMILY, windows.FAMILY)
"""Order of the columns and of the words in a symbol's row."""

_QUOTE, _TIME, _SIGMA, _WINDOWS, WORDS = accumulate((family.words for family in LAYOUT), initial=0)
_, _TIME_COLUMN, _SIGMA_COLUMN, _WINDOWS_COLUMN, COLUMNS = accumulate(
    (len(family.columns) for family in LAYOUT), initial=0
)

TIME_LAYOUT: tuple[Family, ...] = (quote.FAMILY, time_features.RAW)
_RAW, TIME_WORDS = quote.FAMILY.words, quote.FAMILY.words + time_features.RAW.words

_WARMUP, _GAP, _READY = int(Reason.WARMUP), int(Reason.GAP), int(Reason.DECIDED)


@kernel
def update(
    sid: I64, ts: I64, bid: I64, ask: I64, ints: I64, floats: F64,
    out: F32, usual_spread: F64, sigma_now: F64, status: I64,
) -> None:
    """Ticks in, one row of features per tick out.

    out: (n, COLUMNS), NaN until known; usual_spread: points; sigma_now: points per √second, NaN until known;
    status: Reason.DECIDED where every window is full, else WARMUP, or GAP after a hole.
    """
    for i in range(ts.size):
        state = ints[sid[i]]
        real = floats[sid[i]]
        t, mid2, spread = ts[i], bid[i] + ask[i], ask[i] - bid[i]
        if state[_QUOTE + quote.COUNT] == 0:
            quote.begin(state, _QUOTE, t, mid2)
            time_features.begin(state, real, _TIME, t, float(mid2))
            sigma.begin(state, real, _SIGMA, t, mid2, spread)
            windows.begin(state, _WINDOWS, t, mid2)
        previous, previous_mid2 = state[_QUOTE + quote.TS], state[_QUOTE + quote.MID2]

        state[_QUOTE + quote.BARS] += time_features.step_minute(state, real, _TIME, t, float(mid2))
        usual, now = sigma.step(state, real, _SIGMA, t, previous, state[_QUOTE + quote.COUNT], mid2, spread)
        windows.step(state, _WINDOWS, t, previous_mid2, state[_QUOTE + quote.SIGN], mid2)
        quote.end(state, _QUOTE, t, mid2)

        time_features.write_scale_free(real, _TIME, out[i], _TIME_COLUMN, mid2, now)
        sigma.write(out[i], _SIGMA_COLUMN, mid2, spread, usual, now)
        windows.write(state, _WINDOWS, out[i], _WINDOWS_COLUMN, mid2, now)

        usual_spread[i] = usual
        sigma_now[i] = now
        if now > 0.0 and state[_QUOTE + quote.BARS] >= time_features.READY:
            status[i] = _READY
        elif state[_QUOTE + quote.HOLES] > 0:
            status[i] = _GAP
        else:
            status[i] = _WARMUP


@kernel
def update_time(
    sid: I64, ts: I64, bid: I64, ask: I64, units: F64, every_tick: bool, ints: I64, floats: F64, out: F32
) -> None:
    """The nine raw time features alone; `units`: per symbol, the price of a half-point."""
    for i in range(ts.size):
        state = ints[sid[i]]
        real = floats[sid[i]]
        t, mid2 = ts[i], bid[i] + ask[i]
        if state[quote.COUNT] == 0:
            quote.begin(state, 0, t, mid2)
            time_features.begin(state, real, _RAW, t, float(mid2))
        if every_tick:
            time_features.add_close(state, real, _RAW, float(mid2))
        else:
            time_features.step_minute(state, real, _RAW, t, float(mid2))
        quote.end(state, 0, t, mid2)
        time_features.write_raw(real, _RAW, out[i], 0, units[sid[i]])


@kernel
def nine_of_closes(closes: F64, state: I64, real: F64, out: F32) -> None:
    """The nine raw time features of plain closes, one row per close; `state`, `real`: one zeroed row, seen twice."""
    time_features.begin(state, real, 0, 0, 0.0)
    for i in range(closes.size):
        time_features.add_close(state, real, 0, closes[i])
        time_features.write_raw(real, 0, out[i], 0, 1.0)


def augment_time_features(close: F64) -> F32:
    """(n,) closes -> (n, 9) float32: ret1, its lags 1, 2, 5, 8, vol14, vol50, mom5, mom15; NaN until known."""
    row = np.zeros(time_features.RAW.words, np.int64)
    out = np.empty((len(close), 9), np.float32)
    nine_of_closes(np.ascontiguousarray(close, np.float64), row, row.view(np.float64), out)
    return out
