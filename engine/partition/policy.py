"""SignalPolicy: from probabilities to a side, per symbol and in event time.

The state after a decision is a function of the state before it and of the published record only (its stamp and side),
so a restart that reads published decisions back stands exactly where the engine stood.
"""

from __future__ import annotations

import numpy as np

from ..instruments import Instrument
from ..jit import kernel, subkernel
from ..manifest import Policy
from ..state import SymbolRows
from ..types import F32, F64, I64, Reason, Side, TickBatch

_HELD, _SINCE, _TS, _NTH = range(4)
WORDS = 4

_NEUTRAL, _BUY, _SELL = int(Side.NEUTRAL), int(Side.BUY), int(Side.SELL)
_DECIDED, _THRESHOLD = int(Reason.DECIDED), int(Reason.THRESHOLD)
_COOLDOWN, _HYSTERESIS, _SPREAD = int(Reason.COOLDOWN), int(Reason.HYSTERESIS), int(Reason.SPREAD)

_ANY = 2**63 - 1
"""Points that no spread is wider than."""


@subkernel
def _follow(row: I64, ts: int, side: int) -> int:
    """What a decision leaves behind; returns how many of this stamp came before it."""
    row[_NTH] = row[_NTH] + 1 if row[_TS] == ts else 0
    row[_TS] = ts
    if side != row[_HELD]:
        row[_HELD] = side
        if side != _NEUTRAL:
            row[_SINCE] = ts
    return int(row[_NTH])


@subkernel
def _side(row: I64, ts: int, margin: float, rules: F64) -> tuple[int, int]:
    """(side, reason) where nothing forbids a side: thresholds first, then a held side's half margin, then cooldown."""
    buy, sell, hysteresis, cooldown_ns = rules[0], rules[1], rules[2], rules[3]
    side, reason = _NEUTRAL, _THRESHOLD
    if margin > 0.0 and margin >= buy:
        side, reason = _BUY, _DECIDED
    elif margin < 0.0 and margin <= sell:
        side, reason = _SELL, _DECIDED
    elif row[_HELD] == _BUY and margin > 0.0 and margin > hysteresis * buy:
        side, reason = _BUY, _HYSTERESIS
    elif row[_HELD] == _SELL and margin < 0.0 and margin < hysteresis * sell:
        side, reason = _SELL, _HYSTERESIS
    if side not in (_NEUTRAL, row[_HELD]) and row[_SINCE] > 0 and ts - row[_SINCE] < cooldown_ns:
        side, reason = _NEUTRAL, _COOLDOWN
    return side, reason


@kernel
def _decide(
    sid: I64, ts: I64, bid: I64, ask: I64, usual_spread: F64, status: I64, probabilities: F32, rules: F64, widest: I64,
    rows: I64, side: I64, reason: I64, nth: I64,
) -> None:
    for i in range(ts.size):
        row = rows[sid[i]]
        if status[i] != _DECIDED:
            side[i], reason[i] = _NEUTRAL, status[i]
        elif ask[i] - bid[i] > rules[4] * usual_spread[i] or ask[i] - bid[i] > widest[sid[i]]:
            side[i], reason[i] = _NEUTRAL, _SPREAD
        else:
            margin = float(probabilities[i, _BUY]) - float(probabilities[i, _SELL])
            side[i], reason[i] = _side(row, ts[i], margin, rules)
        nth[i] = _follow(row, ts[i], side[i])


@kernel
def _apply(sid: I64, ts: I64, side: I64, rows: I64) -> None:
    for i in range(ts.size):
        _follow(rows[sid[i]], ts[i], side[i])


class PolicyState:
    """Held side, its age and the decisions of the last stamp, per symbol."""

    def __init__(self) -> None:
        self.rows = SymbolRows(WORDS)
        self._instruments: list[Instrument] = []
        self._widest = np.zeros(0, np.int64)

    def decide(
        self, ticks: TickBatch, usual_spread: F64, status: I64, probabilities: F32, policy: Policy,
    ) -> tuple[I64, I64, I64]:
        """(side, reason, how many decisions of the symbol at this stamp came before), one each per asked row.

        ticks: the asked ones; their instruments say which spread is too wide.
        """
        widest = self._widest_of(ticks.instruments)
        self.rows.ensure(widest.size)
        rules = np.array([policy.buy, policy.sell, policy.hysteresis, policy.cooldown_s * 1e9, policy.max_spread])
        side, reason, nth = (np.empty(len(ticks), np.int64) for _ in range(3))
        _decide(
            ticks.sid, ticks.ts, ticks.bid, ticks.ask, usual_spread, status, probabilities, rules, widest, self.rows.ints,
            side, reason, nth,
        )
        return side, reason, nth

    def _widest_of(self, instruments: list[Instrument]) -> I64:
        """Per symbol, points; a list that was looked at before only grows."""
        if instruments is not self._instruments or len(instruments) != self._widest.size:
            self._instruments = instruments
            self._widest = np.array([i.max_spread or _ANY for i in instruments], np.int64)
        return self._widest

    def apply(self, sid: I64, ts: I64, side: I64, symbols: int) -> None:
        """Take over decisions that were published before."""
        self.rows.ensure(symbols)
        _apply(sid, ts, side, self.rows.ints)
