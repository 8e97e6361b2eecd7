"""Whole trainings on four simulated days: LightGBM finds the known little there is, and nothing where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.eventtime import EventTime
from engine.features import FeatureSet
from engine.features.moments import MomentPicker
from engine.feeds.sim import STEP, simulate
from engine.instruments import Instruments
from engine.manifest import Moments
from engine.registry import Registry, signing
from engine.types import Reason
from trainers.fit import Fits
from trainers.labels import label_batch
from trainers.pipeline import train

SEEDS = (1, 2, 3)


def trained(folder: Path, seed: int, effect: float) -> dict[str, Any]:
    """What a training says of itself: the last fifth of the events is the test, purged, and the prior the reference."""
    signing.generate(folder / "keys")
    with Fits(["lightgbm"], "lean", threads=2) as fits:
        return train(
            simulate(4.0, seed, effect), Registry(folder / "registry", folder / "keys/public.pem"),
            signing.load_private(folder / "keys/private.pem"), Instruments(), fits, Moments(), lambda *stage: None,
            FeatureSet.default(),
        ).metrics


@pytest.mark.parametrize("seed", SEEDS)
def test_the_drift_is_worth_one_to_three_hundredths_of_a_nat(tmp_path: Path, seed: int) -> None:
    metrics = trained(tmp_path, seed, effect=1.0)
    assert 0.01 <= metrics["prior_log_loss"] - metrics["log_loss"] <= 0.03
    assert metrics["against_prior"]["better"]


@pytest.mark.parametrize("seed", SEEDS)
def test_without_it_nothing_is_found(tmp_path: Path, seed: int) -> None:
    metrics = trained(tmp_path, seed, effect=0.0)
    assert metrics["against_prior"]["verdict"] == "not better"


def test_no_error_of_the_volatility_tells_of_the_barrier() -> None:
    """Features show how far sigma errs; every label's barrier is the third step all the same, its horizon a minute."""
    ticks = simulate(4.0, 1, 0.0)
    ticks = ticks[EventTime().admit(ticks) == 0]
    rows = FeatureSet.default().state().update(ticks)
    asked, _, _ = MomentPicker().pick(ticks, rows.spread, rows.sigma, Moments())
    asked = asked[rows.status[asked] == int(Reason.DECIDED)]
    labels = label_batch(ticks, rows.spread, rows.sigma, asked, Moments())
    steps = np.ceil((labels.width + rows.spread[labels.event]) / STEP)
    assert np.ptp(np.quantile(rows.sigma[labels.event], [0.01, 0.99])) > 0.4
    assert np.mean(steps == 3) > 0.999
    assert np.mean(labels.horizon_s == 60.0) > 0.999
