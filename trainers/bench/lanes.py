"""Our ways to a row of features: each a contestant that says what a tick, a symbol or a start of it costs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from time import perf_counter_ns

import numpy as np

from engine.eventtime import EventTime
from engine.features import FeatureSet
from engine.features.state import State
from engine.feeds.sim import simulate
from engine.instruments import Instrument, Instruments, SymbolTable
from engine.state import SymbolRows
from engine.types import I64, Entry, Kind, TickBatch
from engine.wire import frame
from engine.wire import ticks as wire

from .machine import resident_mb
from .processes import Child
from .rounds import Contestant

RECORD = 1000
"""Ticks of a packed frame, and lines of a record of JSON."""
_CHUNK = 8192


class Stretch:
    """Ticks of which the last `timed` are measured; those before bring the state to where it is in the middle of a day."""

    def __init__(self, ticks: TickBatch, timed: int) -> None:
        self.ticks = ticks
        self.before, self.timed = ticks[:len(ticks) - timed], ticks[len(ticks) - timed:]

    def state(self) -> State:
        state = FeatureSet.default().state()
        for part in cut(self.before, _CHUNK):
            state.update(part)
        return state


def made(symbols: int, ticks: int, rate: float, timed: int) -> Stretch:
    """Simulated ticks that are admitted and move the mid, so many of each symbol, so many a second and symbol.

    Quotes that repeat the price are left out because some peers divide by the mean deviation of 20 prices.
    """
    days = ticks / _PER_DAY
    found = simulate(days, symbols=[f"MADE{k:04}" for k in range(symbols)])
    found = found[EventTime().admit(found) == 0]
    found = found[_moves(found)]
    faster = rate * 86_400 / _PER_DAY
    stamps = found.ts[0] + ((found.ts - found.ts[0]) / faster).astype(np.int64)
    return Stretch(TickBatch(found.instruments, **{**found.columns(), "ts": stamps}), timed)


_PER_DAY = 0.3 * 86_400
"""Moves a day and symbol of the simulator."""


def _moves(ticks: TickBatch) -> I64:
    """Rows whose mid isn't that of the symbol's row before."""
    by_symbol = np.argsort(ticks.sid, kind="stable")
    sid, mid = ticks.sid[by_symbol], (ticks.bid + ticks.ask)[by_symbol]
    kept = np.ones(len(ticks), np.bool_)
    kept[1:] = (sid[1:] != sid[:-1]) | (mid[1:] != mid[:-1])
    rows: I64 = np.sort(by_symbol[kept])
    return rows


def cut(ticks: TickBatch, size: int) -> list[TickBatch]:
    return [ticks[at:at + size] for at in range(0, len(ticks), size)]


# ---- ns per tick


def batches(stretch: Stretch, size: int) -> Contestant:
    """The kernel, a micro-batch a call."""
    parts = cut(stretch.timed, size)

    def once() -> float:
        update = stretch.state().update
        began = perf_counter_ns()
        for part in parts:
            update(part)
        return (perf_counter_ns() - began) / len(stretch.timed)

    return once


def singles(stretch: Stretch) -> Contestant:
    """One tick a call, from Python, admitted and computed."""
    names = ("sid", "ts", "bid", "ask", "bid_size", "ask_size")
    calls = list(zip(*(getattr(stretch.timed, name).tolist() for name in names), strict=True))

    def once() -> float:
        stream = FeatureSet.default().stream()
        for part in cut(stretch.before, _CHUNK):
            stream.update(part)
        stream.tick(*calls[0])                 # binds
        take = stream.tick
        began = perf_counter_ns()
        for call in calls:
            take(*call)
        return (perf_counter_ns() - began) / len(calls)

    return once


def frames(stretch: Stretch, admit: bool) -> Contestant:
    """Packed frames to rows, with admission or without."""
    return _decoded(stretch, [frame.pack(part) for part in cut(stretch.timed, RECORD)], admit)


def lines(stretch: Stretch) -> Contestant:
    """Records of JSON lines to rows."""
    parts = cut(stretch.timed, RECORD)
    return _decoded(stretch, [b"\n".join(wire.encode(part, row) for row in range(len(part))) for part in parts], admit=False)


def _decoded(stretch: Stretch, payloads: list[bytes], admit: bool) -> Contestant:
    records = [[Entry((ms, 0), Kind.TICKS, payload)] for ms, payload in enumerate(payloads, 1)]

    def once() -> float:
        state, event_time, table = stretch.state(), EventTime(), SymbolTable(Instruments())
        for instrument in stretch.ticks.instruments:
            table.adopt(instrument)
        began = perf_counter_ns()
        for record in records:
            ticks, _ = wire.decode(record, table)
            if admit:
                event_time.admit(ticks)
            state.update(ticks)
        return (perf_counter_ns() - began) / len(stretch.timed)

    return once


# ---- state


def snapshots(stretch: Stretch) -> Contestant:
    """µs to take all that is kept of one symbol: event time and features."""
    def once() -> float:
        parts = _kept(stretch)
        symbols = len(stretch.ticks.instruments)
        began = perf_counter_ns()
        for sid in range(symbols):
            for part in parts:
                part.snapshot(sid)
        return (perf_counter_ns() - began) / symbols / 1e3

    return once


def restores(stretch: Stretch) -> Contestant:
    """µs to put it back."""
    def once() -> float:
        parts = _kept(stretch)
        symbols = len(stretch.ticks.instruments)
        blobs = [[part.snapshot(sid) for part in parts] for sid in range(symbols)]
        began = perf_counter_ns()
        for sid, rows in enumerate(blobs):
            for part, row in zip(parts, rows, strict=True):
                part.restore(sid, row)
        return (perf_counter_ns() - began) / symbols / 1e3

    return once


def _kept(stretch: Stretch) -> list[SymbolRows]:
    event_time = EventTime()
    event_time.admit(stretch.before)
    return [event_time.rows, stretch.state().rows]


def row_bytes() -> int:
    """What one symbol's features take."""
    return FeatureSet.default().state().rows.words * 8


def memory(symbols: int, folder: Path, core: frozenset[int]) -> Contestant:
    """MB by which a process grows with the features of so many symbols, beyond one's."""
    code = f"import json; from trainers.bench.lanes import growth; print(json.dumps(growth({symbols})))"

    def once() -> float:
        with Child("memory of symbols", [sys.executable, "-c", code], folder, core) as child:
            return float(child.result()["mb"])

    return once


def growth(symbols: int) -> dict[str, float]:
    """In a process of its own, in which nothing as large has been freed that could be taken again."""
    one, many = ([Instrument(f"MADE{k}") for k in range(n)] for n in (1, symbols))
    FeatureSet.default().state().update(_zigzag(one, 0))
    before = resident_mb(os.getpid())
    state = FeatureSet.default().state()
    for k in range(400 * symbols // _STEP):
        state.update(_zigzag(many, k))
    return {"mb": resident_mb(os.getpid()) - before}


_STEP = 1024


def _zigzag(instruments: list[Instrument], k: int) -> TickBatch:
    """The k-th ticks of all symbols in turn, one a second each."""
    rows = np.arange(_STEP, dtype=np.int64) + _STEP * k
    second, sid = np.divmod(rows, len(instruments))
    bid = 110_000 + rows * 7919 % 613
    return TickBatch(instruments, sid=sid, ts=10**18 + second * 10**9, bid=bid, ask=bid + 10)


# ---- start


_FIRST_ROW = """
import sys
import numpy as np
from engine.features import FeatureSet
from engine.instruments import Instrument
from engine.types import TickBatch
one = {name: np.array([value]) for name, value in (("sid", 0), ("ts", 10**18), ("bid", 110_000), ("ask", 110_010))}
FeatureSet.default().stream().update(TickBatch([Instrument("MADE")], **one))
print("ready:", file=sys.stderr, flush=True)
"""
_NUMBA = "import sys, numpy, numba; print('ready:', file=sys.stderr, flush=True)"


def start(folder: Path, core: frozenset[int]) -> Contestant:
    """Seconds from exec to the first row; the kernels are in the cache from the round that doesn't count."""
    return _ready("the first row", _FIRST_ROW, folder, core)


def importing_numba(folder: Path, core: frozenset[int]) -> Contestant:
    """Seconds from exec until numpy and numba are imported."""
    return _ready("importing numba", _NUMBA, folder, core)


def _ready(what: str, code: str, folder: Path, core: frozenset[int]) -> Contestant:
    def once() -> float:
        with Child(what, [sys.executable, "-c", code], folder, core) as child:
            return child.ready() - child.started

    return once
