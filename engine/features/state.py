"""The features' state of every symbol, and the kernels that carry it from tick to tick."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from ..bars import LENGTHS
from ..config import TIMEFRAMES
from ..state import SymbolRows
from ..types import F32, F64, I64, TickBatch
from . import kernel
from .families import quote, time_features
from .families.calendar import tables
from .own import Own
from .spec import MID, QUOTES, Column


class Rows(NamedTuple):
    """What is said of n ticks."""

    matrix: F32
    """(n, F), NaN until known."""
    spread: F64
    """(n,) mean spread, points."""
    sigma: F64
    """(n,) points per √second, NaN until known."""
    status: I64
    """(n,) Reason.DECIDED where decisions need wait no longer, else WARMUP or GAP."""


class State(Protocol):
    """`rows` is all there is of it; `update` takes admitted ticks only."""

    rows: SymbolRows

    def update(self, ticks: TickBatch) -> Rows: ...


class FeatureState:
    """Of the fused kernel's columns, and of families of one's own behind them."""

    def __init__(self, timeframes: tuple[str, ...], own: tuple[Own, ...] = ()) -> None:
        families = kernel.layout(timeframes)
        self._words = sum(family.words for family in families)
        self._fused = sum(len(family.columns) for family in families)
        self.own = own
        self.columns = self._fused + sum(len(each.family.columns) for each in own)
        self.rows = SymbolRows(self._words + sum(each.family.words for each in own))
        seconds = np.array([TIMEFRAMES[length] for length in timeframes], np.int64)
        self.tables = (*tables(), 10**9 * seconds, 1.0 / np.sqrt(seconds))

    def update(self, ticks: TickBatch) -> Rows:
        self.rows.ensure(len(ticks.instruments))
        n = len(ticks)
        rows = Rows(np.empty((n, self.columns), np.float32), np.empty(n), np.empty(n), np.empty(n, np.int64))
        quotes = (ticks.sid, ticks.ts, ticks.bid, ticks.ask, ticks.bid_size, ticks.ask_size)
        if not kernel.update(*quotes, *self.tables, self.rows.ints, *rows):
            raise ValueError("a tick's sid is the number of none of its batch's instruments")
        word, column = self._words, self._fused
        rows.matrix[:, column:] = np.nan           # what a family of one's own doesn't write isn't known
        for own in self.own:
            words, columns = own.family.words, len(own.family.columns)
            own.run(*quotes, rows.spread, rows.sigma, self.rows.ints, self.rows.floats, word, words, rows.matrix, column, columns)
            word, column = word + words, column + columns
        return rows


class BarState:
    """Of the columns that bars tell: rows at their ends only."""

    def __init__(self, state: State, kept: list[int]) -> None:
        self._state = state
        self._kept = kept
        self.rows = state.rows

    def update(self, ticks: TickBatch) -> Rows:
        rows = self._state.update(ticks)
        ends = ticks.bid == 0
        matrix = np.ascontiguousarray(rows.matrix[ends][:, self._kept])
        return Rows(matrix, rows.spread[ends], rows.sigma[ends], rows.status[ends])


def told_by_bars(column: Column, length: str, quotes: bool) -> bool:
    """Whether a column means on bars of this length what it means on ticks."""
    if column.needs not in ((MID, QUOTES) if quotes else (MID,)):
        return False
    return not column.bar or TIMEFRAMES[column.bar] >= LENGTHS[length]


class TimeFeatureState:
    """Of the nine raw time features alone."""

    def __init__(self, every_tick: bool) -> None:
        self.rows = SymbolRows(kernel.RAW_WORDS)
        self._every_tick = every_tick

    def update(self, ticks: TickBatch) -> Rows:
        self.rows.ensure(len(ticks.instruments))
        units = np.array([0.5 / 10.0**i.scale for i in ticks.instruments])
        n = len(ticks)
        out = np.empty((n, 9), np.float32)
        kernel.update_time(
            ticks.sid, ticks.ts, ticks.bid, ticks.ask, units, self._every_tick, self.rows.ints, self.rows.floats, out
        )
        nothing = np.full(n, np.nan)
        return Rows(out, nothing, nothing, np.zeros(n, np.int64))


def bars_missing(row: I64) -> int:
    """How many minute bars must still close before a symbol's windows are full; row: its words, the quote's first."""
    return max(time_features.READY - int(row[quote.BARS]), 0)
