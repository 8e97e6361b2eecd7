"""SignalPolicy: from probabilities to a side, per symbol and in event time.

The state after a decision is a function of the state before it and of the published record only (its stamp and side),
so a restart that reads published decisions back stands exactly where the engine stood.
"""

from __future__ import annotations

import numpy as np

from ..jit import kernel, subkernel
from ..manifest import Policy
from ..state import SymbolRows
from ..types import F32, F64, I64, Reason, Side

_HELD, _SINCE, _TS, _NTH = range(4)
WORDS = 4

_NEUTRAL, _BUY, _SELL = int(Side.NEUTRAL), int(Side.BUY), int(Side.SELL)
_DECIDED, _THRESHOLD = int(Reason.DECIDED), int(Reason.THRESHOLD)
_COOLDOWN, _HYSTERESIS, _SPREAD = int(Reason.COOLDOWN), int(Reason.HYSTERESIS), int(Reason.SPREAD)


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
    sid: I64, ts: I64, bid: I64, ask: I64, usual_spread: F64, status: I64, probabilities: F32, rules: F64, rows: I64,
    side: I64, reason: I64, nth: I64,
) -> None:
    for i in range(ts.size):
        row = rows[sid[i]]
        if status[i] != _DECIDED:
            side[i], reason[i] = _NEUTRAL, status[i]
        elif ask[i] - bid[i] > rules[4] * usual_spread[i]:
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

    def decide(
        self, sid: I64, ts: I64, bid: I64, ask: I64, usual_spread: F64, status: I64, probabilities: F32, policy: Policy,
        symbols: int,
    ) -> tuple[I64, I64, I64]:
        """(side, reason, how many decisions of the symbol at this stamp came before), one each per asked row."""
        self.rows.ensure(symbols)
        rules = np.array([policy.buy, policy.sell, policy.hysteresis, policy.cooldown_s * 1e9, policy.max_spread])
        side, reason, nth = (np.empty(ts.size, np.int64) for _ in range(3))
        _decide(sid, ts, bid, ask, usual_spread, status, probabilities, rules, self.rows.ints, side, reason, nth)
        return side, reason, nth

    def apply(self, sid: I64, ts: I64, side: I64, symbols: int) -> None:
        """Take over decisions that were published before."""
        self.rows.ensure(symbols)
        _apply(sid, ts, side, self.rows.ints)
