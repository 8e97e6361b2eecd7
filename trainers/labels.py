"""What became of each event: a triple barrier (López de Prado 2018, ch. 3) in which every side pays the spread.

A long enters at the executable ask of the first tick at least `latency_ns` after the event and leaves at the bid; a
short is its mirror. Buy (1): the long nets `width` before the short does; sell (-1): the other way round; neutral
(0): neither within the horizon or 50,000 ticks. Horizon and width follow from the spread and volatility known at the
event, so one set of `Moments` fits every symbol.

Only what was certainly seen is labelled. An event is dropped, and counted, where
`warmup`: its volatility isn't known; `no_entry`: no quote came within 10 s to trade on; `hole`: more than 10 minutes
without a tick came before the outcome; `end_of_data`: the ticks ended before the outcome.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from engine.errors import InputRefused
from engine.features.families.quote import HOLE as HOLE_NS
from engine.features.moments import horizon_width, parameters
from engine.jit import kernel
from engine.manifest import Moments
from engine.types import F64, I64, TickBatch

from .costs import executable, net

LATENCY_NS = 100_000_000
ENTRY_WITHIN_NS = 10_000_000_000
MAX_TICKS = 50_000
BLOCK = 64

KEPT, NO_ENTRY, HOLE, END_OF_DATA = range(4)
FATES = ("kept", "no_entry", "hole", "end_of_data")


@dataclass(frozen=True)
class Labels:
    """One row per labelled event, in event order; `dropped` counts the others by reason.

    event, entry, end: indices into the ticks; end is the last tick of the trade.
    event_ts, entry_ts, end_ts: ns UTC; end_ts is when the outcome was certain (the barrier's tick; for a neutral the
    end of the horizon): nothing after it can change the label, and purging goes by it.
    y: 1 buy, 0 neutral, -1 sell. net_long, net_short, width: points. horizon_s: seconds.
    weight: average uniqueness, in (0, 1].
    """

    event: I64
    entry: I64
    end: I64
    event_ts: I64
    entry_ts: I64
    end_ts: I64
    y: I64
    net_long: F64
    net_short: F64
    width: F64
    horizon_s: F64
    weight: F64
    dropped: dict[str, int]

    def __len__(self) -> int:
        return int(self.y.size)


def label(
    ts: I64, bid: I64, ask: I64, spread: F64, sigma: F64, events: I64, moments: Moments, latency_ns: int = LATENCY_NS
) -> Labels:
    """Label the events of one symbol.

    ts: (n,) ns UTC, never falling. bid, ask: (n,) points. spread: (n,) mean spread, points; sigma: (n,) volatility,
    points per √second, NaN until known: both as known at each tick. events: (m,) rising indices of ticks.
    Raises InputRefused (label_columns, label_order, label_events).
    """
    ts, bid, ask, events = (np.require(column, np.int64, ["C", "W"]) for column in (ts, bid, ask, events))
    _check_ticks(ts, bid, ask, spread, sigma)
    _check_events(events, ts.size)

    known = sigma[events] > 0.0
    dropped = {"warmup": int(events.size - known.sum())}
    events = events[known]
    horizon_s, width = _barriers(spread[events], sigma[events], parameters(moments))
    horizon = np.rint(horizon_s * 1e9).astype(np.int64)

    exec_bid, exec_ask = executable(bid, ask, spread)
    high, low = _block_extremes(exec_bid, exec_ask)
    run_end = np.append(np.flatnonzero(np.diff(ts) > HOLE_NS), ts.size - 1)
    entry, end, end_ts, y, fate = _first_touch(
        ts, exec_bid, exec_ask, high, low, run_end, events, horizon, width, latency_ns
    )

    dropped |= {FATES[f]: int((fate == f).sum()) for f in (NO_ENTRY, HOLE, END_OF_DATA)}
    kept = fate == KEPT
    event, entry, end = events[kept], entry[kept], end[kept]
    net_long, net_short = net(exec_bid[entry], exec_ask[entry], exec_bid[end], exec_ask[end])
    return Labels(
        event=event, entry=entry, end=end,
        event_ts=ts[event], entry_ts=ts[entry], end_ts=end_ts[kept],
        y=y[kept], net_long=net_long, net_short=net_short,
        width=width[kept], horizon_s=horizon_s[kept],
        weight=uniqueness(event, end, ts.size),
        dropped=dropped,
    )


def label_batch(
    ticks: TickBatch, spread: F64, sigma: F64, events: I64, moments: Moments, latency_ns: int = LATENCY_NS
) -> Labels:
    """Label the events of any number of symbols, each among its own ticks; in order of (event_ts, symbol).

    spread, sigma: (n,) per row of `ticks`; events, and the indices of the labels: rows of `ticks`. Uniqueness counts
    overlaps within a symbol. Raises as `label`.
    """
    _check_events(events, len(ticks))
    of_event = ticks.sid[events]
    by_symbol = np.argsort(ticks.sid, kind="stable")
    stretches = np.split(by_symbol, np.flatnonzero(np.diff(ticks.sid[by_symbol])) + 1)
    parts = []
    for rows in sorted(stretches, key=lambda rows: ticks.symbol(rows[0]) if rows.size else ""):
        own = np.searchsorted(rows, events[of_event == ticks.sid[rows[0]]]) if rows.size else rows
        part = label(
            ticks.ts[rows], ticks.bid[rows], ticks.ask[rows], spread[rows], sigma[rows], own, moments, latency_ns
        )
        parts.append(replace(part, event=rows[part.event], entry=rows[part.entry], end=rows[part.end]))

    order = np.argsort(np.concatenate([part.event_ts for part in parts]), kind="stable")
    columns = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])[order]
        for field in fields(Labels) if field.name != "dropped"
    }
    return Labels(**columns, dropped={why: sum(part.dropped[why] for part in parts) for why in parts[0].dropped})


def uniqueness(start: I64, end: I64, n: int) -> F64:
    """Average uniqueness of labels that span ticks start..end of n (López de Prado 2018, ch. 4.4).

    The mean, over a label's ticks, of 1 / (labels alive at that tick): (m,), in (0, 1].
    """
    alive = np.cumsum(np.bincount(start, minlength=n + 1) - np.bincount(end + 1, minlength=n + 1))
    share = np.concatenate(([0.0], np.cumsum(1.0 / np.maximum(alive[:n], 1))))
    return np.asarray((share[end + 1] - share[start]) / (end + 1 - start), np.float64)


def _check_ticks(ts: I64, bid: I64, ask: I64, spread: F64, sigma: F64) -> None:
    sizes = {column.size for column in (ts, bid, ask, spread, sigma)}
    if len(sizes) > 1:
        raise InputRefused(
            "label_columns", f"the columns differ in length: {sorted(sizes)}",
            hint="ts, bid, ask, spread and sigma have one value per tick",
        )
    if (ts[1:] < ts[:-1]).any():
        raise InputRefused(
            "label_order", f"tick {int(np.argmax(ts[1:] < ts[:-1])) + 1} is older than the one before it",
            hint="label admitted ticks of one symbol, in order of time (label_batch takes several symbols)",
        )


def _check_events(events: I64, n: int) -> None:
    if events.size and (events[0] < 0 or events[-1] >= n or (events[1:] <= events[:-1]).any()):
        raise InputRefused(
            "label_events", f"the events are not rising indices of {n} ticks",
            hint="events are the indices of the ticks at which the engine asks",
        )


@kernel
def _barriers(spread: F64, sigma: F64, params: F64) -> tuple[F64, F64]:
    """Horizon (s) and width (points) per event: the same function and bits as the engine's."""
    horizon = np.empty(spread.size)
    width = np.empty(spread.size)
    for k in range(spread.size):
        horizon[k], width[k] = horizon_width(
            spread[k], sigma[k], params[0], params[1], params[2], params[3], params[4]
        )
    return horizon, width


@kernel
def _block_extremes(bid: F64, ask: F64) -> tuple[F64, F64]:
    """Highest bid and lowest ask of each whole block of 64 ticks."""
    blocks = bid.size // BLOCK
    high = np.empty(blocks)
    low = np.empty(blocks)
    for b in range(blocks):
        highest = bid[b * BLOCK]
        lowest = ask[b * BLOCK]
        for i in range(b * BLOCK + 1, (b + 1) * BLOCK):
            highest = max(highest, bid[i])
            lowest = min(lowest, ask[i])
        high[b] = highest
        low[b] = lowest
    return high, low


@kernel
def _first_touch(
    ts: I64, bid: F64, ask: F64, high: F64, low: F64, run_end: I64, events: I64, horizon: I64, width: F64, latency: int
) -> tuple[I64, I64, I64, I64, NDArray[np.uint8]]:
    """Entry, end, end_ts, y and fate per event; ticks are in runs without a hole, run_end their last indices."""
    n = ts.size
    m = events.size
    entry = np.zeros(m, np.int64)
    end = np.zeros(m, np.int64)
    end_ts = np.zeros(m, np.int64)
    y = np.zeros(m, np.int64)
    fate = np.zeros(m, np.uint8)
    i = 0
    run = 0
    for k in range(m):
        t = ts[events[k]]
        i = max(i, events[k] + 1)                      # events rise, so do entries: one pass over the ticks finds all
        while i < n and ts[i] < t + latency:
            i += 1
        if i == n:
            fate[k] = END_OF_DATA
            continue
        if ts[i] - t > ENTRY_WITHIN_NS:
            fate[k] = NO_ENTRY
            continue
        while run_end[run] < i:
            run += 1
        stop = min(run_end[run], i + MAX_TICKS)
        until = ts[i] + horizon[k]
        b0 = bid[i]
        a0 = ask[i]
        w = width[k]
        side = 0
        j = i + 1
        while j <= stop:
            if j % BLOCK == 0 and j + BLOCK - 1 <= stop and ts[j + BLOCK - 1] <= until:
                b = j // BLOCK
                if high[b] - a0 < w and b0 - low[b] < w:      # nothing in this block touches
                    j += BLOCK
                    continue
            if ts[j] > until:
                break
            if bid[j] - a0 >= w:
                side = 1
                break
            if b0 - ask[j] >= w:
                side = -1
                break
            j += 1
        if side == 0 and j > stop and stop < i + MAX_TICKS:
            fate[k] = END_OF_DATA if stop == n - 1 else HOLE
            continue
        timed_out = side == 0 and j <= stop
        if side == 0:
            j -= 1
        entry[k] = i
        end[k] = j
        end_ts[k] = until if timed_out else ts[j]
        y[k] = side
    return entry, end, end_ts, y, fate
