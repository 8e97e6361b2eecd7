"""What became of each event: a triple barrier (López de Prado 2018, ch. 3) in which every side pays what trading costs.

A long enters at the executable ask of the first tick at least `delay_ms` after the event and leaves at the bid; a
short is its mirror. Buy (1): the long nets `width` before the short does; sell (-1): the other way round; neutral
(0): neither within the horizon or 50,000 ticks. Net is after spread, slippage and commission (costs.py). Horizon and
width follow from the spread and volatility known at the event, so one set of `Moments` fits every symbol.

Only what was certainly seen is labelled. An event is dropped, and counted, where
`warmup`: its volatility isn't known; `no_entry`: no quote came within 10 s after the delay to trade on; `hole`: more
than 10 minutes without a tick came before the outcome; `end_of_data`: the ticks ended before the outcome.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from engine.errors import InputRefused
from engine.features.families.quote import HOLE as HOLE_NS
from engine.features.moments import barrier, parameters
from engine.jit import kernel
from engine.manifest import Moments
from engine.types import F64, I64, TickBatch

from .costs import NO_COSTS, Costs, executable, net

ENTRY_WITHIN_NS = 10_000_000_000
MAX_TICKS = 50_000
BLOCK = 64

KEPT, WARMUP, NO_ENTRY, HOLE, END_OF_DATA = range(5)
FATES = ("kept", "warmup", "no_entry", "hole", "end_of_data")


@dataclass(frozen=True)
class Outcomes:
    """What is learned from ticks, wherever it comes from: one row per labelled event; `dropped` counts others by reason.

    event: indices of the ticks at which it was asked. event_ts, end_ts: ns UTC, when it was asked and when its outcome
    was certain: nothing after end_ts can change the label, and purging goes by it. y: 1 buy, 0 neutral, -1 sell.
    weight: average uniqueness, in (0, 1], unless somebody gave others.
    """

    event: I64
    event_ts: I64
    end_ts: I64
    y: I64
    weight: F64
    dropped: dict[str, int]

    def __len__(self) -> int:
        return int(self.y.size)


@dataclass(frozen=True)
class Labels(Outcomes):
    """Outcomes by the triple barrier, in event order.

    entry, end: indices into the ticks; end is the last tick of the trade. entry_ts: ns UTC. end_ts is the barrier's tick;
    for a neutral the end of the horizon. net_long, net_short, width: points. horizon_s: seconds.
    """

    entry: I64
    end: I64
    entry_ts: I64
    net_long: F64
    net_short: F64
    width: F64
    horizon_s: F64


def label(
    ts: I64, bid: I64, ask: I64, spread: F64, sigma: F64, events: I64, moments: Moments, costs: Costs = NO_COSTS
) -> Labels:
    """Label the events of one symbol.

    ts: (n,) ns UTC, never falling. bid, ask: (n,) points. spread: (n,) mean spread, points; sigma: (n,) volatility,
    points per √second, NaN until known: both as known at each tick. events: (m,) rising indices of ticks.
    Raises InputRefused (label_columns, label_order, label_events).
    """
    ts, bid, ask, events = (np.require(column, np.int64, ["C", "W"]) for column in (ts, bid, ask, events))
    spread, sigma = (np.require(column, np.float64, ["C", "W"]) for column in (spread, sigma))
    _check_ticks(ts, bid, ask, spread, sigma)
    _check_events(events, ts.size)

    net_bid, net_ask = executable(bid, ask, spread, costs)
    high, low = _block_extremes(net_bid, net_ask)
    run_end = np.append(np.flatnonzero(np.diff(ts) > HOLE_NS), ts.size - 1)
    whole, real, fates = np.empty((7, events.size), np.int64), np.empty((4, events.size)), np.zeros(5, np.int64)
    _first_touch(
        ts, net_bid, net_ask, high, low, run_end, events, spread, sigma, parameters(moments),
        round(costs.delay_ms * 1e6), whole, real, fates,
    )
    event, entry, end, event_ts, entry_ts, end_ts, y = whole[:, : fates[KEPT]]
    net_long, net_short, width, horizon_s = real[:, : fates[KEPT]]
    return Labels(
        event=event, entry=entry, end=end, event_ts=event_ts, entry_ts=entry_ts, end_ts=end_ts, y=y,
        net_long=net_long, net_short=net_short, width=width, horizon_s=horizon_s,
        weight=uniqueness(event, end, ts.size),
        dropped={FATES[fate]: int(fates[fate]) for fate in (WARMUP, NO_ENTRY, HOLE, END_OF_DATA)},
    )


def label_batch(ticks: TickBatch, spread: F64, sigma: F64, events: I64, moments: Moments) -> Labels:
    """Label the events of any number of symbols, each among its own ticks; in order of (event_ts, symbol).

    What a trade costs, and how late it enters, is each instrument's. spread, sigma: (n,) per row of `ticks`; events,
    and the indices of the labels: rows of `ticks`. Uniqueness counts overlaps within a symbol. Raises as `label`.
    """
    _check_events(events, len(ticks))

    def labelled(costs: Costs, rows: I64 | slice, own: I64) -> Labels:
        return label(ticks.ts[rows], ticks.bid[rows], ticks.ask[rows], spread[rows], sigma[rows], own, moments, costs)

    sids = np.flatnonzero(np.bincount(ticks.sid)).tolist()
    if len(sids) < 2:
        return labelled(Costs.of(ticks.instruments[sids[0]]) if sids else NO_COSTS, slice(None), events)
    of_event = ticks.sid[events]
    parts = []
    for sid in sorted(sids, key=lambda sid: ticks.instruments[sid].symbol):
        rows = np.flatnonzero(ticks.sid == sid)
        part = labelled(Costs.of(ticks.instruments[sid]), rows, np.searchsorted(rows, events[of_event == sid]))
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
    return _uniqueness(start, end, np.zeros(n + 1, np.int64), np.empty(n + 1))


@kernel
def _uniqueness(start: I64, end: I64, change: I64, share: F64) -> F64:
    """change: zeros; NumPy's own memory for both costs half of what a kernel's does."""
    for k in range(start.size):
        change[start[k]] += 1
        change[end[k] + 1] -= 1
    alive = 0
    share[0] = 0.0
    for i in range(change.size - 1):
        alive += change[i]
        share[i + 1] = share[i] + 1.0 / max(alive, 1)
    mean = np.empty(start.size)
    for k in range(start.size):
        mean[k] = (share[end[k] + 1] - share[start[k]]) / (end[k] + 1 - start[k])
    return mean


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
def _block_extremes(net_bid: F64, net_ask: F64) -> tuple[F64, F64]:
    """Highest bid and lowest ask of each whole block of 64 ticks."""
    blocks = net_bid.size // BLOCK
    high = np.empty(blocks)
    low = np.empty(blocks)
    for b in range(blocks):
        highest = net_bid[b * BLOCK]
        lowest = net_ask[b * BLOCK]
        for i in range(b * BLOCK + 1, (b + 1) * BLOCK):
            highest = max(highest, net_bid[i])
            lowest = min(lowest, net_ask[i])
        high[b] = highest
        low[b] = lowest
    return high, low


@kernel
def _first_touch(
    ts: I64, net_bid: F64, net_ask: F64, high: F64, low: F64, run_end: I64, events: I64, spread: F64, sigma: F64,
    params: F64, delay: int, whole: I64, real: F64, fates: I64,
) -> None:
    """Each kept event's columns of `Labels` into whole and real, the number of events of each fate into fates.

    ticks are in runs without a hole, run_end their last indices. As events rise, so do entries, the ends of horizons
    (nearly) and what is known to touch nothing: each search goes on where the last one stood. `passed_high` and
    `passed_low` bound the quotes of the ticks between entry and j; while they touch no barrier of this event either, it
    needs to look no earlier than at j.
    """
    kappa, h_min, h_max, k_vol, k_spread = params[0], params[1], params[2], params[3], params[4]
    n = ts.size
    i = run = last = j = 0
    passed_high, passed_low = -np.inf, np.inf
    for k in range(events.size):
        event = events[k]
        if not sigma[event] > 0.0:
            fates[WARMUP] += 1
            continue
        horizon, width, _ = barrier(spread[event], sigma[event], kappa, h_min, h_max, k_vol, k_spread)

        i = max(i, event + 1)
        while i < n and ts[i] < ts[event] + delay:
            i += 1
        if i == n:
            fates[END_OF_DATA] += 1
            continue
        if ts[i] - ts[event] > delay + ENTRY_WITHIN_NS:
            fates[NO_ENTRY] += 1
            continue
        entry_bid, entry_ask = net_bid[i], net_ask[i]

        while run_end[run] < i:
            run += 1
        stop = min(run_end[run], i + MAX_TICKS)
        until = ts[i] + np.int64(np.rint(horizon * 1e9))
        last = max(last, i)                            # the last tick at which the barriers stand
        while last < stop and ts[last + 1] <= until:
            last += 1
        while ts[last] > until:
            last -= 1

        long, short = net(entry_bid, entry_ask, passed_high, passed_low)
        if j <= i or long >= width or short >= width:
            j = i + 1
            passed_high, passed_low = -np.inf, np.inf
        y = 0
        while j <= last:
            block = j // BLOCK
            step, best_bid, best_ask = 1, net_bid[j], net_ask[j]
            if j % BLOCK == 0 and j + BLOCK - 1 <= last:
                long, short = net(entry_bid, entry_ask, high[block], low[block])
                if long < width and short < width:     # nothing in this block touches
                    step, best_bid, best_ask = BLOCK, high[block], low[block]
            long, short = net(entry_bid, entry_ask, best_bid, best_ask)
            if long >= width:
                y = 1
                break
            if short >= width:
                y = -1
                break
            passed_high = max(passed_high, best_bid)
            passed_low = min(passed_low, best_ask)
            j += step

        end = j if y != 0 else last
        end_ts = ts[end]
        if y == 0 and last < stop:
            end_ts = until
        elif y == 0 and stop < i + MAX_TICKS:
            fates[END_OF_DATA if stop == n - 1 else HOLE] += 1
            continue
        kept = fates[KEPT]
        fates[KEPT] += 1
        whole[0, kept], whole[1, kept], whole[2, kept] = event, i, end
        whole[3, kept], whole[4, kept], whole[5, kept], whole[6, kept] = ts[event], ts[i], end_ts, y
        real[0, kept], real[1, kept] = net(entry_bid, entry_ask, net_bid[end], net_ask[end])
        real[2, kept], real[3, kept] = width, horizon
