"""The seam of feeds: where ticks come from before they are in the log.

`batches` is called once; it yields ticks in the order they are to be sent, as many at a time as suits the source, and
ends when the source does. Pacing, writing and what to do where the log takes nothing are the sender's business.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from ..types import TickBatch


class Feed(ABC):
    """A source of ticks."""

    waits = True
    """Whether ticks stay where they are until they are asked for, as in a file. If not, they are spooled while the log takes
    none."""

    @abstractmethod
    def batches(self) -> Iterator[TickBatch]:
        """Ticks in sending order. Raises InputRefused for what can't be read."""
