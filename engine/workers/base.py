"""The seam of workers: a worker is a replica of the whole ensemble, never a shard of it.

The pipeline calls `submit` for each micro-batch in log order and takes `answered` before it reads on. A worker puts
`votes` into the batch and touches nothing else. Answers of one partition come in the order of their batches.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from ..partition.batch import MicroBatch


class Workers(ABC):
    """Who asks the ensemble."""

    @abstractmethod
    def submit(self, batch: MicroBatch | None) -> None:
        """Have a batch answered; None (there was nothing to cut) is taken for granted."""

    @abstractmethod
    def answered(self) -> Iterator[MicroBatch]:
        """Batches whose votes are there."""
