"""Made ticks: seeded, of several symbols, with what real feeds do (equal stamps, repeats, holes, bursts, late, crossed)."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine.features import FeatureSet
from engine.instruments import Instrument, Instruments
from engine.manifest import Policy
from engine.registry.append import append
from engine.registry.bundle import Bundle
from engine.registry.controls import read_controls
from engine.registry.rollout import Body
from engine.runtimes.ensemble import Ensemble
from engine.runtimes.forest.layout import Forest
from engine.runtimes.forest.runtime import ForestRuntime
from engine.transports.base import Log
from engine.types import TickBatch
from engine.warmup import made_bundle

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


def speaking_bundle(
    moments: str = "cusum", version: str = "1", seed: int = 1, policy: Policy | None = None, rules: Instruments | None = None,
) -> Bundle:
    """A bundle of random stumps: it knows nothing, but speaks of both sides."""
    base = made_bundle(moments, FeatureSet.default())
    expert = base.manifest.experts[0]
    manifest = msgspec.structs.replace(
        base.manifest, version=version, policy=policy or Policy(0.05, -0.05), instruments=(rules or Instruments()).to_dict()
    )
    return Bundle(version, "", manifest, Ensemble([ForestRuntime({expert.name: speaking_forest(seed)})], [expert]))


def speaking_forest(seed: int = 1) -> Forest:
    """Random stumps over the default features."""
    features = FeatureSet.default()
    rng = np.random.default_rng(seed)
    trees, width = 60, len(features.names)
    signed = [i for i, name in enumerate(features.names) if name.startswith(("ret", "mom", "move", "flow"))]
    lean = rng.normal(0.0, 0.2, trees)
    return Forest(
        n_features=width, feature=rng.choice(signed, trees).astype(np.int32),
        threshold=rng.normal(0.0, 0.5, trees).astype(np.float32),
        left=~np.arange(0, 2 * trees, 2, dtype=np.int32), right=~np.arange(1, 2 * trees, 2, dtype=np.int32),
        nan_right=rng.random(trees) < 0.5, root=np.arange(trees, dtype=np.int32),
        tree_class=(np.arange(trees) % 3).astype(np.int32),
        value=np.stack([-lean, lean], axis=1).reshape(-1, 1), base=np.zeros(3),
        slope_start=np.zeros(0, np.int32), slope_feature=np.zeros(0, np.int32), slope=np.zeros(0), fallback=np.zeros(0),
        level_start=np.zeros(0, np.int32), cover=np.zeros(0),
    )


def write(log: Log, private: Ed25519PrivateKey, body: Body) -> tuple[int, bytes]:
    """A control record at the next free place of `models`, copied nowhere; the place and the record."""
    controls = read_controls(log, private.public_key())
    k = append(log, controls, private, lambda seen: body, "ann", "")
    controls.refresh()
    return k, controls.payload(k)
