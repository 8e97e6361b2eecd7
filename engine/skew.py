"""Stamps of another clock: what looks as if local time was written where UTC was meant, in words for whoever can mend it.

Two things tell. A tick can't be stamped hours after the log stored it. And currencies have the same weekend everywhere,
from Friday to Sunday 17:00 in New York: a week that ends some whole hours later or earlier was told by another clock.
Nothing is decided by any of this, and no stamp is changed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from . import usual
from .eventtime import TOLERANCE
from .instruments import Instrument
from .types import I64, TickBatch
from .wire.stamps import ns_to_rfc3339
from .zones import offsets

_SECOND = 1_000_000_000
_MINUTE, _HOUR = 60 * _SECOND, 3600 * _SECOND
_WEEK = 168 * _HOUR
_CLOSE, _OPEN = 41 * _HOUR, 89 * _HOUR
"""Friday and Sunday 17:00, after Thursday 00:00: the week in which 1970 began."""
_FARTHEST = 14
"""Hours that a zone's clock is from UTC at most."""
_LEAST = 2
"""Hours a weekend must be off: one may be a venue's own."""
_SHARP, _BLUNT = 20 * _MINUTE, 150 * _MINUTE
"""How near a week's last tick must be to the whole hours told; and its first, since venues open two hours apart."""


def doubts(ticks: TickBatch) -> list[str]:
    """What may not be meant about the stamps of some files, in words; empty for stamps that look like UTC."""
    told = ticks.appended > 0
    future = future_doubt((ticks.ts - ticks.appended)[told & (ticks.ts > ticks.appended + TOLERANCE)])
    return [*([future] if future else []), *_weekend_doubts(ticks)]


# ---- stamped after they were stored


def future_doubt(ahead: I64) -> str:
    """ahead: ns by which future-dated ticks were stamped after the log stored them. In words, or empty.

    A clock of another zone is a whole or half hour ahead, within 10 minutes in the median.
    """
    if not ahead.size:
        return ""
    minutes = 30 * round(float(np.median(ahead)) / (30 * _MINUTE))
    if not 60 <= minutes <= 60 * _FARTHEST or abs(float(np.median(ahead)) - minutes * _MINUTE) > 10 * _MINUTE:
        return ""
    return (
        f"future-dated ticks are {minutes // 60}:{minutes % 60:02d} h ahead of the log's own stamps, in the median of "
        f"{ahead.size:,}: they look like {_utc(minutes)}. Have them sent as UTC, or {_in_files(minutes, 'SYMBOL')}"
    )


# ---- weekends


def _weekend_doubts(ticks: TickBatch) -> Iterator[str]:
    for sid, instrument in enumerate(ticks.instruments):
        if (instrument.calendar or usual.calendar(instrument.symbol)) == "currency":
            doubt = _weekend_doubt(np.sort(ticks.ts[ticks.sid == sid]), instrument)
            if doubt:
                yield doubt


def _weekend_doubt(ts: I64, instrument: Instrument) -> str:
    gaps = np.flatnonzero(np.diff(ts) >= 24 * _HOUR)
    hours, weekend = weekends(ts[gaps], ts[gaps + 1])
    off = weekend & (hours != 0)
    if 2 * off.sum() <= weekend.sum():
        return ""
    values, counts = np.unique(hours[off], return_counts=True)
    minutes = 60 * int(values[np.argmax(counts)])
    ended = ns_to_rfc3339(int(ts[gaps[off]][0]) // _MINUTE * _MINUTE)
    if instrument.zone == "UTC":
        mend = f"they look like {_utc(minutes)}. Convert them, or {_in_files(minutes, instrument.symbol)}"
    else:
        mend = f"they look like {_utc(minutes)}, or its zone isn't {instrument.zone}: see [instruments] {instrument.symbol}.zone"
    return f"{instrument.symbol}: by its stamps a week ends at {ended}, not on Friday 17:00 New York: {mend}"


def weekends(last: I64, first: I64) -> tuple[I64, NDArray[np.bool_]]:
    """(whole hours by which a weekend is late, 0 for one where it should be; whether the gap looks like a weekend at all).

    last, first: (n,) ns of the ticks before and after each gap.
    """
    close, open_ = _late(last, _CLOSE), _late(first, _OPEN)
    hours = np.rint(close / _HOUR).astype(np.int64)
    near = (np.abs(close) <= _BLUNT) & (np.abs(open_) <= _BLUNT) & (np.abs(hours) < _LEAST)
    told = (
        (np.abs(close - hours * _HOUR) <= _SHARP) & (np.abs(open_ - hours * _HOUR) <= _BLUNT)
        & (np.abs(hours) >= _LEAST) & (np.abs(hours) <= _FARTHEST)
    )
    return np.where(near, 0, hours), near | told


def _late(ts: I64, due: int) -> I64:
    """ns from the nearest moment of the week, by New York's clock, to each stamp."""
    starts, seconds = offsets("America/New_York")
    local = ts + _SECOND * seconds[np.searchsorted(starts, ts, "right") - 1]
    return (local - due + _WEEK // 2) % _WEEK - _WEEK // 2


# ---- words


def _utc(minutes: int) -> str:
    return f"UTC{'-' if minutes < 0 else '+'}{abs(minutes) // 60}" + (f":{abs(minutes) % 60:02d}" if minutes % 60 else "")


def _in_files(minutes: int, symbol: str) -> str:
    """Etc/GMT-3 is UTC+3; there is no such name for half hours."""
    zone = f' = "Etc/GMT{-minutes // 60:+d}"' if minutes % 60 == 0 else ""
    return f"set [instruments] {symbol}.zone{zone} and write stamps without a zone into files"
