"""Calibration helps where an expert is off, harms nowhere it was learned, and is served as it was learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.errors import InputRefused
from engine.manifest import Calibration, Expert
from engine.runtimes.base import Runtime
from engine.runtimes.ensemble import Ensemble
from engine.types import F32
from trainers.calibration import SHRINK, fit_calibration

ONES = np.ones(3)
IDENTITY = np.eye(3).tolist()


def world(seed: int, m: int, spread: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """True probabilities, and what happened: 0 neutral, 1 buy, 2 sell."""
    rng = np.random.default_rng(seed)
    p = np.exp(rng.normal(size=(m, 3)) * spread + [0.3, 0.0, 0.0])
    p /= p.sum(1, keepdims=True)
    return p, (p.cumsum(1) < rng.random((m, 1))).sum(1)


def sharpened(p: np.ndarray, power: float) -> np.ndarray:
    q = p**power
    return q / q.sum(1, keepdims=True)


class Said(Runtime):
    """An expert that says what it was told to."""

    experts = ("said",)

    def __init__(self, votes: np.ndarray) -> None:
        self._votes = votes.astype(np.float32)[:, None]

    def votes(self, rows: F32) -> F32:
        return self._votes


def served(calibration: Calibration, votes: np.ndarray) -> np.ndarray:
    expert = Expert("said", 1, "forest", "f", 1.0, calibration, 0.0, {})
    return Ensemble([Said(votes)], [expert]).predict_proba(np.zeros((len(votes), 1), np.float32)).astype(np.float64)


def loss(p: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> float:
    return float(np.average(-np.log(p[np.arange(len(y)), y]), weights=weights))


@pytest.mark.parametrize("power", [2.0, 0.5])
def test_an_expert_too_sure_or_too_shy_is_put_right(power: float) -> None:
    p, y = world(0, 6000)
    calibration = fit_calibration(sharpened(p, power), y, ONES)
    assert np.diag(calibration.matrix).mean() - np.mean(calibration.matrix) == pytest.approx((2 / 3) / power, rel=0.2)
    unseen, happened = world(1, 20_000)
    before, after = sharpened(unseen, power), served(calibration, sharpened(unseen, power))
    assert loss(after, happened) < loss(before, happened) - 0.005
    assert loss(after, happened) < loss(unseen, happened) + 0.002


def test_a_swapped_bias_is_put_right() -> None:
    p, y = world(0, 6000)
    q = p * [0.5, 1.0, 2.0]
    q /= q.sum(1, keepdims=True)
    calibration = fit_calibration(q, y, ONES)
    assert loss(served(calibration, q), y) < loss(q, y) - 0.02


@pytest.mark.parametrize("m", [200, 500, 5000])
@pytest.mark.parametrize("seed", range(5))
def test_never_worse_than_identity_on_its_own_rows(seed: int, m: int) -> None:
    p, y = world(seed, m)
    weights = np.random.default_rng(seed).random(m)
    for votes in (p, sharpened(p, 3.0), world(seed + 50, m)[0], np.full((m, 3), 1 / 3)):
        calibration = fit_calibration(votes, y, ONES, weights)
        identity = served(Calibration([1.0] * 3, IDENTITY, [0.0] * 3), votes)
        assert loss(served(calibration, votes), y, weights) <= loss(identity, y, weights) + 1e-6


def test_an_honest_expert_is_left_nearly_alone() -> None:
    p, y = world(0, 500)
    calibration = fit_calibration(p, y, ONES)
    unseen, happened = world(1, 20_000)
    assert loss(served(calibration, unseen), happened) < loss(unseen, happened) + 0.01


def test_what_it_minimises_is_at_a_minimum() -> None:
    """The gradient of the shrunk loss, by finite differences, is zero: Newton's method has arrived."""
    p, y = world(3, 1000)
    q = sharpened(p, 2.0)
    weights = np.random.default_rng(3).random(1000)
    calibration = fit_calibration(q, y, ONES, weights)

    def shrunk(theta: np.ndarray) -> float:
        z = np.log(q) @ theta[:, :3].T + theta[:, 3]
        said = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        return loss(said, y, weights) * weights.sum() + SHRINK / 2 * float(((theta - np.eye(3, 4)) ** 2).sum())

    best = np.column_stack([calibration.matrix, calibration.bias])
    for place in np.ndindex(3, 4):
        for step in (-1e-3, 1e-3):
            moved = best.copy()
            moved[place] += step
            assert shrunk(moved) > shrunk(best)


def test_weights_count_as_rows() -> None:
    p, y = world(0, 400)
    q = sharpened(p, 2.0)
    doubled = fit_calibration(np.repeat(q, 2, 0), np.repeat(y, 2), ONES)
    weighted = fit_calibration(q, y, ONES, np.full(400, 2.0))
    assert np.allclose(doubled.matrix, weighted.matrix, atol=1e-6)
    light = fit_calibration(q, y, ONES, np.full(400, 1e-6))
    assert np.allclose(light.matrix, IDENTITY, atol=1e-3)


def test_few_rows_teach_nothing() -> None:
    p, y = world(0, 199)
    prior = [1.5, 0.9, 0.6]
    assert fit_calibration(sharpened(p, 3.0), y, prior) == Calibration(prior, IDENTITY, [0.0] * 3)
    p, y = world(0, 200)
    assert fit_calibration(sharpened(p, 3.0), y, prior).matrix != IDENTITY


def test_the_prior_is_put_back_before_anything_is_learned() -> None:
    """Votes bent by class weights, with their prior, learn what straight votes learn without one."""
    p, y = world(0, 3000)
    prior = np.array([1.8, 0.8, 0.4])
    bent = p / prior
    bent /= bent.sum(1, keepdims=True)
    straight, unbent = fit_calibration(p, y, ONES), fit_calibration(bent, y, prior)
    assert np.allclose(straight.matrix, unbent.matrix, atol=1e-8)
    assert np.allclose(straight.bias, unbent.bias, atol=1e-8)
    assert unbent.prior == prior.tolist()
    assert np.allclose(served(straight, p), served(unbent, bent), atol=1e-5)


def test_a_class_never_seen_stays_finite() -> None:
    p, y = world(0, 1000)
    votes = p * [1.0, 1.0, 0.0]
    votes /= votes.sum(1, keepdims=True)
    calibration = fit_calibration(votes, np.minimum(y, 1), [1.5, 1.5, 0.0])
    assert np.isfinite(calibration.matrix).all()
    assert served(calibration, votes)[:, 2].max() < 0.01


@pytest.mark.parametrize(
    ("votes", "y", "prior", "weights", "code"),
    [
        (np.ones((5, 2)), [0] * 5, ONES, None, "shape"),
        (np.ones((5, 3)), [0] * 4, ONES, None, "shape"),
        (np.ones((5, 3)), [0] * 5, [1, 1], None, "shape"),
        (np.ones((5, 3)), [0] * 5, ONES, [1.0] * 4, "shape"),
        (np.ones((5, 3)), [0, 1, -1, 0, 0], ONES, None, "labels"),
        (np.ones((5, 3)), [0.0, 1.0, 2.0, 0.0, 0.0], ONES, None, "labels"),
        (np.full((5, 3), np.nan), [0] * 5, ONES, None, "votes"),
        (np.zeros((5, 3)), [0] * 5, ONES, None, "votes"),
        (np.ones((5, 3)), [0] * 5, [1, 1, -1], None, "votes"),
        (np.ones((5, 3)), [0] * 5, ONES, [1, 1, 1, 1, -1], "weights"),
        (np.ones((5, 3)), [0] * 5, ONES, [np.nan] * 5, "weights"),
    ],
)
def test_what_cannot_be_meant_is_refused(votes: Any, y: Any, prior: Any, weights: Any, code: str) -> None:
    with pytest.raises(InputRefused) as refused:
        fit_calibration(votes, y, prior, weights)
    assert refused.value.code == code
