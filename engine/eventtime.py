"""Event time: which tick is taken, and why another is not. Decided by the log alone, never by a clock.

Order within a symbol is (ts, seq); without `seq`, ties stand in log order and a duplicate is a tick with the same
quote and sizes as one of the symbol's last 64 at that stamp. A tick is future-dated if it is stamped more than
TOLERANCE after the log stored it. A refused tick changes no state.
"""

from __future__ import annotations

import numpy as np

from .instruments import Instrument
from .jit import kernel, pointer, subkernel
from .state import SymbolRows
from .types import I64, Code, TickBatch

TOLERANCE = 2_000_000_000
"""ns a tick's stamp may lie after the log's own."""

REMEMBERED = 64
"""Ticks of the last stamp among which a duplicate is looked for."""

VERDICTS: tuple[Code | None, ...] = (None, Code.CROSSED, Code.FUTURE, Code.LATE, Code.DUPLICATE)
_TAKEN, _CROSSED, _FUTURE, _LATE, _DUPLICATE = range(5)

_TS, _SEQ, _COUNT, _RING = 0, 1, 2, 3
WORDS = _RING + 4 * REMEMBERED


@kernel
def _admit(
    sid: I64, ts: I64, bid: I64, ask: I64, bid_size: I64, ask_size: I64, seq: I64, appended: I64, keep_crossed: I64,
    rows: I64, verdicts: I64,
) -> bool:
    """False, and nothing done, where a sid has no row."""
    for i in range(ts.size):
        if sid[i] < 0 or sid[i] >= keep_crossed.size:
            return False
    for i in range(ts.size):
        verdicts[i] = judge(
            pointer(rows, sid[i]), keep_crossed[sid[i]], ts[i], bid[i], ask[i], bid_size[i], ask_size[i], seq[i], appended[i]
        )
    return True


@subkernel
def judge(
    row: I64, keep_crossed: int, ts: int, bid: int, ask: int, bid_size: int, ask_size: int, seq: int, appended: int
) -> int:
    """The verdict on one tick; `row` moves on if it's taken. `_COUNT` is how many ticks stand at the last stamp, 0 before any."""
    if bid > ask and keep_crossed == 0:
        return _CROSSED
    if appended > 0 and ts > appended + TOLERANCE:
        return _FUTURE
    if row[_COUNT] > 0 and ts < row[_TS]:
        return _LATE
    if row[_COUNT] > 0 and ts == row[_TS]:
        if seq >= 0 and row[_SEQ] >= 0:
            if seq == row[_SEQ]:
                return _DUPLICATE
            if seq < row[_SEQ]:
                return _LATE
        elif _seen(row, bid, ask, bid_size, ask_size):
            return _DUPLICATE
    else:
        row[_TS] = ts
        row[_COUNT] = 0
    at = _RING + 4 * (row[_COUNT] % REMEMBERED)
    row[at] = bid
    row[at + 1] = ask
    row[at + 2] = bid_size
    row[at + 3] = ask_size
    row[_SEQ] = seq
    row[_COUNT] += 1
    return _TAKEN


@subkernel
def _seen(row: I64, bid: int, ask: int, bid_size: int, ask_size: int) -> bool:
    """Whether one of the last ticks of this stamp was the same."""
    for k in range(min(row[_COUNT], REMEMBERED)):
        at = _RING + 4 * k
        if row[at] == bid and row[at + 1] == ask and row[at + 2] == bid_size and row[at + 3] == ask_size:
            return True
    return False


def refusals(verdicts: I64) -> dict[str, int]:
    """How many rows were refused, by code."""
    counts = np.bincount(verdicts, minlength=len(VERDICTS)).tolist()
    return {code.value: count for code, count in zip(VERDICTS, counts, strict=True) if code and count}


class EventTime:
    """The event clock of each symbol of a partition."""

    def __init__(self) -> None:
        self.rows = SymbolRows(WORDS)
        self._instruments: list[Instrument] = []
        self._known = 0
        self._keep_crossed = np.zeros(0, np.int64)

    def admit(self, ticks: TickBatch) -> I64:
        """An index into VERDICTS per row, 0 for a tick that is taken; the state moves on for those."""
        keep_crossed = self.keeps_crossed(ticks.instruments)
        self.rows.ensure(self._known)
        verdicts = np.empty(len(ticks), np.int64)
        if not _admit(
            ticks.sid, ticks.ts, ticks.bid, ticks.ask, ticks.bid_size, ticks.ask_size, ticks.seq, ticks.appended,
            keep_crossed, self.rows.ints, verdicts,
        ):
            raise ValueError("a tick's sid is the number of none of its batch's instruments")
        return verdicts

    def keeps_crossed(self, instruments: list[Instrument]) -> I64:
        """Per symbol, whether its crossed quotes are taken."""
        if instruments is not self._instruments or len(instruments) != self._known:
            self._instruments, self._known = instruments, len(instruments)
            self._keep_crossed = np.array([i.crossed == "keep" for i in instruments], np.int64)
        return self._keep_crossed
