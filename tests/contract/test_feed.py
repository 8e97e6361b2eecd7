"""What every feed of engine/feeds gives: ticks in sending order, as columns the kernels can take."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path

import numpy as np
import pytest

import engine.feeds
from engine.feeds.base import Feed
from engine.feeds.files import FilesFeed
from engine.feeds.market import MarketFeed
from engine.feeds.sim import SimFeed
from engine.files import write_ticks
from engine.instruments import Instruments
from engine.types import COLUMNS, TickBatch
from tests.made import made_ticks


def feeds() -> list[type[Feed]]:
    """Every Feed that stands in a file of engine/feeds."""
    found = []
    for module in pkgutil.iter_modules(engine.feeds.__path__, "engine.feeds."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(kind, Feed) and not inspect.isabstract(kind) and kind.__module__ == module.name:
                found.append(kind)
    return found


def made(kind: type[Feed], folder: Path) -> Feed:
    """A new feed needs its line here."""
    write_ticks(made_ticks(500, symbols=2), folder / "ticks.parquet")
    return {
        FilesFeed: lambda: FilesFeed([folder / "ticks.parquet"], Instruments()),
        MarketFeed: lambda: MarketFeed(days=0.05),
        SimFeed: lambda: SimFeed(days=0.05),
    }[kind]()


@pytest.mark.parametrize("kind", feeds())
def test_batches_are_ticks_in_sending_order(kind: type[Feed], tmp_path: Path) -> None:
    batches = list(made(kind, tmp_path).batches())
    again = list(made(kind, tmp_path).batches())
    assert sum(map(len, batches)) > 100
    for batch, same in zip(batches, again, strict=True):
        assert isinstance(batch, TickBatch)
        for name in COLUMNS:
            column = getattr(batch, name)
            assert column.dtype == np.int64
            assert column.flags.c_contiguous
            assert np.array_equal(column, getattr(same, name))
        assert batch.sid.min() >= 0
        assert batch.sid.max() < len(batch.instruments)
        assert (batch.bid > 0).all()
        assert (batch.ask > 0).all()
        places = list(zip(batch.major.tolist(), batch.minor.tolist(), batch.ordinal.tolist(), strict=True))
        assert places == sorted(set(places))
