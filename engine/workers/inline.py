"""The simplest worker: the pipeline's own thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from ..partition.batch import MicroBatch
from .base import Workers


class InlineWorkers(Workers):
    """Answers at once."""

    def __init__(self) -> None:
        self._done: deque[MicroBatch] = deque()

    def submit(self, batch: MicroBatch | None) -> None:
        if batch is None:
            return
        if batch.asked is not None and batch.bundle is not None:
            batch.votes = batch.bundle.ensemble.raw(batch.asked.matrix)
        self._done.append(batch)

    def answered(self) -> Iterator[MicroBatch]:
        while self._done:
            yield self._done.popleft()
