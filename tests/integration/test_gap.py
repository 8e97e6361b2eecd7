"""A log that begins behind the newest checkpoint: never gone over in silence, gone on with when the operator says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import TransportUnreachable
from engine.registry.rollout import Pause, Resume
from engine.transports.base import Topic
from engine.types import NOWHERE, START, Cursor, Kind
from tests.engines import ALL, Running, Site, ticks, wait_for

PARTITION = 1


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, tmp_path / "log")
    yield site
    site.close()


def forget(site: Site, but: int) -> Cursor:
    """Somebody trims what is still needed, but for the last ticks; what the log begins with then."""
    upto = [entry for entry in site.entries(PARTITION) if entry.kind is Kind.TICKS][-but].cursor
    while True:
        epoch = site.log.claim(PARTITION, "one", site.log.ownership(PARTITION))
        assert epoch
        if not any(site.log.trim(PARTITION, epoch, upto, 10_000)):
            return site.log.read({PARTITION: START}, 1)[PARTITION][0].cursor


def behind(site: Site, first: Cursor) -> list[dict[str, Any]]:
    """The signals about what the log still holds."""
    return [json.loads(r) for p, r in site.log.published(PARTITION, Topic.SIGNALS, NOWHERE, ALL) if p.cursor >= first]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_gap_is_loud_until_it_is_accepted_and_noted_then(
    site: Site, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    site.change(site.activation(site.publish()))
    made = ticks(3000)
    site.send(made[:1000])
    with Running(site.config()):
        wait_for(lambda: len(site.published()) == 1000)
    assert site.log.checkpoints(PARTITION)
    site.send(made[1000:])
    first = forget(site, 300)
    with Running(site.config()) as engine:
        died = engine.died()
        assert isinstance(died, TransportUnreachable)
        assert died.code == "gap"
    before = len(site.published())
    if elsewhere:                              # what decides is noted where the gap is, but for one place
        monkeypatch.setattr("engine.app.here", lambda: ("1", "cpu", "forest", "another kind of processor"))
    with Running(site.config(), accept_gap=True):
        wait_for(lambda: site.log.tail(PARTITION).cursor == site.log.extent(PARTITION).last)
    assert len(site.published()) > before
    notes = [json.loads(r) for _, r in site.log.published(PARTITION, Topic.JOURNAL, NOWHERE, ALL)]
    [gap] = [note for note in notes if note["note"] == "gap"]
    assert gap["log"]["cursor"] == site.log.format(first)
    signals = behind(site, first)
    assert signals[0]["reason"] == "warmup", "windows start anew"
    assert len(signals) == len(site.entries(PARTITION))
    with Running(site.config()):               # and it is no gap any more
        pass


def test_what_was_planned_in_a_gap_holds_behind_it(site: Site) -> None:
    one, two = site.publish(seed=1), site.publish(seed=2)
    site.change(site.activation(one))
    made = ticks(3000)
    site.send(made[:1000])
    with Running(site.config()):
        wait_for(lambda: len(site.published()) == 1000)
    site.change(Pause(["*"]))
    site.change(site.activation(two))
    site.send(made[1000:2900])
    site.change(Resume([]))
    site.send(made[2900:])
    first = forget(site, 300)
    with Running(site.config(), accept_gap=True):
        wait_for(lambda: site.log.tail(PARTITION).cursor == site.log.extent(PARTITION).last)
    signals = behind(site, first)

    assert {signal["bundle"] for signal in signals} == {two}
    paused = [signal["reason"] == "paused" for signal in signals]
    assert paused[0]
    assert not paused[-1], "its copy stands ahead"
