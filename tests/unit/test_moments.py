"""Moments: the CUSUM against a plain-Python telling, the same for any split, blind to what comes after."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.eventtime import EventTime
from engine.features import FeatureSet
from engine.features.moments import MomentPicker
from engine.manifest import Moments
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
                    hit = hit or bool(ticks.ask[i] - ticks.bid[i] <= m.max_spread * spread[i])
        if hit:
            out.append((i, h, w))
    return out


def test_cusum_and_tick_against_the_telling() -> None:
    for kind in ("cusum", "tick"):
        moments = Moments(kind=kind)
        asked, horizon, width = MomentPicker().pick(TAKEN, ROWS.spread, ROWS.sigma, moments)
        for s in (0, 1):
            mine = np.flatnonzero(TAKEN.sid == s)
            expected = told(TAKEN[mine], ROWS.spread[mine], ROWS.sigma[mine], moments)
            chosen = TAKEN.sid[asked] == s
            assert asked[chosen].tolist() == [int(mine[i]) for i, _, _ in expected]
            np.testing.assert_allclose(horizon[chosen], [h for _, h, _ in expected], rtol=1e-12)
            np.testing.assert_allclose(width[chosen], [w for _, _, w in expected], rtol=1e-12)
    assert len(asked) == len(TAKEN)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=12))
@settings(max_examples=20, deadline=None)
def test_any_split_gives_the_same_moments(cuts: list[int]) -> None:
    whole = MomentPicker().pick(TAKEN, ROWS.spread, ROWS.sigma, Moments())
    picker, at, found = MomentPicker(), 0, []
    for cut in [*cuts, len(TAKEN)]:
        asked, horizon, width = picker.pick(TAKEN[at:at + cut], ROWS.spread[at:at + cut], ROWS.sigma[at:at + cut], Moments())
        found.append((asked + at, horizon, width))
        at += cut
    for ours, theirs in zip(whole, map(np.concatenate, zip(*found, strict=True)), strict=True):
        assert ours.tobytes() == theirs.tobytes()


def test_later_ticks_change_no_earlier_moment() -> None:
    at = 12_000
    changed = TAKEN[np.arange(len(TAKEN))]             # a copy
    changed.bid[at:] += 900
    changed.ask[at:] += 901
    rows = FeatureSet.default().state().update(changed)
    before = MomentPicker().pick(TAKEN, ROWS.spread, ROWS.sigma, Moments())
    after = MomentPicker().pick(changed, rows.spread, rows.sigma, Moments())
    kept = before[0] < at
    assert kept.sum() > 50
    assert before[0].tolist() != after[0].tolist()
    for ours, theirs in zip(before, after, strict=True):
        assert ours[kept].tobytes() == theirs[after[0] < at].tobytes()
