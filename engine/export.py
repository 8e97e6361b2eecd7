"""A log as a file of JSON lines, whole enough that anybody can replay it: what `tocsin log export` writes.

    {"line":"log", …}        first: what the log is, and which stretch of each partition follows
    {"line":"record", …}     a record of `models`, of a partition's tick log, or published about it
    {"line":"end", …}        last: how many records there were; a file without it was cut off

Records of `models` come first, then partition after partition: its tick log, then what the deployment published.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from .errors import InputRefused, TransportUnreachable
from .instruments import Instruments
from .transports.base import Extent, Log, Topic
from .transports.memory import MemoryLog
from .types import LAST_ORDINAL, NOWHERE, START, Cursor, Entry, Kind, Position
from .wire.records import RedisCursor, cursor_of

FORMAT = 1
PAGE = 1000
"""Records read at a time: what an export holds in memory."""

MODELS, TICKS, CONTROL = "models", "ticks", "control"
_KIND = {Kind.TICKS: TICKS, Kind.CONTROL: CONTROL}
_ENTRY = {word: kind for kind, word in _KIND.items()}
_MARK = b'{"line":"log",'


class Stretch(Struct, frozen=True):
    """Of one partition: the tick log's records after `after` up to `last`; `before`: how many stood before them, ever."""

    partition: int
    before: int
    after: int | RedisCursor
    last: int | RedisCursor


class Head(Struct, frozen=True, tag_field="line", tag="log"):
    """What the log is: its identity, whose decisions follow, into how many partitions it is cut, how its prices count."""

    format: int
    identity: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    deployment: str
    partitions: Annotated[int, Meta(ge=1)]
    rules: dict[str, Any]
    stretches: list[Stretch]


class Line(Struct, frozen=True, tag_field="line", tag="record"):
    """One record: of `models` (no partition; the cursor is k), of the tick log (`ticks`, or `control`, the copy of a control
    record), or published, with the row within the tick's record. appended: ns UTC when the log stored it, 0: not known."""

    kind: Literal["models", "ticks", "control", "signals", "rejects", "journal"]
    partition: int | None
    cursor: int | RedisCursor
    ordinal: int | None
    appended: int
    encoding: Literal["utf-8", "base64"]
    payload: str


class End(Struct, frozen=True, tag_field="line", tag="end"):
    """How many records stand between the first line and this one."""

    records: int


_line = msgspec.json.Decoder(Head | Line | End)
_encode = msgspec.json.Encoder().encode


def schema() -> dict[str, Any]:
    """The JSON Schema of a line, as docs/schemas publishes it."""
    return msgspec.json.schema(Head | Line | End)


# ---- out of a log


def export(log: Log, partitions: Sequence[int], after: Cursor = START, upto: Cursor | None = None) -> Iterator[bytes]:
    """The lines, without line ends, of some partitions: records after a cursor, up to and with another (default: what the log
    holds now). Raises TransportUnreachable `trimmed` where the log forgets some of them meanwhile."""
    extents = {partition: log.extent(partition) for partition in partitions}
    lasts = {p: min(extent.last, upto) if upto else extent.last for p, extent in extents.items()}
    yield _encode(Head(FORMAT, log.identity, log.deployment, log.partitions, log.rules.to_dict(), [
        Stretch(p, extent.appended - extent.kept + _count(log, p, after), log.format(after), log.format(lasts[p]))
        for p, extent in extents.items()
    ]))
    count = 0
    for k, payload in log.controls():
        yield _record(MODELS, None, k, None, 0, payload)
        count += 1
    for partition, last in lasts.items():
        for entry in _entries(log, partition, after, last):
            cursor = log.format(entry.cursor)
            yield _record(_KIND[entry.kind], partition, cursor, None, entry.appended, entry.payload)
            count += 1
        for topic in Topic:
            for position, payload in published(log, partition, topic, after, last):
                yield _record(topic.value, partition, log.format(position.cursor), position.ordinal, 0, payload)
                count += 1
        extent = log.extent(partition)
        if extent.appended - extent.kept != extents[partition].appended - extents[partition].kept:
            raise TransportUnreachable(
                "trimmed", f"partition {partition} of {log.url} was trimmed while it was exported",
                hint="try again; if that keeps happening, stop the engines meanwhile or raise [log] keep_mb",
            )
    yield _encode(End(count))


def _entries(log: Log, partition: int, after: Cursor, last: Cursor) -> Iterator[Entry]:
    while after < last:
        page = log.read({partition: after}, PAGE).get(partition, [])
        if not page:
            return
        yield from (entry for entry in page if entry.cursor <= last)
        after = page[-1].cursor


def _count(log: Log, partition: int, last: Cursor) -> int:
    return sum(1 for _ in _entries(log, partition, START, last))


def published(log: Log, partition: int, topic: Topic, after: Cursor, last: Cursor) -> Iterator[tuple[Position, bytes]]:
    """What was published about the tick records after a cursor up to another."""
    at = Position(after, LAST_ORDINAL) if after > START else NOWHERE
    while page := log.published(partition, topic, at, PAGE):
        for position, payload in page:
            if position.cursor > last:
                return
            yield position, payload
        at = page[-1][0]


def _record(kind: Any, partition: int | None, cursor: int | str, ordinal: int | None, appended: int, payload: bytes) -> bytes:
    try:
        encoding, text = "utf-8", payload.decode()
    except UnicodeDecodeError:
        encoding, text = "base64", base64.b64encode(payload).decode()
    return _encode(Line(kind, partition, cursor, ordinal, appended, encoding, text))  # type: ignore[arg-type]


# ---- back into a log


def is_export(path: Path) -> bool:
    """Whether a file begins as an export does."""
    try:
        with open(path, "rb") as file:
            return file.read(len(_MARK)) == _MARK
    except OSError:
        return False


class _Held(NamedTuple):
    before: int
    last: Cursor


class ExportedLog(MemoryLog):
    """An export as the log it came from, in memory: identity, cursors, append stamps and what was published are that log's."""

    def __init__(self, path: Path) -> None:
        """Raises InputRefused `export_damaged`, `export_format`, `export_torn`, `file_missing`."""
        lines = _lines(path)
        _, head = next(lines, (1, None))
        if not isinstance(head, Head):
            raise _damaged(path, 1, "doesn't say which log it is of")
        if head.format != FORMAT:
            raise InputRefused("export_format", f"{path} is an export of format {head.format}, this version reads {FORMAT}",
                               hint="read it with the version that wrote it")
        super().__init__(head.partitions, head.deployment, head.identity, rules=Instruments.from_dict(head.rules),
                         url=str(path))
        self._held = {s.partition: _Held(s.before, cursor_of(s.last)) for s in head.stretches}
        self._textual = any(isinstance(s.last, str) for s in head.stretches)
        count = 0
        for number, line in lines:
            if isinstance(line, End):
                if line.records == count and next(lines, None) is None:
                    return
                break
            if not (isinstance(line, Line) and self._put(line)):
                raise _damaged(path, number, "is no record that could stand there")
            count += 1
        raise InputRefused("export_torn", f"{path} ends after {count:,} records, without the last line that counts them",
                           hint="export it again, or have it sent again")

    def _put(self, line: Line) -> bool:
        """Whether it stands where it may."""
        try:
            payload = line.payload.encode() if line.encoding == "utf-8" else base64.b64decode(line.payload, validate=True)
        except ValueError:
            return False
        cursor = cursor_of(line.cursor)
        if line.kind == MODELS:
            return cursor[1] == len(self._log.controls) + 2 and self.append_control(cursor[1], payload)
        if line.partition not in self._held:
            return False
        if line.kind in _ENTRY:
            entries = self._log.ticks[line.partition]
            fits = not entries or entries[-1].cursor < cursor
            entries.append(Entry(cursor, _ENTRY[line.kind], payload, line.appended))
            return fits
        if line.ordinal is None or line.kind not in list(Topic):
            return False
        records = self._owned[line.partition].topics[Topic(line.kind)]
        position = Position(cursor, line.ordinal)
        fits = not records or records[-1][0] < position
        records.append((position, payload))
        return fits

    def extent(self, partition: int) -> Extent:
        found = super().extent(partition)
        before, last = self._held.get(partition, (0, START))
        return found._replace(last=last, appended=before + found.kept)

    def format(self, cursor: Cursor) -> str | int:
        return f"{cursor[0]}-{cursor[1]}" if self._textual else cursor[1]


def _lines(path: Path) -> Iterator[tuple[int, Head | Line | End]]:
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield number, _line.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    if not line.endswith(b"\n"):
                        return                     # cut off in the middle: its end is missing, which is told
                    raise _damaged(path, number, "can't be read") from None
    except OSError as error:
        raise InputRefused("file_missing", f"{path} can't be read: {error.strerror or error}", hint="check the path") from None


def _damaged(path: Path, number: int, why: str) -> InputRefused:
    return InputRefused("export_damaged", f"{path}, line {number}: it {why}", hint="export the log again (`tocsin log export`)")
