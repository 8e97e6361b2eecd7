"""Made ticks: seeded, of several symbols, with what real feeds do (equal stamps, repeats, holes, bursts, late, crossed)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from engine.instruments import Instrument
from engine.types import TickBatch

START = 1_714_953_600_000_000_000
"""Monday 2024-05-06 00:00 UTC."""


def made_ticks(n: int, symbols: int = 1, seed: int = 7, rate: float = 2.0, flaws: bool = True) -> TickBatch:
    """n ticks of interleaved symbols at about `rate` per second and symbol."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(1.0 / rate / symbols, n)
    gaps[rng.random(n) < 0.1] = 0.0
    if n > 2000:
        gaps[n // 2] += 900.0
    ts = START + np.cumsum((gaps * 1e9).astype(np.int64))
    sid = rng.integers(0, symbols, n)
    bid = np.empty(n, np.int64)
    steps = np.rint(rng.standard_t(4, n) * 1.5).astype(np.int64)
    for s in range(symbols):
        rows = sid == s
        bid[rows] = 110_000 + 1000 * s + np.cumsum(steps[rows])
    ask = bid + rng.integers(1, 12, n)
    size = rng.integers(0, 5000, n)
    if flaws:
        repeat = np.flatnonzero(rng.random(n - 1) < 0.01) + 1
        for column in (ts, sid, bid, ask, size):
            column[repeat] = column[repeat - 1]
        late = np.flatnonzero(rng.random(n) < 0.005)
        ts[late] -= rng.integers(1, 10**9, late.size)
        crossed = np.flatnonzero(rng.random(n) < 0.005)
        ask[crossed] = bid[crossed] - 1
    instruments = [Instrument(f"MADE{s}") for s in range(symbols)]
    return TickBatch(instruments, sid=sid, ts=ts, bid=bid, ask=ask, bid_size=size, ask_size=size + 1)


def real_file(name: str) -> Path:
    """A file of real ticks; skips, with the reason, where there is none."""
    folder = os.environ.get("TOCSIN_DATA")
    if not folder:
        pytest.skip("TOCSIN_DATA is not set: real ticks are not part of the project")
    path = Path(folder) / "ticks" / f"{name}.parquet"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return path
