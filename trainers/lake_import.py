"""Ticks of files into the lake, as if they had been recorded: judged by event time, in one commit, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine import clock
from engine.errors import InputRefused
from engine.eventtime import EventTime, refusals
from engine.instruments import Instruments
from engine.types import I64, TickBatch
from engine.wire.stamps import ns_to_rfc3339

from .lake import DAY_NS, TICKS, Commit, Import, Lake, Segment, day_of
from .lake_writer import Source, Writer
from .recorder import tick_rows


class Origin(NamedTuple):
    """The log that a lake is of, as the lake itself knows it."""

    identity: str
    partitions: int
    rules: Instruments
    """How its prices are counted."""


class Taken(NamedTuple):
    """What became of the rows."""

    rows: int
    refused: dict[str, int]
    """Of them, by code: they are in the lake too, with their verdict, as the recorder keeps them."""
    days: int


def origin(commit: Commit) -> Origin:
    return Origin(commit.identity, len(commit.parts), Instruments.from_dict(commit.parts[0].rules))


def take_in(
    folder: Path, source: Source, ticks: TickBatch, names: Sequence[str], quota: float, tell: Callable[[str], None]
) -> Taken:
    """ticks: as read from files called `names`. source: the log that the lake is of, or is to be of. quota: bytes.

    A file's rows are judged by themselves, in their order. Raises InputRefused `lake_day` where the lake has a symbol's day
    already and rows aren't before the first there, `lake_full`, and what `Writer` raises; nothing is taken in then.
    """
    writer = Writer(folder, source, quota, tell)
    try:
        commit = writer.commit
        _check_days(Lake(folder), ticks)
        verdicts = EventTime().admit(ticks)
        first = 1 + (commit.imports[-1].last[1] if commit.imports else 0)
        own = {name: column for name, column in ticks.columns().items() if name not in ("major", "minor", "ordinal")}
        rows = TickBatch(ticks.instruments, minor=np.arange(first, first + len(ticks)), **own)
        taken = Import(list(names), clock.wall_ns(), (0, first), (0, first + len(ticks) - 1), ticks.instruments)
        newest = max(commit.newest, int(ticks.ts[verdicts == 0].max(initial=0)))
        writer.take_in(tick_rows(len(commit.parts), [(rows, verdicts)]), taken, newest)
        return Taken(len(ticks), refusals(verdicts), len(np.unique(ticks.ts // DAY_NS)))
    finally:
        writer.close()


def _check_days(lake: Lake, ticks: TickBatch) -> None:
    for sid, instrument in enumerate(ticks.instruments):
        first = lake.over(TICKS, instrument.symbol, _first_stamps)
        stamps = ticks.ts[ticks.sid == sid]
        for day in sorted({day_of(ts) for ts in _day_starts(stamps)} & first.keys()):
            on_it = stamps[(stamps >= _start(day)) & (stamps < _start(day) + DAY_NS)]
            if on_it.max() >= first[day]:
                raise InputRefused(
                    "lake_day", f"{lake.folder} has {instrument.symbol} on {day} already, from {ns_to_rfc3339(first[day])} on; "
                    f"{int((on_it >= first[day]).sum()):,} of the {on_it.size:,} rows of that day aren't before it",
                    hint="leave that day out, or what of it is there; nothing was taken in",
                )


def _first_stamps(segments: list[Segment]) -> dict[str, int]:
    """ns UTC of the earliest tick by day."""
    import polars as pl

    first: dict[str, int] = {}
    for segment in segments:
        found = pl.scan_parquet(segment.path).select(pl.col("ts").min()).collect().item()
        day = segment.folder.name
        first[day] = min(found, first.get(day, found))
    return first


def _day_starts(stamps: I64) -> list[int]:
    days: list[int] = (np.unique(stamps // DAY_NS) * DAY_NS).tolist()
    return days


def _start(day: str) -> int:
    return int(np.datetime64(day, "D").astype(np.int64)) * DAY_NS
