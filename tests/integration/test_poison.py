"""What ends every engine that meets it is left out after three takeovers, alone, and the log says so for good."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.errors import ModelRefused
from engine.features import FeatureSet
from engine.instruments import SymbolTable
from engine.registry.bundle import Bundle
from engine.replay import replay_log
from engine.runtimes.ensemble import Ensemble
from engine.transports.base import Topic
from engine.transports.redis import RedisLog
from engine.types import F32, NOWHERE, Entry
from engine.wire import frame
from engine.wire.records import canonical
from tests.deadly import Died, asked, deadly, done_with_all, lives
from tests.engines import ALL, Running, Site, ticks, wait_for
from tests.trace import check_trace

MADE = ticks(900)
POISON = 731
"""Row of MADE."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, tmp_path / "log")
    yield site
    site.close()


def home(site: Site) -> int:
    """Of the poison's symbol."""
    from engine.partitioner import partition_of

    return partition_of(MADE.symbol(POISON), site.log.partitions)


def published(site: Site, topic: Topic) -> list[bytes]:
    return [r for p in range(site.log.partitions) for _, r in site.log.published(p, topic, NOWHERE, ALL)]


def notes(site: Site) -> list[dict[str, object]]:
    return [note for record in published(site, Topic.JOURNAL) if (note := json.loads(record))["note"] != "runtime"]


def check_replay(site: Site) -> None:
    """What was left out stays left out."""
    done = replay_log(site.log, site.registry, FeatureSet.default())
    for topic, due in ((Topic.SIGNALS, done.signals), (Topic.REJECTS, done.rejects)):
        assert [canonical(record) for record in published(site, topic)] == [canonical(record) for record in due]
    check_trace(site.log)


@pytest.mark.parametrize("rows", [1, 50])
def test_a_row_costs_itself_only_after_three_takeovers(site: Site, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    site.change(site.activation(site.publish()))
    from engine.feeds.send import Pace, send

    send(site.log, MADE, Pace(), rows, lambda: False)
    deadly(monkeypatch, int(MADE.ts[POISON]))
    assert lives(site) == 3
    [note] = notes(site)
    assert (note["note"], note["what"]) == ("skip", "row")
    [reject] = [r for r in map(json.loads, published(site, Topic.REJECTS)) if r["code"] == "poison"]
    assert json.loads(reject["payload"])["ts"] == int(MADE.ts[POISON])
    assert reject["log"] == note["log"]
    assert len({json.loads(r)["id"] for r in published(site, Topic.SIGNALS)}) == len(MADE) - 1
    check_replay(site)
    assert lives(site) == 0, "whoever comes later reads of it"


def test_a_record_that_cant_be_read_is_left_out_whole(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.change(site.activation(site.publish()))
    site.send(MADE[:800])
    poison = frame.pack(MADE[800:803])
    site.log.append(home(site), [poison])
    site.send(MADE[803:])
    from engine.wire import columns

    whole = columns.unpack

    def dies(entries: list[Entry], table: SymbolTable) -> object:
        if any(entry.payload == poison for entry in entries):
            raise Died
        return whole(entries, table)

    monkeypatch.setattr(columns, "unpack", dies)
    from engine.wire import ticks as wire

    wire._readers.cache_clear()
    try:
        assert lives(site) == 3
        [note] = notes(site)
        assert (note["note"], note["what"]) == ("skip", "record")
        [reject] = [r for r in map(json.loads, published(site, Topic.REJECTS)) if r["code"] == "poison"]
        assert reject["encoding"] == "base64"
        check_replay(site)
    finally:
        monkeypatch.setattr(columns, "unpack", whole)
        wire._readers.cache_clear()


def test_a_row_that_ends_whoever_asks_about_it_is_left_out_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.change(site.activation(site.publish()))
    site.send(MADE)
    state = FeatureSet.default().stream()
    row = state.update(MADE)[POISON]
    asked(monkeypatch, lambda ensemble, matrix: row.tobytes() in map(np.ndarray.tobytes, matrix))
    assert lives(site) == 3
    [note] = notes(site)
    assert (note["note"], note["what"]) == ("skip", "row")
    check_replay(site)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_bundle_that_ends_whoever_asks_it_is_voided_and_the_one_before_answers(
    site: Site, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    good, bad = site.publish(seed=1), site.publish(seed=2)
    site.change(site.activation(good))
    site.send(MADE[:500])
    with Running(site.config()):
        wait_for(lambda: len(site.published()) == 500)
    places = site.change(site.activation(bad))
    site.send(MADE[500:])
    mine: list[Bundle] = []
    from engine.registry import follow

    load = follow.load_for_engine

    def loading(*args: object) -> Bundle:
        bundle = load(*args)  # type: ignore[arg-type]
        if bundle.version == bad:
            mine.append(bundle)
        return bundle

    monkeypatch.setattr(follow, "load_for_engine", loading)
    golden = Ensemble.predict_proba
    trying: list[bool] = []

    def tried(self: Ensemble, matrix: F32) -> F32:
        trying.append(True)
        try:
            return golden(self, matrix)
        finally:
            trying.pop()

    monkeypatch.setattr(Ensemble, "predict_proba", tried)
    asked(monkeypatch, lambda ensemble, matrix: not trying and any(ensemble is bundle.ensemble for bundle in mine))
    if elsewhere:                              # what decides is noted where the void is, but for one place
        monkeypatch.setattr("engine.app.here", lambda: ("1", "cpu", "forest", "another kind of processor"))
    assert lives(site) >= 3
    voids = notes(site)
    assert {note["note"] for note in voids} == {"void"}
    assert {note["log"]["partition"] for note in voids} == set(places)          # type: ignore[index]
    assert {json.loads(r)["bundle"] for r in published(site, Topic.SIGNALS)} == {good}
    ids = [json.loads(r)["id"] for r in published(site, Topic.SIGNALS)]
    assert len(ids) == len(set(ids)) == len(MADE)
    check_replay(site)


def test_an_activation_that_cant_be_followed_any_more_is_voided_once_another_one_stands_behind_it(site: Site) -> None:
    good, bad = site.publish(seed=1), site.publish(seed=2)
    site.change(site.activation(good))
    site.send(MADE[:500])
    site.change(site.activation(bad))
    site.send(MADE[500:])
    (site.folder / "registry" / bad / "one.forest").write_bytes(b"something else")
    engine = Running(site.config())
    with engine:
        assert isinstance(engine.died(), ModelRefused)
    assert not notes(site), "mending the registry would do"
    site.change(site.activation(good))
    site.send(ticks(1000)[900:])
    with Running(site.config()):
        wait_for(lambda: done_with_all(site))
    assert {note["note"] for note in notes(site)} == {"void"}
    signals = [json.loads(r) for r in published(site, Topic.SIGNALS)]
    assert {signal["bundle"] for signal in signals} == {good}
    assert len({signal["id"] for signal in signals}) == len(signals) == 1000
    check_replay(site)


def test_what_a_bundle_decided_before_a_clean_stop_counts_for_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.change(site.activation(site.publish()))
    row = FeatureSet.default().stream().update(MADE)[POISON]
    site.send(MADE[:POISON])
    with Running(site.config()):
        wait_for(lambda: len(site.published()) == POISON)
    site.send(MADE[POISON:])
    asked(monkeypatch, lambda ensemble, matrix: row.tobytes() in map(np.ndarray.tobytes, matrix))
    assert lives(site) >= 3
    assert [note["note"] for note in notes(site)] == ["skip"]
    check_replay(site)


def test_a_bundle_under_which_something_was_published_is_never_voided_where_it_was_activated(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its decisions can only be read back with it: whoever lost it must bring it back."""
    good, bad = site.publish(seed=1), site.publish(seed=2)
    site.change(site.activation(good))
    site.send(MADE[:300])
    with Running(site.config()):
        wait_for(lambda: len(site.published()) == 300)
    site.change(site.activation(bad))
    site.send(MADE[300:POISON])
    with monkeypatch.context() as patch:
        deadly(patch, int(MADE.ts[POISON]))
        engine = Running(site.config())
        with engine:
            wait_for(lambda: len(site.published()) == POISON)
            site.send(MADE[POISON:])
            assert isinstance(engine.died(), Died)
    forest = site.folder / "registry" / bad / "one.forest"
    whole = forest.read_bytes()
    forest.write_bytes(b"gone")
    site.change(site.activation(good))
    site.send(ticks(1000)[900:])
    with Running(site.config()) as engine:
        assert isinstance(engine.died(), ModelRefused)
    assert not notes(site)
    forest.write_bytes(whole)
    with Running(site.config()):
        wait_for(lambda: done_with_all(site))
    check_replay(site)


def test_two_that_try_rows_one_by_one_leave_each_other_alone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read of many rows takes longer than the lease then: whoever is at it must be seen to live."""
    from engine.feeds.send import Pace, send

    site.change(site.activation(site.publish()))
    send(site.log, MADE, Pace(), len(MADE), lambda: False)
    partitions = range(site.log.partitions)
    for nobody in ("x", "y"):                      # two that came no further than the one before
        for partition in partitions:
            site.log.claim(partition, nobody, site.log.ownership(partition))
    mark = RedisLog.mark

    def slowly(log: RedisLog, partition: int, epoch: int, what: bytes) -> None:
        time.sleep(0.005)
        mark(log, partition, epoch, what)

    monkeypatch.setattr(RedisLog, "mark", slowly)
    with Running(site.config(engine__name="one")), Running(site.config(engine__name="two")):
        wait_for(lambda: len(published(site, Topic.SIGNALS)) == len(MADE), "they take it from each other")
    assert all(len([held for held in site.log.epochs(partition) if held.owner]) <= 5 for partition in partitions)
    check_replay(site)
