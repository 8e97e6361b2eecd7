"""Replays of batches one after another: the bytes of all of them at once, and never two of them in memory for long."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.files import read_ticks, write_ticks
from engine.instruments import Instruments
from engine.replay import Replayed, numbered, replay
from engine.transports.memory import MemoryLog
from engine.types import TickBatch
from tests.lakes import days_of_ticks, fill, record_all
from tests.made import made_ticks, speaking_bundle
from trainers.lake import Lake

BUNDLE = speaking_bundle("tick")
TICKS = made_ticks(1500, symbols=2, rate=0.1, flaws=False)


def bare(done: Replayed) -> list[bytes]:
    return [record.partition(b',"timing":')[0] for record in done.signals]


def pieces(cuts: list[int]) -> list[TickBatch]:
    return [TICKS[a:b] for a, b in zip([0, *cuts], [*cuts, len(TICKS)], strict=True)]


@pytest.mark.parametrize("cuts", [[700], [700, 700, 701], [1, 900, 1499], [0, 1500]])
@pytest.mark.parametrize("start", [None, 0, 699, 700, 1500])
def test_batches_say_what_all_of_them_say_at_once(cuts: list[int], start: int | None) -> None:
    """Wherever the activation falls, the row in front of a batch's first included; late rows may follow it."""
    stamp = None if start is None else int(TICKS.ts[-1]) + 1 if start == len(TICKS) else int(TICKS.ts[start])
    expected = bare(replay(TICKS, BUNDLE, Instruments(), start=stamp))
    assert len(expected) == len(TICKS) - (0 if stamp is None else int((TICKS.ts < stamp).sum()))
    assert bare(replay(numbered(pieces(cuts)), BUNDLE, Instruments(), start=stamp, batch=64)) == expected


def test_no_more_than_two_batches_are_in_memory() -> None:
    born: list[weakref.ref[np.ndarray]] = []
    most = 0

    def batches() -> Iterator[TickBatch]:
        nonlocal most
        for at in range(0, len(TICKS), 100):
            made = TICKS[np.arange(at, at + 100)]
            born.append(weakref.ref(made.ts))
            yield made
            del made
            gc.collect()
            most = max(most, sum(ref() is not None for ref in born))

    replay(batches(), BUNDLE, Instruments(), batch=50)
    assert len(born) == 15
    assert most <= 2


def test_a_lake_of_several_days_is_a_file_of_its_ticks(tmp_path: Path) -> None:
    """Two partitions, flawed ticks: row numbers are the file's."""
    log = MemoryLog(2)
    fill(log, days_of_ticks(1500, days=4))
    record_all(log, tmp_path, commits=3)
    lake = Lake(tmp_path / "lake")
    write_ticks(lake.read(), tmp_path / "all.parquet")
    assert len(list(lake.batches())) >= 4
    start = int(lake.read().ts[600])
    expected = bare(replay(read_ticks(tmp_path / "all.parquet"), BUNDLE, Instruments(), start=start))
    assert len(expected) > 500
    assert bare(replay(numbered(lake.batches()), BUNDLE, Instruments(), start=start)) == expected
