"""The recorder: the tick log into the lake, judged as the engine judges it.

It reads every partition from where the lake ends, decodes and judges with the engine's own code, and commits every ten
seconds or 200,000 rows. What it holds in memory is in the log too, so it may be killed at any moment: the next one goes
on from the last commit. Its hold on the log's board keeps the owners of the partitions from trimming what isn't in files.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from engine import clock
from engine.config import Config
from engine.errors import InputRefused, TocsinError, TransportUnreachable
from engine.eventtime import WORDS, EventTime
from engine.instruments import Instruments, SymbolTable
from engine.outage import again, passes
from engine.partition.checkpoint import UNREADABLE, manifest_decoder
from engine.partition.retention import HOLDS, hold
from engine.registry.controls import Controls, read_controls
from engine.registry.rollout import Settings
from engine.registry.settings import counted, counted_now
from engine.registry.store import Registry
from engine.transports import open_log
from engine.transports.base import Log
from engine.types import I64, START, Cursor, Entry, Kind, Refused, TickBatch
from engine.wire.ticks import decode

from .lake import CHECKPOINTS, CONTROLS, DAY_NS, OUTCOMES, REFUSED, TICKS, Gap, Part, Status, day_of
from .lake_writer import Fresh, Writer

log = logging.getLogger("tocsin")

EVERY_NS = 10_000_000_000
ROWS = 200_000
BYTES = 2**25
"""A commit is due after so long, so many rows, or so many bytes of records, whatever comes first."""

READ = 1000
"""Most records per partition and read."""
READ_BYTES = 2**22
"""About so much of a partition is read at once: a thousand single ticks, but only a few of the largest frames."""
BLOCK_MS = 250


class _Partition:
    """What is read of one partition and not in files yet, and the state of its event clocks."""

    def __init__(self, number: int, part: Part) -> None:
        self.number = number
        self.rules = Instruments.from_dict(part.rules)
        self.followed = dict(part.followed)
        self.symbols = SymbolTable(self.rules)
        self.event_time = EventTime()
        for sid, (instrument, row) in enumerate(zip(part.instruments, part.clocks, strict=True)):
            self.symbols.restore(instrument)
            self.event_time.rows.restore(sid, row.ljust(8 * WORDS, b"\0"))
        self.committed = self.cursor = part.cursor
        self.appended = part.appended
        self.clear()

    def clear(self) -> None:
        self.committed = self.cursor
        self.judged: list[tuple[TickBatch, I64]] = []
        self.refused: list[tuple[Refused, int]] = []
        """With the append stamp of its record."""
        self.controls: list[Entry] = []

    def count(self, rules: Instruments) -> None:
        """From here on so; a symbol that is counted otherwise than before starts anew, as in the engine."""
        self.rules = rules
        for sid in self.symbols.recount(rules):
            self.event_time.rows.clear(sid)

    def state(self) -> Part:
        self.event_time.rows.ensure(len(self.symbols))
        clocks = [self.event_time.rows.snapshot(sid).rstrip(b"\0") for sid in range(len(self.symbols))]
        return Part(
            self.cursor, self.appended, self.symbols.instruments, clocks, self.rules.to_dict(), dict(self.followed)
        )


class Recorder:
    """One log into one lake: `Recorder(…).run(stop)`; `commit` at once makes everything read so far durable."""

    def __init__(
        self, source: Log, folder: Path, controls: Controls, quota: float, pulse: Callable[[], None] = lambda: None
    ) -> None:
        """quota: bytes. pulse: called again and again while it lives, in the midst of long commits too.

        Raises OwnershipLost `lake_locked`, TransportUnreachable `lake_foreign` and others, InputRefused `lake_format`,
        `lake_damaged`, TocsinError `lake_write`.
        """
        self._log = source
        self._controls = controls
        self._pulse = pulse
        with _writing(folder):
            self.writer = Writer(folder, source, quota, log.warning, pulse)
        kept = self.writer.commit
        self._parts = [_Partition(number, part) for number, part in enumerate(kept.parts)]
        for part in self._parts:
            if not self._whole(part):
                self._count_as_there(part)
        self._newest = kept.newest
        self._waiting_rows = self._waiting_bytes = 0
        self._commits = self._records = 0
        self._verdicts: Counter[str] = Counter()
        self._read = 16
        self._next_commit = self._next_status = clock.monotonic_ns() + EVERY_NS
        self._hold()

    def run(self, stop: Callable[[], bool], hurry: Callable[[], bool] = lambda: False) -> None:
        """Until `stop` says so; what was read is committed then, and whenever `hurry` says so.

        Raises TransportUnreachable, ModelRefused (`control_newer`), TocsinError `lake_write`.
        """
        self._tell()
        while not stop():
            self._pulse()
            self.take(self._log.read(self.cursors, self._read, BLOCK_MS))
            now = clock.monotonic_ns()
            if self._waiting_rows >= ROWS or self._waiting_bytes >= BYTES or now >= self._next_commit or hurry():
                self.commit()
                self._next_commit = now + EVERY_NS
            if now >= self._next_status:
                self._tell()
                self._next_status = now + EVERY_NS
        self.commit()
        self._tell()

    def close(self) -> None:
        """Let another recorder in. The log stays open, and the hold on it in force."""
        self.writer.close()

    @property
    def cursors(self) -> dict[int, Cursor]:
        """Where each partition is read on from."""
        return {part.number: part.cursor for part in self._parts}

    # ---- from the log

    def take(self, found: Mapping[int, list[Entry]]) -> None:
        """Records after `cursors`, by partition."""
        size = 0
        for number, entries in found.items():
            part = self._parts[number]
            for control, run in groupby(entries, lambda entry: entry.kind is Kind.CONTROL):
                if control:
                    for entry in run:
                        self._control(part, entry)
                else:
                    self._judge(part, list(run))
            part.cursor, part.appended = entries[-1].cursor, entries[-1].appended
            self._records += len(entries)
            size += sum(len(entry.payload) for entry in entries)
        self._waiting_bytes += size
        if found:
            records = sum(map(len, found.values()))
            self._read = max(1, min(READ, READ_BYTES * records // max(size, 1)))

    def _judge(self, part: _Partition, entries: list[Entry]) -> None:
        ticks, refused = decode(entries, part.symbols)
        if refused:
            appended = {entry.cursor: entry.appended for entry in entries}
            part.refused += [(item, appended[item.position.cursor]) for item in refused]
            self._verdicts.update(item.code.value for item in refused)
        self._waiting_rows += len(ticks) + len(refused)
        if not len(ticks):
            return
        verdicts = part.event_time.admit(ticks)
        part.judged.append((ticks, verdicts))
        for outcome, count in zip(OUTCOMES, np.bincount(verdicts, minlength=len(OUTCOMES)).tolist(), strict=True):
            if count:
                self._verdicts[outcome] += count
        self._newest = max(self._newest, int(ticks.ts[verdicts == 0].max(initial=0)))

    def _control(self, part: _Partition, entry: Entry) -> None:
        """Kept as it came, whosever it is; what of it changes how the ticks behind it are read, holds from here on."""
        part.controls.append(entry)
        try:
            control = self._controls.check(entry, part.followed)
        except InputRefused:
            return                                 # the engine refuses it as well
        if control is None:
            return
        part.followed[control.slot] = control.k
        if isinstance(control.body, Settings):
            part.count(counted(control.body, self._log.rules))

    # ---- into the lake

    def commit(self) -> None:
        """Everything read so far is in files when this returns; nothing to do where nothing was read.

        Raises TransportUnreachable, and TocsinError `lake_write` where the files can't be written.
        """
        moved = [part for part in self._parts if part.cursor > part.committed]
        if not moved:
            return
        self._controls.refresh()                   # raises `identity` if what was read is another log's by now
        gaps = [gap for part in moved if (gap := self._gap(part))]
        with _writing(self.writer.folder):
            self.writer.append(self._fresh(moved), [part.state() for part in self._parts], self._newest, gaps)
        for part in moved:
            part.clear()
        self._waiting_rows = self._waiting_bytes = 0
        self._commits += 1
        self._hold()

    def _fresh(self, moved: list[_Partition]) -> Iterator[Fresh]:
        for part in moved:
            yield from tick_rows(part.number, part.judged)
            yield from _by_day(REFUSED, part.number, sorted(
                (*item.position.cursor, item.position.ordinal, appended, item.code.value, item.payload)
                for item, appended in part.refused
            ), _REFUSED)
            yield from _by_day(CONTROLS, part.number, [
                (*entry.cursor, 0, entry.appended, entry.payload) for entry in part.controls
            ], _CONTROLS)
        today = max(part.appended for part in moved)
        for part in self._parts:
            if not self.writer.has(CHECKPOINTS, day_of(today), part.number):
                yield from _by_day(CHECKPOINTS, part.number, self._checkpoint(part, today), _CHECKPOINTS)

    def _checkpoint(self, part: _Partition, today: int) -> list[tuple[Any, ...]]:
        """The newest one that the lake reaches: from it on the day can be gone through again. None: no rows."""
        for encoded in self._log.checkpoints(part.number):
            try:
                manifest = manifest_decoder.decode(encoded)
            except UNREADABLE:
                continue                           # another version's: its engine knows what to do with it, we don't
            if not START < manifest.cursor <= part.cursor:
                continue
            names = [symbol.blob for symbol in manifest.symbols]
            blobs = self._log.staged(part.number, names)
            if None not in blobs:                  # else a newer one was taken just now, and this one's were forgotten
                kept = zip(["manifest", *names], [encoded, *blobs], strict=True)
                return [(*manifest.cursor, n, today, self._log.deployment, *item) for n, item in enumerate(kept)]
        return []

    def _count_as_there(self, part: _Partition) -> None:
        """A copy of the settings may be gone with what was trimmed: as the oldest checkpoint has it, which the trimming went
        up to; else as the newest settings say."""
        found = []
        for encoded in self._log.checkpoints(part.number):
            with suppress(*UNREADABLE):
                found.append(manifest_decoder.decode(encoded))
        if found:
            oldest = min(found, key=lambda manifest: manifest.cursor)
            part.followed = dict(oldest.followed)
            part.count(counted(oldest.settings, self._log.rules))
        else:
            self._controls.refresh()
            part.count(counted_now(self._log, self._controls))

    def _whole(self, part: _Partition) -> bool:
        """Whether the log held everything between the last commit and now: the record at that commit's cursor says so."""
        if part.committed == START:
            extent = self._log.extent(part.number)
            return extent.kept == extent.appended
        return self._log.entry(part.number, part.committed) is not None

    def _gap(self, part: _Partition) -> Gap | None:
        """What the log forgot before it was recorded."""
        if self._whole(part):
            return None
        gap = Gap(part.number, part.committed, max(part.committed, self._log.extent(part.number).first))
        log.error(
            "partition %d: the log no longer holds the record at %s, where the lake ended, and begins at %s now; ticks may "
            "be missing in the lake there", gap.partition, self._log.format(gap.after), self._log.format(gap.before),
        )
        return gap

    # ---- what others are told

    def _hold(self) -> None:
        name = f"{HOLDS}recorder.{self.writer.commit.lake[:12]}"
        self._log.post(name, hold({part.number: part.committed for part in self._parts}))

    def _tell(self) -> None:
        now = clock.wall_ns()
        behind = [part for part in self._parts if self._log.extent(part.number).last > part.committed]
        lag = max((now - part.appended for part in behind if part.appended), default=0)
        status = Status(
            os.getpid(), now, self._records, sum(self._verdicts[outcome] for outcome in OUTCOMES), dict(self._verdicts),
            self._commits, self.writer.commit.at, self.writer.files, self.writer.bytes, len(self.writer.commit.gaps),
            len(behind), round(lag / 1e9, 3),
        )
        temp = self.writer.folder / ".status.tmp"
        with _writing(self.writer.folder):
            temp.write_bytes(msgspec.json.encode(status))
            os.replace(temp, self.writer.folder / "status")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TocsinError(
            "lake_write", f"{folder} can't be written: {error.strerror or error}",
            hint="make room or mend the disk; no tick is lost, the log keeps what isn't recorded yet",
        ) from None


_PLACE = {"major": pl.Int64, "minor": pl.Int64, "ordinal": pl.Int64, "appended": pl.Int64}
_REFUSED = _PLACE | {"code": pl.String, "payload": pl.Binary}
_CONTROLS = _PLACE | {"payload": pl.Binary}
_CHECKPOINTS = _PLACE | {"deployment": pl.String, "name": pl.String, "payload": pl.Binary}


def _by_day(table: str, partition: int, rows: list[tuple[Any, ...]], schema: dict[str, Any]) -> Iterator[Fresh]:
    """Rows in log order, by the day of their append stamp (1970 where the log doesn't say)."""
    for day, group in groupby(rows, lambda row: row[3] // DAY_NS):
        frame = pl.DataFrame(list(group), schema=schema, orient="row")
        yield Fresh(table, "", day_of(day * DAY_NS), partition, frame.insert_column(0, _constant("partition", partition, frame)))


def _constant(name: str, value: int, frame: pl.DataFrame) -> pl.Series:
    return pl.repeat(value, frame.height, dtype=pl.Int32, eager=True).alias(name)


def tick_rows(partition: int, judged: list[tuple[TickBatch, I64]]) -> Iterator[Fresh]:
    """Ticks and event time's verdicts on them, by symbol and day of the stamp.

    Ticks that were counted otherwise, before settings changed, are files of their own.
    """
    for _, same in groupby(judged, lambda pair: id(pair[0].instruments)):
        batches, verdicts = zip(*same, strict=True)
        ticks = TickBatch.concat(list(batches))
        day = ticks.ts // DAY_NS
        order = np.lexsort((day, ticks.sid))                   # stable: within each group as in the log
        scales = np.array([(i.scale, i.size_scale) for i in ticks.instruments], np.int8)[ticks.sid[order]]
        frame = pl.DataFrame({
            "partition": np.full(len(ticks), partition, np.int32),
            **{name: getattr(ticks, name)[order] for name in (
                "major", "minor", "ordinal", "appended", "ts", "bid", "ask", "bid_size", "ask_size", "seq"
            )},
            "verdict": pl.Series(OUTCOMES, dtype=pl.String).gather(np.concatenate(verdicts)[order]),
            "scale": scales[:, 0], "size_scale": scales[:, 1],
        })
        sids, days = ticks.sid[order], day[order]
        starts = np.flatnonzero(np.diff(sids, prepend=-1) | np.diff(days, prepend=-1))
        for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(ticks)], strict=True):
            symbol = ticks.instruments[sids[start]].symbol
            yield Fresh(TICKS, symbol, day_of(int(days[start]) * DAY_NS), partition, frame[start:end])


def record(
    config: Config, stop: Callable[[], bool], hurry: Callable[[], bool], pulse: Callable[[], None] = lambda: None
) -> None:
    """Record the configured log into the configured lake until `stop` says so; `hurry`: whether to commit now.

    pulse: as in `Recorder`. Where the log goes away for a while it is waited for, and recorded on from the last commit.

    Raises what `Recorder` raises but for what passes, and UsageError where there is no public key to check control records
    with.
    """
    public = Registry(config.registry_path, config.trust_path).public_key()

    def open_it() -> Log:
        log = config.log
        return open_log(config.url, deployment=log.deployment, create=log.partitions, rules=config.rules())

    def waiting() -> bool:
        pulse()
        return stop()

    source = open_it()
    try:
        while not _record(source, config, public, stop, hurry, pulse):
            found = again(open_it, source.identity, waiting, log.warning)
            if found is None:
                return
            source.close()
            source = found
    finally:
        source.close()


def _record(
    source: Log, config: Config, public: Ed25519PublicKey, stop: Callable[[], bool], hurry: Callable[[], bool],
    pulse: Callable[[], None],
) -> bool:
    """Until `stop` says so; False if the log was lost before."""
    try:
        recorder = Recorder(source, config.lake_path, read_controls(source, public), config.lake.quota_gb * 1e9, pulse)
        try:
            log.info("recording %s into %s", source.url, config.lake_path)
            recorder.run(stop, hurry)
        finally:
            recorder.close()
    except TransportUnreachable as error:
        if not passes(error):
            raise
        log.warning("the log is lost: %s", error.args[0])
        return False
    return True
