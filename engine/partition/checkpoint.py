"""Checkpoints: one consistent cut, staged as a blob per changed symbol, made valid by a manifest in a fenced step.

A checkpoint is used only if the log still vouches for it: same identity, same record at its cursor, nothing published
missing. What was staged and never named by a manifest is forgotten at the next checkpoint.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from ..errors import TransportUnreachable
from ..eventtime import WORDS as EVENT_WORDS
from ..features import FeatureSet
from ..features.moments import WORDS as MOMENT_WORDS
from ..instruments import Instrument
from ..registry.rollout import Settings
from ..transports.base import KEPT, Log
from ..types import START, Cursor, Entry, Kind, Position
from .batch import MicroBatch
from .policy import WORDS as POLICY_WORDS
from .state import Partition

FORMAT = 4

EVERY_TICKS = 100_000
EVERY_ASKED = 25_000
"""Signals take five times what ticks do, and none goes before the oldest kept checkpoint: three of these in each of four
partitions are what a full server leaves to owners."""
EVERY_NS = 10_000_000_000
HURRIED_NS = 1_000_000_000
"""While feeds are refused: nothing is trimmed before the oldest checkpoint has moved on."""


class Symbol(msgspec.Struct, frozen=True):
    """instrument, the name of its blob, the policy's row."""

    instrument: Instrument
    blob: str
    policy: bytes


class CheckpointManifest(msgspec.Struct, frozen=True):
    """What goes into the fenced step."""

    format: int
    identity: str
    fingerprint: str
    epoch: int
    cursor: Cursor
    digest: str
    """sha256 of the record at the cursor, "" at the start of the log."""
    last: tuple[Cursor, int]
    """Last position published when it was taken."""
    records: int
    """Of the partition's log, up to the cursor."""
    followed: dict[str, int]
    """The highest k followed, by slot."""
    bundle: tuple[str, str]
    """Version and digest of its manifest, empty before the first activation."""
    before: tuple[str, str]
    """Of the bundle that this one took over from."""
    proven: bool
    """Whether the bundle has decided anything in this partition."""
    settings: Settings
    symbols: list[Symbol]
    paused: list[str] = []
    """Symbols and patterns."""
    seal: str = ""
    """sha256 of all the others: blobs are named by their digests, so with it every bit of a checkpoint is vouched for."""


manifest_decoder = msgspec.msgpack.Decoder(CheckpointManifest)


def sealed(manifest: CheckpointManifest) -> bytes:
    """As it is stored."""
    bare = msgspec.msgpack.encode(msgspec.structs.replace(manifest, seal=""))
    return msgspec.msgpack.encode(msgspec.structs.replace(manifest, seal=_sha(bare)))


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)
"""What msgspec raises for a manifest that isn't one, or a damaged one."""


class Restored(NamedTuple):
    """A usable checkpoint and its blobs, in the order of its symbols."""

    manifest: CheckpointManifest
    blobs: list[bytes]


def fingerprint(features: FeatureSet) -> str:
    """Of everything that gives the rows their meaning."""
    return f"{features.fingerprint}.{FORMAT}.{EVENT_WORDS}.{MOMENT_WORDS}.{POLICY_WORDS}"


class _Cursor(msgspec.Struct):
    """Of a manifest only where it stands and what it stands on: any version's can be read so far."""

    cursor: Cursor
    followed: dict[str, int] = {}
    bundle: tuple[str, str] = ("", "")


_cursors = msgspec.msgpack.Decoder(_Cursor)


def oldest_cursor(manifests: list[bytes]) -> Cursor:
    """Where the oldest of some checkpoints stands; START if one of them can't be read."""
    try:
        return min(_cursors.decode(manifest).cursor for manifest in manifests)
    except UNREADABLE:
        return START


def oldest_k(log: Log, slot: str, newest: int = KEPT) -> int:
    """The lowest k of a slot that one of the log's checkpoints had followed, `newest` of each partition looked at.

    0 if a partition has none, or one can't be read.
    """
    manifests = [log.checkpoints(partition)[:newest] for partition in range(log.partitions)]
    try:
        return min(
            min((_cursors.decode(m).followed.get(slot, 0) for m in kept), default=0) for kept in manifests
        )
    except UNREADABLE:
        return 0


def bundles(log: Log) -> set[str]:
    """Versions that the log's checkpoints will ask for: what answers may have been named long ago."""
    found = set()
    for partition in range(log.partitions):
        for manifest in log.checkpoints(partition):
            with suppress(*UNREADABLE):
                found.add(_cursors.decode(manifest).bundle[0])
    return found - {""}


class Checkpoints:
    """Takes, keeps and loads the checkpoints of a log's partitions."""

    def __init__(self, log: Log, now_ns: Callable[[], int], features: FeatureSet | None = None) -> None:
        """now_ns: a clock that only rises. When a checkpoint is taken changes no byte of any decision.

        features: whose state is kept; the default ones, where none are named.
        """
        self._log = log
        self.features = features or FeatureSet.default()
        self._fingerprint = fingerprint(self.features)
        self._now_ns = now_ns
        self._last: dict[int, int] = {}
        self._names: dict[int, dict[int, str]] = {}
        self._kept: dict[int, deque[set[str]]] = {}
        self.hurried: Callable[[int], bool] = lambda number: False
        """Whether a partition refuses ticks just now."""
        self._at: dict[int, Cursor] = {}
        self._before: dict[int, int] = {}
        """How many of those kept stand before the newest. Where nothing comes any more they are taken anew, at the same place:
        the oldest holds the log, and a full log lets nothing come."""

    def due(self, part: Partition) -> bool:
        """Whether the next cut should carry an image."""
        if not (part.moved or self._before.get(part.number)):
            return False
        elapsed = self._now_ns() - self._last.setdefault(part.number, self._now_ns())
        every = HURRIED_NS if self.hurried(part.number) else EVERY_NS
        return part.ticks_since_image >= EVERY_TICKS or part.asked_since_image >= EVERY_ASKED or elapsed >= every

    def stage(self, part: Partition, batch: MicroBatch, last: Position) -> bytes:
        """Store the blobs of a decided batch's image, and return the manifest for the step that publishes the batch."""
        image = batch.image
        if image is None:
            raise ValueError("the batch carries no image")
        self._last[part.number] = self._now_ns()
        stands = image.cursor == self._at.get(part.number)
        self._at[part.number] = image.cursor
        self._before[part.number] = max(self._before[part.number] - 1, 0) if stands else KEPT - 1
        names = self._names.setdefault(part.number, {})
        blobs = {_name(part.epoch, blob): blob for blob in image.changed.values()}
        names.update({sid: _name(part.epoch, blob) for sid, blob in image.changed.items()})
        kept = self._kept.setdefault(part.number, deque(maxlen=KEPT + 1))
        kept.append({names[sid] for sid in range(len(image.instruments))})
        self._log.stage(part.number, part.epoch, blobs)
        self._log.unstage(part.number, part.epoch, set().union(*kept))
        manifest = CheckpointManifest(
            FORMAT, self._log.identity, self._fingerprint, part.epoch, image.cursor, self._digest(part.number, image.cursor),
            (last.cursor, last.ordinal), image.records, image.followed, image.bundle, image.before,
            image.proven, image.settings,
            [Symbol(instrument, names[sid], part.policy.rows.snapshot(sid)) for sid, instrument in enumerate(image.instruments)],
            list(image.paused),
        )
        return sealed(manifest)

    def load(self, partition: int, tail: Position) -> Restored | None:
        """The newest checkpoint the log vouches for; None if there never was one.

        Raises TransportUnreachable if there are some and none can be used: never a silent start. Code `gap` where the log
        begins behind the newest, since it was trimmed or lost its beginning; else `checkpoint`.
        """
        manifests = self._log.checkpoints(partition)
        self._names[partition] = {}
        self._kept[partition] = deque(maxlen=KEPT + 1)
        why = ""
        usable = None
        for encoded in reversed(manifests):
            found = self._usable(partition, encoded, tail)
            if isinstance(found, Restored):
                usable = found
                self._kept[partition].append({symbol.blob for symbol in found.manifest.symbols})
            else:
                why = found
        if manifests and usable is None and self.beyond(partition):
            raise TransportUnreachable(
                "gap", f"partition {partition}: the log begins behind the newest checkpoint; what stood between them is gone",
                hint="go on without it: run engine --accept-gap (windows start anew, the journal says so); or bring it back",
            )
        if manifests and usable is None:
            raise TransportUnreachable(
                "checkpoint", f"partition {partition}: no checkpoint can be used ({why})",
                hint="start a new deployment (--deployment NAME), or an engine of the version that wrote them",
            )
        if usable:
            self._at[partition], self._before[partition] = usable.manifest.cursor, KEPT - 1
            self._names[partition] = {sid: symbol.blob for sid, symbol in enumerate(usable.manifest.symbols)}
        return usable

    def beyond(self, partition: int) -> CheckpointManifest | None:
        """The newest checkpoint, if only the log between it and its first record is missing."""
        first = self._log.extent(partition).first
        for encoded in self._log.checkpoints(partition)[:1]:
            try:
                manifest = manifest_decoder.decode(encoded)
            except UNREADABLE:
                return None
            ours = encoded == sealed(manifest) and manifest.format == FORMAT and manifest.fingerprint == self._fingerprint
            if ours and manifest.identity == self._log.identity and START < manifest.cursor < first:
                return manifest
        return None

    def _usable(self, partition: int, encoded: bytes, tail: Position) -> Restored | str:
        """The checkpoint, or in words why not."""
        try:
            manifest = manifest_decoder.decode(encoded)
        except UNREADABLE:
            return "its manifest can't be read"
        if manifest.format != FORMAT or manifest.fingerprint != self._fingerprint:
            return "it was written by another version"
        if encoded != sealed(manifest):
            return "its manifest is damaged"
        if manifest.identity != self._log.identity:
            return "it is of another log"
        if Position(*manifest.last) > tail:
            return "signals it stands on are gone"
        if manifest.cursor > START and self._digest(partition, manifest.cursor) != manifest.digest:
            return "the record it stands on is gone or another"
        blobs = self._log.staged(partition, [symbol.blob for symbol in manifest.symbols])
        if any(blob is None or _name_digest(symbol.blob) != _sha(blob)
               for symbol, blob in zip(manifest.symbols, blobs, strict=True)):
            return "a symbol's state is missing or damaged"
        return Restored(manifest, [blob for blob in blobs if blob is not None])

    def _digest(self, partition: int, cursor: Cursor) -> str:
        entry: Entry | None = self._log.entry(partition, cursor) if cursor > START else None
        if entry is None or entry.kind is Kind.ROWS:
            return ""
        return _sha(entry.payload)


def _sha(content: Any) -> str:
    return hashlib.sha256(content).hexdigest()


def _name(epoch: int, blob: bytes) -> str:
    """Epoch and digest: two epochs never write the same name, and a blob says whether it is whole."""
    return f"{epoch}:{_sha(blob)}"


def _name_digest(name: str) -> str:
    return name.partition(":")[2]
