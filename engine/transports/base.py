"""The seam of the log: what the engine, its clients and the trainer ask of a transport.

Who calls what, when. Producers call `append`, at any time, from any process; it is refused where the log is full, so
that owners always find room to publish, checkpoint and trim. Whoever holds the private key calls
`append_control` and then `append(kind=Kind.CONTROL)` for every partition. An engine calls `claim` and gets an epoch;
from then on, and only until a call raises OwnershipLost, it may call `beat`, `mark`, `stage`, `publish`, `unstage`,
`trim`, `trim_rejects` with that epoch; `release` gives the partition up. After OwnershipLost it never writes to that partition
again. `read` and everything a reader calls needs no ownership. `close` is the last call; a closed log answers nothing.

What holds, whatever the transport (tests/contract/test_transport.py asks every one of them):

- Records of a partition are read in append order; `read` after a cursor never skips and never repeats.
- At most one owner can publish: a write is refused whole unless its epoch is the partition's, and was granted to this very
  object. A higher one is refused too (TransportUnreachable `rolled_back`): the log has forgotten that it ever granted it.
- One `publish` is one step: its records and its checkpoint appear together or not at all. Over all topics of a
  partition positions rise strictly, but that a note of the journal may stand where another record does; a repeat is refused.
- `tail` is the highest position of all topics. Silence or an error is raised, never answered as "nothing published".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from ..errors import TransportUnreachable
from ..instruments import Instruments
from ..types import START, Cursor, Entry, Kind, Position


class Topic(StrEnum):
    """What an owner publishes, one stream per partition each."""

    SIGNALS = "signals"
    REJECTS = "rejects"
    JOURNAL = "journal"


class Record(NamedTuple):
    """One record of a publish step."""

    topic: Topic
    position: Position
    payload: bytes


class Ownership(NamedTuple):
    """Who holds a partition, as last written: `beat` rises while the owner lives. Epoch 0: nobody ever did."""

    epoch: int
    owner: str
    beat: int


class Tenure(NamedTuple):
    """An entry of a partition's epoch trace: who held it from when on, and how far it had come by then."""

    epoch: int
    owner: str
    """Empty: nobody, the owner of that epoch gave it up."""
    tail: Position
    """Published up to here when it began."""
    checkpoint: str
    """Which one was the newest then: a digest, empty if there was none."""
    at: int
    """ms UTC by the log's clock."""


class Extent(NamedTuple):
    """How much of a partition's tick log there is."""

    first: Cursor
    """Of the oldest record still kept; START where there is none."""
    last: Cursor
    """Of the newest record ever appended; START where there is none."""
    appended: int
    """Records ever appended, those trimmed since included."""
    kept: int
    """Records not trimmed yet."""
    bytes: int
    """What the partition's ticks, and what the deployment published about them, take: an estimate by sampling."""
    rejects: int = 0
    """Records in the deployment's rejects."""
    rejects_bytes: int = 0
    """What they take, about; part of `bytes`."""
    quota: int = 0
    """bytes of ticks from which `append` is refused, as `limit` said last; 0: nobody did, and it is UNSAID's share."""
    full: str = ""
    """Why ticks are refused just now, in words; empty where they are taken."""


class Trimmed(NamedTuple):
    """How many records were forgotten."""

    ticks: int
    published: int


class Advice(NamedTuple):
    """One thing an operator should know of what holds the log. state: ok, missing (something can't be done), note."""

    what: str
    state: str
    found: str
    todo: str


class Log(ABC):
    """One log of `partitions` partitions, seen by one deployment."""

    url: str
    deployment: str
    identity: str
    """Random, written once when the log was created (32 hex digits)."""
    partitions: int
    rules: Instruments
    """How prices are counted from the first tick on, said once when the log was created; settings may change it later."""

    # ---- producers

    @abstractmethod
    def append(self, partition: int, payloads: Sequence[bytes], kind: Kind = Kind.TICKS) -> list[Cursor]:
        """Store records at the end of a partition, in order; returns their cursors once the log holds them.

        Raises TransportUnreachable `full`, and then nothing of them was written, where the partition's ticks take more than
        its quota or the server has hardly more room than owners need. It is looked at before the first record only, and by a
        producer not before it has appended EVERY bytes more. Control records are always taken.
        """

    @abstractmethod
    def limit(self, partition: int, quota: int) -> None:
        """Say how many bytes of ticks the partition takes before `append` is refused; owners and makers of logs do."""

    # ---- control records: the one partition of `models`

    @abstractmethod
    def controls(self, after: int = 1) -> list[tuple[int, bytes]]:
        """Every record of `models` after place `after`: (k, payload), k rising; the log's identity at 1 is no record.

        Raises TransportUnreachable `identity` where another log answers here by now, over whatever connection.
        """

    @abstractmethod
    def append_control(self, k: int, payload: bytes) -> bool:
        """Store a record at exactly k, which must be the next free one. False: somebody else took k first."""

    def control_stamps(self) -> dict[int, int]:
        """By k when the log stored a record of `models`, ns UTC; empty where this transport keeps no stamps."""
        return {}

    # ---- the board: what processes say of themselves, seen by every process and every deployment of the log

    @abstractmethod
    def post(self, name: str, payload: bytes) -> None:
        """Say something under a name, in place of what was said under it before."""

    @abstractmethod
    def posts(self, prefix: str = "") -> dict[str, bytes]:
        """What is said, by name, where the name begins with `prefix`."""

    @abstractmethod
    def unpost(self, name: str) -> None:
        """Take back what was said under a name, if anything was."""

    # ---- the owner of a partition

    @abstractmethod
    def ownership(self, partition: int) -> Ownership:
        """Who holds the partition."""

    @abstractmethod
    def claim(self, partition: int, owner: str, seen: Ownership) -> int | None:
        """Become the owner: the new epoch, or None.

        Granted at once if nobody holds it or the holder has this very name; else only if the partition's
        (epoch, beat) still equal `seen` (the claimant has watched them stand still for the lease). Two claimants that saw
        the same never both get it.
        """

    @abstractmethod
    def beat(self, partition: int, epoch: int) -> None:
        """Show that the owner lives. Raises OwnershipLost."""

    @abstractmethod
    def release(self, partition: int, epoch: int) -> None:
        """Give the partition up: anybody may claim it at once. Raises OwnershipLost."""

    @abstractmethod
    def mark(self, partition: int, epoch: int, what: bytes) -> None:
        """Say what the owner is about to try, for whoever comes after its death; empty: nothing. Raises OwnershipLost."""

    @abstractmethod
    def marked(self, partition: int) -> bytes:
        """What an owner said last it was about to try."""

    @abstractmethod
    def epochs(self, partition: int) -> list[Tenure]:
        """The epoch trace, oldest first: every claim and every release, TRACE deep at least."""

    @abstractmethod
    def publish(
        self, partition: int, epoch: int, records: Sequence[Record], checkpoint: bytes | None = None,
        done: Callable[[], None] | None = None,
    ) -> None:
        """One fenced step: records in position order, then the checkpoint's manifest.

        A note of the journal may have the position of a signal or reject; both belong to one step then.

        May return before the log has answered; `done` is called when it has. At most two steps are on their way.
        Raises OwnershipLost (this step's or an earlier one's refusal), TransportUnreachable with code `repeat`
        for a position at or below the tail; then nothing of the step was written.
        """

    @abstractmethod
    def settle(self) -> None:
        """Wait for the answers of every step on its way; raises what they say."""

    @abstractmethod
    def stage(self, partition: int, epoch: int, blobs: Mapping[str, bytes]) -> None:
        """Store a checkpoint's blobs by name in small writes, ahead of the step that names them. Raises OwnershipLost."""

    @abstractmethod
    def staged(self, partition: int, names: Iterable[str]) -> list[bytes | None]:
        """The blobs of these names, None where there is none."""

    @abstractmethod
    def unstage(self, partition: int, epoch: int, keep: Iterable[str]) -> None:
        """Forget every blob of the partition that isn't in `keep`. Raises OwnershipLost."""

    @abstractmethod
    def trim(self, partition: int, epoch: int, before: Cursor, most: int) -> Trimmed:
        """Forget the oldest tick records, about `most` of them, none at or after `before`.

        What the deployment published about forgotten records is forgotten with them, the newest record of each topic
        excepted (it is the tail); where there is too much of it for once, no tick is forgotten before it is gone. May
        forget fewer than asked (storage comes in blocks). Raises OwnershipLost.
        """

    @abstractmethod
    def trim_rejects(self, partition: int, epoch: int, keep: int) -> int:
        """Forget the oldest rejects until about `keep` are left, the newest never: how many went. Raises OwnershipLost."""

    # ---- readers

    @abstractmethod
    def extent(self, partition: int) -> Extent:
        """How much of the partition there is; cheap enough to be asked once a second."""

    @abstractmethod
    def read(self, after: Mapping[int, Cursor], count: int, block_ms: int = 0) -> dict[int, list[Entry]]:
        """Up to `count` records per partition after the given cursors; waits up to `block_ms` when there are none.

        Only partitions that have records appear. Fewer than `count` means: the partition had no more at hand.
        """

    @abstractmethod
    def entry(self, partition: int, cursor: Cursor) -> Entry | None:
        """The record at a cursor, or None."""

    @abstractmethod
    def tail(self, partition: int) -> Position:
        """The highest published position over all topics; NOWHERE if nothing was ever published."""

    def published(self, partition: int, topic: Topic, after: Position, count: int) -> list[tuple[Position, bytes]]:
        """Up to `count` records of one partition's topic after a position, in order."""
        return self.follow(topic, {partition: after}, count).get(partition, [])

    @abstractmethod
    def follow(
        self, topic: Topic, after: Mapping[int, Position], count: int, block_ms: int = 0
    ) -> dict[int, list[tuple[Position, bytes]]]:
        """Up to `count` records of a topic per partition after the given positions (NOWHERE: from the first).

        Waits, and leaves partitions out, as `read` does for ticks.
        """

    @abstractmethod
    def backwards(self, partition: int, topic: Topic, before: Position | None, count: int) -> list[tuple[Position, bytes]]:
        """Up to `count` records of one partition's topic below a position (None: from the newest on), newest first."""

    def since(self, stamp: int) -> Cursor:
        """Every tick record stored at or after a stamp (ns UTC) stands after it; START where the log keeps no stamps."""
        return START

    @abstractmethod
    def checkpoints(self, partition: int) -> list[bytes]:
        """The manifests of the newest checkpoints, newest first, KEPT deep at most."""

    def advice(self) -> list[Advice]:
        """What an operator should know of the server that holds the log; nothing where it is no concern of theirs."""
        return []

    @abstractmethod
    def format(self, cursor: Cursor) -> str | int:
        """How this transport writes a cursor in a signal's `log` part."""

    @abstractmethod
    def close(self) -> None:
        """Release connections; an embedded server whose last user leaves is stopped."""


def rising(records: Sequence[Record], tail: Position) -> bool:
    """Whether a step may stand behind a tail: it rises, but that a note may stand where a reject or signal does."""
    before, noted, said = tail, tail, tail
    for topic, position, _ in records:
        if position < before or position <= (noted if topic is Topic.JOURNAL else said):
            return False
        before = position
        if topic is Topic.JOURNAL:
            noted = position
        else:
            said = position
    return True


KEPT = 3
"""Checkpoints kept per partition."""

STEP = 512
"""Most positions in one publish step."""

TRACE = 1000
"""Entries of an epoch trace kept."""

EVERY = 2**20
"""bytes that a producer appends between two looks at how full the partition is: a look costs the server 2.6 ms where a million
ticks lie."""

UNSAID = 2**30
"""bytes of ticks that all partitions together take where nobody said a quota."""


def full(url: str, partition: int, why: str) -> TransportUnreachable:
    """What `append` raises: the same of every transport. why: as in `Extent.full`."""
    return TransportUnreachable(
        "full", f"{url} takes no more ticks into partition {partition}: {why}",
        hint="nothing of this was written; it goes on once an engine has caught up and trimmed: does one run, and who holds "
        "the log? (tocsin log info)",
    )
