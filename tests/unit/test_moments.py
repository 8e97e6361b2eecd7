"""Moments: every kind against a plain-Python telling, the same for any split. Blind to what comes after: test_look_ahead."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.eventtime import EventTime
from engine.features import FeatureSet
from engine.features.moments import MomentPicker, barrier
from engine.instruments import Instrument
from engine.manifest import BARS, KINDS, Moments
from engine.types import F64, TickBatch
from tests.made import made_ticks

HOUR = 3600.0
TICKS = made_ticks(20_000, symbols=2, rate=1.0)
TAKEN = TICKS[EventTime().admit(TICKS) == 0]
ROWS = FeatureSet.default().state().update(TAKEN)


def told(ticks: TickBatch, spread: F64, sigma: F64, m: Moments) -> list[tuple[int, float, float]]:
    """(row, horizon, width) of one symbol."""
    up = down = 0.0
    last = int(ticks.ts[0])
    out = []
    for i in range(len(ticks)):
        h = w = math.nan
        if sigma[i] > 0:
            h = min(max((m.kappa * spread[i] / sigma[i]) ** 2, m.h_min_s), m.h_max_s)
            w = max(m.k_vol * sigma[i] * math.sqrt(h), m.k_spread * spread[i])
        mid = (ticks.bid[i] + ticks.ask[i]) / 2
        hit = m.kind == "tick"
        if m.kind in BARS and i:
            hit = int(ticks.ts[i]) // (BARS[m.kind] * 10**9) != int(ticks.ts[i - 1]) // (BARS[m.kind] * 10**9)
        if i and ticks.ts[i] - ticks.ts[i - 1] > 600 * 10**9:
            up = down = 0.0
            last = int(ticks.ts[i])
        elif i:
            move = mid - (ticks.bid[i - 1] + ticks.ask[i - 1]) / 2
            up, down = max(0.0, up + move), min(0.0, down + move)
            if sigma[i] > 0:
                threshold = m.c * max(sigma[i] * math.sqrt(h), spread[i])
                if (up >= threshold or -down >= threshold) and ticks.ts[i] - last >= m.min_gap_s * 1e9:
                    up = down = 0.0
                    last = int(ticks.ts[i])
                    if m.kind == "cusum":
                        hit = bool(ticks.ask[i] - ticks.bid[i] <= m.max_spread * spread[i])
        if hit:
            out.append((i, h, w))
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_against_the_telling(kind: str) -> None:
    moments = Moments(kind=kind)
    asked, horizon, width = MomentPicker().pick(TAKEN, ROWS.spread, ROWS.sigma, moments)
    for s in (0, 1):
        mine = np.flatnonzero(TAKEN.sid == s)
        expected = told(TAKEN[mine], ROWS.spread[mine], ROWS.sigma[mine], moments)
        chosen = TAKEN.sid[asked] == s
        assert asked[chosen].tolist() == [int(mine[i]) for i, _, _ in expected]
        np.testing.assert_allclose(horizon[chosen], [h for _, h, _ in expected], rtol=1e-12)
        np.testing.assert_allclose(width[chosen], [w for _, _, w in expected], rtol=1e-12)
    assert len(asked) > 3
    assert (len(asked) == len(TAKEN)) == (kind == "tick")


def closing(bar: str, seconds: list[float]) -> list[int]:
    """The ticks, stamped so many seconds after 2023-11-14 22:00 UTC, that are asked at."""
    n = len(seconds)
    ts = 1_699_999_200 * 10**9 + np.rint(np.array(seconds) * 1e9).astype(np.int64)
    price = np.full(n, 100)
    ticks = TickBatch([Instrument("A")], sid=np.zeros(n, np.int64), ts=ts, bid=price, ask=price + 2)
    return MomentPicker().pick(ticks, np.full(n, 2.0), np.full(n, 1.0), Moments(kind=bar))[0].tolist()  # type: ignore[no-any-return]


def test_a_bar_is_closed_by_the_first_tick_at_or_past_its_end() -> None:
    assert closing("bar:1m", [0, 59.999999999, 60, 60, 119, 121, 122]) == [2, 5]
    assert closing("bar:5m", [0, 299, 300, 301, 599, 601]) == [2, 5]
    assert closing("bar:15m", [0, 899, 900]) == [2]
    assert closing("bar:1h", [0, 3599.9, 3600, 7199, 7200]) == [2, 4]


def test_a_bar_without_ticks_asks_nothing_and_the_first_tick_closes_none() -> None:
    assert closing("bar:1m", [59, 61]) == [1]
    assert closing("bar:1m", [10, 310, 320]) == [1]                  # four empty bars, one question
    assert closing("bar:1m", [10, 1000, 1010, 1021]) == [1, 3]       # after a hole likewise
    assert closing("bar:1m", [120]) == []


@pytest.mark.parametrize(("spread", "sigma"), [(4.0, 100.0), (4.0, 1.0), (4.0, 0.01), (3.7, 0.93), (31.0, 7.7)])
def test_the_root_of_the_horizon_is_its_root(spread: float, sigma: float) -> None:
    """To the bit, at the bounds of H too."""
    m = Moments()
    horizon, width, root = barrier(spread, sigma, m.kappa, m.h_min_s, m.h_max_s, m.k_vol, m.k_spread)
    assert m.h_min_s <= horizon <= m.h_max_s
    assert root == math.sqrt(horizon)
    assert width == max(m.k_vol * sigma * math.sqrt(horizon), m.k_spread * spread)


@given(st.sampled_from(KINDS), st.lists(st.integers(1, 3000), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_any_split_and_restore_gives_the_same_moments(kind: str, cuts: list[int]) -> None:
    moments = Moments(kind=kind)
    whole = MomentPicker().pick(TAKEN, ROWS.spread, ROWS.sigma, moments)
    picker, at, found = MomentPicker(), 0, []
    for cut in [*cuts, len(TAKEN)]:
        restored = MomentPicker()
        for sid in range(2):
            restored.rows.restore(sid, picker.rows.snapshot(sid))
        picker = restored
        asked, horizon, width = picker.pick(TAKEN[at:at + cut], ROWS.spread[at:at + cut], ROWS.sigma[at:at + cut], moments)
        found.append((asked + at, horizon, width))
        at += cut
    for ours, theirs in zip(whole, map(np.concatenate, zip(*found, strict=True)), strict=True):
        assert ours.tobytes() == theirs.tobytes()
