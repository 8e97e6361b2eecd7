"""Where in the day and the week a tick stands, by the clocks of New York, London and Tokyo.

The currency day begins at 17:00 in New York, the week on Sunday at that hour, read off New York's clock on the wall at the
start of the minute. Clocks change on different Sundays in New York and in London; the columns follow each city's own.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ...jit import subkernel
from ...types import F32, F64, I64
from ...zones import offsets
from ..spec import MID, Column, Family, Tick

MINUTE = 60_000_000_000
WEEK = 10_080
"""Minutes."""
_THURSDAY = 3 * 1440
"""1970-01-01 in minutes of a week that begins on Monday."""
ROLL = 17 * 60
"""Minute of New York's day at which the currency day begins."""
NEW_YORK, LONDON, TOKYO = "America/New_York", "Europe/London", "Asia/Tokyo"
SESSIONS = ((TOKYO, 9 * 60, 18 * 60), (LONDON, 8 * 60, 17 * 60), (NEW_YORK, 8 * 60, 17 * 60))
"""Open from, to: minutes of the city's day, Monday to Friday."""

_UNTIL, _ROW = 0, 1

_SOURCE = "hours of the currency market's centres: BIS Triennial Survey"
FAMILY = Family(
    "calendar", 1, 2,
    (
        Column("day_sin", "sin(2π · part of the day since 17:00 New York)", "the minute", "1", "1 tick", "every minute",
               "harmonics of the day: Andersen & Bollerslev (1997)", MID),
        Column("day_cos", "cos of the same", "the minute", "1", "1 tick", "every minute",
               "harmonics of the day: Andersen & Bollerslev (1997)", MID),
        Column("week", "part of the week since Sunday 17:00 New York", "the minute", "1", "1 tick", "every minute", _SOURCE, MID),
        *(
            Column(name, f"part of {city}'s {start // 60}:00-{stop // 60}:00, Monday to Friday, elapsed at the end of the "
                   "running minute; 0 outside",
                   "the minute", "1", "1 tick", "every minute", _SOURCE, MID)
            for name, (city, start, stop) in zip(("tokyo", "london", "new_york"), SESSIONS, strict=True)
        ),
    ),
)


class Clocks(NamedTuple):
    """What the kernel looks up: from starts[k] (ns UTC) on, the week of 10,080 minutes begins at row rows[k] of table."""

    size: int
    starts: I64
    rows: I64
    table: F32


@lru_cache(1)
def tables() -> tuple[I64, I64, F32]:
    """(starts, rows, table (weeks · 10,080, 6)): a week for each set of offsets that the three cities had together."""
    cities = [offsets(city) for city, _, _ in SESSIONS]
    starts = np.unique(np.concatenate([when for when, _ in cities]))
    ahead = np.stack([by[np.searchsorted(when, starts, "right") - 1] for when, by in cities], axis=1)
    pairs, index = np.unique(ahead, axis=0, return_inverse=True)
    table = np.concatenate([_week(*(pair // 60).tolist()) for pair in pairs])
    return starts, WEEK * index.reshape(-1).astype(np.int64), np.ascontiguousarray(table, np.float32)


def digest() -> str:
    """Of what the clocks of these years say, whatever release of the tz database said it."""
    return hashlib.sha256(b"".join(part.tobytes() for part in tables())).hexdigest()


def _week(tokyo: int, london: int, new_york: int) -> F64:
    """(10,080, 6) for each UTC minute from Monday on; arguments: minutes ahead of UTC."""
    minute = np.arange(WEEK)
    day = (minute + new_york - ROLL) % 1440
    since_sunday = (minute + new_york - ROLL - 6 * 1440) % WEEK
    columns = [_sine(day), _sine(day + 360), since_sunday / WEEK]
    for ahead, (_, start, stop) in zip((tokyo, london, new_york), SESSIONS, strict=True):
        weekday, at = np.divmod((minute + ahead) % WEEK, 1440)
        open_ = (weekday < 5) & (at >= start) & (at < stop)
        columns.append(np.where(open_, (at - start + 1) / (stop - start), 0.0))
    return np.stack(columns, axis=1)


def _sine(minute: I64) -> F64:
    """sin(2π · minute / 1440) by its Taylor series over a quarter: NumPy's own differs between processors."""
    quarter, rest = np.divmod(minute % 1440, 360)
    x = np.where(quarter % 2 == 0, rest, 360 - rest) * (np.pi / 720)
    term, total = x, x
    for k in range(1, 13):
        term = term * x * x / -(2.0 * k * (2.0 * k + 1.0))
        total = total + term
    return np.asarray(np.where(quarter < 2, total, -total), np.float64)


@subkernel
def step(state: I64, at: int, clocks: Clocks, tick: Tick, out: F32, column: int) -> None:
    if tick.ts >= state[at + _UNTIL]:
        minute = tick.ts // MINUTE
        low, high = 0, clocks.size
        while high - low > 1:
            middle = (low + high) // 2
            if clocks.starts[middle] <= tick.ts:
                low = middle
            else:
                high = middle
        state[at + _ROW] = clocks.rows[low] + (minute + _THURSDAY) % WEEK
        state[at + _UNTIL] = (minute + 1) * MINUTE
    for k in range(6):
        out[column + k] = clocks.table[6 * state[at + _ROW] + k]
