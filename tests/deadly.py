"""Engines that die of something, one after the other, until one leaves it out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from engine.eventtime import EventTime
from engine.runtimes.ensemble import Ensemble
from engine.types import F32, I64, START, Kind, TickBatch
from tests.engines import Running, Site, wait_for


class Died(Exception):
    """Stands for what ends a process."""


def deadly(monkeypatch: pytest.MonkeyPatch, stamp: int) -> None:
    """Whoever admits the tick of this stamp dies."""
    admit = EventTime.admit

    def dies(self: EventTime, batch: TickBatch) -> I64:
        if (batch.ts == stamp).any():
            raise Died
        return admit(self, batch)

    monkeypatch.setattr(EventTime, "admit", dies)


def asked(monkeypatch: pytest.MonkeyPatch, dies: Callable[[Ensemble, F32], bool]) -> None:
    """Whoever asks an ensemble about rows of which this is true dies."""
    raw = Ensemble.raw

    def asking(self: Ensemble, matrix: F32) -> F32:
        if dies(self, matrix):
            raise Died
        return raw(self, matrix)

    monkeypatch.setattr(Ensemble, "raw", asking)


def lives(site: Site) -> int:
    """Engines one after the other, until one has done with all there is; how many died."""
    for died in range(10):
        engine = Running(site.config())
        with engine:
            if _lives_on(engine, site):
                return died
            assert isinstance(engine.died(), Died)
    raise AssertionError("they die for ever")


def _lives_on(engine: Running, site: Site) -> bool:
    wait_for(lambda: engine.error or done_with_all(site), "neither dead nor done")
    return not engine.error


def done_with_all(site: Site) -> bool:
    """Whether the last tick of each partition has been decided about."""
    return all(
        site.log.tail(p).cursor >= max((e.cursor for e in site.entries(p) if e.kind is Kind.TICKS), default=START)
        for p in range(site.log.partitions)
    )
