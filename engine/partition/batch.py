"""The micro-batch: whole records only. What it was cut under (bundle, epoch) rides on it, and never changes again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..registry.bundle import Bundle
from ..types import F32, F64, I64, Cursor, Position, Refused, TickBatch
from ..wire.journal import Note
from ..wire.records import Place
from .image import Image


class Asked(NamedTuple):
    """The ticks at which the ensemble is asked, and what the policy must know of them."""

    ticks: TickBatch
    matrix: F32
    spread: F64
    status: I64
    horizon: F64
    width: F64

    def after(self, first: int) -> Asked:
        """The rows from `first` on."""
        return Asked(*(getattr(self, name)[first:] for name in self._fields))

    @staticmethod
    def concat(parts: list[Asked]) -> Asked:
        if len(parts) == 1:
            return parts[0]
        ticks = TickBatch.concat([part.ticks for part in parts])
        return Asked(ticks, *(np.concatenate([getattr(p, name) for p in parts]) for name in Asked._fields[1:]))


class Noted(NamedTuple):
    """A note of the journal that isn't written yet."""

    position: Position
    note: Callable[[Place], Note]


@dataclass(slots=True)
class MicroBatch:
    """A stretch of one partition's log between two cuts."""

    partition: int
    epoch: int
    bundle: Bundle | None
    """None before the partition's first activation: then nothing is asked."""
    asked: Asked | None
    refused: list[Refused]
    notes: list[Noted]
    upto: Cursor
    """The last record it covers."""
    received: int
    """ns UTC when its first record was read."""
    received_monotonic: int
    image: Image | None
    """A copy of the state at `upto`, when a checkpoint is due."""
    votes: F32 | None = field(default=None)
    """(n, k, 3), put in by a worker."""
