"""Ticks of Parquet, CSV and NDJSON files, in the order of `read_ticks`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..files import read_ticks
from ..instruments import Instruments
from ..types import TickBatch
from .base import Feed


class FilesFeed(Feed):
    """All ticks of the files; `columns` as in read_ticks. `start`, `stop`: ns UTC, only ticks in [start, stop)."""

    def __init__(
        self, files: Sequence[str | Path], rules: Instruments, columns: Mapping[str, str] | None = None,
        start: int = 0, stop: int = 2**63 - 1,
    ) -> None:
        self._files = list(files)
        self._rules = rules
        self._columns = columns
        self._start = start
        self._stop = stop

    def batches(self) -> Iterator[TickBatch]:
        ticks = read_ticks(self._files, self._rules, columns=self._columns)
        yield ticks[(ticks.ts >= self._start) & (ticks.ts < self._stop)]
