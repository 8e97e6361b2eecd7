"""The inbox: everything the pipeline hears, one event at a time. The clock and the waiting are here, nowhere else.

Ownership first, then the workers' answers, then what one read of the log brought per partition, then Drained where a
read returned less than was asked for. A partition that meets a control record whose bundle isn't staged yet stands
still in front of it until it is; the others go on. What other engines should have is given up: Leaving, and Left when its
last batch has been answered; so is everything at a clean stop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from . import clock
from .partition.batch import MicroBatch
from .partition.ownership import Watch, word_of
from .transports.base import Log
from .types import Cursor, Entry, Kind
from .workers.base import Workers

BEAT_NS = 500_000_000
LOOK_NS = 100_000_000
"""How often a partition is looked for while there is room for one more."""
ENGINES = "engine/"
"""On the board: each engine of a deployment says something new there at every beat, while it lives. A deployment may be
called `a.b`, so a dot can't end its name."""
BLOCK_MS = 100
PAUSED_MS = 5
"""While a partition waits for a bundle: how often it is asked whether that is staged."""
READ = 1000
"""Most records per partition and read."""
READ_BYTES = 2**22
"""About so much of a partition is read at once: a thousand single ticks, but only a few of the largest frames."""


class Granted(NamedTuple):
    """The partition is ours, under this epoch."""

    partition: int
    epoch: int


class Ticks(NamedTuple):
    """Consecutive records of one partition."""

    partition: int
    entries: list[Entry]
    received: tuple[int, int]
    """(ns UTC, monotonic ns) when they were read."""


class Control(NamedTuple):
    """A control record's copy."""

    partition: int
    entry: Entry


class Drained(NamedTuple):
    """The partition had no more at hand."""

    partition: int


class Answered(NamedTuple):
    """A worker has put its votes into the batch."""

    partition: int
    batch: MicroBatch


class Leaving(NamedTuple):
    """The partition is to be given up: no more of it will be read."""

    partition: int


class Left(NamedTuple):
    """All that was in hand of a partition that is given up has been answered."""

    partition: int


Event = Granted | Ticks | Control | Drained | Answered | Leaving | Left


class Inbox:
    """Iterate to hear. `stop` is asked between reads; a log that never grows again (`live=False`) ends by itself.

    ready: called once, when what could be claimed at once has been.
    """

    def __init__(
        self, log: Log, workers: Workers, name: str, *, stop: Callable[[], bool],
        ready: Callable[[], None] = lambda: None, staged: Callable[[int, Entry], bool] = lambda partition, entry: True,
        lease_s: float = 3.0, read: int = READ, live: bool = True, life: str = "",
    ) -> None:
        """life: of this process, random; the same for all inboxes it ever has.

        staged: whether what a control record of a partition names can be followed without waiting.
        """
        self._log = log
        self._workers = workers
        self._name = name
        self._stop = stop
        self._ready = ready
        self._staged = staged
        self._read = min(read, 16)
        self._most = read
        self._live = live
        self._watch = Watch(name, log.partitions, int(lease_s * 1e9))
        self._said = f"{ENGINES}{log.deployment}/{name}"
        self._life, self._beats = life, 0
        self._epochs: dict[int, int] = {}
        self._cursors: dict[int, Cursor] = {}
        self.paused: dict[int, Entry] = {}
        """Partitions that stand in front of a control record, waiting for its bundle."""
        self._next_beat = self._next_look = 0

    def seek(self, partition: int, cursor: Cursor) -> None:
        """Read this partition on from here."""
        self._cursors[partition] = cursor

    def lives(self, life: str) -> bool:
        """Whether the process of this life lives still: it is ours, or it was seen to say so."""
        return life == self._life or self._watch.lives(life)

    def __iter__(self) -> Iterator[Event]:
        yield from self._own()
        self._ready()
        while not self._stop():
            yield from self._own()
            if not self._cursors:
                clock.sleep(BLOCK_MS / 1000)
                continue
            self._resume()
            found = self._log.read(self._reading(), self._read, self._patience_ms)
            received = (clock.wall_ns(), clock.monotonic_ns())
            for partition in self._reading():
                entries = found.get(partition, [])
                for event in self._until_unstaged(partition, entries, received):
                    yield event
                    yield from self._answers()
                if len(entries) < self._read or partition in self.paused:
                    yield Drained(partition)
                    yield from self._answers()
            if all(len(entries) < self._read for entries in found.values()):
                self._log.settle()             # nothing more at hand to compute: hear the log's answers before waiting
            if not found and not self._live:
                return
            self._read = self._next_read(found)
        yield from self._leave(sorted(self._epochs))
        self._log.unpost(self._said)

    def _reading(self) -> dict[int, Cursor]:
        return {partition: cursor for partition, cursor in self._cursors.items() if partition not in self.paused}

    @property
    def _patience_ms(self) -> int:
        if not self._live:
            return 0
        return PAUSED_MS if self.paused else BLOCK_MS

    def _until_unstaged(self, partition: int, entries: list[Entry], received: tuple[int, int]) -> Iterator[Event]:
        """What the entries come to, up to a control record that must be waited for: the partition is paused there."""
        for event in _events(partition, entries, received):
            if isinstance(event, Control):
                if not self._staged(partition, event.entry):
                    self.paused[partition] = event.entry
                    return
                self._cursors[partition] = event.entry.cursor
            elif isinstance(event, Ticks):
                self._cursors[partition] = event.entries[-1].cursor
            yield event

    def _resume(self) -> None:
        for partition, entry in list(self.paused.items()):
            if self._staged(partition, entry):
                del self.paused[partition]
        if self._cursors and not self._reading():
            clock.sleep(PAUSED_MS / 1000)

    def _next_read(self, found: dict[int, list[Entry]]) -> int:
        """How many records to ask for, so that the next read is as large as it should be if they go on like these."""
        records = sum(map(len, found.values()))
        if not records:
            return self._read
        size = sum(len(entry.payload) for entries in found.values() for entry in entries)
        return max(1, min(self._most, READ_BYTES * records // max(size, 1)))

    def _answers(self) -> Iterator[Event]:
        for batch in self._workers.answered():
            yield Answered(batch.partition, batch)

    # ---- ownership

    def _own(self) -> Iterator[Event]:
        """Beat for what is ours twice a second, give up what is beyond our share, claim what may be claimed."""
        now = clock.monotonic_ns()
        self.alive()
        yield from self._leave(self._watch.surplus(self._epochs))
        if now >= self._next_look:
            self._next_look = now + (LOOK_NS if self._watch.wants_more(self._epochs) else BEAT_NS)
            others = [partition for partition in range(self._log.partitions) if partition not in self._epochs]
            owners = {partition: self._log.ownership(partition) for partition in others}
            for partition in self._watch.claims(owners, self._epochs, now):
                epoch = self._log.claim(partition, self._name, owners[partition])
                if epoch is not None:
                    self._epochs[partition] = epoch
                    yield Granted(partition, epoch)

    def alive(self) -> None:
        """Beat if that is due. What takes long in between two events calls it, so that nobody takes over."""
        now = clock.monotonic_ns()
        if now >= self._next_beat:
            self._next_beat = now + BEAT_NS
            self._beat(now)

    def _beat(self, now: int) -> None:
        for partition, epoch in self._epochs.items():
            self._log.beat(partition, epoch)
        self._beats += 1
        self._log.post(self._said, word_of(self._life, self._beats))
        before = self._said.removesuffix(self._name)
        said = {name.removeprefix(before): word for name, word in self._log.posts(before).items()}
        for name in self._watch.engines(said, now):
            self._log.unpost(f"{before}{name}")

    def _leave(self, partitions: list[int]) -> Iterator[Event]:
        for partition in partitions:
            self._cursors.pop(partition, None)
            self.paused.pop(partition, None)
            yield Leaving(partition)
            yield from self._answers()
            yield Left(partition)
            del self._epochs[partition]


def _events(partition: int, entries: list[Entry], received: tuple[int, int]) -> Iterator[Event]:
    """Runs of tick records, cut where a control record stands."""
    run: list[Entry] = []
    for entry in entries:
        if entry.kind is Kind.CONTROL:
            if run:
                yield Ticks(partition, run, received)
                run = []
            yield Control(partition, entry)
        else:
            run.append(entry)
    if run:
        yield Ticks(partition, run, received)
