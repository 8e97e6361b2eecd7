"""Peers of a benchmark compute what they are timed for; a peer that doesn't is refused, and the rounds alternate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from engine.errors import TocsinError
from engine.features.state import FeatureState
from trainers.bench import lanes
from trainers.bench.peers import PEERS, OnWindow, Peer, Series, TickByTick, WholeArrays
from trainers.bench.peers.base import WINDOW, made_series
from trainers.bench.peers.reference import INDICATORS, reference
from trainers.bench.rounds import alternate


def named(peer: Peer) -> str:
    return f"{peer.name} {peer.how}"


HERE = [peer for peer in PEERS if peer.version]
"""Those installed: the tests' own libraries bring two, `--group bench` the rest."""


def test_some_peers_are_here() -> None:
    assert {peer.package for peer in HERE} >= {"polars", "TA-Lib"}


@pytest.mark.parametrize("peer", HERE, ids=named)
def test_a_peer_computes_the_indicators(peer: Peer) -> None:
    assert len(INDICATORS) == 12
    assert len(peer.check()) <= 2
    series = made_series(0)
    found, expected = peer.values(series), reference(*series.prices)
    assert found.keys() <= expected.keys()
    for name in found.keys() - peer.otherwise:
        assert found[name] == pytest.approx(expected[name], rel=1e-6), name
    assert all(np.isfinite(value) for value in found.values())
    assert len(found.keys() - peer.otherwise) >= 10


@pytest.mark.parametrize("peer", HERE, ids=named)
def test_symbols_of_a_peer_share_no_state_and_it_can_be_timed(peer: Peer) -> None:
    if isinstance(peer, TickByTick):
        (alone, alone_says), (take, says), (other, _) = (peer.load()() for _ in range(3))
        for row, prices in enumerate(zip(*(column.tolist() for column in made_series(0).prices), strict=True)):
            alone(*prices)
            take(*prices)
            other(*(2.0 * price + 0.01 * (row % 7) for price in prices))
        assert says() == alone_says()
    assert peer.contestant(made_series(0), 10)() > 0


def test_the_reference_of_a_few_ticks_by_hand() -> None:
    """Rising by 1 a tick with a range of 2: what each indicator is can be said without computing it."""
    n = 400
    close = np.arange(100.0, 100.0 + n)
    found = reference(close + 1.0, close - 1.0, close, np.ones(n))
    last = close[-1]
    assert found["ema_12"] == pytest.approx(last - 5.5)            # an EMA of n lags a ramp by (n - 1) / 2
    assert found["ema_26"] == pytest.approx(last - 12.5)
    assert found["macd"] == pytest.approx(7.0)
    assert found["macd_signal"] == pytest.approx(7.0)
    assert found["rsi"] == 100.0
    assert found["atr"] == pytest.approx(2.0)
    assert found["deviation"] == pytest.approx(np.sqrt((20**2 - 1) / 12))
    assert found["bollinger_upper"] - found["bollinger_lower"] == pytest.approx(4 * found["deviation"])
    assert found["bollinger_upper"] + found["bollinger_lower"] == pytest.approx(2 * (last - 9.5))
    assert found["stochastic_k"] == pytest.approx(100 * 14 / 15)
    assert found["stochastic_d"] == pytest.approx(100 * 14 / 15)
    assert found["adx"] == pytest.approx(100.0)
    assert found["cci"] == pytest.approx(9.5 / (0.015 * 5))
    assert found["donchian_high"] == last + 1
    assert found["donchian_low"] == last - 20
    assert found["vwap"] == pytest.approx(close.mean())


# ---- what isn't timed


@dataclass(frozen=True)
class Told(WholeArrays):
    """Says what the reference says, but for what it is told to say."""

    name: str = "made"
    package: str = "made"
    load: Callable[[], Any] = dict
    ticks: int = 1
    wrong: dict[str, float] = field(default_factory=dict)
    """Times so much."""
    lacks: tuple[str, ...] = ()

    def values(self, series: Series) -> dict[str, float]:
        right = reference(*series.prices)
        return {name: value * self.wrong.get(name, 1.0) for name, value in right.items() if name not in self.lacks}


@pytest.mark.parametrize(("name", "times"), [("rsi", 1 + 3e-6), ("atr", math.nan), ("adx", 0.0), ("donchian_low", math.inf)])
def test_a_peer_that_computes_something_else_is_refused(name: str, times: float) -> None:
    with pytest.raises(TocsinError, match=name) as refused:
        Told(wrong={name: times}).check()
    assert refused.value.code == "bench_peer"
    assert Told().check() == ()


def test_what_a_peer_defines_otherwise_must_be_a_number_still() -> None:
    assert Told(wrong={"rsi": 0.5}, otherwise=frozenset({"rsi"})).check() == ()
    with pytest.raises(TocsinError, match="rsi"):
        Told(wrong={"rsi": math.nan}, otherwise=frozenset({"rsi"})).check()


def test_what_a_peer_lacks_is_told() -> None:
    assert Told(lacks=("vwap", "macd_signal")).check() == ("MACD 12/26/9", "VWAP")


# ---- what is timed


def test_each_kind_takes_exactly_the_timed_ticks() -> None:
    series = Series(np.arange(500) % 3, *made_series(0, 500).prices)
    seen: list[Any] = []

    def make() -> Any:
        mine: list[Any] = []
        seen.append(mine)
        return lambda *prices: mine.append(prices), dict

    TickByTick("made", "made", lambda: make, 1).contestant(series, 100)()
    assert [len(mine) for mine in seen] == [167, 167, 166]
    assert [prices[2] for prices in seen[0]] == series.close[::3].tolist()

    def keep() -> Callable[..., None]:
        return lambda *columns: seen.append(columns)

    seen.clear()
    OnWindow("made", "made", keep, 1).contestant(series, 100)()
    assert [columns[2].size for columns in seen] == [WINDOW] * 100
    assert [columns[2][-1] for columns in seen] == series.close[-100:].tolist()
    seen.clear()
    WholeArrays("made", "made", keep, 1).contestant(series, 100)()
    (columns,) = seen
    assert columns[2].tolist() == series.close[-100:].tolist()


def test_contestants_alternate_and_the_first_round_does_not_count() -> None:
    order: list[str] = []
    figures = {"a": iter([1000.0, 1.0, 9.0, 2.0]), "b": iter([1000.0, 5.0, 4.0, 3.0])}

    def contestant(name: str) -> Callable[[], float]:
        def once() -> float:
            order.append(name)
            return next(figures[name])

        return once

    assert alternate({name: contestant(name) for name in figures}, 3, lambda line: None) == {"a": 2.0, "b": 4.0}
    assert order == ["a", "b"] * 4


def test_made_ticks_move_at_the_rate_asked_for() -> None:
    stretch = lanes.made(symbols=3, ticks=1500, rate=8.0, timed=1000)
    ticks = stretch.ticks
    assert len(stretch.timed) == 1000
    assert len(stretch.before) == len(ticks) - 1000
    assert len(ticks) == pytest.approx(4500, rel=0.1)
    assert len(ticks) / 3 / ((ticks.ts[-1] - ticks.ts[0]) / 1e9) == pytest.approx(8.0, rel=0.1)
    for sid in range(3):
        own = ticks[ticks.sid == sid]
        assert (np.diff(own.bid + own.ask) != 0).all()
        assert (np.diff(own.ts) >= 0).all()


def test_every_lane_of_batches_takes_every_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    stretch = lanes.made(symbols=2, ticks=2000, rate=1.0, timed=1500)
    taken: list[int] = []
    update = FeatureState.update

    def counted(state: Any, ticks: Any) -> Any:
        taken.append(len(ticks))
        return update(state, ticks)

    monkeypatch.setattr(FeatureState, "update", counted)
    for lane in (
        lanes.batches(stretch, 256), lanes.frames(stretch, False), lanes.frames(stretch, True), lanes.lines(stretch),
    ):
        taken.clear()
        assert lane() > 0
        assert sum(taken) == len(stretch.ticks)
