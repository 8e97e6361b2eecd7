"""SignalPolicy against a plain-Python telling, and that its state follows from what was published alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.instruments import Instrument
from engine.manifest import Policy
from engine.partition.policy import PolicyState
from engine.types import F32, I64, REASONS, SIDES, Reason, TickBatch

S = 10**9


INSTRUMENTS = [Instrument("A"), Instrument("B", max_spread=25), Instrument("C", max_spread=9)]


def decide(state: PolicyState, rows: list[tuple[int, int, float, int, int]], policy: Policy) -> tuple[I64, I64, I64]:
    """rows: (sid, ts in s, margin, spread in points, status); the usual spread is 10 points."""
    sid, ts, _, spread, status = (np.array(c, np.int64) for c in zip(*rows, strict=True))
    margin = np.array([row[2] for row in rows])
    p: F32 = np.stack([np.full(len(rows), 0.2), 0.4 + margin / 2, 0.4 - margin / 2], axis=1).astype(np.float32)
    ticks = TickBatch(INSTRUMENTS, sid=sid, ts=ts * S, bid=np.full(len(rows), 1000), ask=1000 + spread)
    return state.decide(ticks, np.full(len(rows), 10.0), status, p, policy)


def told(rows: list[tuple[int, int, float, int, int]], policy: Policy) -> list[tuple[str, str]]:
    held: dict[int, str] = {}
    since: dict[int, int] = {}
    out = []
    for sid, ts, margin, spread, status in rows:
        now = held.get(sid, "neutral")
        margin = float(np.float32(0.4 + margin / 2)) - float(np.float32(0.4 - margin / 2))
        if status:
            side, reason = "neutral", REASONS[status]
        elif spread > 10 * policy.max_spread or spread > (INSTRUMENTS[sid].max_spread or spread):
            side, reason = "neutral", "spread"
        elif margin > 0 and margin >= policy.buy:
            side, reason = "buy", "decided"
        elif margin < 0 and margin <= policy.sell:
            side, reason = "sell", "decided"
        elif now == "buy" and margin > 0 and margin > policy.buy * policy.hysteresis:
            side, reason = "buy", "hysteresis"
        elif now == "sell" and margin < 0 and margin < policy.sell * policy.hysteresis:
            side, reason = "sell", "hysteresis"
        else:
            side, reason = "neutral", "threshold"
        if reason in ("decided", "hysteresis") and side != now and sid in since and ts - since[sid] < policy.cooldown_s:
            side, reason = "neutral", "cooldown"
        if side != now and side != "neutral":
            since[sid] = ts
        held[sid] = side
        out.append((side, reason))
    return out


margins = st.sampled_from([-0.5, -0.2, -0.11, -0.06, -0.04, 0.0, 0.04, 0.06, 0.11, 0.2, 0.5])
row = st.tuples(st.integers(0, 2), st.integers(0, 3), margins, st.sampled_from([1, 9, 10, 25, 26, 31]),
                st.sampled_from([0, 0, 0, 0, int(Reason.WARMUP), int(Reason.GAP)]))


@given(st.lists(row, min_size=1, max_size=80), st.sampled_from([0.0, 2.0, 5.0]), st.sampled_from([(0.1, -0.1), (0.2, 0.05)]))
@settings(max_examples=300, deadline=None)
def test_the_rules(rows: list[tuple[int, int, float, int, int]], cooldown: float, bounds: tuple[float, float]) -> None:
    ts = 0
    rising = []
    for sid, step, *rest in rows:
        ts += step
        rising.append((sid, ts + 1, *rest))
    policy = Policy(*bounds, cooldown_s=cooldown)
    side, reason, nth = decide(PolicyState(), rising, policy)
    assert [(SIDES[s], REASONS[r]) for s, r in zip(side, reason, strict=True)] == told(rising, policy)
    count: dict[tuple[int, int], int] = {}
    for (sid, at, *_), n in zip(rising, nth, strict=True):
        assert n == count.get((sid, at), 0)
        count[sid, at] = n + 1


@given(st.lists(row, min_size=2, max_size=60), st.integers(0, 60))
@settings(max_examples=100, deadline=None)
def test_reading_published_decisions_back_leaves_the_same_state(rows: list[tuple[int, int, float, int, int]], at: int) -> None:
    rising = [(sid, 1 + i // 2, *rest) for i, (sid, _, *rest) in enumerate(rows)]
    at = 1 + at % (len(rows) - 1)
    policy = Policy(0.1, -0.1, cooldown_s=3.0)
    through = PolicyState()
    side, _, _ = decide(through, rising, policy)
    resumed = PolicyState()
    ts = np.array([r[1] * S for r in rising])
    resumed.apply(np.array([r[0] for r in rising], np.int64)[:at], ts[:at], side[:at], 3)
    rest, _, _ = decide(resumed, rising[at:], policy)
    assert rest.tolist() == side[at:].tolist()
    assert np.array_equal(resumed.rows.ints, through.rows.ints)


def test_a_wide_spread_and_a_cold_start_are_neutral() -> None:
    rows = [(0, 1, 0.5, 31, 0), (0, 2, 0.5, 30, 0), (0, 3, 0.5, 1, int(Reason.WARMUP))]
    side, reason, _ = decide(PolicyState(), rows, Policy(0.1, -0.1))
    assert [SIDES[s] for s in side] == ["neutral", "buy", "neutral"]
    assert [REASONS[r] for r in reason] == ["spread", "decided", "warmup"]


def test_each_instrument_has_its_own_bound_which_may_change_between_batches() -> None:
    state, policy, p = PolicyState(), Policy(0.1, -0.1), np.array([[0.2, 0.7, 0.1]] * 3, np.float32)
    sid, one = np.arange(3), np.ones(3, np.int64)
    reasons = []
    for instruments in (INSTRUMENTS, [Instrument("A", max_spread=19), Instrument("B"), Instrument("C", max_spread=20)]):
        ticks = TickBatch(instruments, sid=sid, ts=one, bid=one, ask=21 * one)
        _, reason, _ = state.decide(ticks, np.full(3, 100.0), 0 * one, p, policy)
        reasons.append([REASONS[r] for r in reason])
    assert reasons == [["decided", "decided", "spread"], ["spread", "decided", "decided"]]
