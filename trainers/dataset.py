"""From ticks to what is learned: rows by the engine's own kernel at the engine's own moments, labels, weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from engine.errors import InputRefused
from engine.eventtime import EventTime, refusals
from engine.features import FeatureSet
from engine.features.moments import MomentPicker
from engine.manifest import Moments
from engine.types import F32, F64, I64, Reason, TickBatch

from .labels import label_batch


@dataclass(frozen=True)
class Dataset:
    """m labelled moments, in (ts, symbol) order."""

    matrix: F32
    """(m, F)"""
    y: I64
    """(m,) −1 sell, 0 neutral, 1 buy."""
    event_ts: I64
    end_ts: I64
    """ns UTC: when it was asked, and when its outcome was certain."""
    weight: F64
    """Average uniqueness."""
    symbols: list[str]
    ticks: int
    """Admitted ones."""
    dropped: dict[str, int]
    """Moments without a label, by reason."""
    refused: dict[str, int]
    """Ticks that event time refused, by code."""
    digest: str
    """sha256 of the admitted ticks."""


def build(ticks: TickBatch, moments: Moments, features: FeatureSet) -> Dataset:
    """Raises InputRefused `no_events` where the ticks hold no labelled moment."""
    verdicts = EventTime().admit(ticks)
    refused = refusals(verdicts)
    taken = ticks[verdicts == 0]
    rows = features.state().update(taken)
    asked, _, _ = MomentPicker().pick(taken, rows.spread, rows.sigma, moments)
    ready = asked[rows.status[asked] == int(Reason.DECIDED)]
    labels = label_batch(taken, rows.spread, rows.sigma, ready, moments)
    dropped = {"features": len(asked) - len(ready), **labels.dropped}
    if not len(labels.event):
        raise InputRefused(
            "no_events", f"{len(taken):,} ticks hold no labelled moment (refused: {refused}, dropped: {dropped})",
            hint="train on more ticks: an hour fills the windows, a few days make a model",
        )
    return Dataset(
        np.ascontiguousarray(rows.matrix[labels.event]), labels.y.astype(np.int64), labels.event_ts, labels.end_ts,
        labels.weight, taken.symbols, len(taken), dropped, refused, _digest(taken),
    )


def _digest(ticks: TickBatch) -> str:
    digest = hashlib.sha256("\n".join(ticks.symbols).encode())
    for column in (ticks.sid, ticks.ts, ticks.bid, ticks.ask, ticks.bid_size, ticks.ask_size):
        digest.update(column.tobytes())
    return digest.hexdigest()
