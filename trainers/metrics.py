"""How good probabilities are, in nats, and whether one model is better than another.

Columns are always [neutral, buy, sell] and labels 0, 1, -1. scikit-learn's log_loss sorts the labels (-1, 0, 1) and so
reads these columns as sell, neutral, buy, silently, and so do its scorers: use those here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from engine.errors import InputRefused
from engine.types import F64, I64

LABELS = (0, 1, -1)
"""The label of each probability column."""

SMALLEST = 1e-7
"""A probability below counts as this (a float32's grain): a model that was sure and wrong loses 16 nats, not all."""

BLOCKS_NS = (6 * 3_600_000_000_000, 600_000_000_000)
ENOUGH_BLOCKS = 20
ENOUGH_EVENTS = 200


def columns(y: ArrayLike) -> I64:
    """The probability column of each label. Raises InputRefused (labels) for none at all, or others than 0, 1, -1."""
    labels = np.asarray(y)
    strange = np.setdiff1d(labels, LABELS)
    if strange.size or not labels.size:
        raise InputRefused(
            "labels", f"labels {strange[:5].tolist()} are none of 0, 1, -1" if labels.size else "no labels",
            hint="a label is 0 neutral, 1 buy, -1 sell",
        )
    return labels.astype(np.int64) % 3


def prior(y: ArrayLike, weights: ArrayLike | None = None) -> F64:
    """Shares of the classes, (3,): what a model must beat. Raises InputRefused (labels, weights)."""
    column = columns(y)
    count = np.bincount(column, _weights(weights, column.size), minlength=3)
    return np.asarray(count / count.sum(), np.float64)


def row_losses(y: ArrayLike, p: ArrayLike) -> F64:
    """-log of the probability each row gave to what happened, (n,) nats.

    y: (n,) labels; p: (n, 3) [neutral, buy, sell], or one (3,) row for all. Raises InputRefused (labels,
    probabilities).
    """
    column = columns(y)
    given = np.asarray(p, np.float64)
    given = np.broadcast_to(given, (column.size, 3)) if given.shape == (3,) else given
    # written so that NaN fails
    if given.shape != (column.size, 3) or not ((given >= 0.0).all() and (np.abs(given.sum(1) - 1.0) <= 1e-3).all()):
        raise InputRefused(
            "probabilities", f"{given.shape} numbers that aren't {column.size} rows of three probabilities",
            hint="one row per label, columns [neutral, buy, sell], no NaN, each row summing to 1",
        )
    return np.asarray(-np.log(np.maximum(given[np.arange(column.size), column], SMALLEST)), np.float64)


def log_loss(y: ArrayLike, p: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Mean of `row_losses` in nats, weighted where weights (n,) are given; lower is better.

    Raises InputRefused (labels, probabilities, weights).
    """
    losses = row_losses(y, p)
    return float(np.average(losses, weights=_weights(weights, losses.size)))


def neg_log_loss(model: Any, X: Any, y: ArrayLike) -> float:
    """`log_loss` of an expert's answer to X, negative: what scikit-learn's searches take as `scoring`."""
    return -log_loss(y, model.predict_proba(X))


def skill(y: ArrayLike, p: ArrayLike, prior: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Nats per event gained over always saying `prior`; 0 is no skill, below 0 is worse than none."""
    return log_loss(y, prior, weights) - log_loss(y, p, weights)


def auc(positive: ArrayLike, score: ArrayLike) -> float:
    """Chance that a positive row scores above a negative one, ties half (Mann-Whitney); NaN where one kind is missing.

    positive: (n,) bool; score: (n,). One-vs-rest of neutral: auc(y == 0, p[:, 0]).
    """
    is_positive = np.asarray(positive, bool)
    _, place, count = np.unique(np.asarray(score), return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - 0.5 * (count - 1))[place]
    ups = int(is_positive.sum())
    downs = is_positive.size - ups
    if ups == 0 or downs == 0:
        return math.nan
    return float((rank[is_positive].sum() - 0.5 * ups * (ups + 1)) / (ups * downs))


def block_sums(values: F64, event_ts: I64, block_ns: int) -> tuple[F64, I64]:
    """(sum, count) of the values in each block of the UTC calendar that has any, in order of time."""
    _, block, count = np.unique(event_ts // block_ns, return_inverse=True, return_counts=True)
    return np.asarray(np.bincount(block, values), np.float64), count


def _weights(weights: ArrayLike | None, n: int) -> F64:
    given = np.ones(n) if weights is None else np.asarray(weights, np.float64)
    if given.shape != (n,) or not (given >= 0.0).all() or not 0.0 < given.sum() < math.inf:
        raise InputRefused(
            "weights", f"{given.shape} weights for {n} rows, or some that aren't numbers of at least 0",
            hint="one weight per row, none negative, not all zero",
        )
    return given


@dataclass(frozen=True)
class Comparison:
    """Challenger against reference on the same events; a positive mean means the challenger loses less.

    mean: of the difference over the events, nats: reference's log loss less challenger's. standard_error: its own, from
    how block means scatter, each weighing as its events do; NaN where there are no two blocks.
    verdict: `better`, `not better`, or `not comparable` (fewer than 200 common events).
    """

    mean: float
    standard_error: float
    events: int
    blocks: int
    block_ns: int
    better: bool
    verdict: str


def compare(challenger_losses: F64, reference_losses: F64, event_ts: I64) -> Comparison:
    """Is the challenger better by more than 2 standard errors?

    (n,) losses of both on the same events and their stamps. Blocks of 6 h; of 10 min where there are fewer than 20:
    outcomes of neighbouring events overlap, so single rows are far from independent, blocks nearly are (the
    cluster-robust error of a mean: Liang & Zeger, Biometrika 73, 1986). Raises InputRefused (losses).
    """
    shapes = {challenger_losses.shape, reference_losses.shape, event_ts.shape}
    if len(shapes) > 1 or not (np.isfinite(challenger_losses).all() and np.isfinite(reference_losses).all()):
        raise InputRefused(
            "losses", "the losses of the two models aren't numbers for the same events",
            hint="score both on the events they have in common, row by row",
        )
    difference = np.asarray(reference_losses - challenger_losses, np.float64)
    for block_ns in BLOCKS_NS:
        sums, counts = block_sums(difference, event_ts, block_ns)
        blocks = sums.size
        if blocks >= ENOUGH_BLOCKS:
            break
    known = blocks >= 2
    mean = float(difference.mean()) if known else math.nan
    scatter = float(np.square(sums - mean * counts).sum()) * blocks / (blocks - 1) if known else math.nan
    standard_error = math.sqrt(scatter) / difference.size if known else math.nan
    comparable = known and difference.size >= ENOUGH_EVENTS
    better = comparable and mean > 2.0 * standard_error
    verdict = "better" if better else "not better" if comparable else "not comparable"
    return Comparison(mean, standard_error, difference.size, blocks, block_ns, better, verdict)
