"""A log that begins behind the newest checkpoint: never gone over in silence, gone on with when the operator says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import TransportUnreachable
from engine.transports.base import Topic
from engine.types import NOWHERE, START, Kind
from tests.engines import ALL, Running, Site, ticks, wait_for

PARTITION = 1


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, tmp_path / "log")
    yield site
    site.close()


def test_a_gap_is_loud_until_it_is_accepted_and_noted_then(site: Site) -> None:
    site.change(site.activation(site.publish()))
    made = ticks(3000)
    site.send(made[:1000])
    with Running(site.config()):
        wait_for(lambda: len(site.published()) == 1000)
    assert site.log.checkpoints(PARTITION)
    site.send(made[1000:])
    lost_up_to = [entry for entry in site.entries(PARTITION) if entry.kind is Kind.TICKS][-300].cursor
    while True:                                # somebody trims what is still needed
        epoch = site.log.claim(PARTITION, "one", site.log.ownership(PARTITION))
        assert epoch
        if not any(site.log.trim(PARTITION, epoch, lost_up_to, 10_000)):
            break
    with Running(site.config()) as engine:
        died = engine.died()
        assert isinstance(died, TransportUnreachable)
        assert died.code == "gap"
    before = len(site.published())
    with Running(site.config(), accept_gap=True):
        wait_for(lambda: site.log.tail(PARTITION).cursor == site.log.extent(PARTITION).last)
    assert len(site.published()) > before
    notes = [json.loads(r) for _, r in site.log.published(PARTITION, Topic.JOURNAL, NOWHERE, ALL)]
    [gap] = [note for note in notes if note["note"] == "gap"]
    first = site.log.read({PARTITION: START}, 1)[PARTITION][0].cursor
    assert gap["log"]["cursor"] == site.log.format(first)
    signals = [json.loads(r) for p, r in site.log.published(PARTITION, Topic.SIGNALS, NOWHERE, ALL) if p.cursor >= first]
    assert signals[0]["reason"] == "warmup", "windows start anew"
    assert len(signals) == len(site.entries(PARTITION))
    with Running(site.config()):               # and it is no gap any more
        pass
