"""The way of a tick, top to bottom. One thread, log order, crash is the only stop.

An event is something the inbox heard: a partition was granted, ticks or a control record stand in the log, a
partition has no more at hand, a worker has answered. A micro-batch is cut where it is full, where the log is drained
and where a control record stands; it carries the bundle it was cut under, so that no batch ever mixes two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from . import clock
from .errors import InputRefused
from .inbox import Answered, Control, Drained, Event, Granted, Ticks
from .partition.checkpoint import Checkpoints
from .partition.publish import steps
from .partition.state import Partition
from .registry.follow import Following
from .transports.base import Log
from .types import Code, Position, Refused
from .watch.observer import Observer
from .wire.ticks import decode
from .workers.base import Workers


def run(
    inbox: Iterable[Event], log: Log, workers: Workers, checkpoints: Checkpoints, follower: Following,
    take_over: Callable[[Granted], Partition], see: Observer, batch_rows: int,
) -> None:
    """decode, admit, update, ask, predict, decide, publish, checkpoint.

    Raises what the log raises: OwnershipLost when another owner has a partition, TransportUnreachable, ModelRefused.
    """
    parts: dict[int, Partition] = {}
    for event in inbox:
        part = parts.get(event.partition)
        match event:
            case Granted():                                             # fence, load, seek; silent up to the last published
                parts[event.partition] = take_over(event)

            case Ticks() if part:
                ticks, malformed = decode(event.entries, part.symbols)
                ticks, untimely = part.admit(ticks)
                rows = part.features.update(ticks)
                asked = part.pick(ticks, rows)                          # the moments; none before the first activation
                refused = malformed + untimely
                part.add(ticks, asked, refused, event.entries[-1].cursor, event.received)
                see.ticks(len(ticks), refused)
                if part.waiting >= batch_rows or checkpoints.due(part):
                    workers.submit(part.cut(keep=checkpoints.due(part)))

            case Drained() if part:                                     # nothing more at hand: no timer needed
                workers.submit(part.cut(keep=checkpoints.due(part)))

            case Control() if part:                                     # what follows is answered by another bundle
                workers.submit(part.cut())
                try:
                    activation = follower.follow(event.entry, part.k)
                except InputRefused as error:
                    part.refuse(Refused(Position(event.entry.cursor, 0), Code.CONTROL, event.entry.payload))
                    see.control_refused(event.partition, error)
                else:
                    if activation:
                        part.activate(*activation)
                        see.activated(event.partition, event.entry.cursor, part.k, activation[1].version)
                part.upto = event.entry.cursor

            case Answered(batch=batch) if part and part.epoch == batch.epoch:   # in log order per partition
                decisions = part.decide(batch)
                for step in steps(part, batch, decisions, log, checkpoints, clock.wall_ns):   # each one fenced step
                    seen = see.publishing(step.signals, batch.received_monotonic)
                    log.publish(part.number, part.epoch, step.records, step.checkpoint, seen)
                see.decided(decisions)
    log.settle()
