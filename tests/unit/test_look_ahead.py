"""What is known at t is made of ticks up to t: change every later one, and moments, horizons, widths and labels stay.

No score tells a look-ahead of one tick from luck; this does, and a look-ahead put in on purpose shows that it does.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from engine.eventtime import EventTime
from engine.features import FeatureSet
from engine.features.moments import MomentPicker
from engine.manifest import KINDS, Moments
from engine.types import I64, TickBatch
from tests.made import made_ticks
from trainers.labels import Labels, label_batch

MADE = made_ticks(15_000, rate=1.0)
TICKS = MADE[EventTime().admit(MADE) == 0]

Known = dict[str, I64]


def known(ticks: TickBatch, kind: str, inputs_ahead: int, quotes_ahead: int) -> tuple[Known, Known]:
    """Moments and labels. The two numbers put a look-ahead in: spread and sigma, or quotes, of so many ticks later."""
    rows = FeatureSet.default().state().update(ticks)
    spread, sigma = np.roll(rows.spread, -inputs_ahead), np.roll(rows.sigma, -inputs_ahead)
    asked, horizon, width = MomentPicker().pick(ticks, spread, sigma, Moments(kind=kind))
    moments = {"ts": ticks.ts[asked], "asked": asked, "horizon": horizon, "width": width}

    later = TickBatch(ticks.instruments, sid=ticks.sid, ts=ticks.ts,
                      bid=np.roll(ticks.bid, -quotes_ahead), ask=np.roll(ticks.ask, -quotes_ahead))
    labels = label_batch(later, spread, sigma, asked, Moments(kind=kind))
    columns = {field.name: getattr(labels, field.name) for field in fields(Labels)}
    del columns["dropped"], columns["weight"]          # how unique a label is, labels that come later decide as well
    return moments, {"ts": labels.end_ts, **columns}


def changed_after(t: int) -> TickBatch:
    """The ticks, every one later than t another: price, spread and stamp."""
    ticks = TICKS[np.arange(len(TICKS))]               # a copy
    later = ticks.ts > t
    step = np.arange(int(later.sum()))
    ticks.bid[later] += 900 + 3 * step % 40
    ticks.ask[later] += 903 + 5 * step % 70
    ticks.ts[later] += 1_500_000_000
    return ticks


def same_up_to(t: int, before: Known, after: Known) -> bool:
    """To the bit, whatever was known at t."""
    a, b = before["ts"] <= t, after["ts"] <= t
    return all(before[name][a].tobytes() == after[name][b].tobytes() for name in before)


def blind(kind: str, inputs_ahead: int = 0, quotes_ahead: int = 0) -> tuple[bool, bool]:
    """Whether (moments, labels) of the past stay when the future changes, at ten stamps at which a barrier was touched."""
    whole = known(TICKS, kind, inputs_ahead, quotes_ahead)
    touched = np.unique(whole[1]["end_ts"][whole[1]["y"] != 0])
    assert touched.size >= (2 if kind == "bar:1h" else 10)
    stay, later = [True, True], [False, False]
    for t in touched[:: max(1, touched.size // 10)]:
        other = known(changed_after(int(t)), kind, inputs_ahead, quotes_ahead)
        for i in (0, 1):
            later[i] |= not same_up_to(int(TICKS.ts[-1]), whole[i], other[i])
            stay[i] &= same_up_to(int(t), whole[i], other[i])
    assert all(later)                                  # what changed was seen
    return stay[0], stay[1]


@pytest.mark.parametrize("kind", KINDS)
def test_later_ticks_change_nothing_known(kind: str) -> None:
    assert blind(kind) == (True, True)


def test_one_tick_of_look_ahead_in_spread_and_volatility_is_found() -> None:
    assert not blind("tick", inputs_ahead=1)[0]


@pytest.mark.parametrize("kind", ["cusum", "tick"])
def test_one_tick_of_look_ahead_in_the_quotes_is_found(kind: str) -> None:
    assert blind(kind, quotes_ahead=1) == (True, False)
