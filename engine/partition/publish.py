"""From a decided batch to publish steps: signals and rejects in position order, at most STEP records each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..transports.base import STEP, Log, Record, Topic
from ..types import Position
from ..wire.records import Decisions, Stamp, encode_reject, encode_signals
from .batch import MicroBatch
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
    """The checkpoint rides on the last step: it is valid exactly when all before it is published."""
    records = _records(part, batch, decisions, log, now_ns)
    last = len(records) - STEP if records else 0
    for at in range(0, max(len(records), 1), STEP):
        step = records[at:at + STEP]
        if step:
            part.tail = max(part.tail, step[-1].position)
        checkpoint = checkpoints.stage(part, batch, part.tail) if batch.image and at >= last else None
        if step or checkpoint:
            yield Step(step, checkpoint)


def _records(
    part: Partition, batch: MicroBatch, decisions: Decisions | None, log: Log, now_ns: Callable[[], int]
) -> list[Record]:
    decided = now_ns()
    records = [
        Record(Topic.REJECTS, refused.position,
               encode_reject(refused, part.number, batch.epoch, json.dumps(log.format(refused.position.cursor))))
        for refused in batch.refused
    ]
    if decisions is not None and batch.bundle is not None:
        ticks = decisions.ticks
        places = list(zip(ticks.major.tolist(), ticks.minor.tolist(), strict=True))
        cursors = {place: json.dumps(log.format(place)) for place in set(places)}
        stamp = Stamp(
            log.deployment, part.number, batch.epoch, batch.bundle.version, batch.bundle.manifest.features.fingerprint,
            [expert.name for expert in batch.bundle.manifest.experts], batch.received, decided, now_ns(),
        )
        encoded = encode_signals(decisions, stamp, [cursors[place] for place in places])
        records += [
            Record(Topic.SIGNALS, Position(place, ordinal), record)
            for place, ordinal, record in zip(places, ticks.ordinal.tolist(), encoded, strict=True)
        ]
    if batch.refused:
        records.sort(key=lambda record: record.position)
    return records
