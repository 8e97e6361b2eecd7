"""Engines come and go while ticks flow: partitions are shared out, handed over, taken over; not one byte changes."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from engine.errors import OwnershipLost
from engine.features import FeatureSet
from engine.replay import replay_log
from engine.transports import open_log
from engine.transports.base import Topic
from engine.types import NOWHERE
from engine.wire.records import canonical
from tests.engines import PATIENCE_S, Running, Site, ticks, wait_for
from tests.trace import check_trace

P = 4


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, tmp_path / "log", partitions=P)
    yield site
    site.close()


def owners(site: Site) -> Counter[str]:
    return Counter(site.log.ownership(partition).owner for partition in range(P))


class Flow:
    """Ticks that go on until the block ends."""

    def __init__(self, site: Site, n: int = 40_000, rate: float = 1_000) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, args=(site, n, rate))

    def _send(self, site: Site, n: int, rate: float) -> None:
        from engine.feeds.send import Pace, send

        log = open_log(site.url)
        send(log, ticks(n), Pace(rate=rate), 1, self._stop.is_set)
        log.close()

    def __enter__(self) -> Flow:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)


def is_as_replayed(site: Site) -> bool:
    """Every topic, byte for byte; waits until all that is due is there."""
    done = replay_log(site.log, site.registry, FeatureSet.default())

    def published(topic: Topic) -> list[bytes]:
        return [canonical(r) for p in range(P) for _, r in site.log.published(p, topic, NOWHERE, 10**9)]

    wait_for(lambda: len(published(Topic.SIGNALS)) >= len(done.signals))
    assert len(done.signals) > 500
    return (
        published(Topic.SIGNALS) == [canonical(r) for r in done.signals]
        and published(Topic.REJECTS) == [canonical(r) for r in done.rejects]
    )


def settled(site: Site, shares: list[int]) -> Callable[[], bool]:
    return lambda: sorted(owners(site).values()) == shares and "" not in owners(site)


def test_from_one_to_four_and_back_while_ticks_flow(site: Site) -> None:
    site.change(site.activation(site.publish()))
    with Flow(site), ExitStack() as first:
        first.enter_context(Running(site.config(engine__name="one")))
        wait_for(settled(site, [4]))
        with ExitStack() as others:
            for name in ("two", "three", "four"):
                others.enter_context(Running(site.config(engine__name=name)))
            wait_for(settled(site, [1, 1, 1, 1]))
        wait_for(settled(site, [4]))
        assert owners(site) == {"one": 4}
    with Running(site.config(engine__name="five")):
        assert is_as_replayed(site)
    assert check_trace(site.log) >= 2 * P
    assert not site.log.posts("engine/"), "who left says so"


def test_a_server_that_is_killed_is_waited_for(site: Site) -> None:
    site.change(site.activation(site.publish()))
    with Running(site.config()) as engine:
        site.send(ticks(3_000))
        pid = int((site.folder / "log" / "redis.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: (site.folder / "log" / "redis.pid").read_text().strip() != str(pid), "nobody started it again")
        log = open_log(site.url)
        try:
            site.log.close()
            site.log = log
            site.send(ticks(6_000)[3_000:])
            assert is_as_replayed(site)
        finally:
            assert engine.error is None
    check_trace(site.log)


def test_two_of_one_name_dont_take_it_back_and_forth(site: Site) -> None:
    one = Running(site.config())
    with one, Running(site.config()):
        assert isinstance(one.died(), OwnershipLost)
        wait_for(settled(site, [4]))
