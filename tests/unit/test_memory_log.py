"""What only a log in memory does: living as long as its doors."""

from __future__ import annotations

import pytest

from engine.errors import TransportUnreachable
from engine.transports import create_log, open_log
from engine.transports.memory import MemoryLog
from engine.types import START


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
