"""What a peer is: a library's own way to the 12 indicators, tick by tick, on a window per tick, or over whole arrays.

A peer is used as its own documentation says, on plain floats that are there before the clock starts, and nothing it
computes is read while the clock runs. Its values at the end of a series are what `reference` says, or it isn't timed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any, ClassVar, NamedTuple

import numpy as np

from engine.errors import TocsinError
from engine.types import F64, I64, TickBatch

from ..machine import installed
from .reference import INDICATORS, reference

WINDOW = 300
"""Ticks from which a window's ADX is the whole history's within 1e-6: its two Wilder means of 14 have forgotten the rest."""
WITHIN = 1e-6
"""Of a value's size, so far a peer may be from the reference."""
SERIES = 20
"""On so many: whether a window is one tick too short shows only where its first tick is the highest or lowest."""


class Series(NamedTuple):
    """Ticks as bars of one tick, in order: ask, bid, mid, and both sizes together. sid: whose."""

    sid: I64
    high: F64
    low: F64
    close: F64
    volume: F64

    @classmethod
    def of(cls, ticks: TickBatch) -> Series:
        sizes = ticks.bid_size + ticks.ask_size
        high, low, volume = (column.astype(np.float64) * 1e-5 for column in (ticks.ask, ticks.bid, sizes))
        return cls(ticks.sid, high, low, (high + low) / 2.0, volume)

    def last(self, rows: int) -> Series:
        return Series(self.sid[-rows:], *(column[-rows:] for column in self.prices))

    @property
    def prices(self) -> tuple[F64, F64, F64, F64]:
        return self.high, self.low, self.close, self.volume


@dataclass(frozen=True)
class Peer(ABC):
    """One library in one way. `otherwise`: values it defines in a way of its own, and so are not compared."""

    name: str
    package: str
    load: Callable[[], Any]
    """Imports the library; what it returns, the kinds below say."""
    ticks: int
    """How many are timed in a round."""
    otherwise: frozenset[str] = frozenset()
    how: ClassVar[str]

    @property
    def version(self) -> str | None:
        return installed(self.package)

    @abstractmethod
    def contestant(self, series: Series, ticks: int) -> Callable[[], float]:
        """ns per tick over the last `ticks` of a series, what comes before them being known."""

    @abstractmethod
    def values(self, series: Series) -> dict[str, float]:
        """What it knows after the last tick of one symbol's series, by the names of `reference`."""

    def check(self) -> tuple[str, ...]:
        """The indicators it lacks. Raises TocsinError `bench_peer` where a value isn't what it should be."""
        for seed in range(SERIES):
            series = made_series(seed)
            found, expected = self.values(series), reference(*series.prices)
            for name, value in found.items():
                own, right = name in self.otherwise, expected[name]
                if not (np.isfinite(value) if own else abs(value - right) <= WITHIN * abs(right)):
                    raise TocsinError(
                        "bench_peer", f"{self.name} {self.version}: {name} is {value}, {right} expected",
                        hint="a peer that computes something else isn't timed; try the version that pyproject.toml names",
                    )
        return tuple(indicator for indicator, names in INDICATORS.items() if not set(names) <= found.keys())


class TickByTick(Peer):
    """load() -> make() -> (take(high, low, close, volume), values()): one `make()` per symbol."""

    how = "tick by tick"

    def contestant(self, series: Series, ticks: int) -> Callable[[], float]:
        make = self.load()
        rows: list[tuple[int, float, float, float, float]] = list(zip(*(column.tolist() for column in series), strict=True))
        before, timed, symbols = rows[:-ticks], rows[-ticks:], int(series.sid.max()) + 1

        def once() -> float:
            takes = [make()[0] for _ in range(symbols)]
            for sid, high, low, close, volume in before:
                takes[sid](high, low, close, volume)
            began = perf_counter_ns()
            for sid, high, low, close, volume in timed:
                takes[sid](high, low, close, volume)
            return (perf_counter_ns() - began) / ticks

        return once

    def values(self, series: Series) -> dict[str, float]:
        take, values = self.load()()
        for prices in zip(*(column.tolist() for column in series.prices), strict=True):
            take(*prices)
        return dict(values())


class OnWindow(Peer):
    """load() -> compute(high, low, close, volume): the last values, by name, from arrays that end with the tick."""

    how = f"anew on the last {WINDOW} ticks at every tick"

    def contestant(self, series: Series, ticks: int) -> Callable[[], float]:
        compute = self.load()
        n = len(series.close)
        windows = [tuple(column[end - WINDOW:end] for column in series.prices) for end in range(n - ticks + 1, n + 1)]

        def once() -> float:
            began = perf_counter_ns()
            for window in windows:
                compute(*window)
            return (perf_counter_ns() - began) / ticks

        return once

    def values(self, series: Series) -> dict[str, float]:
        return dict(self.load()(*series.last(WINDOW).prices))


class WholeArrays(Peer):
    """load() -> compute(high, low, close, volume): whole columns, by name."""

    how = "over whole arrays"

    def contestant(self, series: Series, ticks: int) -> Callable[[], float]:
        compute, columns = self.load(), series.last(ticks).prices

        def once() -> float:
            began = perf_counter_ns()
            compute(*columns)
            return (perf_counter_ns() - began) / ticks

        return once

    def values(self, series: Series) -> dict[str, float]:
        found: Mapping[str, Any] = self.load()(*series.prices)
        return {name: float(column[-1]) for name, column in found.items()}


def made_series(seed: int, n: int = 400) -> Series:
    """A walk that is nowhere flat, and long enough for what a mean begins with to be forgotten."""
    rng = np.random.default_rng(seed)
    close = 1.1 + np.cumsum(rng.standard_normal(n)) * 1e-4
    high, low = close + rng.uniform(1e-5, 1e-4, n), close - rng.uniform(1e-5, 1e-4, n)
    return Series(np.zeros(n, np.int64), high, low, close, rng.uniform(1.0, 50.0, n))
