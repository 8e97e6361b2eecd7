"""What only a log in memory does: rows of files with cursors of their own, and living as long as its doors."""

from __future__ import annotations

import numpy as np
import pytest

from engine.errors import InputRefused, TransportUnreachable
from engine.instruments import Instrument
from engine.transports import create_log, open_log
from engine.transports.memory import MemoryLog
from engine.types import START, Entry, Kind, TickBatch


def rows(first: int, count: int) -> TickBatch:
    stamps = np.arange(first, first + count, dtype=np.int64)
    return TickBatch([Instrument("EURUSD")], sid=stamps * 0, ts=stamps, bid=stamps, ask=stamps)


def test_rows_of_a_file_come_with_their_cursors() -> None:
    log = MemoryLog(1)
    batches = [rows(0, 10), rows(10, 5), rows(15, 1)]
    cursors = [(0, 9), (0, 14), (0, 15)]
    assert log.append(0, batches[:2], Kind.ROWS, cursors=cursors[:2]) == cursors[:2]
    assert log.append(0, batches[2:], Kind.ROWS, cursors=cursors[2:]) == cursors[2:]
    assert log.read({0: START}, 9)[0] == [Entry(c, Kind.ROWS, b, 0) for c, b in zip(cursors, batches, strict=True)]
    assert log.read({0: (0, 12)}, 1)[0][0].payload is batches[1]
    entry = log.entry(0, (0, 14))
    assert entry
    assert entry.payload is batches[1]
    assert log.entry(0, (0, 13)) is None
    assert log.append(0, [b"control"], Kind.CONTROL) == [(0, 16)]
    assert log.format((0, 16)) == 16


@pytest.mark.parametrize("cursors", [[(0, 9), (0, 9)], [(0, 9), (0, 8)], [(0, 5), (0, 6)], [(0, 4), (0, 9)]])
def test_cursors_that_do_not_rise_are_refused_whole(cursors: list[tuple[int, int]]) -> None:
    log = MemoryLog(1)
    log.append(0, [rows(0, 6)], Kind.ROWS, cursors=[(0, 5)])
    with pytest.raises(InputRefused, match="cursor"):
        log.append(0, [rows(0, 1), rows(1, 1)], Kind.ROWS, cursors=cursors)
    assert len(log.read({0: START}, 9)[0]) == 1


def test_a_log_of_its_own_meets_nobody() -> None:
    one, two = MemoryLog(2, "paper", "0" * 32), MemoryLog()
    assert (one.partitions, one.deployment, one.identity, one.url) == (2, "paper", "0" * 32, "memory://")
    assert two.partitions == 4
    one.append(0, [b"x"])
    assert two.read({0: START}, 1) == {}
    with pytest.raises(TransportUnreachable, match="no_log"):
        open_log("memory://")


def test_it_is_there_as_long_as_somebody_has_it_open() -> None:
    first = open_log("memory://", create=2)
    second = open_log("memory://", deployment="paper")
    elsewhere = create_log("memory://elsewhere", 1)
    first.append(1, [b"x"])
    first.close()
    assert [entry.payload for entry in second.read({1: START}, 9)[1]] == [b"x"]
    assert elsewhere.identity != second.identity
    second.close()
    with pytest.raises(TransportUnreachable, match="no_log"):
        open_log("memory://")
    assert elsewhere.read({0: START}, 1) == {}
