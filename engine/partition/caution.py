"""Caution: which row, or which bundle, ends every engine that meets it. Pure but for `say`, which tells the log.

Where the owners before this one came no further than this one starts, rows are tried one by one, each announced in the
log before it is: what is announced still when the next owner comes is what the last one died of, or died during. What was
announced in two lives in a row, and so ended three with the one that came before, is guilty. A single row costs itself
only; a bundle that never decided anything here is voided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from ..transports.base import Tenure
from ..types import Cursor, Position

ROWS = 20_000
"""After so many the trouble is behind us: an engine holds no more of a partition in hand."""

GUILTY = 2
"""Lives in a row that ended in the middle of the same trial."""

WHOLE = -1
"""Instead of a row: the decoding of its record."""

Act: TypeAlias = Literal["row", "ask", "control"]
"""Taking a row into the features; asking the ensemble about it; following a control record."""


class Mark(Struct, frozen=True, array_like=True):
    """A trial as it is announced."""

    cursor: Cursor
    row: int
    act: Act
    life: str
    """Of the process that tries."""
    tries: int = 1


_decoder = msgspec.json.Decoder(Mark)


def fruitless(trace: Sequence[Tenure]) -> int:
    """How many owners in a row, before the newest of an epoch trace, came no further than where that one starts.

    One that gave the partition up by itself suffered nothing.
    """
    count = 0
    for before, now in zip(trace[-2::-1], trace[:0:-1], strict=False):
        if not before.owner or (before.tail, before.checkpoint) != (now.tail, now.checkpoint):
            break
        count += 1
    return count


class Caution:
    """Of one partition, from a takeover on."""

    def __init__(
        self, trace: Sequence[Tenure], marked: bytes, tail: Cursor, say: Callable[[bytes], None], life: str = "",
        survived: Callable[[str], bool] = lambda life: False,
    ) -> None:
        """trace: the newest entry is this takeover. marked: what the last owner announced. tail: up to where rows are known
        to be harmless, since decisions behind them were published. life: of this process. survived: whether the process of
        a life lives still; then what it announced didn't end it: it lost the partition, or the log."""
        before = _read(marked)
        self._before = before if before and not survived(before.life) else None
        self._life = life
        self._say = say
        self._tail = tail
        self._announced = bool(marked)
        self._left = ROWS if self._before or fruitless(trace) else 0

    @property
    def on(self) -> bool:
        return self._left > 0

    def at(self, cursor: Cursor) -> bool:
        """Whether a record's rows are to be tried one by one."""
        return self.on and cursor >= self._tail

    def try_(self, position: Position, act: Act) -> None:
        """Announce a trial."""
        before = self._before
        again = before and (before.cursor, before.row, before.act) == (position.cursor, position.ordinal, act)
        mark = Mark(position.cursor, position.ordinal, act, self._life, before.tries + 1 if before and again else 1)
        self._announced = True
        self._say(msgspec.json.encode(mark))

    def guilty(self, position: Position) -> Act | None:
        """What ended the owners before us here, if that is proven."""
        before = self._before
        found = before and before.tries >= GUILTY and (before.cursor, before.row) == (position.cursor, position.ordinal)
        return before.act if before and found else None

    def rest(self) -> None:
        """What was announced is done with; another partition, or nobody, is at work now."""
        if self._announced:
            self._announced = False
            self._say(b"")

    def passed(self, rows: int) -> None:
        """So many rows are done with."""
        if self.on:
            self._left -= rows

    def over(self) -> None:
        """Everything there was is done with: no need any more."""
        self._left = 0
        self.rest()


def _read(marked: bytes) -> Mark | None:
    """None for nothing, and for what another version wrote."""
    try:
        return _decoder.decode(marked) if marked else None
    except msgspec.DecodeError:
        return None
