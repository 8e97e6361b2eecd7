"""One tick at a time through one C call: event time and features for those who have no second tick to make a batch of."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..eventtime import EventTime, judge
from ..jit import INTEGER, as_floats, as_singles, entry, words_at
from ..types import F32
from ..wire.ticks import LARGEST
from .families.calendar import Clocks
from .families.indicators import Lengths
from .kernel import step
from .state import FeatureState

UNKNOWN, IMPOSSIBLE = -1, -2
"""Beside the verdicts of event time: no symbol of that number, and a stamp, price or size that can't be."""

_SYMBOLS, _EVENTS, _EVENT_WORDS, _KEEP_CROSSED, _STATES, _WORDS = range(6)
_CLOCKS, _STARTS, _ROWS, _TABLE, _LENGTHS, _NS, _PER_ROOT, _OUT = range(6, 14)


def _tick(places: int, sid: int, ts: int, bid: int, ask: int, bid_size: int, ask_size: int, seq: int) -> int:
    """0 if the tick is admitted, its row written; else why not. places: address of sizes and addresses."""
    at = words_at(places)
    if sid < 0 or sid >= at[_SYMBOLS]:
        return UNKNOWN
    if ts <= 0 or bid <= 0 or ask <= 0 or bid >= LARGEST or ask >= LARGEST:
        return IMPOSSIBLE
    if bid_size < 0 or ask_size < 0 or bid_size >= LARGEST or ask_size >= LARGEST:
        return IMPOSSIBLE
    keep_crossed = words_at(at[_KEEP_CROSSED])[sid]
    events = words_at(at[_EVENTS] + 8 * at[_EVENT_WORDS] * sid)
    verdict = judge(events, keep_crossed, ts, bid, ask, bid_size, ask_size, seq, 0)
    if verdict == 0:
        clocks = Clocks(at[_CLOCKS], words_at(at[_STARTS]), words_at(at[_ROWS]), as_singles(words_at(at[_TABLE])))
        lengths = Lengths(at[_LENGTHS], words_at(at[_NS]), as_floats(words_at(at[_PER_ROOT])))
        state = words_at(at[_STATES] + 8 * at[_WORDS] * sid)
        step(ts, bid, ask, bid_size, ask_size, clocks, lengths, state, as_floats(state), as_singles(words_at(at[_OUT])))
    return verdict


class Single:
    """Of the first `symbols` rows as they lie now: make another one when rows are added or moved."""

    def __init__(self, symbols: int, event_time: EventTime, keep_crossed: Any, state: FeatureState) -> None:
        event_time.rows.ensure(symbols)
        state.rows.ensure(symbols)
        self.row: F32 = np.full(state.columns, np.nan, np.float32)
        starts, rows, table, lengths, per_root = state.tables
        self._held = (keep_crossed, event_time.rows.ints, state.rows.ints, starts, rows, table, lengths, per_root, self.row)
        keep, events, states, *tables, out = (array.ctypes.data for array in self._held)
        self._places = np.array([
            symbols, events, event_time.rows.words, keep, states, state.rows.words,
            starts.size, *tables[:3], lengths.size, *tables[3:], out,
        ])
        self.places = self._places.ctypes.data
        self.call = entry(_tick, (INTEGER,) * 8)
        """(places, sid, ts, bid, ask, bid size, ask size, seq) -> verdict"""
