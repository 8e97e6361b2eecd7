"""Is the lake what its recorder wrote? Every file is read: its digest, order, places, days; every verdict is judged again.

What can't be told from the lake alone, because a control record may have changed it, is allowed either way: behind a copy
of settings, a gap or the start of an import a symbol's event clock goes on or starts anew, and crossed quotes are refused or
kept.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from engine.eventtime import WORDS, EventTime
from engine.instruments import Instrument
from engine.registry.rollout import Settings
from engine.types import I64, Cursor, TickBatch

from .lake import (
    CHECKPOINTS,
    CONTROLS,
    DAY_NS,
    LOG_ORDER,
    OUTCOMES,
    TABLES,
    TICKS,
    Commit,
    Gap,
    Lake,
    Segment,
    day_of,
    digest_of,
    instruments_of,
)

if TYPE_CHECKING:
    import polars as pl

_COLUMNS = ("ts", "bid", "ask", "bid_size", "ask_size", "seq", "appended")
_CROSSED = ("reject", "keep")


class Fault(NamedTuple):
    """Something that is off."""

    file: str
    """Under the lake's folder; a folder where no file can be named."""
    row: int | None
    """In the file, from 0; None: all of it."""
    what: str


class Verified(NamedTuple):
    """What was read, and what is off. Gaps and removed days are what the lake says of itself: no faults."""

    files: int
    rows: int
    undigested: int
    """Files of the first format, whose bytes nothing vouches for."""
    faults: list[Fault]
    gaps: list[Gap]
    removed: list[str]


def verify(lake: Lake) -> Verified:
    """While a recorder writes, too: of what it writes meanwhile, only what is off in itself is told.

    Raises InputRefused `no_lake`, `lake_format`, `lake_damaged`.
    """
    commit = lake.commit()
    found = _Found(lake, commit)
    breaks = _breaks(found, commit)
    for symbol in sorted(instruments_of(commit)):
        table = found.table(TICKS, symbol)
        if table is not None:
            found.faults += _misjudged(symbol, table, breaks)
    for name in TABLES[1:]:
        if name != CONTROLS:
            found.table(name)
    found.compare()
    return Verified(found.files, found.rows, found.undigested, found.faults, commit.gaps, commit.removed)


class _Table(NamedTuple):
    """The rows of one symbol, or of a table without symbols, in log order."""

    frame: pl.DataFrame
    """With `file`, a number, and `row` in it."""
    names: list[str]

    def fault(self, at: int, what: str) -> Fault:
        return Fault(self.names[self.frame["file"][at]], int(self.frame["row"][at]), what)


class _Found:
    """What was read of a lake so far."""

    def __init__(self, lake: Lake, commit: Commit) -> None:
        self.lake = lake
        self.commit = commit
        self.files = self.rows = self.undigested = 0
        self.faults: list[Fault] = []
        self._counts: dict[str, Counter[str]] = {name: Counter() for name in TABLES}

    def table(self, name: str, symbol: str = "") -> _Table | None:
        """None: nothing in it could be read."""
        import polars as pl

        files, faults, frames = self.lake.over(name, symbol, self._read)
        self.files += len(files)
        self.undigested += sum(not segment.digest for segment in files)
        self.faults += faults
        if not frames:
            return None
        table = _Table(pl.concat(frames).sort(LOG_ORDER, maintain_order=True), [self._name(segment) for segment in files])
        self.rows += table.frame.height
        self._count(name, table, files)
        if name != CHECKPOINTS:                    # of a quiet partition the same one is kept on several days
            self.faults += _twice(table)
        return table

    def _read(self, segments: list[Segment]) -> tuple[list[Segment], list[Fault], list[pl.DataFrame]]:
        import polars as pl

        faults, frames = [], []
        for number, segment in enumerate(segments):
            content = segment.path.read_bytes()
            name = self._name(segment)
            if segment.digest and digest_of(content) != segment.digest:
                faults.append(Fault(name, None, "its bytes aren't those that were written"))
            try:
                frame = pl.read_parquet(io.BytesIO(content)).with_row_index("row")
                faults += _inside(name, segment, frame)
            except (pl.exceptions.PolarsError, OSError) as error:
                faults.append(Fault(name, None, f"it can't be read: {str(error).splitlines()[0]}"))
                continue
            frames.append(frame.with_columns(pl.lit(number).alias("file")))
        return segments, faults, frames

    def _name(self, segment: Segment) -> str:
        return str(segment.path.relative_to(self.lake.folder))

    def _count(self, name: str, table: _Table, files: list[Segment]) -> None:
        """Rows by day, as far as the commit goes that is verified."""
        counts = self._counts[name]
        days = [segment.folder.name for segment in files]
        place = table.frame.select(*LOG_ORDER[:3], "file")
        for partition, end in enumerate(self.commit.ends):
            own = place.filter(place["partition"] == partition)
            within = (own["major"] < end[0]) | ((own["major"] == end[0]) & (own["minor"] <= end[1]))
            for file, n in own.filter(within)["file"].value_counts().iter_rows():
                counts[days[file]] += n

    def compare(self) -> None:
        """With what the commit counted; days removed since then are no fault."""
        gone = set(self.lake.commit().removed) - set(self.commit.removed)
        for name, days in (self.commit.rows or {}).items():
            for day in sorted((days.keys() | self._counts[name].keys()) - gone):
                due, there = days.get(day, 0), self._counts[name][day]
                if due != there:
                    where = f"{name}/*/{day}" if name == TICKS else f"{name}/{day}"
                    self.faults.append(Fault(where, None, f"{due:,} rows were committed, {there:,} are there"))


# ---- within a file, and between them


def _inside(name: str, segment: Segment, frame: pl.DataFrame) -> Iterator[Fault]:
    """Order, place and day of one file's rows; the first of each that is off. Raises PolarsError for a missing column."""
    if not frame.height:
        yield Fault(name, None, "it holds no rows")
        return
    major, minor, partition, ordinal = (frame[column].to_numpy() for column in LOG_ORDER)
    a, b, c = np.diff(major), np.diff(minor), np.diff(ordinal)
    rising = (a > 0) | ((a == 0) & ((b > 0) | ((b == 0) & (c > 0))))
    if not rising.all():
        row = int(np.argmin(rising)) + 1
        yield Fault(name, row, f"it is of {major[row]}-{minor[row]}, row {ordinal[row]}, and stands behind {major[row - 1]}-"
                    f"{minor[row - 1]}, row {ordinal[row - 1]}")
    ends = ((major[0], minor[0]), (major[-1], minor[-1]))
    if ends != (segment.first, segment.last) or (partition != segment.partition).any():
        yield Fault(name, None, "it doesn't hold what its name says")
    day = segment.folder.name
    stamps = frame["ts" if "verdict" in frame.columns else "appended"].to_numpy()
    other = np.flatnonzero(stamps // DAY_NS != np.datetime64(day, "D").astype(np.int64))
    if other.size:
        yield Fault(name, int(other[0]), f"it is of {day_of(int(stamps[other[0]]))}, not of {day}")


def _twice(table: _Table) -> Iterator[Fault]:
    place = table.frame.select(LOG_ORDER).to_numpy()
    again = np.flatnonzero((place[1:] == place[:-1]).all(axis=1))
    if again.size:
        yield table.fault(int(again[0]) + 1, "it is there twice")


# ---- verdicts


class _Verb(msgspec.Struct):
    verb: str


_verb = msgspec.json.Decoder(_Verb)


def _breaks(found: _Found, commit: Commit) -> dict[int, list[Cursor]]:
    """By partition the cursors from which on another rule may hold."""
    breaks: dict[int, list[Cursor]] = {partition: [] for partition in range(len(commit.ends))}
    controls = found.table(CONTROLS)
    if controls is not None:
        for partition, major, minor, payload in controls.frame.select("partition", "major", "minor", "payload").iter_rows():
            if _is_settings(payload):
                breaks.setdefault(partition, []).append((major, minor))
    for gap in commit.gaps:
        breaks[gap.partition].append(gap.before)
    for taken in commit.imports:
        breaks[len(commit.parts)].append(taken.first)
    return breaks


def _is_settings(payload: bytes) -> bool:
    try:
        return _verb.decode(payload).verb == Settings.verb
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def _misjudged(symbol: str, table: _Table, breaks: dict[int, list[Cursor]]) -> Iterator[Fault]:
    """The first row per partition whose verdict isn't event time's."""
    frame = table.frame
    words = np.array([OUTCOMES.index(word) if word in OUTCOMES else -1 for word in frame["verdict"]])
    for partition in frame["partition"].unique().sort():
        rows = np.flatnonzero((frame["partition"] == partition).to_numpy())
        places = np.rec.fromarrays([frame[name].to_numpy()[rows] for name in ("major", "minor")])
        cuts = {int(np.searchsorted(places, np.array(cut, places.dtype))) for cut in breaks.get(partition, [])}
        clocks = [bytes(8 * WORDS)]
        for stretch in np.split(rows, sorted(cuts - {0, len(rows)})):
            agreed, clocks = _judged(symbol, frame, stretch, words, clocks)
            if agreed < len(stretch):
                at = int(stretch[agreed])
                yield table.fault(at, f"its verdict is {frame['verdict'][at]!r}, which event time doesn't say of it")
                break


def _judged(
    symbol: str, frame: pl.DataFrame, rows: I64, words: I64, clocks: list[bytes]
) -> tuple[int, list[bytes]]:
    """How many of the rows some clock and rule explain, from the first on, and the clocks of those that explain all."""
    columns = {name: frame[name].to_numpy()[rows].astype(np.int64) for name in _COLUMNS}
    agreed, after = 0, []
    for before in dict.fromkeys([*clocks, bytes(8 * WORDS)]):
        for crossed in _CROSSED:
            judge = EventTime()
            judge.rows.restore(0, before)
            verdicts = judge.admit(TickBatch([Instrument(symbol, crossed=crossed)], sid=np.zeros(len(rows), np.int64), **columns))
            differ = np.flatnonzero(verdicts != words[rows])
            agreed = max(agreed, int(differ[0]) if differ.size else len(rows))
            if not differ.size:
                after.append(judge.rows.snapshot(0))
    return agreed, list(dict.fromkeys(after))

