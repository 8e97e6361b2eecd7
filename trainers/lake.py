"""The lake: the tick log as Parquet, by symbol and UTC day, readable while it is written.

    LAKE/commit                                     what counts: cursors, and what the recorder goes on with
    LAKE/ticks/<symbol>/<day of ts>/<segment>       a row per tick, taken or not, with its verdict
    LAKE/refused/<day of append>/<segment>          inputs that were no ticks, whole
    LAKE/controls/<day of append>/<segment>         control records, of all deployments
    LAKE/checkpoints/<day of append>/<segment>      an engine's checkpoint a day and partition
    LAKE/lock, LAKE/status                          who writes, and how far it is

A segment is `<level>-<partition>-<first cursor>-<last cursor>-<digest>.parquet` and holds every row of its folder between
the two. `commit` is the one point at which anything changes: a segment that ends above its partition's committed cursor
doesn't exist yet, one that lies inside another's range exists no more. So a writer may be killed anywhere.

Ticks of files that were taken in stand in a partition of their own, the one after the log's last, numbered from (0, 1).
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import InputRefused
from engine.eventtime import VERDICTS
from engine.instruments import Instrument
from engine.types import Cursor, TickBatch

if TYPE_CHECKING:
    import polars as pl

T = TypeVar("T")

log = logging.getLogger("tocsin")

FORMAT = 2
READ = (1, FORMAT)
"""Format 1: segments without a digest, commits without counts of rows and without imports."""
DAY_NS = 86_400_000_000_000
FOREVER = 2**63 - 1

TICKS, REFUSED, CONTROLS, CHECKPOINTS = TABLES = ("ticks", "refused", "controls", "checkpoints")

TAKEN = "ok"
OUTCOMES = tuple(TAKEN if code is None else code.value for code in VERDICTS)
"""The word in column `verdict`, by event time's verdict."""

LOG_ORDER = ("major", "minor", "partition", "ordinal")
_NAME = re.compile(r"(\d+)-(\d+)-(\d+)\.(\d+)-(\d+)\.(\d+)(?:-([0-9a-f]{32}))?\.parquet")
_WHOLE = 180
"""Characters of a symbol's folder from which on it is told apart by a digest: file systems take 255 bytes."""


class Segment(NamedTuple):
    """One file: the rows of its folder from cursor `first` to cursor `last` of a partition."""

    folder: Path
    level: int
    """How often its rows were put together with others."""
    partition: int
    first: Cursor
    last: Cursor
    digest: str = ""
    """Of the file's bytes (`digest_of`); empty where the first format wrote it."""

    @property
    def path(self) -> Path:
        (a, b), (c, d) = self.first, self.last
        return self.folder / f"{self.level}-{self.partition}-{a}.{b}-{c}.{d}{self.digest and f'-{self.digest}'}.parquet"


def digest_of(content: bytes | memoryview) -> str:
    """The first half of its sha256."""
    return hashlib.sha256(content).hexdigest()[:32]


class Part(msgspec.Struct, frozen=True):
    """One partition, as far as it is in the lake, and the state the recorder goes on with."""

    cursor: Cursor
    appended: int
    """ns UTC when the log stored that record, 0 where it doesn't say."""
    instruments: list[Instrument]
    clocks: list[bytes]
    """Event time's row of each, without the zeros at its end."""
    rules: dict[str, Any]
    """How prices are counted now: Instruments.to_dict."""
    followed: dict[str, int]
    """The highest control record followed, by slot."""


class Gap(msgspec.Struct, frozen=True):
    """Records of a partition between the two cursors may be missing: the log no longer held them."""

    partition: int
    after: Cursor
    before: Cursor


class Import(msgspec.Struct, frozen=True):
    """Ticks of files that were taken in at once."""

    files: list[str]
    """Their names."""
    at: int
    """ns UTC when."""
    first: Cursor
    last: Cursor
    instruments: list[Instrument]

    @property
    def rows(self) -> int:
        return self.last[1] - self.first[1] + 1


class Commit(msgspec.Struct, frozen=True):
    """Everything that counts. Its number rises with every change of what a reader may see."""

    format: int
    number: int
    lake: str
    """Random, 32 hex digits."""
    identity: str
    """Of the log recorded here."""
    at: int
    """ns UTC."""
    newest: int
    """ns UTC, the highest stamp of a tick taken."""
    parts: list[Part]
    gaps: list[Gap]
    removing: list[str]
    """Days that are being removed: whatever is left of them no longer counts."""
    removed: list[str]
    """Days removed for the quota so far."""
    rows: dict[str, dict[str, int]] | None = None
    """How many there are, by table and day. None: nobody counted yet, the first format wrote it."""
    imports: list[Import] = []
    """In the order of their cursors."""

    @property
    def ends(self) -> list[Cursor]:
        """The committed cursor of each partition, and of what was taken in, if anything was."""
        return [*(part.cursor for part in self.parts), *(taken.last for taken in self.imports[-1:])]

    def holds(self, segment: Segment) -> bool:
        ends = self.ends
        return segment.partition < len(ends) and segment.last <= ends[segment.partition] \
            and segment.folder.name not in self.removing


_commits = msgspec.msgpack.Decoder(Commit)


def day_of(ns: int) -> str:
    return str(np.datetime64(ns // DAY_NS, "D"))


def folder_of(symbol: str) -> str:
    """A symbol as the name of a folder: two symbols never share one."""
    name = quote(symbol, safe="").replace(".", "%2E")
    if len(name) > _WHOLE:
        name = f"{name[:_WHOLE]}%%{hashlib.sha256(symbol.encode()).hexdigest()[:16]}"
    return name


def segments_in(folder: Path) -> Iterator[Segment]:
    """The segments whose names stand in a folder, whether they count or not."""
    for name in _names(folder):
        if found := _NAME.fullmatch(name):
            level, partition, a, b, c, d = map(int, found.groups()[:6])
            yield Segment(folder, level, partition, (a, b), (c, d), found[7] or "")


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def counting(segments: Iterable[Segment], commit: Commit) -> list[Segment]:
    """Of one folder's segments those that count, in the order of their cursors per partition."""
    kept: list[Segment] = []
    for segment in sorted(filter(commit.holds, segments), key=lambda s: (s.partition, s.first, -s.level)):
        if not (kept and kept[-1].partition == segment.partition and segment.last <= kept[-1].last):
            kept.append(segment)
    return kept


def read_commit(folder: Path) -> Commit | None:
    """None: nobody ever recorded here. Raises InputRefused `lake_format`."""
    try:
        content = (folder / "commit").read_bytes()
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise InputRefused("lake_format", f"{folder} isn't a folder", hint="mend [lake] path") from None
    try:
        commit = _commits.decode(content)
    except msgspec.DecodeError:
        commit = None
    if commit is None or commit.format not in READ:
        raise InputRefused("lake_format", f"{folder / 'commit'} isn't of a lake this version reads",
                           hint="read it with the version that wrote it, or name another folder ([lake] path)")
    return commit


class Status(msgspec.Struct, frozen=True):
    """How far the recorder is: LAKE/status, as JSON. Counts are since this recorder's start."""

    pid: int
    at: int
    """ns UTC when this was written; it is renewed every ten seconds while the recorder lives."""
    records: int
    rows: int
    verdicts: dict[str, int]
    """Of rows, by the word in column `verdict`; and inputs that were no ticks, by code."""
    commits: int
    committed: int
    """ns UTC of the last commit."""
    files: int
    bytes: int
    gaps: int
    behind: int
    """Partitions whose log holds records that are in no file yet."""
    lag_s: float
    """How old the newest record in files is, where there are newer ones; the worst of all partitions. 0: none, or unknown."""


_statuses = msgspec.json.Decoder(Status)


def read_status(folder: Path) -> Status | None:
    """What the recorder last said of itself; None if none ever did."""
    try:
        return _statuses.decode((folder / "status").read_bytes())
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None


class Lake:
    """A lake to read, from any process, while another writes it. What is read is what one commit held."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def commit(self) -> Commit:
        """Raises InputRefused `no_lake`, `lake_format`."""
        commit = read_commit(self.folder)
        if commit is None:
            raise InputRefused("no_lake", f"there is no lake at {self.folder}",
                               hint="`tocsin run trainer` records one; [lake] path says where it is")
        return commit

    def read(
        self, symbols: Iterable[str] | None = None, start: int = 0, end: int = FOREVER,
        upto: Mapping[int, Cursor] | None = None, verdicts: Sequence[str] = (TAKEN,), cut: bool = False,
    ) -> TickBatch:
        """Ticks with start ≤ ts < end in the order of ts; those of one stamp stand as in the log.

        symbols: default all. upto: only records at or before a partition's cursor, so that the same ticks can be read
        again later. verdicts: of OUTCOMES; all of them give the refused ones too. Columns major, minor, ordinal say
        where in the log a row stood. cut: where settings made a symbol's points coarser, begin after its last tick that
        isn't whole in today's, and say so in the log, instead of raising `instrument_changed`. Raises InputRefused
        `no_lake`, `lake_format`, `lake_symbol`, `instrument_changed`.
        """
        if not cut:
            return TickBatch.concat(list(self.batches(symbols, start, end, upto, verdicts)))
        days = list(self._days(symbols, start, end, upto, verdicts))
        finer = np.concatenate([np.zeros(0, bool), *(finer for _, finer in days)])
        return _cut(TickBatch.concat([ticks for ticks, _ in days]), finer)

    def batches(
        self, symbols: Iterable[str] | None = None, start: int = 0, end: int = FOREVER,
        upto: Mapping[int, Cursor] | None = None, verdicts: Sequence[str] = (TAKEN,),
    ) -> Iterator[TickBatch]:
        """As `read`, a batch per UTC day: no more than a day is in memory."""
        for ticks, finer in self._days(symbols, start, end, upto, verdicts):
            if finer.any():
                raise InputRefused(
                    "instrument_changed", f"{ticks.symbol(int(np.argmax(finer)))} was counted in finer points before",
                    hint="read from the day on which the settings changed, or with cut=True",
                )
            yield ticks

    def _days(
        self, symbols: Iterable[str] | None, start: int, end: int, upto: Mapping[int, Cursor] | None, verdicts: Sequence[str]
    ) -> Iterator[tuple[TickBatch, NDArray[np.bool_]]]:
        """A batch per UTC day, and which of its rows aren't whole in today's points."""
        commit = self.commit()
        limits = {p: min(end, (upto or {}).get(p, end)) for p, end in enumerate(commit.ends)}
        known = instruments_of(commit)
        unknown = [symbol for symbol in symbols or () if symbol not in known]
        if unknown:
            raise InputRefused("lake_symbol", f"{self.folder} has no {', '.join(unknown)}", hint="see `tocsin lake list`")
        homes = {symbol: self.folder / TICKS / folder_of(symbol) for symbol in sorted(symbols or known)}
        days = {
            symbol: {day for day in _names(home) if day_of(start) <= day <= day_of(end - 1)} for symbol, home in homes.items()
        }
        instruments = [known[symbol] for symbol in homes if days[symbol]]
        for day in sorted(set().union(*days.values())):
            folders = {homes[i.symbol] / day: sid for sid, i in enumerate(instruments) if day in days[i.symbol]}
            read = partial(_ticks, folders, limits, start, end, verdicts)
            yield _batch(self._consistent(partial(_found, folders), read), instruments)

    def rows(self, table: str, symbol: str = "") -> pl.DataFrame:
        """Every row of a table (of TABLES; ticks: of one symbol) as it is stored, in log order."""
        import polars as pl

        def read(segments: list[Segment]) -> pl.DataFrame:
            frames = [pl.read_parquet(segment.path) for segment in segments]
            return pl.concat(frames).sort(LOG_ORDER, maintain_order=True) if frames else pl.DataFrame()

        return self.over(table, symbol, read)

    def over(self, table: str, symbol: str, read: Callable[[list[Segment]], T]) -> T:
        """What is made of the segments of a table (ticks: of one symbol) as one commit has them; may be asked twice."""
        home = self.folder / table / folder_of(symbol) if table == TICKS else self.folder / table
        return self._consistent(partial(_under, home), read)

    def summary(self) -> list[dict[str, Any]]:
        """Per symbol: days, rows, from, to (ns of the first and last tick taken), refused by verdict, bytes."""
        found = []
        for symbol in sorted(instruments_of(self.commit())):
            summed = self.over(TICKS, symbol, _summed)
            if summed:
                found.append({"symbol": symbol, **summed})
        return found

    def refused(self) -> dict[str, int]:
        """How many inputs were no ticks, by code."""
        return self.over(REFUSED, "", partial(_counts, "code"))

    def _consistent(self, find: Callable[[Commit], list[Segment]], read: Callable[[list[Segment]], T]) -> T:
        """Read what one commit holds: find and read once more if the lake was changed meanwhile.

        Whatever is put together or removed is so only after a commit, so that a listing between two equal commits
        misses nothing.
        """
        while True:
            commit = self.commit()
            segments = find(commit)
            if self.commit().number != commit.number:
                continue
            try:
                return read(segments)
            except FileNotFoundError:
                if self.commit().number == commit.number:
                    raise InputRefused("lake_damaged", f"a file of {self.folder} vanished while nobody wrote there",
                                       hint="bring it back from a copy; a lake is written by its recorder only") from None


def _found(folders: Iterable[Path], commit: Commit) -> list[Segment]:
    return [segment for folder in folders for segment in counting(segments_in(folder), commit)]


def _under(home: Path, commit: Commit) -> list[Segment]:
    """Those of every day."""
    return _found((home / day for day in sorted(_names(home))), commit)


def instruments_of(commit: Commit) -> dict[str, Instrument]:
    """By symbol; of one that was both taken in and recorded, as it is recorded."""
    return {instrument.symbol: instrument for those in (commit.imports, commit.parts) for part in those
            for instrument in part.instruments}


def _summed(segments: list[Segment]) -> dict[str, Any] | None:
    import polars as pl

    if not segments:
        return None
    by_verdict = (
        pl.scan_parquet([segment.path for segment in segments]).group_by("verdict")
        .agg(pl.len().alias("rows"), pl.col("ts").min().alias("from"), pl.col("ts").max().alias("to"))
        .sort("verdict").collect().rows_by_key("verdict", named=True, unique=True)
    )
    taken = by_verdict.pop(TAKEN, {"rows": 0, "from": None, "to": None})
    return {
        "days": len({segment.folder for segment in segments}), **taken,
        "refused": {verdict: counts["rows"] for verdict, counts in by_verdict.items()},
        "bytes": sum(segment.path.stat().st_size for segment in segments),
    }


def _counts(column: str, segments: list[Segment]) -> dict[str, int]:
    import polars as pl

    if not segments:
        return {}
    counts = pl.scan_parquet([segment.path for segment in segments]).group_by(column).len().sort(column).collect()
    return dict(counts.iter_rows())


def _ticks(
    folders: Mapping[Path, int], limits: Mapping[int, Cursor], start: int, end: int, verdicts: Sequence[str],
    segments: list[Segment],
) -> pl.DataFrame:
    """The rows asked for, with `sid`, sorted; a segment that goes on beyond its partition's limit is cut there."""
    import polars as pl

    segments = [s for s in segments if s.first <= limits[s.partition]]
    if not segments:
        return pl.DataFrame()
    wanted = pl.col("ts").is_between(start, end, closed="left") & pl.col("verdict").is_in(list(verdicts))
    for partition in {s.partition for s in segments if s.last > limits[s.partition]}:
        major, minor = limits[partition]
        beyond = (pl.col("major") > major) | ((pl.col("major") == major) & (pl.col("minor") > minor))
        wanted &= ~((pl.col("partition") == partition) & beyond)
    return pl.concat([
        pl.scan_parquet([segment.path for segment in own]).filter(wanted).drop("verdict")
        .with_columns(pl.lit(folders[folder], dtype=pl.Int64).alias("sid"))
        for folder, own in groupby(segments, lambda segment: segment.folder)
    ]).sort("ts", *LOG_ORDER).collect()


def _batch(frame: pl.DataFrame, instruments: list[Instrument]) -> tuple[TickBatch, NDArray[np.bool_]]:
    """Rows to ticks, all of a symbol in its instrument's points, rounded down where they are finer; and where they are."""
    finer = np.zeros(frame.height, bool)
    if not frame.height:
        return TickBatch(instruments, **{name: np.zeros(0, np.int64) for name in ("sid", "ts", "bid", "ask")}), finer
    columns = {name: frame[name].to_numpy().astype(np.int64) for name in frame.columns}
    sid = columns["sid"]
    for scale, names in (("scale", ("bid", "ask")), ("size_scale", ("bid_size", "ask_size"))):
        shift = np.array([getattr(i, scale) for i in instruments])[sid] - columns.pop(scale)
        if shift.any():
            up, down = 10 ** np.maximum(shift, 0), 10 ** np.maximum(-shift, 0)
            for name in names:
                finer |= columns[name] % down != 0
                columns[name] = columns[name] * up // down
    del columns["partition"]
    return TickBatch(instruments, **columns), finer


def _cut(ticks: TickBatch, finer: NDArray[np.bool_]) -> TickBatch:
    """Of each symbol what is stamped after its last finer row."""
    kept = np.ones(len(ticks), bool)
    for sid in np.unique(ticks.sid[finer]).tolist():
        last = ticks.ts[finer & (ticks.sid == sid)].max()
        kept &= (ticks.sid != sid) | (ticks.ts > last)
        log.warning("%s is read from after %sZ on: until then its prices were finer than the points they are counted in now",
                    ticks.instruments[sid].symbol, np.datetime64(int(last), "ns"))
    return ticks if kept.all() else ticks[kept]
