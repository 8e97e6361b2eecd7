"""Every column of the default set: the same bits however the ticks come. `make parity` is the long form."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from engine.eventtime import EventTime
from engine.types import TickBatch
from tests.made import made_ticks
from tests.parity import PLAIN_CPU, SYMBOLS, digest, elsewhere, interleaved, pieces, real_ticks, ways, whole

TICKS = 200_000


@pytest.fixture(scope="module")
def ticks() -> TickBatch:
    """Real ones where there are some, else made ones: 50 symbols in turn."""
    folder = os.environ.get("TOCSIN_DATA")
    if folder:
        return next(pieces(real_ticks(Path(folder)), TICKS))
    made = []
    for seed in range(SYMBOLS):
        one = made_ticks(TICKS // SYMBOLS, seed=seed)
        made.append(one[EventTime().admit(one) == 0])
    return interleaved(made, np.random.default_rng(5))


def test_any_way_of_computing_gives_the_same_bits(ticks: TickBatch) -> None:
    assert len(ticks.instruments) == SYMBOLS
    assert len(ticks) > 0.9 * TICKS
    found = list(ways(ticks, seed=1, singles=5000))
    assert len(found) == 10
    assert [way.way for way in found if not way.same] == []


@pytest.mark.parametrize("environment", [{}, PLAIN_CPU], ids=["another process", "a plain processor"])
def test_elsewhere_it_gives_the_same_bits(ticks: TickBatch, tmp_path: Path, environment: dict[str, str]) -> None:
    part = ticks[:20_000]
    assert elsewhere(part, tmp_path, **environment) == digest(whole(part))


def test_a_bit_that_differs_is_found(ticks: TickBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test: a state that forgets one word at a cut."""
    from engine.state import SymbolRows

    plain = SymbolRows.restore

    def forgetful(rows: SymbolRows, sid: int, blob: bytes) -> None:
        plain(rows, sid, blob)
        rows.ints[sid, 20] = 0

    monkeypatch.setattr(SymbolRows, "restore", forgetful)
    differing = [way.way for way in ways(ticks[:20_000], seed=1, singles=100) if not way.same]
    assert differing == ["restored again and again"]
