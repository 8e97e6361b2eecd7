"""From a decided batch to publish steps: signals, rejects and notes in position order, at most STEP positions each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import orjson

from ..transports.base import STEP, Log, Record, Topic
from ..types import Position, Refused
from ..wire import journal
from ..wire.records import Decisions, Place, Stamp, encode_reject, encode_signals
from .batch import MicroBatch, Noted
from .checkpoint import Checkpoints
from .state import Partition


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
    others = deque(sorted(beside, key=lambda item: item.position))
    decided = now_ns()
    pieces = _pieces(decisions)
    for number, piece in enumerate(pieces, 1):
        last = number == len(pieces)
        upto = None if last or piece is None else piece.ticks.position(len(piece.ticks) - 1)
        records = _signals(batch, piece, part.number, log, decided, now_ns)
        due = list(_others(others, upto, batch, part.number, log))
        if due:
            records = sorted(records + due, key=lambda record: record.position)
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
    """Where steps begin and end: at most about STEP records each, those of one position together; one step at least."""
    cuts = [0]
    while len(records) - cuts[-1] > STEP:
        end = cuts[-1] + STEP
        cuts.append(end + (records[end].position == records[end - 1].position))
    return [*cuts, len(records)]


def _pieces(decisions: Decisions | None) -> list[Decisions | None]:
    """At most STEP rows each; one piece at least."""
    if decisions is None or len(decisions.ticks) <= STEP:
        return [decisions]
    return [Decisions._make(column[at:at + STEP] for column in decisions) for at in range(0, len(decisions.ticks), STEP)]


def _others(
    waiting: deque[Refused | Noted], upto: Position | None, batch: MicroBatch, partition: int, log: Log
) -> Iterator[Record]:
    """Rejects and notes at or below a position (None: all), taken away from the left."""
    while waiting and (upto is None or waiting[0].position <= upto):
        item = waiting.popleft()
        cursor = log.format(item.position.cursor)
        if isinstance(item, Noted):
            place = Place(partition, cursor, item.position.ordinal, batch.epoch)
            yield Record(Topic.JOURNAL, item.position, journal.encode(item.note(place)))
        else:
            yield Record(Topic.REJECTS, item.position, encode_reject(item, partition, batch.epoch, orjson.dumps(cursor).decode()))


def _signals(
    batch: MicroBatch, decisions: Decisions | None, partition: int, log: Log, decided: int, now_ns: Callable[[], int]
) -> list[Record]:
    if decisions is None or batch.bundle is None:
        return []
    ticks = decisions.ticks
    places = list(zip(ticks.major.tolist(), ticks.minor.tolist(), strict=True))
    cursors = {place: orjson.dumps(log.format(place)).decode() for place in set(places)}
    stamp = Stamp(
        log.deployment, partition, batch.epoch, batch.bundle.version, batch.bundle.manifest.features.fingerprint,
        [expert.name for expert in batch.bundle.manifest.experts], batch.received, decided, now_ns(),
    )
    encoded = encode_signals(decisions, stamp, [cursors[place] for place in places])
    return [
        Record(Topic.SIGNALS, Position(place, ordinal), record)
        for place, ordinal, record in zip(places, ticks.ordinal.tolist(), encoded, strict=True)
    ]
