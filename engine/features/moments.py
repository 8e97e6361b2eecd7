"""Moments: when the ensemble is asked, over which horizon and how wide. Engine and labels share these functions.

Symmetric CUSUM filter of the mid (López de Prado, Advances in Financial Machine Learning, 2018, ch. 2.5) with a
threshold that moves with volatility and spread, taken at the current tick; or every tick; or the tick that closes a bar.
"""

from __future__ import annotations

import numpy as np

from ..jit import kernel, subkernel
from ..manifest import BARS, Moments
from ..state import SymbolRows
from ..types import F64, I64, TickBatch
from .families.quote import HOLE

_SEEN, _TS, _MID2, _UP, _DOWN, _ASKED = range(6)
WORDS = 6
VERSION = 2
"""Raised with every change of what is asked when; part of the default set's fingerprint."""


@subkernel
def barrier(
    spread: float, sigma: float, kappa: float, h_min: float, h_max: float, k_vol: float, k_spread: float
) -> tuple[float, float, float]:
    """(H in s, width in points, √H): H makes sigma · √H = kappa spreads, within its bounds; as wide as both k allow.

    √H is clipped itself, never taken of H: the roots of the bounds are the same at every tick, and stand outside its loop.
    """
    root = kappa * spread / sigma
    horizon = min(max(root * root, h_min), h_max)
    root = min(max(root, np.sqrt(h_min)), np.sqrt(h_max))
    return horizon, max(k_vol * sigma * root, k_spread * spread), root


@kernel
def _pick(
    sid: I64, ts: I64, bid: I64, ask: I64, spread: F64, sigma: F64, every: bool, bar: int, params: F64, rows: I64,
    asked: I64, horizon: F64, width: F64,
) -> int:
    """Indices of the ticks at which to ask, with horizon (s) and width (points); sums are exact half-points.

    every: ask at every tick; bar: else, if not 0, at ticks that close a bar of so many ns; else by the CUSUM, whose sums
    are kept whatever is asked by.
    """
    kappa, h_min, h_max, k_vol = params[0], params[1], params[2], params[3]
    k_spread, c, min_gap, max_spread = params[4], params[5], params[6] * 1e9, params[7]
    n = 0
    for i in range(ts.size):
        row = rows[sid[i]]
        mid2 = bid[i] + ask[i]
        known = sigma[i] > 0.0
        h, w, root = np.nan, np.nan, np.nan
        if known:
            h, w, root = barrier(spread[i], sigma[i], kappa, h_min, h_max, k_vol, k_spread)
        hit = every
        if bar > 0 and row[_SEEN] > 0:
            hit = ts[i] // bar > row[_TS] // bar
        if row[_SEEN] == 0:
            row[_SEEN] = 1
            row[_ASKED] = ts[i]
        elif ts[i] - row[_TS] > HOLE:
            row[_UP] = 0
            row[_DOWN] = 0
            row[_ASKED] = ts[i]
        else:
            move = mid2 - row[_MID2]
            row[_UP] = max(0, row[_UP] + move)
            row[_DOWN] = min(0, row[_DOWN] + move)
            if known:
                threshold = 2.0 * c * max(sigma[i] * root, spread[i])
                if (row[_UP] >= threshold or -row[_DOWN] >= threshold) and ts[i] - row[_ASKED] >= min_gap:
                    row[_UP] = 0
                    row[_DOWN] = 0
                    row[_ASKED] = ts[i]
                    if bar == 0 and ask[i] - bid[i] <= max_spread * spread[i]:
                        hit = True
        row[_TS] = ts[i]
        row[_MID2] = mid2
        if hit:
            asked[n] = i
            horizon[n] = h
            width[n] = w
            n += 1
    return n


class MomentPicker:
    """The last tick and the CUSUM of every symbol."""

    def __init__(self) -> None:
        self.rows = SymbolRows(WORDS)

    def pick(self, ticks: TickBatch, spread: F64, sigma: F64, moments: Moments) -> tuple[I64, F64, F64]:
        """(rows asked, horizon in s, barrier width in points); NaN where sigma isn't known yet."""
        self.rows.ensure(len(ticks.instruments))
        n = len(ticks)
        asked, horizon, width = np.empty(n, np.int64), np.empty(n), np.empty(n)
        count = _pick(
            ticks.sid, ticks.ts, ticks.bid, ticks.ask, spread, sigma, moments.kind == "tick",
            BARS.get(moments.kind, 0) * 1_000_000_000, parameters(moments), self.rows.ints, asked, horizon, width,
        )
        return asked[:count], horizon[:count], width[:count]


def parameters(moments: Moments) -> F64:
    """The numbers of a Moments in the kernel's order."""
    return np.array(
        [
            moments.kappa, moments.h_min_s, moments.h_max_s, moments.k_vol, moments.k_spread, moments.c,
            moments.min_gap_s, moments.max_spread,
        ]
    )
