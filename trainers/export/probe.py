"""Rows that find out where a forest and the library that grew it would part: on thresholds, beside them, and without values."""

from __future__ import annotations

import numpy as np

from engine.runtimes.forest.layout import Forest
from engine.types import F32

_ODD = np.array([0.0, -0.0, 1e-35, -1e-35, 1e-36, -1e-36, 1e-40, -1e-40, 2e-35, -2e-35, 3e38, -3e38], np.float32)
"""What libraries treat in their own ways: zeros that aren't quite, the ends of float32."""

_EXTREME = 1e30
"""CatBoost tells a missing value from the lowest number by a border between them, which says nothing of the others."""

_MISSING = 0.3
"""Of the values, in every other row."""


def probing_rows(forest: Forest, n: int, seed: int = 0) -> F32:
    """(n, n_features): thresholds, their nearest float32 on both sides, odd numbers, random ones; every other row has holes."""
    rng = np.random.default_rng(seed)
    rows = np.empty((n, forest.n_features), np.float32)
    for f in range(forest.n_features):
        asked = np.unique(forest.threshold[forest.feature == f])
        asked = asked[np.isfinite(asked)]
        usual = asked[np.abs(asked) < _EXTREME].astype(np.float64)
        middle, spread = (float(np.median(usual)), float(usual.std())) if usual.size else (0.0, 0.0)
        near = _neighbours(asked) if asked.size else _ODD
        kind = rng.random(n)
        rows[:, f] = np.where(kind < 0.6, rng.choice(near, n), rng.choice(_ODD, n))
        loose = kind > 0.7
        rows[loose, f] = rng.normal(middle, 2.0 * spread or 1.0, loose.sum())
    rows[1::2][rng.random(rows[1::2].shape) < _MISSING] = np.nan
    return rows


def _neighbours(numbers: F32) -> F32:
    """The numbers and the two nearest on either side of each, without infinities (which are NaN before anyone compares)."""
    found = [numbers]
    for end in (np.float32(-np.inf), np.float32(np.inf)):
        beside = numbers
        for _ in range(2):
            with np.errstate(over="ignore"):
                beside = np.nextafter(beside, end)
            found.append(beside)
    every = np.concatenate(found)
    return every[np.isfinite(every)]
