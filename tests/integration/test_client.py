"""publish and subscribe, as somebody's own program uses them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from engine import clock, publish, subscribe
from engine.errors import UsageError
from engine.instruments import Instruments
from engine.replay import replay
from engine.transports import open_log
from engine.transports.base import Log, Record, Topic
from engine.types import NOWHERE, START, Position, TickBatch
from engine.wire.records import Reject, Signal, signal_decoder
from tests.made import made_ticks, speaking_bundle

DONE = replay(made_ticks(2500, symbols=2, rate=0.1), speaking_bundle("tick"), Instruments())


@pytest.fixture(params=["memory", "redis"])
def log(request: pytest.FixtureRequest, redis_dir: Path) -> Iterator[Log]:
    url = f"memory://{redis_dir}" if request.param == "memory" else f"redis+embedded://{redis_dir}"
    log = open_log(url, create=2)
    yield log
    log.close()


def put(log: Log, signals: list[bytes], partition: int, first: int = 1) -> None:
    epoch = log.claim(partition, "me", log.ownership(partition))
    assert epoch
    records = [Record(Topic.SIGNALS, Position((5, first + i), 0), s) for i, s in enumerate(signals)]
    log.publish(partition, epoch, records)
    log.settle()


def test_signals_come_in_order_and_go_on_after_a_position(log: Log) -> None:
    put(log, DONE.signals[:300], 0)
    put(log, DONE.signals[300:400], 1)
    with subscribe(log.url) as first:
        got = list(itertools.islice(first, 250))
        position = dict(first.position)
    with subscribe(log.url, after=position) as second:
        got += itertools.islice(second, 150)
    assert all(isinstance(s, Signal) for s in got)
    by_id = {s.id: s for s in got if isinstance(s, Signal)}
    assert len(by_id) == 400
    assert list(by_id.values())[:250] == [signal_decoder.decode(s) for s in DONE.signals[:250]]


def test_what_is_published_later_wakes_who_waits(log: Log) -> None:
    async def one() -> object:
        with subscribe(log.url) as signals:
            async for signal in signals:
                return signal
        raise AssertionError

    async def both() -> object:
        waiting = asyncio.create_task(one())
        await asyncio.sleep(0.3)
        put(log, DONE.signals[:1], 1)
        return await asyncio.wait_for(waiting, 10)

    assert asyncio.run(both()) == signal_decoder.decode(DONE.signals[0])


def test_old_signals_are_dropped_and_counted(log: Log) -> None:
    old = signal_decoder.decode(DONE.signals[0])
    timing = msgspec.structs.replace(old.timing, published=clock.wall_ns() - 120 * 10**9)
    fresh = msgspec.structs.replace(old, id="fresh", timing=msgspec.structs.replace(timing, published=clock.wall_ns()))
    stale = msgspec.structs.replace(old, timing=timing)
    put(log, [msgspec.json.encode(s) for s in (stale, stale, fresh)], 0)
    with subscribe(log.url, max_age=60) as signals:
        assert next(iter(signals)) == fresh
        assert signals.expired == 2


@pytest.mark.parametrize("rows", [1, 100])
def test_ticks_that_are_published_are_read_again(log: Log, rows: int) -> None:
    ticks = made_ticks(700, symbols=3, flaws=False)
    log.append(0, [b"no tick"])
    assert publish(log.url, ticks, rows=rows) == 700
    got: list[tuple[str, int, int]] = []
    with subscribe(log.url, topic="ticks") as batches:
        for batch in batches:
            assert isinstance(batch, TickBatch)
            got += [(batch.symbol(i), int(batch.ts[i]), int(batch.bid[i])) for i in range(len(batch))]
            if len(got) == 700:
                break
    assert sorted(got) == sorted((ticks.symbol(i), int(ticks.ts[i]), int(ticks.bid[i])) for i in range(700))


def test_rejects_can_be_followed_and_other_topics_are_refused(log: Log) -> None:
    epoch = log.claim(0, "me", log.ownership(0))
    assert epoch
    log.publish(0, epoch, [Record(Topic.REJECTS, Position((5, 1), 0), DONE.rejects[0])])
    log.settle()
    with subscribe(log.url, topic="rejects") as rejects:
        assert isinstance(next(iter(rejects)), Reject)
    with pytest.raises(UsageError):
        subscribe(log.url, topic="sigals")
    assert Position(START, 0) > NOWHERE
