"""Event time: which tick is taken, and why another is not. Decided by the log alone, never by a clock.

Order within a symbol is (ts, seq); without `seq`, ties stand in log order and a duplicate is a tick with the same
quote and sizes as one of the symbol's last 64 at that stamp. A tick is future-dated if it is stamped more than
TOLERANCE after the log stored it. A refused tick changes no state.
"""

from __future__ import annotations

import numpy as np

from .instruments import Instrument
from .jit import kernel
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
) -> int:
    """A verdict per row, returns how many were refused; `_COUNT` is how many ticks stand at the last stamp (+1 = seen)."""
    refused = 0
    for i in range(ts.size):
        row = rows[sid[i]]
        verdict = _TAKEN
        if bid[i] > ask[i] and keep_crossed[sid[i]] == 0:
            verdict = _CROSSED
        elif appended[i] > 0 and ts[i] > appended[i] + TOLERANCE:
            verdict = _FUTURE
        elif row[_COUNT] > 0 and ts[i] < row[_TS]:
            verdict = _LATE
        elif row[_COUNT] > 0 and ts[i] == row[_TS]:
            if seq[i] >= 0 and row[_SEQ] >= 0:
                if seq[i] == row[_SEQ]:
                    verdict = _DUPLICATE
                elif seq[i] < row[_SEQ]:
                    verdict = _LATE
            else:
                for k in range(min(row[_COUNT], REMEMBERED)):
                    at = _RING + 4 * k
                    if (
                        row[at] == bid[i] and row[at + 1] == ask[i]
                        and row[at + 2] == bid_size[i] and row[at + 3] == ask_size[i]
                    ):
                        verdict = _DUPLICATE
        if verdict == _TAKEN:
            if row[_COUNT] == 0 or ts[i] > row[_TS]:
                row[_TS] = ts[i]
                row[_COUNT] = 0
            at = _RING + 4 * (row[_COUNT] % REMEMBERED)
            row[at] = bid[i]
            row[at + 1] = ask[i]
            row[at + 2] = bid_size[i]
            row[at + 3] = ask_size[i]
            row[_SEQ] = seq[i]
            row[_COUNT] += 1
        else:
            refused += 1
        verdicts[i] = verdict
    return refused


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
        if ticks.instruments is not self._instruments or len(ticks.instruments) != self._known:
            self._instruments, self._known = ticks.instruments, len(ticks.instruments)
            self._keep_crossed = np.array([i.crossed == "keep" for i in ticks.instruments], np.int64)
        self.rows.ensure(self._known)
        verdicts = np.empty(len(ticks), np.int64)
        _admit(
            ticks.sid, ticks.ts, ticks.bid, ticks.ask, ticks.bid_size, ticks.ask_size, ticks.seq, ticks.appended,
            self._keep_crossed, self.rows.ints, verdicts,
        )
        return verdicts
