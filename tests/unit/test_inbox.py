"""The inbox: in which order things are heard, and how much is read at once."""

from __future__ import annotations

from collections.abc import Mapping

from engine.inbox import READ, READ_BYTES, Control, Drained, Event, Granted, Inbox, Ticks
from engine.transports.memory import MemoryLog
from engine.types import START, Cursor, Entry, Kind
from engine.workers.inline import InlineWorkers


class Watched(MemoryLog):
    """Remembers how much was asked for."""

    def __init__(self, partitions: int) -> None:
        super().__init__(partitions)
        self.asked: list[int] = []

    def read(self, after: Mapping[int, Cursor], count: int, block_ms: int = 0) -> dict[int, list[Entry]]:
        self.asked.append(count)
        return super().read(after, count, block_ms)


def heard(log: MemoryLog, read: int = READ) -> list[Event]:
    events: list[Event] = []
    inbox = Inbox(log, InlineWorkers(), "me", stop=lambda: False, read=read, live=False)
    for event in inbox:
        events.append(event)
        if isinstance(event, Granted):
            inbox.seek(event.partition, START)
    return events


def test_ownership_then_runs_of_ticks_cut_at_control_records_then_drained() -> None:
    log = MemoryLog(2)
    log.append(1, [b"a", b"b"])
    log.append(1, [b"c"], Kind.CONTROL)
    log.append(1, [b"d"])
    log.append(0, [b"e"])
    events = heard(log)
    assert [type(e) for e in events[:2]] == [Granted, Granted]
    assert [e.partition for e in events[2:]] == [0, 0, 1, 1, 1, 1, 0, 1]
    told = [[x.payload for x in e.entries] if isinstance(e, Ticks) else type(e) for e in events[2:]]
    assert told == [[b"e"], Drained, [b"a", b"b"], Control, [b"d"], Drained, Drained, Drained]


def test_large_records_are_read_few_at_a_time_and_small_ones_many() -> None:
    log = Watched(1)
    log.append(0, [bytes(READ_BYTES // 4)] * 30)
    log.append(0, [b"small"] * 3000)
    events = heard(log)
    assert log.asked[0] <= 16
    assert log.asked[1] == 4
    assert max(log.asked) == READ
    assert sum(len(e.entries) for e in events if isinstance(e, Ticks)) == 3030


def test_a_claim_waits_for_the_lease_of_another() -> None:
    log = MemoryLog(1)
    log.claim(0, "somebody else", log.ownership(0))
    rounds = iter(range(3))
    assert list(Inbox(log, InlineWorkers(), "me", stop=lambda: next(rounds, None) is None, live=False)) == []
    assert log.ownership(0).owner == "somebody else"
