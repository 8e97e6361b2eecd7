"""Losses in the right columns, verdicts that hold under no edge, thresholds per side."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from engine.errors import InputRefused
from trainers.metrics import auc, block_sums, columns, compare, log_loss, prior, row_losses, skill
from trainers.thresholds import thresholds

HOUR = 3_600_000_000_000
LABELS = np.array([0, 1, -1])


def votes(seed: int = 0, n: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the probabilities themselves, columns [neutral, buy, sell]: they are right."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([4.0, 2.0, 1.0], n)
    return LABELS[(rng.random((n, 1)) > p.cumsum(1)[:, :2]).sum(1)], p


def test_columns_of_the_labels() -> None:
    assert columns([0, 1, -1]).tolist() == [0, 1, 2]
    assert row_losses([0, 1, -1], np.array([0.5, 0.3, 0.2])) == pytest.approx([-math.log(x) for x in (0.5, 0.3, 0.2)])


@given(st.integers(0, 10_000), st.booleans())
def test_log_loss_is_the_mean_of_minus_log(seed: int, weighted: bool) -> None:
    y, p = votes(seed, 60)
    weights = np.random.default_rng(seed).random(60) if weighted else None
    w = [1.0] * 60 if weights is None else weights.tolist()
    expected = sum(-math.log(p[i, [0, 1, -1].index(y[i])]) * w[i] for i in range(60)) / sum(w)
    assert log_loss(y, p, weights) == pytest.approx(expected)


def test_sklearn_reads_our_columns_wrong_and_says_nothing() -> None:
    y, p = votes()
    in_sklearns_order = p[:, [2, 0, 1]]                     # sell, neutral, buy: its sorted labels
    assert log_loss(y, p) == pytest.approx(sklearn_log_loss(y, in_sklearns_order))
    assert sklearn_log_loss(y, p) > log_loss(y, p) + 0.1    # no error, a wrong number
    assert skill(y, p, prior(y)) > 0 > skill(y, in_sklearns_order, prior(y))


@pytest.mark.parametrize(
    ("y", "p", "weights", "code"),
    [
        ([0, 2], np.full((2, 3), 1 / 3), None, "labels"),
        ([0, math.nan], np.full((2, 3), 1 / 3), None, "labels"),
        ([], np.zeros((0, 3)), None, "labels"),
        ([0, 1], np.full((3, 3), 1 / 3), None, "probabilities"),
        ([0, 1], np.full((2, 2), 1 / 2), None, "probabilities"),
        ([0, 1], np.full((2, 3), math.nan), None, "probabilities"),
        ([0, 1], np.full((2, 3), 0.5), None, "probabilities"),
        ([0, 1], np.array([[1.5, -0.5, 0.0]] * 2), None, "probabilities"),
        ([0, 1], np.full((2, 3), 1 / 3), [1.0], "weights"),
        ([0, 1], np.full((2, 3), 1 / 3), [1.0, -1.0], "weights"),
        ([0, 1], np.full((2, 3), 1 / 3), [0.0, 0.0], "weights"),
    ],
)
def test_what_cant_be_scored_is_refused(y: list[float], p: np.ndarray, weights: list[float] | None, code: str) -> None:
    with pytest.raises(InputRefused) as refused:
        log_loss(y, p, weights)
    assert refused.value.code == code
    assert refused.value.hint


def test_sure_and_wrong_is_bounded() -> None:
    assert log_loss([1], np.array([[1.0, 0.0, 0.0]])) == pytest.approx(-math.log(1e-7))


def test_skill_over_the_prior() -> None:
    y = [0, 0, 1, -1]
    assert prior(y).tolist() == [0.5, 0.25, 0.25]
    assert prior(y, [1, 1, 6, 0]).tolist() == [0.25, 0.75, 0.0]
    assert skill(y, prior(y), prior(y)) == 0.0
    assert skill(y, np.array([0.4, 0.3, 0.3]), prior(y)) < 0.0
    sure = np.eye(3)[columns(y)] * 0.97 + 0.01
    assert skill(y, sure, prior(y)) == pytest.approx(1.5 * math.log(2) + math.log(0.98))


@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 12))
def test_auc_equals_sklearns(seed: int, n: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    positive, score = rng.random(n) < 0.4, rng.integers(0, levels, n)
    if positive.all() or not positive.any():
        assert math.isnan(auc(positive, score))
    else:
        assert auc(positive, score) == pytest.approx(roc_auc_score(positive, score))


def test_blocks_follow_the_calendar() -> None:
    ts = np.array([7, 1, 5, 6, 19]) * HOUR
    sums, counts = block_sums(np.array([10.0, 1.0, 3.0, 20.0, 5.0]), ts, 6 * HOUR)
    assert (sums.tolist(), counts.tolist()) == ([4.0, 30.0, 5.0], [2, 2, 1])


def walk(seed: int, days: int, n: int, edge: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Losses of two models on the same events; what one loses to the other drifts by the hour, plus an edge."""
    rng = np.random.default_rng(seed)
    ts = np.sort(rng.integers(0, days * 24 * HOUR, n))
    reference = rng.gamma(4.0, 0.25, n)
    mood = rng.normal(0.0, 0.05, days * 24)[ts // HOUR]
    return reference - edge - mood + rng.normal(0.0, 0.05, n), reference, ts


def test_compare_by_hand() -> None:
    ts = np.repeat(np.arange(20) * 6 * HOUR, 10)
    difference = np.repeat(np.arange(20) - 8.0, 10)
    result = compare(1.0 - difference, np.ones(200), ts)
    standard_error = math.sqrt(sum((k - 9.5) ** 2 for k in range(20)) / 19 / 20)
    assert result.mean == pytest.approx(1.5)
    assert result.standard_error == pytest.approx(standard_error)
    assert (result.events, result.blocks, result.block_ns) == (200, 20, 6 * HOUR)
    assert (result.better, result.verdict) == (False, "not better")
    assert compare(1.0 - difference - 2 * standard_error, np.ones(200), ts).better


def test_compare_is_the_difference_of_the_two_log_losses_however_uneven_the_blocks() -> None:
    rng = np.random.default_rng(5)
    ts = np.sort(rng.integers(0, 100, 4000) ** 2) * HOUR
    challenger, reference = rng.gamma(4.0, 0.25, 4000), rng.gamma(4.0, 0.26, 4000)
    result = compare(challenger, reference, ts)
    assert result.mean == pytest.approx(reference.mean() - challenger.mean())
    again = []
    for _ in range(400):                       # the bootstrap over blocks agrees with the formula
        blocks = [np.flatnonzero(ts // (6 * HOUR) == b) for b in np.unique(ts // (6 * HOUR))]
        rows = np.concatenate([blocks[k] for k in rng.integers(0, len(blocks), len(blocks))])
        again.append((reference - challenger)[rows].mean())
    assert result.standard_error == pytest.approx(np.std(again), rel=0.2)


def test_short_data_are_cut_into_blocks_of_ten_minutes() -> None:
    challenger, reference, ts = walk(0, days=4, n=2000, edge=0.1)
    result = compare(challenger, reference, ts)
    assert result.block_ns == HOUR // 6
    assert result.blocks > 300
    assert compare(*walk(0, days=6, n=2000, edge=0.1)).block_ns == 6 * HOUR


def test_an_edge_is_seen_and_none_seldom() -> None:
    assert compare(*walk(1, days=30, n=3000, edge=0.05)).verdict == "better"
    assert compare(*walk(1, days=30, n=3000, edge=-0.05)).verdict == "not better"
    luck = sum(compare(*walk(seed, days=30, n=1500, edge=0.0)).better for seed in range(200))
    assert luck <= 12               # 2.3 % of 200 on average; rows taken for independent call about 3 times as many


def test_fewer_than_200_common_events_are_not_comparable() -> None:
    challenger, reference, ts = walk(2, days=30, n=199, edge=1.0)
    result = compare(challenger, reference, ts)
    assert result.mean > 2 * result.standard_error
    assert (result.better, result.verdict) == (False, "not comparable")
    assert compare(*walk(2, days=30, n=200, edge=1.0)).verdict == "better"


def test_one_block_is_not_comparable() -> None:
    result = compare(np.zeros(500), np.ones(500), np.arange(500))
    assert (result.blocks, result.better, result.verdict) == (1, False, "not comparable")
    assert math.isnan(result.standard_error)
    nothing = np.zeros(0)
    assert compare(nothing, nothing, np.zeros(0, np.int64)).verdict == "not comparable"


def test_equal_models_are_not_better() -> None:
    _, losses, ts = walk(3, days=10, n=1000, edge=0.0)
    assert compare(losses, losses, ts).verdict == "not better"


@pytest.mark.parametrize("spoilt", [np.full(300, math.nan), np.ones(299)])
def test_losses_that_dont_belong_together_are_refused(spoilt: np.ndarray) -> None:
    with pytest.raises(InputRefused) as refused:
        compare(spoilt, np.ones(300), np.arange(300) * HOUR)
    assert refused.value.code == "losses"


@given(st.integers(0, 10_000), st.integers(20, 400), st.floats(-0.3, 0.3))
def test_thresholds_let_each_side_speak_for_a_tenth(seed: int, n: int, lean: float) -> None:
    margins = np.clip(np.random.default_rng(seed).normal(lean, 0.1, n), -1, 1)
    buy, sell = thresholds(margins)
    assert sell <= buy
    assert abs(int((margins > buy).sum()) - 0.1 * n) <= 1
    assert abs(int((margins < sell).sum()) - 0.1 * n) <= 1


def test_thresholds_by_hand() -> None:
    assert thresholds(np.linspace(-1.0, 1.0, 11)) == pytest.approx((0.8, -0.8))
    assert thresholds(np.linspace(-1.0, 1.0, 11), q=0.2) == pytest.approx((0.6, -0.6))


@pytest.mark.parametrize("margins", [np.zeros(0), np.array([0.1, math.nan])])
def test_thresholds_of_nothing_are_refused(margins: np.ndarray) -> None:
    with pytest.raises(InputRefused) as refused:
        thresholds(margins)
    assert refused.value.code == "margins"
