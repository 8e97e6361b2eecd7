"""A log with all that real ones hold, and what its lake must hold then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from engine.errors import InputRefused
from engine.eventtime import EventTime
from engine.instruments import Instrument, Instruments, SymbolTable
from engine.partitioner import partition_of
from engine.registry import signing
from engine.registry.controls import Controls
from engine.registry.rollout import Settings
from engine.registry.settings import counted
from engine.transports.base import Log
from engine.types import START, Entry, Kind, TickBatch
from engine.wire import frame
from engine.wire.ticks import decode, encode
from tests.made import made_ticks
from trainers import lake_writer
from trainers.lake import LOG_ORDER, OUTCOMES, Lake, folder_of, segments_in
from trainers.lake_verify import verify
from trainers.recorder import Recorder

DAY = 86_400_000_000_000
NONSENSE = [b"{}", b"no tick\n", b"TKF\x01 torn", b'{"symbol":"MADE0","ts":1,"bid":-1,"ask":2}', b"\xff\x00", b""]


def days_of_ticks(n: int, symbols: int = 3, days: int = 3, seed: int = 7) -> TickBatch:
    """Flawed ticks of several symbols, of both partitions of two, over several days."""
    ticks = made_ticks(n, symbols, seed)
    ticks.instruments = [Instrument(f"MADE{s + 3}") for s in range(symbols)]
    if n > 2000:
        ticks.ts[n // 2:] -= 900_000_000_000       # its hole would be most of the time
    ticks.ts = ticks.ts[0] + (ticks.ts - ticks.ts[0]) * max(1, days * DAY // int(np.ptp(ticks.ts)))
    return ticks


def fill(log: Log, ticks: TickBatch, seed: int = 1, rubbish: bool = True) -> None:
    """Singles, lines and frames in random turns, what is no tick and forged control records between them."""
    rng = np.random.default_rng(seed)
    home = np.array([partition_of(symbol, log.partitions) for symbol in ticks.symbols])[ticks.sid]
    at = 0
    while at < len(ticks):
        n = int(rng.integers(1, 40))
        for partition in range(log.partitions):
            rows = at + np.flatnonzero(home[at:at + n] == partition)
            if not rows.size:
                continue
            match int(rng.integers(0, 3)):
                case 0:
                    log.append(partition, [encode(ticks, row) for row in rows.tolist()])
                case 1:
                    log.append(partition, [b"\n".join(encode(ticks, row) for row in rows.tolist())])
                case _:
                    log.append(partition, [frame.pack(ticks[rows])])
            if rubbish and rng.random() < 0.1:
                log.append(partition, [NONSENSE[int(rng.integers(0, len(NONSENSE)))]])
            if rubbish and rng.random() < 0.05:
                log.append(partition, [b"forged %d" % at], Kind.CONTROL)
        at += n


def controls_of(log: Log, folder: Path) -> Controls:
    """Whatever was signed with the key pair in a folder, made where there is none."""
    if not (folder / signing.PUBLIC).exists():
        signing.generate(folder)
    return Controls(log, signing.load_public(folder / signing.PUBLIC))


def recorder(log: Log, folder: Path, quota: float = 50e9) -> Recorder:
    return Recorder(log, folder / "lake", controls_of(log, folder / "keys"), quota)


def record_all(log: Log, folder: Path, commits: int = 1, **options: Any) -> None:
    """Everything the log holds, in about so many commits."""
    here = recorder(log, folder, **options)
    try:
        total = sum(log.extent(p).kept for p in range(log.partitions))
        step = max(1, total // commits // log.partitions)
        while found := log.read(here.cursors, step):
            here.take(found)
            here.commit()
    finally:
        here.close()


def entries_of(log: Log, partition: int) -> list[Entry]:
    return log.read({partition: START}, 10**9).get(partition, [])


def truth(log: Log, controls: Controls) -> dict[str, list[tuple[Any, ...]]]:
    """What the lake must hold, record by record: no batches, no files."""
    held: dict[str, list[tuple[Any, ...]]] = {"ticks": [], "refused": [], "controls": []}
    for partition in range(log.partitions):
        table, clock, followed = SymbolTable(Instruments()), EventTime(), {}
        for entry in entries_of(log, partition):
            if entry.kind is Kind.CONTROL:
                held["controls"].append((partition, *entry.cursor, entry.appended, entry.payload))
                try:
                    control = controls.check(entry, followed)
                except InputRefused:
                    continue
                if control and isinstance(control.body, Settings):
                    followed[control.verb] = control.k
                    for sid in table.recount(counted(control.body, Instruments())):
                        clock.rows.clear(sid)
                continue
            ticks, refused = decode([entry], table)
            held["refused"] += [
                (partition, *r.position.cursor, r.position.ordinal, entry.appended, r.code.value, r.payload) for r in refused
            ]
            for row, verdict in enumerate(clock.admit(ticks).tolist()):
                instrument = ticks.instruments[ticks.sid[row]]
                held["ticks"].append((
                    instrument.symbol, partition, *(int(getattr(ticks, name)[row]) for name in TICK), OUTCOMES[verdict],
                    instrument.scale, instrument.size_scale,
                ))
    return {table: sorted(rows, key=repr) for table, rows in held.items()}


TICK = ("major", "minor", "ordinal", "appended", "ts", "bid", "ask", "bid_size", "ask_size", "seq")


def held(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """What a lake holds, in the shape of `truth`."""
    lake = Lake(folder / "lake")
    symbols = {i.symbol for part in lake.commit().parts for i in part.instruments}
    ticks = [(symbol, *row) for symbol in symbols for row in lake.rows("ticks", symbol).rows()]
    refused, controls = lake.rows("refused"), lake.rows("controls")
    return {
        "ticks": sorted(ticks, key=repr), "refused": sorted(refused.rows(), key=repr),
        "controls": sorted(controls.drop("ordinal").rows() if controls.height else [], key=repr),
    }


def stored(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every tick file that lies in a lake, by symbol's folder, whether a reader would count it or not."""
    rows: dict[str, list[tuple[Any, ...]]] = {}
    for file in sorted((folder / "lake" / "ticks").glob("*/*/*")):
        rows.setdefault(file.parent.parent.name, []).extend(pl.read_parquet(file).select(LOG_ORDER).rows())
    return rows


def assert_equal(log: Log, folder: Path) -> None:
    """Row by row, nothing lost, nothing twice, nothing beside."""
    expected, found = truth(log, controls_of(log, folder / "keys")), held(folder)
    for table, rows in expected.items():
        assert found[table] == rows, table
    for file in (folder / "lake").rglob("*.parquet"):
        (segment,) = (segment for segment in segments_in(file.parent) if segment.path == file)
        places = pl.read_parquet(file).select(LOG_ORDER).rows()
        assert places == sorted(places)
        assert (segment.first, segment.last) == (places[0][:2], places[-1][:2])
    found = verify(Lake(folder / "lake"))
    assert found.faults == []
    assert found.rows >= sum(map(len, expected.values()))
    files = stored(folder)
    assert all(len(rows) == len(set(rows)) for rows in files.values())
    for symbol in {row[0] for row in expected["ticks"]}:
        assert len(files[folder_of(symbol)]) == sum(row[0] == symbol for row in expected["ticks"])


class Crash(BaseException):
    """The process ends here."""


class Steps:
    """Counts what changes the file system, and ends the process at some of it: before it is done, or right after."""

    def __init__(self, monkeypatch: Any, crash: Callable[[int], str]) -> None:
        """crash: by the number of the step "" (go on), "before" or "after"."""
        self.count = 0
        self.crash = crash
        for name in ("fsync", "mkdir", "replace", "unlink"):
            monkeypatch.setattr(lake_writer.os, name, self._counted(getattr(lake_writer.os, name)))

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **options: Any) -> Any:
            self.count += 1
            when = self.crash(self.count)
            if when == "before":
                raise Crash
            done = real(*args, **options)
            if when == "after":
                raise Crash
            return done

        return step
