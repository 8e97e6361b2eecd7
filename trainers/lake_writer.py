"""Writing a lake: segments first, then the commit, then what the commit made superfluous is removed.

Every file is written under another name, synced and renamed; the folders are synced before the commit that counts on
them. So after a kill at any moment, or a power cut, the lake is what its last commit says, and the next start removes
what no commit speaks of.
"""

from __future__ import annotations

import io
import os
import secrets
import socket
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from fcntl import LOCK_EX, LOCK_NB, flock
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from engine import clock
from engine.errors import InputRefused, OwnershipLost, TransportUnreachable
from engine.instruments import Instruments
from engine.types import START

from .lake import (
    FORMAT,
    TABLES,
    TICKS,
    Commit,
    Gap,
    Import,
    Part,
    Segment,
    counting,
    day_of,
    digest_of,
    folder_of,
    read_commit,
    segments_in,
)

if TYPE_CHECKING:
    import polars as pl

FAN = 16
"""So many neighbours of one level are put together into one segment of the next."""
FULL = 2**20
"""bytes from which on a segment is left as it is."""
PATIENCE_NS = 8_000_000_000
"""So long a killed trainer's recorder may still hold the lake: it ends with its parent, five seconds later at most."""
LEVEL = 3
"""Of zstd: half of what lz4 takes (17 bytes a row), at 8 million rows a second."""


class Fresh(NamedTuple):
    """Rows of one partition, in log order, for one folder."""

    table: str
    symbol: str
    """Empty but for ticks."""
    day: str
    partition: int
    frame: pl.DataFrame
    """With the columns of LOG_ORDER."""


class Source(Protocol):
    """What a lake must know of the log that it is the lake of: a Log says it."""

    @property
    def identity(self) -> str: ...

    @property
    def partitions(self) -> int: ...

    @property
    def rules(self) -> Instruments: ...


class Writer:
    """The one writer of a lake. `commit` is what the lake holds, in `files` segments of `bytes` together."""

    commit: Commit

    def __init__(
        self, folder: Path, source: Source, quota: float, tell: Callable[[str], None], pulse: Callable[[], None] = lambda: None
    ) -> None:
        """Lock the lake, make it where there is none, and remove what no commit speaks of.

        source: the log that is recorded. quota: bytes. tell: hears, in words, what was removed for it. pulse: called with
        every file. Raises OwnershipLost `lake_locked`, TransportUnreachable `lake_foreign`, InputRefused `lake_format`,
        `lake_damaged`.
        """
        self.folder = folder
        self.bytes = 0
        self._quota = quota
        self._tell = tell
        self._pulse = pulse
        self._unsynced: set[Path] = set()
        self._index: dict[Path, list[Segment]] = {}
        self._sizes: dict[Segment, int] = {}
        if not folder.is_dir():
            folder.mkdir(parents=True)
            _sync(folder.parent)
        self._lock = _lock(folder)
        try:
            found = read_commit(folder) or _beginning(folder, source)
            if found.identity != source.identity:
                raise TransportUnreachable(
                    "lake_foreign", f"{folder} is the lake of another log ({found.identity}; this one is {source.identity})",
                    hint="give this log a lake of its own: [lake] path, or another --home",
                )
            # a new number before anything is removed: who reads just now will look again
            self._commit(msgspec.structs.replace(found, format=FORMAT, number=found.number + 1))
            self._sweep()
            if found.rows is None:
                self.commit = msgspec.structs.replace(self.commit, rows=_counted(folder, self._sizes))
        except BaseException:
            self.close()
            raise

    @property
    def files(self) -> int:
        return len(self._sizes)

    def has(self, table: str, day: str, partition: int) -> bool:
        """Whether a partition has rows in a day of a table without symbols."""
        return any(segment.partition == partition for segment in self._index.get(self.folder / table / day, ()))

    def append(self, fresh: Iterable[Fresh], parts: list[Part], newest: int, gaps: list[Gap]) -> None:
        """One commit: from here on the lake holds these rows too, up to the cursors of `parts`. Raises OSError."""
        rows, doomed = self._take(fresh)
        self._settle(rows, doomed, self._beyond_quota(newest), newest, parts=parts, gaps=[*self.commit.gaps, *gaps])

    def take_in(self, fresh: Iterable[Fresh], taken: Import, newest: int) -> None:
        """One commit with ticks that the log never held: all of them or none.

        Raises InputRefused `lake_full` where there isn't room within the quota, OSError; close the writer then.
        """
        before = set(self._sizes)
        rows, doomed = self._take(fresh)
        if self.bytes > self._quota:
            for segment in set(self._sizes) - before:
                os.unlink(segment.path)
            raise InputRefused(
                "lake_full", f"with these ticks {self.folder} would take {self.bytes / 1e9:.3g} GB, [lake] quota_gb is "
                f"{self._quota / 1e9:.3g}; nothing was taken in", hint="raise [lake] quota_gb, or take in fewer days",
            )
        self._settle(rows, doomed, [], newest, imports=[*self.commit.imports, taken])

    def close(self) -> None:
        """Let another writer in."""
        os.close(self._lock)

    # ---- before the commit

    def _take(self, fresh: Iterable[Fresh]) -> tuple[dict[str, dict[str, int]], list[Segment]]:
        """Write rows, and put neighbours together. How many rows there are then, and the segments that lie inside others."""
        counts = {table: dict(days) for table, days in (self.commit.rows or {}).items()}
        folders = set()
        for rows in fresh:
            folders.add(self._write(rows))
            days = counts.setdefault(rows.table, {})
            days[rows.day] = days.get(rows.day, 0) + rows.frame.height
        return counts, [segment for folder in folders for segment in self._put_together(folder)]

    def _write(self, rows: Fresh) -> Path:
        home = self.folder / rows.table
        folder = (home / folder_of(rows.symbol) if rows.table == TICKS else home) / rows.day
        self._make(folder)
        major, minor = rows.frame["major"], rows.frame["minor"]
        self._store(Segment(folder, 0, rows.partition, (major[0], minor[0]), (major[-1], minor[-1])), rows.frame)
        return folder

    def _make(self, folder: Path) -> None:
        if folder not in self._index and not folder.is_dir():
            self._make(folder.parent)
            os.mkdir(folder)
            self._unsynced.add(folder.parent)

    def _store(self, segment: Segment, frame: pl.DataFrame) -> None:
        content = io.BytesIO()
        frame.write_parquet(content, compression="zstd", compression_level=LEVEL)
        segment = segment._replace(digest=digest_of(content.getbuffer()))
        _put(segment.path, content.getbuffer())
        self._unsynced.add(segment.folder)
        self._add(segment, len(content.getbuffer()))
        self._pulse()

    def _put_together(self, folder: Path) -> list[Segment]:
        """Merge neighbours until there is nothing to merge; returns the segments that lie inside others now."""
        import polars as pl

        doomed: list[Segment] = []
        while run := self._mergeable(folder):
            merged = run[0]._replace(level=run[0].level + 1, last=run[-1].last)
            self._store(merged, pl.concat([pl.read_parquet(segment.content()) for segment in run]))
            for segment in run:
                self._drop(segment)
            doomed += run
        return doomed

    def _mergeable(self, folder: Path) -> list[Segment]:
        segments = sorted(self._index[folder], key=lambda s: (s.partition, s.first))
        for (_, _, full), run in groupby(segments, lambda s: (s.partition, s.level, self._sizes[s] >= FULL)):
            neighbours = list(run)
            if not full and len(neighbours) >= FAN:
                return neighbours[:FAN]
        return []

    def _beyond_quota(self, newest: int) -> list[str]:
        """The oldest days, as many as are too much; never the day of the newest tick, nor what is stamped after it."""
        if self.bytes <= self._quota:
            return []
        sizes: dict[str, int] = defaultdict(int)
        for segment, size in self._sizes.items():
            sizes[segment.folder.name] += size
        doomed: list[str] = []
        left = self.bytes
        for day in sorted(day for day in sizes if day < day_of(newest)):
            if left <= self._quota:
                break
            left -= sizes[day]
            doomed.append(day)
        over = f"{self.folder} takes {self.bytes / 1e9:.3g} GB, [lake] quota_gb is {self._quota / 1e9:.3g}"
        if doomed:
            self._tell(f"{over}: the oldest days are removed: {', '.join(doomed)}")
        else:
            self._tell(f"{over}, and all of it is of the current day, which is kept")
        return doomed

    # ---- the commit, and after it

    def _settle(
        self, rows: dict[str, dict[str, int]], doomed: list[Segment], removing: list[str], newest: int, **changes: Any
    ) -> None:
        for folder in self._unsynced:
            _sync(folder)
        self._unsynced.clear()
        kept = {table: {day: n for day, n in days.items() if day not in removing} for table, days in rows.items()}
        self._commit(msgspec.structs.replace(
            self.commit, number=self.commit.number + 1, at=clock.wall_ns(), newest=newest, removing=removing,
            removed=[*self.commit.removed, *removing], rows=kept, **changes,
        ))
        for segment in doomed:
            os.unlink(segment.path)
        self._remove_days(removing)

    def _commit(self, commit: Commit) -> None:
        _put(self.folder / "commit", msgspec.msgpack.encode(commit))
        _sync(self.folder)
        self.commit = commit

    def _sweep(self) -> None:
        """Remove what a killed writer left: unfinished files, segments after the commit, segments inside others."""
        for folder in list(_folders(self.folder)):
            self._pulse()
            for temp in folder.glob(".*.tmp"):
                os.unlink(temp)
            written = list(segments_in(folder))
            kept = counting(written, self.commit)
            if len(kept) < len(written):
                _sync(folder)                      # what holds the rows of the others is there to stay
            for segment in set(written) - set(kept):
                os.unlink(segment.path)
            for segment in kept:
                self._add(segment, segment.path.stat().st_size)
            if not kept:
                _remove_empty(folder)
        for home in list((self.folder / TICKS).glob("*/")):
            _remove_empty(home)

    def _remove_days(self, days: list[str]) -> None:
        for segment in [s for s in self._sizes if s.folder.name in days]:
            os.unlink(segment.path)
            self._drop(segment)
        for folder in [folder for folder, segments in self._index.items() if not segments]:
            del self._index[folder]
            _remove_empty(folder)
            if folder.parent.parent == self.folder / TICKS:
                _remove_empty(folder.parent)

    # ---- what there is

    def _add(self, segment: Segment, size: int) -> None:
        self._index.setdefault(segment.folder, []).append(segment)
        self._sizes[segment] = size
        self.bytes += size

    def _drop(self, segment: Segment) -> None:
        self._index[segment.folder].remove(segment)
        self.bytes -= self._sizes.pop(segment)


def _beginning(folder: Path, source: Source) -> Commit:
    """Of a lake that holds nothing. Raises InputRefused where there are rows: without a commit they would be swept away."""
    if any((folder / table).exists() for table in TABLES):
        raise InputRefused("lake_damaged", f"{folder} holds ticks, but its file `commit` is gone",
                           hint="bring the file back from a copy, or record into another folder ([lake] path)")
    parts = [Part(START, 0, [], [], source.rules.to_dict(), {}) for _ in range(source.partitions)]
    return Commit(FORMAT, 0, secrets.token_hex(16), source.identity, clock.wall_ns(), 0, parts, [], [], [], {})


def _counted(folder: Path, segments: Iterable[Segment]) -> dict[str, dict[str, int]]:
    """How many rows segments hold, by table and day."""
    import polars as pl

    counts: dict[str, dict[str, int]] = {}
    for segment in segments:
        days = counts.setdefault(segment.folder.relative_to(folder).parts[0], {})
        rows = pl.scan_parquet(segment.path).select(pl.len()).collect().item()
        days[segment.folder.name] = days.get(segment.folder.name, 0) + rows
    return counts


def _folders(folder: Path) -> Iterator[Path]:
    """Every folder that may hold segments."""
    for table in TABLES:
        yield from (folder / table).glob("*/*/" if table == TICKS else "*/")


def _remove_empty(folder: Path) -> None:
    """Only if nothing is in it; to a reader a folder that is gone is an empty one."""
    if not os.listdir(folder):
        os.rmdir(folder)


def _lock(folder: Path) -> int:
    """Held until it is closed; the file says by whom."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    deadline = clock.monotonic_ns() + PATIENCE_NS
    while not _locked(lock):
        if clock.monotonic_ns() < deadline:
            clock.sleep(0.05)
            continue
        holder = os.pread(lock, 256, 0).decode(errors="replace")
        os.close(lock)
        raise OwnershipLost(
            "lake_locked", f"{folder} is being recorded already, by {holder}",
            hint="one recorder per lake: stop that one, or name another folder ([lake] path)",
        )
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    return lock


def _locked(lock: int) -> bool:
    try:
        flock(lock, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _put(path: Path, content: bytes | memoryview) -> None:
    """The whole file or none of it."""
    temp = path.with_name(f".{path.name}.tmp")
    with open(temp, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temp, path)


def _sync(folder: Path) -> None:
    """Names written to a folder survive a power cut from here on."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
