"""The way of a tick, top to bottom. One thread, log order, crash is the only stop.

An event is something the inbox heard: a partition was granted, ticks or a control record stand in the log, a
partition has no more at hand, a worker has answered. Ticks fill a micro-batch of moments at which the ensemble is to be
asked. It is cut where it is full, where a checkpoint is due, where the log is drained and where a control record stands;
it carries the bundle it was cut under, so that no batch ever mixes two. A worker asks the ensemble and hands the batch
back with its votes; then it is decided, a signal per moment, and published, with everything that was refused on the way,
in steps that the log takes whole or not at all, and only from the partition's present owner, whose number is the epoch.

What is lost in a crash is state that wasn't published. Whoever takes the partition over starts from the last checkpoint,
reads the log on from there, and takes over what was published since instead of deciding it again. What crashes every engine
that meets it is left out in the end, and the journal says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from . import clock
from .errors import InputRefused
from .inbox import Answered, Control, Drained, Event, Granted, Leaving, Left, Ticks
from .partition.checkpoint import Checkpoints
from .partition.publish import steps
from .partition.state import Partition
from .registry.follow import Following
from .transports.base import Log
from .types import Code, Position, Refused
from .watch.observer import Observer
from .workers.base import Workers


def run(
    inbox: Iterable[Event], log: Log, workers: Workers, checkpoints: Checkpoints, follower: Following,
    take_over: Callable[[Granted], Partition], parts: dict[int, Partition], see: Observer, batch_rows: int,
    alive: Callable[[], object] = lambda: None,
) -> None:
    """decode, admit, update, pick, submit (a worker predicts), decide, publish with checkpoint.

    parts: what is owned, for others to look at. alive: called again and again while one event takes long, as rows do that are
    tried one by one. A record that can't be taken is published as a reject, and the loop goes on.
    Everything else ends it: OwnershipLost when another owner has a partition, TransportUnreachable, ModelRefused for a bundle
    that must answer and can't.
    """
    for event in inbox:
        part = parts.get(event.partition)
        match event:
            case Granted():                                             # fence, load, seek; silent up to the last published
                parts[event.partition] = take_over(event)
                see.granted(event.partition, parts[event.partition].symbols.instruments)

            case Ticks() if part:
                for ticks, refused, entries, void in part.portions(event.entries):      # one, unless something was suffered
                    if void:
                        workers.submit(part.cut())
                        part.revert(ticks.position(0), follower.load(*part.before) if part.before[0] else None)
                    alive()
                    ticks, untimely = part.admit(ticks)                 # late, duplicate, crossed, future-dated
                    rows = part.features.update(ticks)
                    asked = part.pick(ticks, rows)                      # the moments; none before the first activation
                    refused = refused + untimely
                    part.add(ticks, asked, refused, entries, event.received)
                    see.ticks(len(ticks), refused, event.entries)
                    see.moved(event.partition, entries, ticks, rows.status)
                    keep = bool(entries) and checkpoints.due(part)      # then the batch takes a copy of the state along
                    if part.full(batch_rows) or keep:
                        workers.submit(part.cut(keep))                  # comes back as Answered

            case Drained() if part:                                     # nothing more at hand: no timer needed
                part.caution.over()
                workers.submit(part.cut(checkpoints.due(part)))

            case Control() if part:                                     # from here on another bundle, or other settings
                workers.submit(part.cut())                              # what came before keeps what it was cut under
                try:
                    control = follower.check(event.entry, part.followed)    # None: repeated, overtaken, or not ours
                    given_up = control and part.is_new(event.entry) and follower.given_up(control)
                    if control and (part.is_void(event.entry.cursor) or given_up):
                        part.void(event.entry.cursor, control)
                    elif control:
                        change = follower.change(control)
                        part.follow(change)
                        see.followed(event.partition, event.entry.cursor, change.control.k, change.words, change.version)
                except InputRefused as error:
                    part.refuse(Refused(Position(event.entry.cursor, 0), Code.CONTROL, event.entry.payload))
                    see.control_refused(event.partition, error)
                part.passed(event.entry.cursor)

            case Leaving() if part:                                     # another engine shall have it, or we stop
                workers.submit(part.cut(keep=part.moved))

            case Left() if part:                                        # everything it had in hand is published
                log.settle()
                log.release(part.number, part.epoch)
                del parts[event.partition]
                see.given_up(event.partition)

            case Answered(batch=batch) if part and part.epoch == batch.epoch:   # in log order per partition
                decisions = part.decide(batch)
                for step in steps(part, batch, decisions, log, checkpoints, clock.wall_ns):   # each one fenced step
                    heard = see.publishing(step.signals, batch.received_monotonic, part.number if step.checkpoint else None)
                    log.publish(part.number, part.epoch, step.records, step.checkpoint, heard)     # `heard`: when it answers
                see.decided(decisions)
    log.settle()                                                        # hear the answers to what is still on its way
