"""From a decided batch to publish steps: signals, rejects and notes in position order, at most STEP positions each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

import orjson

from ..transports.base import STEP, Log, Record, Topic
from ..types import Cursor, Position, Refused
from ..wire import journal
from ..wire.records import Decisions, Place, Stamp, encode_rejects, encode_signals
from .batch import MicroBatch, Noted
from .checkpoint import Checkpoints
from .state import Partition

_position = attrgetter("position")
STEP_BYTES = 4 * 2**20
"""Of records in one step, unless one alone is larger: a few large rejects, so that no write is beyond a server's limits."""


class Step(NamedTuple):
    """What one fenced write holds."""

    records: list[Record]
    checkpoint: bytes | None

    @property
    def signals(self) -> int:
        return sum(record.topic is Topic.SIGNALS for record in self.records)


def steps(
    part: Partition, batch: MicroBatch, decisions: Decisions | None, log: Log, checkpoints: Checkpoints,
    now_ns: Callable[[], int],
) -> Iterator[Step]:
    """The checkpoint rides on the last step: it is valid exactly when all before it is published.

    A step is encoded when it is asked for, so that the log writes one while the next is made.
    """
    beside: list[Refused | Noted] = [*batch.refused, *batch.notes]
    others = deque(sorted(beside, key=_position))
    decided = now_ns()
    pieces = _pieces(decisions)
    for number, piece in enumerate(pieces, 1):
        last = number == len(pieces)
        upto = None if last or piece is None else piece.ticks.position(len(piece.ticks) - 1)
        records = _signals(batch, piece, part.number, log, decided, now_ns)
        due = _others(others, upto, batch, part.number, log)
        if due:
            records = sorted(records + due, key=_position)
        cuts = _cuts(records)
        for at, end in pairwise(cuts):
            step = records[at:end]
            if step:
                part.tail = max(part.tail, step[-1].position)
            final = last and end == cuts[-1]
            checkpoint = checkpoints.stage(part, batch, part.tail) if batch.image and final else None
            if step or checkpoint:
                yield Step(step, checkpoint)


def _cuts(records: list[Record]) -> list[int]:
    """Where steps begin and end: at most about STEP records or STEP_BYTES each, those of one position together; one at least."""
    cuts, size = [0], 0
    for k, record in enumerate(records):
        full = k - cuts[-1] >= STEP or size + len(record.payload) > STEP_BYTES
        if full and k > cuts[-1] and record.position != records[k - 1].position:
            cuts.append(k)
            size = 0
        size += len(record.payload)
    return [*cuts, len(records)]


def _pieces(decisions: Decisions | None) -> list[Decisions | None]:
    """At most STEP rows each; one piece at least."""
    if decisions is None or len(decisions.ticks) <= STEP:
        return [decisions]
    return [Decisions._make(column[at:at + STEP] for column in decisions) for at in range(0, len(decisions.ticks), STEP)]


def _others(
    waiting: deque[Refused | Noted], upto: Position | None, batch: MicroBatch, partition: int, log: Log
) -> list[Record]:
    """Rejects and notes at or below a position (None: all), taken away from the left; not in order."""
    refused: list[Refused] = []
    notes: list[Record] = []
    while waiting and (upto is None or waiting[0].position <= upto):
        item = waiting.popleft()
        if isinstance(item, Noted):
            place = Place(partition, log.format(item.position.cursor), item.position.ordinal, batch.epoch)
            notes.append(Record(Topic.JOURNAL, item.position, journal.encode(item.note(place))))
        else:
            refused.append(item)
    encoded = encode_rejects(refused, partition, batch.epoch, _cursors([item.position.cursor for item in refused], log))
    return [Record(Topic.REJECTS, item.position, record) for item, record in zip(refused, encoded, strict=True)] + notes


def _cursors(places: list[Cursor], log: Log) -> list[str]:
    """Each as the log writes it, as JSON."""
    written = {place: orjson.dumps(log.format(place)).decode() for place in dict.fromkeys(places)}
    return [written[place] for place in places]


def _signals(
    batch: MicroBatch, decisions: Decisions | None, partition: int, log: Log, decided: int, now_ns: Callable[[], int]
) -> list[Record]:
    if decisions is None or batch.bundle is None:
        return []
    ticks = decisions.ticks
    places = list(zip(ticks.major.tolist(), ticks.minor.tolist(), strict=True))
    stamp = Stamp(
        log.deployment, partition, batch.epoch, batch.bundle.version, batch.bundle.manifest.features.fingerprint,
        [expert.name for expert in batch.bundle.manifest.experts], batch.received, decided, now_ns(),
    )
    encoded = encode_signals(decisions, stamp, _cursors(places, log))
    return [
        Record(Topic.SIGNALS, Position(place, ordinal), record)
        for place, ordinal, record in zip(places, ticks.ordinal.tolist(), encoded, strict=True)
    ]
