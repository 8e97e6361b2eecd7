"""Labels against an independent oracle of plain loops, against the future, and against real ticks."""

from __future__ import annotations

import math
import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputRefused
from engine.instruments import Instrument
from engine.manifest import Moments
from engine.types import TickBatch
from trainers.costs import NO_COSTS, Costs, executable, net
from trainers.labels import Labels, label, label_batch, uniqueness

SECOND = 1_000_000_000
QUICK = Moments(h_min_s=5.0, h_max_s=120.0)


class World:
    """A made feed of one symbol: a walk in points with equal stamps, pauses, holes, locked and crossed quotes."""

    def __init__(self, seed: int, n: int = 3000, step_s: float = 0.4, hole_share: float = 0.002) -> None:
        rng = np.random.default_rng(seed)
        gap = (rng.exponential(step_s, n) * SECOND).astype(np.int64)
        gap[rng.random(n) < 0.1] = 0
        gap[rng.random(n) < hole_share] = 12 * SECOND
        gap[rng.random(n) < hole_share] = 601 * SECOND
        mid2 = 2_000_000 + np.cumsum(rng.integers(-4, 5, n))
        width = rng.integers(2, 8, n)
        width[rng.random(n) < 0.1] = 0
        width[rng.random(n) < 0.1] = -3
        self.ts = 1_700_000_000 * SECOND + np.cumsum(gap)
        self.bid = (mid2 - width) // 2
        self.ask = self.bid + width
        self.spread = rng.choice([4.0, 4.5, 5.0], n)
        self.sigma = rng.choice([1.0, 1.5, 2.5], n)
        self.sigma[: n // 20] = np.nan
        self.events = np.flatnonzero(rng.random(n) < 0.2)

    def label(self, moments: Moments = QUICK, costs: Costs = NO_COSTS) -> Labels:
        return label(self.ts, self.bid, self.ask, self.spread, self.sigma, self.events, moments, costs)


def oracle(world: World, moments: Moments, costs: Costs) -> tuple[list[dict[str, float]], dict[str, int]]:
    """The rule of labels.py, read off its docstring: one event at a time, one tick at a time."""
    ts, bid, ask = world.ts.tolist(), world.bid.tolist(), world.ask.tolist()
    spread, sigma = world.spread.tolist(), world.sigma.tolist()
    n = len(ts)
    dropped = {"warmup": 0, "no_entry": 0, "hole": 0, "end_of_data": 0}
    rows = []

    def quote(i: int) -> tuple[float, float]:
        mid, apart = (bid[i] + ask[i]) / 2, max(ask[i] - bid[i], spread[i])
        return mid - apart / 2, mid + apart / 2

    def nets(entry: int, end: int) -> tuple[float, float]:
        (in_bid, in_ask), (out_bid, out_ask) = quote(entry), quote(end)
        long, short = 2 * costs.slippage, 2 * costs.slippage
        long += costs.commission_bp / 1e4 * (in_ask + out_bid)
        short += costs.commission_bp / 1e4 * (in_bid + out_ask)
        return out_bid - in_ask - long, in_bid - out_ask - short

    for e in world.events.tolist():
        if math.isnan(sigma[e]):
            dropped["warmup"] += 1
            continue
        horizon = min(max((moments.kappa * spread[e] / sigma[e]) ** 2, moments.h_min_s), moments.h_max_s)
        width = max(moments.k_vol * sigma[e] * math.sqrt(horizon), moments.k_spread * spread[e])
        entry = e + 1
        while entry < n and ts[entry] < ts[e] + round(costs.delay_ms * 1e6):
            entry += 1
        if entry == n:
            dropped["end_of_data"] += 1
            continue
        if ts[entry] - ts[e] > 10 * SECOND:
            dropped["no_entry"] += 1
            continue
        until = ts[entry] + round(horizon * 1e9)
        outcome = None
        j = entry
        while outcome is None:
            if j == entry + 50_000:
                outcome = (0, j, ts[j])
            elif j + 1 == n:
                dropped["end_of_data"] += 1
                break
            elif ts[j + 1] - ts[j] > 600 * SECOND:
                dropped["hole"] += 1
                break
            elif ts[j + 1] > until:
                outcome = (0, j, until)
            else:
                j += 1
                long, short = nets(entry, j)
                if long >= width:
                    outcome = (1, j, ts[j])
                elif short >= width:
                    outcome = (-1, j, ts[j])
        if outcome is not None:
            y, end, end_ts = outcome
            long, short = nets(entry, end)
            rows.append({
                "event": e, "entry": entry, "end": end, "event_ts": ts[e], "entry_ts": ts[entry], "end_ts": end_ts,
                "y": y, "net_long": long, "net_short": short, "width": width,
                "horizon_s": horizon,
            })
    return rows, dropped


def assert_equals_oracle(world: World, moments: Moments, costs: Costs = NO_COSTS) -> Labels:
    """To the bit; but for nets after a commission, which the oracle adds up in another order."""
    labels = world.label(moments, costs)
    rows, dropped = oracle(world, moments, costs)
    assert labels.dropped == dropped
    for field in fields(Labels):
        if field.name not in ("weight", "dropped"):
            got, expected = getattr(labels, field.name).tolist(), [row[field.name] for row in rows]
            if costs.commission_bp and field.name.startswith("net"):
                assert got == pytest.approx(expected, abs=1e-6)
            else:
                assert got == expected, field.name
    return labels


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    costs=st.builds(
        Costs, st.sampled_from([0.0, 0.013, 0.037]), st.sampled_from([0.0, 0.5, 2.25]), st.sampled_from([0.0, 100.0, 1000.0])
    ),
    k_vol=st.sampled_from([0.2, 0.5, 1.5]),
    h_max_s=st.sampled_from([5.0, 60.0, 600.0]),
)
def test_equals_the_oracle(seed: int, costs: Costs, k_vol: float, h_max_s: float) -> None:
    world = World(seed, n=400)
    assert_equals_oracle(world, Moments(h_min_s=1.0, h_max_s=h_max_s, k_vol=k_vol), costs)


def test_every_outcome_and_every_reason_is_met() -> None:
    labels = assert_equals_oracle(World(seed=1), Moments(h_min_s=5.0, h_max_s=120.0, k_vol=1.0))
    assert set(labels.y.tolist()) == {-1, 0, 1}
    assert all(labels.dropped[why] > 0 for why in ("warmup", "no_entry", "hole", "end_of_data"))


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("costs", [NO_COSTS, Costs(commission_bp=0.031, slippage=1.5, delay_ms=40.0)])
def test_skipped_ticks_change_nothing(costs: Costs, every: bool) -> None:
    """Barriers so far away that windows span many blocks of 64 ticks, some of which must not be skipped."""
    world = World(seed=7, n=6000, step_s=0.05, hole_share=0.0002)
    if every:
        world.events = np.arange(6000)
    labels = assert_equals_oracle(world, Moments(h_min_s=5.0, h_max_s=200.0, k_vol=2.0, k_spread=8.0), costs)
    span = labels.end - labels.entry
    assert (span > 10 * 64).sum() > 100
    assert {-1, 1} <= set(labels.y[span > 10 * 64].tolist())


def test_at_most_fifty_thousand_ticks() -> None:
    world = World(seed=3, n=60_000, step_s=0.005, hole_share=0.0)
    world.bid[:], world.ask[:] = 1_000_000, 1_000_004
    world.events = np.array([3500, 9000, 9998, 9999, 15_000])
    labels = assert_equals_oracle(world, Moments(h_max_s=3600.0, h_min_s=3600.0), Costs(delay_ms=0.0))
    assert (labels.end - labels.entry).tolist() == [50_000] * 3    # 9998 just has enough ticks after its entry
    assert labels.dropped["end_of_data"] == 2


def test_touching_the_width_exactly_counts() -> None:
    second = SECOND * np.arange(5)
    bid = np.array([100, 100, 107, 108, 100])
    labels = label(
        second, bid, bid + 4, np.full(5, 4.0), np.full(5, 1.0), np.array([0]), Moments(k_vol=0.0, k_spread=1.0)
    )
    assert (labels.entry[0], labels.end[0], labels.y[0]) == (1, 3, 1)
    assert (labels.net_long[0], labels.net_short[0], labels.width[0]) == (4.0, -12.0, 4.0)


@pytest.mark.parametrize(("late_ns", "y"), [(0, 1), (1, 0)])
def test_the_last_instant_of_the_horizon_counts(late_ns: int, y: int) -> None:
    ts = SECOND * np.array([0, 1, 11, 12]) + np.array([0, 0, late_ns, late_ns])
    bid = np.array([100, 100, 200, 200])
    labels = label(
        ts, bid, bid + 4, np.full(4, 4.0), np.full(4, 1.0), np.array([0]), Moments(h_min_s=10.0, h_max_s=10.0)
    )
    assert labels.y.tolist() == [y]
    assert labels.end.tolist() == [2 if y else 1]
    assert labels.end_ts.tolist() == [11 * SECOND]


def test_locked_and_crossed_quotes_dont_trade_free() -> None:
    bid, ask = executable(np.array([100, 100, 100]), np.array([110, 100, 96]), np.full(3, 4.0))
    assert bid.tolist() == [100.0, 98.0, 96.0]
    assert ask.tolist() == [110.0, 102.0, 100.0]
    long, short = net(bid[:1], ask[:1], bid[1:2], ask[1:2])
    assert (long.tolist(), short.tolist()) == ([-12.0], [-2.0])
    assert (np.add(*net(bid, ask, bid, ask)) < 0).all()


def test_costs_are_paid_at_entry_and_at_exit() -> None:
    """Bought at 10,010, sold at 10,300, 1.5 points lost each time, 0.25 bp of each price; and the mirror."""
    bid, ask = executable(np.array([10_000, 10_300]), np.array([10_010, 10_310]), np.full(2, 4.0), Costs(0.25, 1.5))
    long, short = net(bid[0], ask[0], bid[1], ask[1])
    assert long == pytest.approx(290 - 3 - 0.25e-4 * (10_010 + 10_300), abs=1e-9)
    assert short == pytest.approx(-310 - 3 - 0.25e-4 * (10_000 + 10_310), abs=1e-9)


def test_a_side_nets_the_width_after_costs() -> None:
    """Two points of slippage a way: a long that nets 4 must find the bid 4 points higher than without."""
    ts, bid = SECOND * np.arange(9), np.array([100, 100, 107, 108, 110, 111, 112, 112, 100])
    columns = (ts, bid, bid + 4, np.full(9, 4.0), np.full(9, 1.0), np.array([0]), Moments(k_vol=0.0, k_spread=1.0))
    assert [label(*columns, Costs(slippage=s)).end.tolist() for s in (0.0, 1.0, 2.0)] == [[3], [4], [6]]
    assert label(*columns, Costs(slippage=2.0)).net_long.tolist() == [4.0]
    assert label(*columns, Costs(slippage=2.0)).net_short.tolist() == [-20.0]


@pytest.mark.parametrize("seed", range(4))
def test_nothing_after_its_end_changes_a_label(seed: int) -> None:
    """For each label: rewrite every quote, spread and sigma later than its end_ts; the label must stay."""
    world = World(seed, n=600)
    before = world.label()
    rng = np.random.default_rng(seed)
    for k in rng.choice(len(before), 40, replace=False):
        changed = World(seed, n=600)
        later = changed.ts > before.end_ts[k]
        changed.bid[later] += rng.integers(-500, 500, int(later.sum()))
        changed.ask[later] = changed.bid[later] + rng.integers(0, 50, int(later.sum()))
        changed.spread[later] *= 7.0
        changed.sigma[later] = 9.0
        changed.events = before.event[k : k + 1]
        after = changed.label()
        assert len(after) == 1
        for field in fields(Labels):
            if field.name not in ("weight", "dropped"):
                assert getattr(after, field.name)[0] == getattr(before, field.name)[k], field.name


def test_more_ticks_never_change_a_label_given() -> None:
    """A label of a recording cut short is the label of the whole recording."""
    whole = World(seed=5).label()
    for cut in (700, 1501, 2500):
        part = World(seed=5)
        for column in ("ts", "bid", "ask", "spread", "sigma"):
            setattr(part, column, getattr(part, column)[:cut].copy())
        part.events = part.events[part.events < cut]
        early = part.label()
        where = np.searchsorted(whole.event, early.event)
        for column in ("event", "entry", "end", "end_ts", "y", "net_long"):
            assert np.array_equal(getattr(early, column), getattr(whole, column)[where]), column


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), min_size=1, max_size=20))
def test_uniqueness_is_the_mean_share_of_a_tick(spans: list[tuple[int, int]]) -> None:
    spans = [(min(span), max(span)) for span in spans]
    expected = []
    for start, end in spans:
        shares = [1 / sum(a <= tick <= b for a, b in spans) for tick in range(start, end + 1)]
        expected.append(sum(shares) / len(shares))
    got = uniqueness(np.array([a for a, _ in spans]), np.array([b for _, b in spans]), 40)
    assert got == pytest.approx(expected, abs=1e-12)


def test_weights_are_uniqueness_from_event_to_end() -> None:
    labels = World(seed=6).label()
    assert labels.weight == pytest.approx(uniqueness(labels.event, labels.end, 3000))
    assert 0.0 < labels.weight.min() < 0.5 < labels.weight.max() <= 1.0 + 1e-9


def interleaved() -> tuple[list[World], TickBatch, dict[str, np.ndarray], list[np.ndarray]]:
    """Three symbols in one batch, tick by tick in order of time; names not in the order of their numbers."""
    worlds = [World(seed, n=n) for seed, n in ((11, 500), (12, 1), (13, 800))]
    worlds[1].events = np.array([0])
    sid = np.concatenate([np.full(w.ts.size, s) for s, w in enumerate(worlds)])
    column = {
        name: np.concatenate([getattr(w, name) for w in worlds]) for name in ("ts", "bid", "ask", "spread", "sigma")
    }
    order = np.argsort(column["ts"], kind="stable")
    column = {name: values[order] for name, values in column.items()}
    sid = sid[order]
    rows = [np.flatnonzero(sid == s) for s in range(3)]
    batch = TickBatch(
        [Instrument(name) for name in ("EURUSD", "GBPUSD", "AUDUSD")],
        sid=sid, ts=column["ts"], bid=column["bid"], ask=column["ask"],
    )
    return worlds, batch, column, rows


def test_several_symbols_are_labelled_as_each_alone() -> None:
    worlds, batch, column, rows = interleaved()
    events = np.sort(np.concatenate([rows[s][w.events] for s, w in enumerate(worlds)]))
    labels = label_batch(batch, column["spread"], column["sigma"], events, QUICK)

    alone = [w.label() for w in worlds]
    assert len(labels) == sum(map(len, alone))
    assert labels.dropped == {why: sum(a.dropped[why] for a in alone) for why in labels.dropped}
    for s, one in enumerate(alone):
        mine = batch.sid[labels.event] == s
        for name in ("event", "entry", "end"):
            assert np.array_equal(getattr(labels, name)[mine], rows[s][getattr(one, name)])
        for name in ("event_ts", "entry_ts", "end_ts", "y", "net_long", "net_short", "width", "horizon_s", "weight"):
            assert np.array_equal(getattr(labels, name)[mine], getattr(one, name))

    keys = [(int(t), batch.symbol(e)) for t, e in zip(labels.event_ts, labels.event, strict=True)]
    assert keys == sorted(keys)


def test_each_symbol_pays_its_own_costs() -> None:
    worlds, batch, column, rows = interleaved()
    dear = Instrument("EURUSD", commission_bp=0.02, slippage=1.0, delay_ms=900.0)
    batch.instruments = [dear, *batch.instruments[1:]]
    events = np.sort(np.concatenate([rows[s][w.events] for s, w in enumerate(worlds)]))
    labels = label_batch(batch, column["spread"], column["sigma"], events, QUICK)
    alone = [worlds[0].label(QUICK, Costs(0.02, 1.0, 900.0)), worlds[1].label(), worlds[2].label()]
    assert alone[0].net_long.tolist() != worlds[0].label().net_long.tolist()
    for s, one in enumerate(alone):
        mine = batch.sid[labels.event] == s
        for name in ("entry_ts", "end_ts", "y", "net_long", "net_short"):
            assert np.array_equal(getattr(labels, name)[mine], getattr(one, name))


def test_one_symbol_pays_its_costs() -> None:
    world = World(seed=21)
    dear = Instrument("AUDUSD", commission_bp=0.02, slippage=1.0, delay_ms=900.0)
    batch = TickBatch([Instrument("UNSEEN"), dear], sid=np.ones(world.ts.size, np.int64),
                      ts=world.ts, bid=world.bid, ask=world.ask)
    labels = label_batch(batch, world.spread, world.sigma, world.events, QUICK)
    alone = world.label(QUICK, Costs(0.02, 1.0, 900.0))
    for name in ("event", "entry_ts", "end_ts", "y", "net_long", "net_short"):
        assert np.array_equal(getattr(labels, name), getattr(alone, name))


def test_equal_stamps_are_ordered_by_symbol() -> None:
    ts = np.repeat(SECOND * np.arange(4000), 2)
    batch = TickBatch(
        [Instrument("ZZZ"), Instrument("AAA")],
        sid=np.tile([0, 1], 4000), ts=ts, bid=np.full(8000, 100), ask=np.full(8000, 104),
    )
    labels = label_batch(batch, np.full(8000, 4.0), np.full(8000, 1.0), np.arange(20), Moments())
    assert [batch.symbol(e) for e in labels.event] == ["AAA", "ZZZ"] * 10


@pytest.mark.parametrize("events", [[5, 8000], [-1, 5], [7, 5], [5, 5]])
def test_events_that_arent_rows_of_the_batch_are_refused(events: list[int]) -> None:
    _, batch, column, _ = interleaved()
    with pytest.raises(InputRefused) as refused:
        label_batch(batch, column["spread"], column["sigma"], np.array(events), QUICK)
    assert refused.value.code == "label_events"


def test_no_ticks_and_no_events_give_no_labels() -> None:
    nothing = np.zeros(0, np.int64)
    for instruments in ([Instrument("EURUSD")], []):
        batch = TickBatch(instruments, sid=nothing, ts=nothing, bid=nothing, ask=nothing)
        assert len(label_batch(batch, np.zeros(0), np.zeros(0), nothing, Moments())) == 0
    world = World(seed=7)
    world.events = nothing
    assert len(world.label()) == 0


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda w: setattr(w, "ts", w.ts[::-1]), "label_order"),
        (lambda w: setattr(w, "sigma", w.sigma[1:]), "label_columns"),
        (lambda w: setattr(w, "events", np.array([5, 3000])), "label_events"),
        (lambda w: setattr(w, "events", np.array([-1, 5])), "label_events"),
        (lambda w: setattr(w, "events", np.array([7, 5])), "label_events"),
    ],
)
def test_what_cant_be_labelled_is_refused(spoil: object, code: str) -> None:
    world = World(seed=8)
    spoil(world)  # type: ignore[operator]
    with pytest.raises(InputRefused) as refused:
        world.label()
    assert refused.value.code == code
    assert refused.value.hint


def test_read_only_and_sliced_columns_give_the_same() -> None:
    """What a frame or a view hands over compiles no second kernel and gives the same labels."""
    world = World(seed=9)
    expected = world.label()
    for column in ("ts", "bid", "ask", "spread", "sigma", "events"):
        doubled = np.repeat(getattr(world, column), 2)
        view = doubled[::2]
        view.flags.writeable = False
        setattr(world, column, view)
    got = world.label()
    assert np.array_equal(got.y, expected.y)
    assert np.array_equal(got.end_ts, expected.end_ts)


def real_ticks(name: str, scale: int) -> TickBatch:
    folder = os.environ.get("TOCSIN_DATA")
    if not folder or not (file := Path(folder) / "ticks" / f"{name}.parquet").exists():
        pytest.skip("TOCSIN_DATA isn't set to a folder with these ticks")
    pl = pytest.importorskip("polars")
    frame = pl.read_parquet(file)

    def points(column: str) -> np.ndarray:
        counted: np.ndarray = np.rint(frame[column].cast(pl.Float64).to_numpy() * 10**scale)
        return counted.astype(np.int64)

    return TickBatch(
        [Instrument(name, scale)], sid=np.zeros(len(frame), np.int64), ts=frame["ts"].cast(pl.Int64).to_numpy(),
        bid=points("bid"), ask=points("ask"),
    )


@pytest.mark.parametrize(
    ("name", "events", "shares"),
    [
        ("EURUSD_OANDA-LEAN2014", 15_673, (0.28, 0.36, 0.36)),
        ("EURUSD_FXCM-LEAN2014", 66_579, (0.29, 0.36, 0.35)),
        ("USDSGD_DUKASCOPY-FXBT201405", 9_725, (0.44, 0.28, 0.28)),
    ],
)
def test_class_balance_of_real_ticks(name: str, events: int, shares: tuple[float, float, float]) -> None:
    """The published figures, through the engine's own spread, sigma and moments; horizon and width are the engine's."""
    from engine.eventtime import EventTime
    from engine.features import FeatureSet
    from engine.features.moments import MomentPicker

    ticks = real_ticks(name, 5)
    ticks = ticks[np.flatnonzero(EventTime().admit(ticks) == 0)]
    rows = FeatureSet.default().state().update(ticks)
    asked, horizon, width = MomentPicker().pick(ticks, rows.spread, rows.sigma, Moments())
    labels = label_batch(ticks, rows.spread, rows.sigma, asked, Moments())

    assert len(labels) == pytest.approx(events, rel=0.005)
    assert [float((labels.y == y).mean()) for y in (0, 1, -1)] == pytest.approx(shares, abs=0.006)
    of_label = np.searchsorted(asked, labels.event)
    assert np.array_equal(labels.horizon_s, horizon[of_label])
    assert np.array_equal(labels.width, width[of_label])
    assert (labels.net_long[labels.y == 1] >= labels.width[labels.y == 1]).all()
    assert (labels.net_short[labels.y == -1] >= labels.width[labels.y == -1]).all()
