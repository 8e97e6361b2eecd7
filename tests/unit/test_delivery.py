"""Delivering to a log that is full, away or another one: what waits, what is spooled, what is raised, and in which order."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.client import publish, publisher
from engine.errors import TocsinError, TransportUnreachable
from engine.feeds import delivery as module
from engine.feeds.delivery import Delivery, Stopped
from engine.feeds.send import Pace, send
from engine.feeds.spool import Spool
from engine.instruments import Instruments, SymbolTable
from engine.transports import create_log, open_log
from engine.transports.base import Log
from engine.types import START, Cursor
from engine.wire.ticks import decode
from tests.made import made_ticks

TICKS = made_ticks(3000, symbols=3, flaws=False)
TICKS.ts += np.arange(len(TICKS))                  # no two of one stamp
ROOM = 400_000
numbers = itertools.count()


@pytest.fixture
def url() -> str:
    return f"memory://delivery{next(numbers)}"


@pytest.fixture
def log(url: str) -> Log:
    return create_log(url, 2, Instruments())


def stored(log: Log) -> dict[str, list[int]]:
    """Stamps by symbol, as they stand in the log."""
    found: dict[str, list[int]] = {}
    for partition in range(log.partitions):
        ticks, refused = decode(log.read({partition: START}, 10**6).get(partition, []), SymbolTable(Instruments()))
        assert not refused
        for row in range(len(ticks)):
            found.setdefault(ticks.symbol(row), []).append(int(ticks.ts[row]))
    return found


WHOLE = {symbol: TICKS.ts[TICKS.sid == s].tolist() for s, symbol in enumerate(TICKS.symbols)}


def let_in(log: Log, after_s: float) -> threading.Timer:
    """The quota is gone after a while."""
    timer = threading.Timer(after_s, lambda: [log.limit(partition, 2**40) for partition in range(log.partitions)])
    timer.start()
    return timer


def limited(log: Log, room: int = ROOM) -> Log:
    for partition in range(log.partitions):
        log.limit(partition, room)
    return log


def test_what_can_wait_waits_until_the_log_has_room(url: str, log: Log) -> None:
    timer = let_in(limited(log), 0.3)
    delivery = Delivery(lambda: open_log(url))
    assert send(delivery, TICKS, Pace(), 1, lambda: False) == len(TICKS)
    timer.join()
    assert stored(log) == WHOLE
    assert delivery.delivered[:2] == (len(TICKS), 0)
    assert delivery.delivered.held_s > 0
    delivery.close()


def test_a_stop_ends_the_wait_and_counts_only_what_the_log_has(url: str, log: Log) -> None:
    limited(log)
    asked = threading.Event()
    threading.Timer(0.2, asked.set).start()
    delivery = Delivery(lambda: open_log(url), stop=asked.is_set)
    sent = send(delivery, TICKS, Pace(), 1, lambda: False)
    assert 0 < sent <= delivery.delivered.sent == sum(map(len, stored(log).values())) < len(TICKS)
    with pytest.raises(Stopped):
        delivery.append(0, [b"x"])
    delivery.close()


def spooling(url: str, folder: Path, limit: int = 2**20, **more: object) -> Delivery:
    return Delivery(lambda: open_log(url), spool=lambda identity: Spool(folder, identity, limit), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("rows", [1, 50])
def test_what_cant_wait_is_spooled_and_sent_first(
    url: str, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(module, "HOLD_S", 0.05)
    limited(log, ROOM if rows == 1 else 20_000)
    said: list[str] = []
    delivery = spooling(url, tmp_path, tell=said.append)
    for at in range(0, 2500, 100):
        assert send(delivery, TICKS[at:at + 100], Pace(), rows, lambda: False) == 100
    sent, spooled, held_s = delivery.delivered
    assert sent + spooled == 2500
    assert spooled > 100
    assert held_s > 0
    delivery.close()
    assert "they go to" in said[0]

    limited(log, 2**40)
    again = spooling(url, tmp_path, tell=said.append)
    assert f"{spooled:,} ticks wait" in said[-1]
    send(again, TICKS[2500:], Pace(), rows, lambda: False)
    again.finish()
    assert again.delivered[:2] == (spooled + 500, 0)
    again.close()
    assert stored(log) == WHOLE


def test_where_neither_log_nor_spool_has_room_it_says_how_many_are_lost(
    url: str, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HOLD_S", 0.05)
    limited(log)
    delivery = spooling(url, tmp_path, 30_000)
    with pytest.raises(TocsinError, match=r"\d+ ticks were taken by neither.*spool_full"):
        send(delivery, TICKS, Pace(), 1, lambda: False)
    sent, spooled, _ = delivery.delivered
    delivery.close()
    limited(log, 2**40)
    again = spooling(url, tmp_path, 30_000)
    again.finish()
    assert again.delivered.sent == spooled > 100
    again.close()
    assert sum(map(len, stored(log).values())) == sent + spooled
    for symbol, stamps in stored(log).items():
        assert stamps == sorted(set(stamps)) == WHOLE[symbol][:len(stamps)]


def test_patience_ends(url: str, log: Log) -> None:
    limited(log)
    with pytest.raises(TransportUnreachable, match=r"\[full\]"):
        publish(url, TICKS, patience=0.1)
    limited(log, 2**40)
    with publisher(url) as feed:
        assert feed.send(TICKS) == len(TICKS)


class Wire:
    """A log whose answers get lost."""

    def __init__(self, log: Log, lose: Callable[[], bool], written: bool) -> None:
        self._log, self._lose, self._written = log, lose, written
        self.identity, self.partitions, self.url = log.identity, log.partitions, log.url

    def append(self, partition: int, payloads: list[bytes]) -> list[Cursor]:
        lost = self._lose()
        if lost and not self._written:
            raise TransportUnreachable("unreachable", "gone")
        cursors = self._log.append(partition, payloads)
        if lost:
            raise TransportUnreachable("timeout", "silence")
        return cursors

    def close(self) -> None:
        """Nothing to leave."""


@pytest.mark.parametrize("written", [False, True])
def test_what_nobody_answered_for_is_sent_again_in_order(log: Log, written: bool) -> None:
    asked = itertools.count(1)
    opened: list[Wire] = []

    def reopen() -> Log:
        opened.append(Wire(log, lambda: next(asked) % 2 == 0, written))
        return opened[-1]  # type: ignore[return-value]

    delivery = Delivery(reopen)
    assert send(delivery, TICKS, Pace(), 1, lambda: False) == len(TICKS) == delivery.delivered.sent
    assert len(opened) > 3, "it is opened anew after each"
    for symbol, stamps in stored(log).items():
        assert list(dict.fromkeys(stamps)) == WHOLE[symbol], "each first time in order"
        assert (len(stamps) > len(WHOLE[symbol])) == written


def test_another_log_is_never_fed(url: str, log: Log) -> None:
    other = create_log(f"{url}b", 2, Instruments())
    logs = iter([Wire(log, lambda: True, False), other])
    delivery = Delivery(lambda: next(logs))  # type: ignore[arg-type, return-value]
    with pytest.raises(TransportUnreachable, match="identity"):
        delivery.append(0, [b"x"])
    delivery.close()


def test_an_embedded_server_that_is_killed_is_started_again(redis_dir: Path) -> None:
    url = f"redis+embedded://{redis_dir}"
    first = create_log(url, 2, Instruments())
    first.close()
    with publisher(url) as feed:
        feed.send(TICKS[:1000])
        pid = int((redis_dir / "redis.pid").read_text())
        time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        feed.send(TICKS[1000:])
        log = open_log(url)
        assert {symbol: list(dict.fromkeys(stamps)) for symbol, stamps in stored(log).items()} == WHOLE
        log.close()
