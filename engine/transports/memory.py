"""A log in this process: the same promises as any other transport, kept in plain lists.

Several `MemoryLog` of one URL are doors to the same records, so that an engine, a feed and a client of one process
meet as they would over a server; when the last of them is closed, the records are gone.
"""

from __future__ import annotations

import hashlib
import secrets
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from threading import Condition, Lock
from typing import Any
from weakref import WeakValueDictionary

from .. import clock
from ..errors import InputRefused, OwnershipLost, TransportUnreachable
from ..instruments import Instruments
from ..types import NOWHERE, START, Cursor, Entry, Kind, Position
from .base import KEPT, TRACE, UNSAID, Extent, Log, Ownership, Record, Tenure, Topic, Trimmed, full, rising

_place = itemgetter(0)                 # of an entry its cursor, of a published record its position

NOBODY = Ownership(0, "", 0)

SAMPLES = 100
"""Records looked at, about, to estimate what all of them take."""

AROUND = 250
"""bytes, about: what a record takes beside its payload (measured: 210 for a tick, 250 for what is published)."""


@dataclass
class _Owned:
    """What one deployment keeps of one partition."""

    ownership: Ownership = NOBODY
    door: object = None
    """Through which the owner claimed, and writes."""
    topics: dict[Topic, list[tuple[Position, bytes]]] = field(default_factory=lambda: {topic: [] for topic in Topic})
    checkpoints: deque[bytes] = field(default_factory=lambda: deque(maxlen=KEPT))
    blobs: dict[str, bytes] = field(default_factory=dict)
    mark: bytes = b""
    epochs: deque[Tenure] = field(default_factory=lambda: deque(maxlen=TRACE))

    def hold(self, epoch: int, owner: str, door: object) -> None:
        """From now on by this owner, empty: nobody."""
        newest = hashlib.sha1(self.checkpoints[0]).hexdigest() if self.checkpoints else ""
        self.ownership = Ownership(epoch, owner, 0)
        self.door = door
        self.epochs.append(Tenure(epoch, owner, self.tail, newest, clock.wall_ns() // 1_000_000))

    @property
    def tail(self) -> Position:
        return max((records[-1][0] for records in self.topics.values() if records), default=NOWHERE)


class _Records:
    """What the log holds. `changed` guards it all and wakes those who wait for more."""

    def __init__(self, partitions: int, identity: str | None, rules: Instruments) -> None:
        self.identity = identity or secrets.token_hex(16)
        self.rules = rules
        self.ticks: list[list[Entry]] = [[] for _ in range(partitions)]
        self.trimmed = [0] * partitions
        self.quota = [0] * partitions
        self.controls: list[bytes] = []
        self.board: dict[str, bytes] = {}
        self.owned: dict[str, list[_Owned]] = {}
        self.changed = Condition()

    def full(self, partition: int) -> str:
        """As in Extent."""
        size, quota = _size(self.ticks[partition], 2), self.quota[partition] or UNSAID // len(self.quota)
        return f"its ticks take {size / 1e6:,.1f} MB, its quota is {quota / 1e6:,.1f}" if size > quota else ""

    def last(self, partition: int) -> Cursor:
        """Of the newest record ever appended: records are numbered from 1."""
        return (0, self.trimmed[partition] + len(self.ticks[partition]))


_doors = Lock()
_known: WeakValueDictionary[str, _Records] = WeakValueDictionary()


def open_log(url: str, deployment: str, create: int | None, rules: Instruments) -> Log:
    """The log of this URL in this process. Raises TransportUnreachable, code `no_log`."""
    with _doors:
        records = _known.get(url)
        if records is None:
            if create is None:
                raise TransportUnreachable(
                    "no_log", f"there is no log at {url} in this process",
                    hint="a log in memory lives in the process that creates it (tocsin run engine, tocsin feed); "
                    "to meet another process name redis+embedded://DIR",
                )
            records = _known[url] = _Records(create, None, rules)
        return MemoryLog(deployment=deployment, url=url, records=records)


def create_log(url: str, partitions: int, rules: Instruments) -> Log:
    """A new log. Raises TransportUnreachable, code `log_exists`."""
    with _doors:
        if url in _known:
            raise TransportUnreachable("log_exists", f"{url} already holds a log", hint="use it, or name another URL")
        records = _known[url] = _Records(partitions, None, rules)
        return MemoryLog(url=url, records=records)


class MemoryLog(Log):
    """A log of its own, or (with `records`) one more door to a log that is there. May be used from several threads."""

    def __init__(
        self, partitions: int = 4, deployment: str = "main", identity: str | None = None, *,
        rules: Instruments | None = None, url: str = "memory://", records: _Records | None = None,
    ) -> None:
        self._records: _Records | None = _Records(partitions, identity, rules or Instruments()) if records is None else records
        self.url = url
        self.deployment = deployment
        self.identity = self._records.identity
        self.rules = self._records.rules
        self.partitions = len(self._records.ticks)
        self._owned = self._records.owned.setdefault(deployment, [_Owned() for _ in range(self.partitions)])

    @property
    def _log(self) -> _Records:
        if self._records is None:
            raise TransportUnreachable("closed", f"the log {self.url} has been closed", hint="open it again")
        return self._records

    # ---- producers

    def append(self, partition: int, payloads: Sequence[bytes], kind: Kind = Kind.TICKS) -> list[Cursor]:
        log = self._log
        with log.changed:
            if kind is not Kind.CONTROL and (why := log.full(partition)):
                raise full(self.url, partition, why)
            major, minor = log.last(partition)
            cursors = [(major, minor + n) for n in range(1, len(payloads) + 1)]
            log.ticks[partition] += [Entry(cursor, kind, payload) for cursor, payload in zip(cursors, payloads, strict=True)]
            log.changed.notify_all()
        return cursors

    def limit(self, partition: int, quota: int) -> None:
        with self._log.changed:
            self._log.quota[partition] = quota

    # ---- control records

    def controls(self, after: int = 1) -> list[tuple[int, bytes]]:
        log = self._log
        first = max(after, 1) + 1
        with log.changed:
            return list(enumerate(log.controls[first - 2:], first))

    def append_control(self, k: int, payload: bytes) -> bool:
        log = self._log
        with log.changed:
            free = len(log.controls) + 2
            if k > free:
                raise InputRefused("control_order", f"control record {k} would leave a hole",
                                   hint=f"{free} is the next: read `controls` again")
            if k < free:
                return False
            log.controls.append(payload)
            return True

    # ---- the board

    def post(self, name: str, payload: bytes) -> None:
        log = self._log
        with log.changed:
            log.board[name] = payload

    def posts(self, prefix: str = "") -> dict[str, bytes]:
        log = self._log
        with log.changed:
            return {name: payload for name, payload in log.board.items() if name.startswith(prefix)}

    def unpost(self, name: str) -> None:
        log = self._log
        with log.changed:
            log.board.pop(name, None)

    # ---- the owner of a partition

    def ownership(self, partition: int) -> Ownership:
        with self._log.changed:
            return self._owned[partition].ownership

    def claim(self, partition: int, owner: str, seen: Ownership) -> int | None:
        with self._log.changed:
            owned = self._owned[partition]
            held = owned.ownership
            if held.owner not in ("", owner) and (held.epoch, held.beat) != (seen.epoch, seen.beat):
                return None
            owned.hold(held.epoch + 1, owner, self)
            return held.epoch + 1

    def beat(self, partition: int, epoch: int) -> None:
        with self._log.changed:
            owned = self._fenced(partition, epoch)
            owned.ownership = owned.ownership._replace(beat=owned.ownership.beat + 1)

    def release(self, partition: int, epoch: int) -> None:
        with self._log.changed:
            self._fenced(partition, epoch).hold(epoch, "", None)

    def mark(self, partition: int, epoch: int, what: bytes) -> None:
        with self._log.changed:
            self._fenced(partition, epoch).mark = what

    def marked(self, partition: int) -> bytes:
        with self._log.changed:
            return self._owned[partition].mark

    def epochs(self, partition: int) -> list[Tenure]:
        with self._log.changed:
            return list(self._owned[partition].epochs)

    def publish(
        self, partition: int, epoch: int, records: Sequence[Record], checkpoint: bytes | None = None,
        done: Callable[[], None] | None = None,
    ) -> None:
        """As in the seam; the answer is there at once, so `done` is called before this returns."""
        log = self._log
        with log.changed:
            owned = self._fenced(partition, epoch)
            if not rising(records, owned.tail):
                raise TransportUnreachable(
                    "repeat", f"the positions of a step for partition {partition} don't rise above {owned.tail}",
                    hint="two engines with one epoch, or a step published twice: nothing of it was written",
                )
            for topic, position, payload in records:
                owned.topics[topic].append((position, payload))
            if checkpoint:
                owned.checkpoints.appendleft(checkpoint)
            log.changed.notify_all()
        if done:
            done()

    def settle(self) -> None:
        """Nothing is ever on its way."""

    def stage(self, partition: int, epoch: int, blobs: Mapping[str, bytes]) -> None:
        with self._log.changed:
            self._fenced(partition, epoch).blobs.update(blobs)

    def staged(self, partition: int, names: Iterable[str]) -> list[bytes | None]:
        with self._log.changed:
            return [self._owned[partition].blobs.get(name) for name in names]

    def unstage(self, partition: int, epoch: int, keep: Iterable[str]) -> None:
        with self._log.changed:
            blobs = self._fenced(partition, epoch).blobs
            for name in blobs.keys() - set(keep):
                del blobs[name]

    def trim(self, partition: int, epoch: int, before: Cursor, most: int) -> Trimmed:
        log = self._log
        with log.changed:
            owned = self._fenced(partition, epoch)
            entries = log.ticks[partition]
            gone = min(bisect_left(entries, before, key=_place), max(most, 0))
            del entries[:gone]
            log.trimmed[partition] += gone
            kept = Position(entries[0].cursor if entries else before, 0)
            published = 0
            for records in owned.topics.values():
                forgotten = bisect_left(records, kept, hi=max(len(records) - 1, 0), key=_place)
                del records[:forgotten]
                published += forgotten
            return Trimmed(gone, published)

    def trim_rejects(self, partition: int, epoch: int, keep: int) -> int:
        with self._log.changed:
            rejects = self._fenced(partition, epoch).topics[Topic.REJECTS]
            gone = max(len(rejects) - max(keep, 1), 0)
            del rejects[:gone]
            return gone

    def _fenced(self, partition: int, epoch: int) -> _Owned:
        """What the owner with this epoch may write to."""
        owned = self._owned[partition]
        if epoch < owned.ownership.epoch or (epoch == owned.ownership.epoch and owned.door is not self):
            raise OwnershipLost(
                "fenced", f"partition {partition} of {self.deployment!r} is owned with epoch {owned.ownership.epoch}, "
                f"ours is {epoch}", hint="another engine has taken over; nothing of this step was written",
            )
        if epoch > owned.ownership.epoch:
            raise TransportUnreachable(
                "rolled_back", f"partition {partition} of {self.deployment!r} knows epoch {owned.ownership.epoch} only",
                hint="nothing of this write was done: claim the partition first",
            )
        return owned

    # ---- readers

    def extent(self, partition: int) -> Extent:
        log = self._log
        with log.changed:
            entries = log.ticks[partition]
            first = entries[0].cursor if entries else START
            last = log.last(partition)
            topics = self._owned[partition].topics
            sizes = {topic: _size(records, 1) for topic, records in topics.items()}
            return Extent(
                first, last, last[1], len(entries), _size(entries, 2) + sum(sizes.values()), len(topics[Topic.REJECTS]),
                sizes[Topic.REJECTS], log.quota[partition], log.full(partition),
            )

    def read(self, after: Mapping[int, Cursor], count: int, block_ms: int = 0) -> dict[int, list[Entry]]:
        log = self._log

        def at_hand() -> dict[int, list[Entry]]:
            found = {}
            for partition, cursor in after.items():
                entries = log.ticks[partition]
                first = bisect_right(entries, cursor, key=_place)
                if first < len(entries):
                    found[partition] = entries[first:first + count]
            return found

        with log.changed:
            return log.changed.wait_for(at_hand, block_ms / 1000) if after else {}

    def entry(self, partition: int, cursor: Cursor) -> Entry | None:
        log = self._log
        with log.changed:
            entries = log.ticks[partition]
            first = bisect_right(entries, cursor, key=_place) - 1
            return entries[first] if first >= 0 and entries[first].cursor == cursor else None

    def tail(self, partition: int) -> Position:
        with self._log.changed:
            return self._owned[partition].tail

    def follow(
        self, topic: Topic, after: Mapping[int, Position], count: int, block_ms: int = 0
    ) -> dict[int, list[tuple[Position, bytes]]]:
        log = self._log

        def at_hand() -> dict[int, list[tuple[Position, bytes]]]:
            found = {}
            for partition, position in after.items():
                records = self._owned[partition].topics[topic]
                first = bisect_right(records, position, key=_place)
                if first < len(records):
                    found[partition] = records[first:first + count]
            return found

        with log.changed:
            return log.changed.wait_for(at_hand, block_ms / 1000) if after else {}

    def backwards(self, partition: int, topic: Topic, before: Position | None, count: int) -> list[tuple[Position, bytes]]:
        with self._log.changed:
            records = self._owned[partition].topics[topic]
            end = len(records) if before is None else bisect_left(records, before, key=_place)
            return records[max(end - count, 0):end][::-1]

    def checkpoints(self, partition: int) -> list[bytes]:
        with self._log.changed:
            return list(self._owned[partition].checkpoints)

    def format(self, cursor: Cursor) -> str | int:
        return cursor[1]

    def close(self) -> None:
        self._records = None


def _size(records: Sequence[tuple[Any, ...]], payload: int) -> int:
    """bytes, about, that records take whose payload is their field of this number: by a few, spread evenly over all."""
    some = records[::max(len(records) // SAMPLES, 1)]
    return len(records) * (sum(len(record[payload]) for record in some) // len(some) + AROUND) if some else 0
