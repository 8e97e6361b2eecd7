"""The journal as whoever takes a partition over, or replays it, obeys it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from ..transports.base import Log, Topic
from ..types import NOWHERE, Cursor, Position
from ..wire import journal

PAGE = 1000


Runtime: TypeAlias = tuple[str, str, str, str]
"""What decides: engine version, device, provider, kind of processor."""


@dataclass
class Suffered:
    """What to obey, by the position from which it holds."""

    rows: dict[Position, str] = field(default_factory=dict)
    """Rows left out, and why."""
    records: dict[Cursor, str] = field(default_factory=dict)
    """Whole records left out, and why."""
    voids: dict[Position, int] = field(default_factory=dict)
    """Activations not followed from there on, by k; at a control record: not at all."""
    runtime: Runtime | None = None
    """The last one noted."""

    @cached_property
    def cursors(self) -> set[Cursor]:
        """Of the records in which something stands."""
        return {position.cursor for position in (*self.rows, *self.voids)} | self.records.keys()

    def ordinals(self, cursor: Cursor) -> set[int]:
        """Of a record's rows at which something stands."""
        return {position.ordinal for position in (*self.rows, *self.voids) if position.cursor == cursor}


def suffered(log: Log, partition: int) -> Suffered:
    """All that a partition's journal says. Raises TransportUnreachable."""
    found = Suffered()
    for position, record in _all(log, partition):
        note = journal.decoder.decode(record)
        match note:
            case journal.Skip(what="record"):
                found.records[position.cursor] = note.why
            case journal.Skip():
                found.rows[position] = note.why
            case journal.Void():
                found.voids[position] = note.k
            case journal.Runtime():
                found.runtime = (note.engine, note.device, note.provider, note.cpu)
    return found


def _all(log: Log, partition: int) -> Iterator[tuple[Position, bytes]]:
    after = NOWHERE
    while page := log.published(partition, Topic.JOURNAL, after, PAGE):
        yield from page
        after = page[-1][0]
