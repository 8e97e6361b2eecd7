"""What a live feed couldn't hand to the log, on disk until it can: a queue of files, in order, of a stated size.

A folder of segments `00000001.spool`, … and a lock that says whose it is. A segment is a head (magic, the log's identity,
when it was begun, how much of it has been sent) and records, each with its length, its partition, its ticks and a CRC-32 of
all that. Written at the end only, read from the front; a segment that has been sent is removed. What a killed feed wrote half
is dropped when the folder is opened next. How much was sent is noted after the log has it, so a killed feed sends a little of
it again: event time refuses a repeat. Synced once a second, as the log's own file is.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import NamedTuple

from .. import clock
from ..errors import OwnershipLost, TocsinError, TransportUnreachable

SEGMENT = 4 * 2**20
"""bytes from which a new segment is begun."""

SYNC_NS = 1_000_000_000

_HEAD = struct.Struct("<4s32sQQ")
_MAGIC = b"TKS1"
_SENT = struct.Struct("<Q")
_RECORD = struct.Struct("<IIII")               # length, partition, ticks, CRC-32 of these three and the payload
_MARKS = struct.Struct("<III")


class Spooled(NamedTuple):
    """One record that waits."""

    partition: int
    ticks: int
    payload: bytes


class _Segment:
    """A file of the folder, and what is known of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end = self.sent = _HEAD.size
        self.ticks = 0
        """That wait in it."""


class Spool:
    """One folder; one process has it at a time."""

    def __init__(self, folder: Path, identity: str, limit: int) -> None:
        """identity: of the log whose ticks they are. limit: bytes of all segments together.

        Raises OwnershipLost `spool_locked`, TransportUnreachable `spool_foreign`, TocsinError `spool_write`.
        """
        self.folder = folder
        self.limit = limit
        self._identity = identity
        self._next_sync = 0
        self._file: int | None = None
        """The last segment, open for writing."""
        self.dropped = 0
        """bytes found damaged at the end of a segment, and left out."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _unwritable(folder, error) from None
        try:
            flock(self._lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise OwnershipLost("spool_locked", f"{folder} is the spool of a feed that runs",
                                hint="one feed of a name at a time") from None
        try:
            found = [self._found(path) for path in sorted(folder.glob("*.spool"))]
        except BaseException:
            os.close(self._lock)
            raise
        self._segments = [segment for segment in found if segment.sent < segment.end]
        for segment in found:
            if segment.sent >= segment.end:
                segment.path.unlink()              # sent, or killed before anything was in it
        self._next = max((int(segment.path.stem) for segment in found), default=0) + 1

    @property
    def ticks(self) -> int:
        """That wait."""
        return sum(segment.ticks for segment in self._segments)

    @property
    def bytes(self) -> int:
        """Of all segments."""
        return sum(segment.end for segment in self._segments)

    def add(self, records: Sequence[Spooled]) -> int:
        """Store records at the end; how many: fewer than given where the limit or the disk has no room for more."""
        done = 0
        try:
            for record in records:
                marks = _MARKS.pack(len(record.payload), record.partition, record.ticks)
                whole = marks + _SUM.pack(zlib.crc32(record.payload, zlib.crc32(marks))) + record.payload
                if self.bytes + len(whole) > self.limit:
                    break
                segment = self._last()
                _write(self._file, whole, segment.end)
                segment.end += len(whole)
                segment.ticks += record.ticks
                done += 1
            self._sync()
        except OSError:
            return done                            # what was written half lies behind the end: the next one goes over it
        return done

    def first(self, most: int) -> list[Spooled]:
        """The oldest records that wait, of one segment, about `most` bytes of them; none where nothing waits."""
        while self._segments:
            segment, found, size = self._segments[0], list[Spooled](), 0
            for record in _records(segment.path, segment.sent, segment.end):
                found.append(record)
                size += len(record.payload)
                if size >= most:
                    break
            if found:
                return found
            self.dropped += segment.end - segment.sent     # damaged since it was written
            self._remove(segment)
        return []

    def sent(self, records: Sequence[Spooled]) -> None:
        """The log has the oldest records, which `first` gave: they wait no more."""
        segment = self._segments[0]
        segment.sent += sum(_RECORD.size + len(record.payload) for record in records)
        segment.ticks -= sum(record.ticks for record in records)
        if segment.sent < segment.end:
            with open(segment.path, "r+b") as file:
                file.seek(_HEAD.size - _SENT.size)
                file.write(_SENT.pack(segment.sent))
            return
        self._remove(segment)

    def _remove(self, segment: _Segment) -> None:
        if segment is self._segments[-1] and self._file is not None:
            os.close(self._file)
            self._file = None
        self._segments.remove(segment)
        segment.path.unlink(missing_ok=True)

    def close(self) -> None:
        """What waits stays."""
        if self._file is not None:
            os.fsync(self._file)
            os.close(self._file)
            self._file = None
        os.close(self._lock)

    def _last(self) -> _Segment:
        """The segment to write to."""
        if self._file is not None and self._segments[-1].end < SEGMENT:
            return self._segments[-1]
        segment = _Segment(self.folder / f"{self._next:08}.spool")
        self._next += 1
        if self._file is not None:
            os.fsync(self._file)
            os.close(self._file)
            self._file = None
        file = os.open(segment.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            _write(file, _HEAD.pack(_MAGIC, self._identity.encode(), clock.wall_ns(), segment.sent), 0)
        except OSError:
            os.close(file)
            segment.path.unlink()
            raise
        self._file = file
        self._segments.append(segment)
        return segment

    def _found(self, path: Path) -> _Segment:
        """A segment that was there: up to its first record that isn't whole."""
        segment = _Segment(path)
        content = path.read_bytes()
        if len(content) < _HEAD.size:
            return segment                         # killed while it was made: nothing was in it
        magic, identity, _, sent = _HEAD.unpack_from(content)
        if magic != _MAGIC or identity != self._identity.encode():
            raise TransportUnreachable(
                "spool_foreign", f"{path} holds ticks for another log ({identity.decode(errors='replace')})",
                hint=f"start the feed with that log's --transport, or remove {self.folder} if nobody needs them",
            )
        segment.sent = segment.end = sent
        for record in _records(path, sent, len(content)):
            segment.end += _RECORD.size + len(record.payload)
            segment.ticks += record.ticks
        self.dropped += len(content) - segment.end
        return segment

    def _sync(self) -> None:
        now = clock.monotonic_ns()
        if self._file is not None and now >= self._next_sync:
            self._next_sync = now + SYNC_NS
            os.fsync(self._file)


_SUM = struct.Struct("<I")


def _records(path: Path, start: int, end: int) -> Iterator[Spooled]:
    """Records of a segment from a place on, up to `end` or the first that isn't whole."""
    with open(path, "rb") as file:
        file.seek(start)
        while start < end:
            head = file.read(_RECORD.size)
            if len(head) < _RECORD.size:
                return
            length, partition, ticks, crc = _RECORD.unpack(head)
            payload = file.read(length) if length <= end - start else b""
            if len(payload) < length or zlib.crc32(payload, zlib.crc32(head[:_MARKS.size])) != crc:
                return
            start += _RECORD.size + length
            yield Spooled(partition, ticks, payload)


def _write(file: int | None, content: bytes, at: int) -> None:
    assert file is not None
    while content:
        wrote = os.pwrite(file, content, at)
        content, at = content[wrote:], at + wrote


def _unwritable(folder: Path, error: OSError) -> TocsinError:
    return TocsinError("spool_write", f"{folder} can't be written: {error.strerror or error}",
                       hint="make room, or name another --home")


def waiting(folder: Path) -> tuple[int, float, float]:
    """Of a spool as it lies there: bytes, when the oldest segment was begun and the newest last written to (s since 1970)."""
    paths = sorted(folder.glob("*.spool"))
    head = paths[0].read_bytes()[:_HEAD.size] if paths else b""
    if len(head) < _HEAD.size:
        return 0, 0.0, 0.0
    return sum(path.stat().st_size for path in paths), _HEAD.unpack(head)[2] / 1e9, paths[-1].stat().st_mtime
