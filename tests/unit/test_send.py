"""Sending ticks: order, whole frames, pace."""

from __future__ import annotations

import numpy as np
import pytest

from engine import clock
from engine.feeds.send import Pace, send
from engine.instruments import Instruments, SymbolTable
from engine.partitioner import partition_of
from engine.transports.memory import MemoryLog
from engine.types import START
from engine.wire import frame
from engine.wire.ticks import decode
from tests.made import made_ticks

TICKS = made_ticks(2000, symbols=5)


@pytest.mark.parametrize("rows", [1, 64])
def test_every_tick_goes_to_its_partition_in_order(rows: int) -> None:
    log = MemoryLog(4)
    assert send(log, TICKS, Pace(), rows, lambda: False) == len(TICKS)
    seen = 0
    for partition in range(4):
        entries = log.read({partition: START}, 10_000).get(partition, [])
        assert all(frame.is_frame(entry.payload) == (rows > 1) for entry in entries)
        ticks, refused = decode(entries, SymbolTable(Instruments()))
        assert not refused
        for s, symbol in enumerate(TICKS.symbols):
            mine = TICKS.ts[TICKS.sid == s] if partition_of(symbol, 4) == partition else np.zeros(0, np.int64)
            rows_of_it = [i for i in range(len(ticks)) if ticks.symbol(i) == symbol]
            assert ticks.ts[rows_of_it].tolist() == mine.tolist()
            seen += len(mine)
    assert seen == len(TICKS)


def test_a_pace_is_kept_and_frames_stay_whole() -> None:
    log = MemoryLog(1)
    began = clock.monotonic_ns()
    assert send(log, TICKS[:1000], Pace(rate=2000), 300, lambda: False) == 1000
    assert (clock.monotonic_ns() - began) / 1e9 > 0.45
    sizes = [len(decode([entry], SymbolTable(Instruments()))[0]) for entry in log.read({0: START}, 100)[0]]
    assert sizes == [300, 300, 300, 100]


def test_a_stop_leaves_nothing_half_sent() -> None:
    log = MemoryLog(1)
    asked = iter([False, False, True])
    sent = send(log, TICKS, Pace(), 1, lambda: next(asked))
    assert sent == len(log.read({0: START}, 10_000)[0]) == 1000


def test_recorded_speed_never_goes_back() -> None:
    due = Pace(speed=2.0).due(TICKS)
    assert (np.diff(due) >= 0).all()
    assert due[-1] == pytest.approx((TICKS.ts.max() - TICKS.ts[0]) / 2e9)
