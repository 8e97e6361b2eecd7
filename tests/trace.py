"""The epoch trace held against what was published: at any time a partition had one owner, and only that one published."""

from __future__ import annotations

from itertools import pairwise

import msgspec

from engine.transports.base import Log, Topic
from engine.types import NOWHERE, Position


class _Place(msgspec.Struct):
    epoch: int


class _Record(msgspec.Struct):
    log: _Place


_decoder = msgspec.json.Decoder(_Record)


def check_trace(log: Log) -> int:
    """Every record lies between the tails of its epoch's claim and of the next one; how many claims there were."""
    claims = 0
    for partition in range(log.partitions):
        trace = log.epochs(partition)
        held = [entry for entry in trace if entry.owner]
        claims += len(held)
        for before, after in pairwise(trace):
            due = before.epoch + 1 if after.owner else before.epoch
            assert after.epoch == due, f"partition {partition}: {before} is followed by {after}"
            assert before.tail <= after.tail, f"partition {partition}: {after} begins before {before}"
            assert before.owner or after.owner, f"partition {partition}: given up twice: {after}"
        ends = {before.epoch: after.tail for before, after in pairwise(held)}
        begins = {entry.epoch: entry.tail for entry in held}
        for position, epoch in _published(log, partition):
            assert begins[epoch] < position, f"partition {partition}: {position} of epoch {epoch}, claimed at {begins[epoch]}"
            end = ends.get(epoch)
            assert end is None or position <= end, f"partition {partition}: {position} of epoch {epoch}, which ended at {end}"
    return claims


def _published(log: Log, partition: int) -> list[tuple[Position, int]]:
    return [
        (position, _decoder.decode(record).log.epoch)
        for topic in Topic for position, record in log.published(partition, topic, NOWHERE, 10**9)
    ]
