"""A feed that may be killed at any moment: `python -m tests.chaos.feeder URL FILE RATE ROWS FIRST SINCE`.

It asks the log how far the file has come and sends the rest: at once what is due by now, where FIRST ticks were at SINCE (s,
monotonic) and RATE a second have been since, then the others evenly. Nothing but the log is trusted; a note beside the file
only saves reading the log from its beginning again.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec
import numpy as np

from engine.errors import TocsinError
from engine.feeds.delivery import Delivery
from engine.feeds.send import Pace, send
from engine.files import read_ticks
from engine.instruments import Instruments, SymbolTable
from engine.partitioner import partition_of
from engine.stopping import Stop
from engine.transports import open_log
from engine.transports.base import Log
from engine.types import I64, START, Cursor, Kind, TickBatch
from engine.wire.ticks import decode

PAGE = 2000


class Note(msgspec.Struct):
    """By partition: the last record looked at, and how many of the file's ticks stand up to it."""

    after: dict[int, Cursor]
    done: dict[int, int]


class Course:
    """How far the ticks of a file have come. A tick that an unheard append brought twice, or later, is passed over."""

    def __init__(self, ticks: TickBatch, partitions: int, note: Note | None = None) -> None:
        numbers = {symbol: sid for sid, symbol in enumerate(ticks.symbols)}
        home = np.array([partition_of(symbol, partitions) for symbol in numbers], np.int64)[ticks.sid]
        wanted = _matrix(ticks, numbers)
        self._numbers = numbers
        self._rows = {p: np.flatnonzero(home == p) for p in range(partitions)}
        self._wanted = {p: wanted[rows] for p, rows in self._rows.items()}
        self._tables = [SymbolTable(Instruments()) for _ in range(partitions)]
        self.note = note or Note(dict.fromkeys(range(partitions), START), dict.fromkeys(range(partitions), 0))

    def look(self, log: Log) -> None:
        """Up to the log's end."""
        note = self.note
        for partition in note.after:
            if log.entry(partition, note.after[partition]) is None:        # its end was lost: look again from the beginning
                note.after[partition], note.done[partition] = START, 0
            while entries := log.read({partition: note.after[partition]}, PAGE).get(partition):
                ticks, _ = decode([entry for entry in entries if entry.kind is not Kind.CONTROL], self._tables[partition])
                note.done[partition] += self._followed(partition, _matrix(ticks, self._numbers))
                note.after[partition] = entries[-1].cursor

    def _followed(self, partition: int, found: I64) -> int:
        """How many of the ticks due stand among those found, in order."""
        first = at = self.note.done[partition]
        while len(found):
            due = self._wanted[partition][at:at + len(found)]
            equal = (found[:len(due)] == due).all(axis=1)
            run = len(due) if equal.all() else int(equal.argmin())
            at, found = at + run, found[run + 1:]
        return at - first

    @property
    def rest(self) -> I64:
        """The ticks that aren't in the log, by number."""
        return np.sort(np.concatenate([rows[self.note.done[p]:] for p, rows in self._rows.items()]))


def _matrix(ticks: TickBatch, numbers: dict[str, int]) -> I64:
    """A row per tick: all that tells it from others."""
    sid = np.array([numbers[symbol] for symbol in ticks.symbols], np.int64)[ticks.sid] if len(ticks) else ticks.sid
    return np.column_stack([sid, ticks.ts, ticks.bid, ticks.ask, ticks.bid_size, ticks.ask_size])


def main(url: str, file: str, rate: str, rows: str, first: str, since: str) -> int:
    stop = Stop()
    ticks = read_ticks([file], Instruments())
    beside = Path(file).with_suffix(".note")
    log = open_log(url)
    try:
        course = Course(ticks, log.partitions, msgspec.json.decode(beside.read_bytes(), type=Note) if beside.exists() else None)
        course.look(log)
    finally:
        log.close()
    beside.with_suffix(".new").write_bytes(msgspec.json.encode(course.note))
    beside.with_suffix(".new").rename(beside)
    rest = ticks[course.rest]
    delivery = Delivery(lambda: open_log(url), stop=stop, tell=lambda text: print(text, file=sys.stderr))
    due = int(first) + int(float(rate) * (time.monotonic() - float(since))) - (len(ticks) - len(rest))
    print(f"ready: {len(rest)} ticks to send, {due} of them at once", file=sys.stderr, flush=True)
    try:
        send(delivery, rest[:max(due, 0)], Pace(), int(rows), stop)
        send(delivery, rest[max(due, 0):], Pace(rate=float(rate)), int(rows), stop)
    finally:
        delivery.close()
    return stop.exit


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except TocsinError as error:
        print(f"tocsin: {error}", file=sys.stderr)
        sys.exit(error.exit)
