"""What the tests of the exporters share: rows to grow models on, the library's answer in our columns, the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from engine.features import FeatureSet
from engine.files import read_ticks
from engine.manifest import Moments
from engine.runtimes.forest.layout import Forest
from engine.types import CLASSES
from tests.made import real_file
from trainers.dataset import build
from trainers.export.forest import parity
from trainers.export.probe import probing_rows

PARITY = 1e-6
LABELS = (-1, 0, 1)


def noise(seed: int, n: int = 600, features: int = 5, classes: int = 3, missing: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Rows and class numbers: many zeros, holes, a column with nothing to split on; some meaning, else libraries stop."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, features)).astype(np.float32)
    X[rng.random(X.shape) < 0.2] = 0.0
    y = (np.digitize(X[:, 1] + 0.5 * rng.normal(size=n), [-0.4, 0.4] if classes == 3 else [0.0])).astype(np.int64)
    X[rng.random(X.shape) < missing] = np.nan
    X[:, 0] = np.float32(1.0)
    return X, y


@cache
def real() -> tuple[np.ndarray, np.ndarray]:
    """(4000, 64) real features and their class numbers; skips where there are no real ticks."""
    data = build(read_ticks(real_file("EURUSD_FXCM-LEAN2014"))[:30_000], Moments(kind="tick"), FeatureSet.default())
    return data.matrix[-4000:], data.y[-4000:] + 1


def three(said: Any, classes: Sequence[int] = LABELS) -> np.ndarray:
    """(n, K), or (n,) of the second of two classes, as (n, 3) [neutral, buy, sell]."""
    p = np.asarray(said, np.float64)
    out = np.zeros((len(p), len(CLASSES)))
    out[:, [label % 3 for label in classes]] = p if p.ndim == 2 else np.stack([1 - p, p], 1)
    return out


def differs(forest: Forest, library: Any, *given: np.ndarray, classes: Sequence[int] = LABELS) -> float:
    """The largest difference on the rows given and on rows that probe every threshold; library: (n, F) -> probabilities."""
    X = np.concatenate([*given, probing_rows(forest, 1000)])
    assert np.isnan(X).any()
    return parity(forest, three(library(X), classes), X)
