"""Votes become probabilities as the manifest says, to the bit, and bad votes become nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.errors import ModelRefused
from engine.manifest import Calibration, Expert
from engine.runtimes.base import Runtime
from engine.runtimes.ensemble import FLOOR, Ensemble
from engine.types import F32

PLAIN = Calibration([1.0] * 3, np.eye(3).tolist(), [0.0] * 3)


class Linear(Runtime):
    """A runtime of experts that are softmaxes of random projections."""

    def __init__(self, *experts: str) -> None:
        self.experts = experts

    def votes(self, rows: F32) -> F32:
        weights = [np.random.default_rng(len(name)).normal(size=(rows.shape[1], 3)) for name in self.experts]
        said = [np.exp(rows @ own) for own in weights]
        return np.stack([p / p.sum(1, keepdims=True) for p in said], 1).astype(np.float32)


def expert(name: str, weight: float = 1.0, calibration: Calibration = PLAIN) -> Expert:
    return Expert(name, 1, "forest", f"{name}.npz", weight, calibration, 0.0, {})


def some_calibration(seed: int) -> Calibration:
    rng = np.random.default_rng(seed)
    matrix = np.eye(3) + rng.normal(size=(3, 3)) * 0.3
    return Calibration(rng.uniform(0.2, 3, 3).tolist(), matrix.tolist(), rng.normal(size=3).tolist())


def rows(n: int) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(n, 4)).astype(np.float32)


def by_definition(votes: np.ndarray, experts: list[Expert]) -> tuple[np.ndarray, np.ndarray]:
    calibrated = []
    for e, one in enumerate(experts):
        q = votes[:, e].astype(np.float64) * one.calibration.prior
        q = np.maximum(q / q.sum(1, keepdims=True), 1e-7)
        z = np.log(q) @ np.array(one.calibration.matrix).T + one.calibration.bias
        calibrated.append(np.exp(z) / np.exp(z).sum(1, keepdims=True))
    p, weights = np.stack(calibrated, 1), np.array([one.weight for one in experts])
    margin = p[:, :, 1] - p[:, :, 2]
    centre = np.average(margin, 1, weights)
    return np.average(p, 1, weights), np.sqrt(np.average((margin - centre[:, None]) ** 2, 1, weights))


def three() -> list[Expert]:
    return [expert(name, w, some_calibration(i)) for i, (name, w) in enumerate([("a", 1.0), ("bb", 2.5), ("ccc", 0.5)])]


def test_blends_as_the_manifest_says() -> None:
    ensemble = Ensemble([Linear("a", "bb", "ccc")], three())
    votes = ensemble.raw(rows(200))
    probabilities, disagreement = ensemble.blend(votes)
    expected, spread = by_definition(votes, three())
    assert probabilities.dtype == disagreement.dtype == np.float32
    assert np.abs(probabilities - expected).max() < 1e-6
    assert np.abs(disagreement - spread).max() < 1e-6
    assert np.abs(probabilities.sum(1) - 1).max() < 1e-6
    assert np.array_equal(ensemble.predict_proba(rows(200)), probabilities)


def test_identity_changes_nothing() -> None:
    ensemble = Ensemble([Linear("a")], [expert("a")])
    votes = ensemble.raw(rows(200))
    probabilities, disagreement = ensemble.blend(votes)
    assert np.abs(probabilities - votes[:, 0]).max() < 1e-6
    assert (disagreement == 0.0).all()


def test_one_expert_never_disagrees_whatever_its_weight() -> None:
    ensemble = Ensemble([Linear("a")], [expert("a", 0.3, some_calibration(1))])
    _, disagreement = ensemble.blend(ensemble.raw(rows(500)))
    assert (disagreement == 0.0).all()


def test_only_the_proportion_of_weights_counts() -> None:
    votes = Linear("a", "bb").votes(rows(50))
    small = Ensemble([Linear("a", "bb")], [expert("a", 0.1), expert("bb", 0.3)]).blend(votes)
    large = Ensemble([Linear("a", "bb")], [expert("a", 1e6), expert("bb", 3e6)]).blend(votes)
    assert np.abs(small[0] - large[0]).max() < 1e-6
    silent = Ensemble([Linear("a", "bb")], [expert("a", 0.0), expert("bb", 3.0)]).blend(votes)[0]
    assert np.abs(silent - votes[:, 1]).max() < 1e-6


def test_a_row_s_bits_do_not_depend_on_its_batch() -> None:
    ensemble = Ensemble([Linear("a", "bb", "ccc")], three())
    votes = ensemble.raw(rows(100))
    whole = ensemble.blend(votes)
    for size in (1, 7, 64):
        parts = [ensemble.blend(votes[i : i + size]) for i in range(0, 100, size)]
        assert np.concatenate([p for p, _ in parts]).tobytes() == whole[0].tobytes()
        assert np.concatenate([d for _, d in parts]).tobytes() == whole[1].tobytes()


def test_experts_stand_in_the_manifest_s_order_whoever_answers() -> None:
    X = rows(30)
    together = Ensemble([Linear("a", "bb", "ccc")], three())
    apart = Ensemble([Linear("ccc", "a"), Linear("bb")], three())
    assert np.abs(apart.raw(X) - together.raw(X)).max() == 0.0
    assert list(apart.votes(X)) == ["a", "bb", "ccc"]
    assert np.array_equal(apart.votes(X)["bb"], Linear("bb").votes(X)[:, 0])


def test_a_probability_of_zero_is_floored() -> None:
    votes = np.array([[[1.0, 0.0, 0.0]]], np.float32)
    p, _ = Ensemble([Linear("a")], [expert("a")]).blend(votes)
    assert p[0, 1] == pytest.approx(FLOOR, rel=1e-3)
    bold = Calibration([1.0] * 3, (np.eye(3) * -50).tolist(), [0.0] * 3)
    p, _ = Ensemble([Linear("a")], [expert("a", 1.0, bold)]).blend(votes)
    assert np.isfinite(p).all()
    assert p[0].tolist() == [0.0, 0.5, 0.5]


@pytest.mark.parametrize("bad", [[np.nan, 0.5, 0.5], [np.inf, 0, 0], [0, 0, 0], [-1, 0, 0]])
def test_a_vote_that_is_no_distribution_stops(bad: list[float]) -> None:
    ensemble = Ensemble([Linear("a", "bb", "ccc")], three())
    votes = ensemble.raw(rows(20))
    votes[13, 1] = bad
    with pytest.raises(ModelRefused, match="expert bb") as refused:
        ensemble.blend(votes)
    assert refused.value.code == "vote"


@pytest.mark.parametrize("shape", [(3, 2, 3), (3, 3), (3, 3, 2)])
def test_votes_of_another_bundle_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelRefused):
        Ensemble([Linear("a", "bb", "ccc")], three()).blend(np.full(shape, 0.3, np.float32))


@pytest.mark.parametrize(
    "runtimes",
    [
        [Linear("a", "bb")], [], [Linear("a", "bb", "ccc", "dddd")], [Linear("a", "bb", "ccc"), Linear("a")],
        [Linear("a", "bb"), Linear("a")],
    ],
)
def test_runtimes_that_do_not_fit_the_manifest_are_refused(runtimes: list[Runtime]) -> None:
    with pytest.raises(ModelRefused) as refused:
        Ensemble(runtimes, three())
    assert refused.value.code == "expert_missing"


@pytest.mark.parametrize(
    "one",
    [
        expert("a", 0.0), expert("a", -1.0), expert("a", np.nan), expert("a", np.inf),
        expert("a", 1.0, Calibration([0.0] * 3, np.eye(3).tolist(), [0.0] * 3)),
        expert("a", 1.0, Calibration([1.0, 1.0, -1.0], np.eye(3).tolist(), [0.0] * 3)),
        expert("a", 1.0, Calibration([1.0] * 3, np.full((3, 3), np.nan).tolist(), [0.0] * 3)),
        expert("a", 1.0, Calibration([1.0] * 3, np.eye(3).tolist(), [1e300, 0.0, 0.0])),
    ],
)
def test_numbers_that_cannot_be_counted_with_are_refused(one: Any) -> None:
    with pytest.raises(ModelRefused) as refused:
        Ensemble([Linear("a")], [one])
    assert refused.value.code == "calibration"
