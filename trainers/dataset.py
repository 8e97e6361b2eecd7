"""From ticks to what is learned: rows by the engine's own kernel, at its own moments or where a file has labels; weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.errors import InputRefused
from engine.eventtime import EventTime, refusals
from engine.features import FeatureSet, Rows
from engine.features.moments import MomentPicker
from engine.manifest import Moments
from engine.types import F32, F64, I64, Reason, TickBatch

from .label_file import LabelFile, join
from .labels import Outcomes, label_batch


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
    """Average uniqueness, or a file's own."""
    symbols: list[str]
    ticks: int
    """Admitted ones."""
    dropped: dict[str, int]
    """Moments without a label, or labels without a row, by reason."""
    refused: dict[str, int]
    """Ticks that event time refused, by code."""
    digest: str
    """sha256 of the admitted ticks, and of the labels where a file gave them."""
    labels: str
    """The name of that file; empty: the triple barrier."""


def build(ticks: TickBatch, moments: Moments, features: FeatureSet, given: LabelFile | None = None) -> Dataset:
    """given: learn these labels instead of the triple barrier's at `moments`.

    Raises InputRefused `no_events` where the ticks hold no labelled moment, and what `join` does.
    """
    verdicts = EventTime().admit(ticks)
    refused = refusals(verdicts)
    taken = ticks[verdicts == 0]
    rows = features.state().update(taken)
    known = rows.status == int(Reason.DECIDED)
    labels = join(given, taken, known) if given else _barriers(taken, rows, known, moments)
    if not len(labels):
        raise InputRefused(
            "no_events", f"{len(taken):,} ticks hold no labelled moment (refused: {refused}, dropped: {labels.dropped})",
            hint="train on more ticks: an hour fills the windows, a few days make a model",
        )
    return Dataset(
        np.ascontiguousarray(rows.matrix[labels.event]), labels.y, labels.event_ts, labels.end_ts,
        labels.weight, taken.symbols, len(taken), labels.dropped, refused, _digest(taken, given),
        given.name if given else "",
    )


def _barriers(ticks: TickBatch, rows: Rows, known: NDArray[np.bool_], moments: Moments) -> Outcomes:
    asked, _, _ = MomentPicker().pick(ticks, rows.spread, rows.sigma, moments)
    ready = asked[known[asked]]
    labels = label_batch(ticks, rows.spread, rows.sigma, ready, moments)
    return replace(labels, dropped={"features": len(asked) - len(ready), **labels.dropped})


def _digest(ticks: TickBatch, given: LabelFile | None) -> str:
    digest = hashlib.sha256("\n".join(ticks.symbols).encode())
    for column in (ticks.sid, ticks.ts, ticks.bid, ticks.ask, ticks.bid_size, ticks.ask_size):
        digest.update(column.tobytes())
    if given:
        digest.update(given.digest().encode())
    return digest.hexdigest()
