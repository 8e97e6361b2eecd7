"""A stream: ticks one by one as in batches, snapshots of all symbols or of one, and what is refused."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import numpy as np
import pytest

from engine.errors import InputRefused, TocsinError, UsageError
from engine.eventtime import VERDICTS, EventTime
from engine.features import FeatureSet, Stream
from engine.instruments import Instrument, Instruments
from engine.types import Code, TickBatch
from tests.made import made_ticks
from tests.parity import COLUMNS

TICKS = made_ticks(4000, symbols=3)
ROWS = list(zip(*(getattr(TICKS, name).tolist() for name in COLUMNS), strict=True))


def by_name(stream: Stream) -> list[int]:
    return [stream.symbol(instrument.symbol) for instrument in TICKS.instruments]


def test_single_ticks_are_judged_and_computed_as_batches_are() -> None:
    stream = FeatureSet.default().stream()
    sids = by_name(stream)
    verdicts, rows = [], []
    for sid, *rest in ROWS:
        verdicts.append(stream.tick(sids[sid], *rest))
        if verdicts[-1] == 0:
            rows.append(stream.row.copy())
    assert verdicts == EventTime().admit(TICKS).tolist()
    assert {VERDICTS[verdict] for verdict in verdicts} >= {None, Code.CROSSED, Code.LATE, Code.DUPLICATE}
    assert np.stack(rows).tobytes() == FeatureSet.default().compute(TICKS).tobytes()


def test_single_ticks_and_batches_may_take_turns_and_symbols_may_come_later() -> None:
    stream, parts = FeatureSet.default().stream(), []
    at = 0
    for k, size in enumerate([1, 30, 500, 1, 1, 700, 3, 2764]):
        if k % 2:
            parts.append(stream.update(TICKS[at:at + size]))
        else:
            for sid, *rest in ROWS[at:at + size]:
                if stream.tick(stream.symbol(TICKS.symbols[sid]), *rest) == 0:
                    parts.append(stream.row[None].copy())
        at += size
    assert at == len(TICKS)
    assert np.concatenate(parts).tobytes() == FeatureSet.default().compute(TICKS).tobytes()


def test_a_symbol_is_counted_as_its_instrument_says() -> None:
    stream = FeatureSet.default().stream(Instruments({"X": {"crossed": "keep"}}, closed=True))
    assert stream.tick(stream.symbol("X"), 10**18, 110_001, 110_000) == 0
    with pytest.raises(InputRefused) as refused:
        stream.symbol("Y")
    assert refused.value.code == "symbol"
    plain = FeatureSet.default().stream()
    assert VERDICTS[plain.tick(plain.symbol("X"), 10**18, 110_001, 110_000)] is Code.CROSSED
    with pytest.raises(InputRefused) as refused:
        plain.adopt(Instrument("X", scale=3))
    assert refused.value.code == "instrument_changed"


@pytest.mark.parametrize(("values", "code"), [
    ((0, 0, 1, 1), "tick"), ((0, 10**18, 0, 1), "tick"), ((0, 10**18, 1, -1), "tick"), ((0, 10**18, 1, 1, -1), "tick"),
    ((0, 10**18, 1.12345, 1.12347), "tick"), ((0, 10**18, "1", "1"), "tick"), ((0, 2**63, 1, 1), "tick"),
    ((0, 10**18, 2**52, 2**52), "tick"), ((0, 10**18, 1, 1, 1.5), "tick"),
    ((1, 10**18, 1, 1), "symbol_number"), ((-1, 10**18, 1, 1), "symbol_number"), ((2**40, 10**18, 1, 1), "symbol_number"),
])
def test_what_can_be_no_tick_is_refused_and_changes_nothing(values: tuple[Any, ...], code: str) -> None:
    stream = FeatureSet.default().stream()
    stream.tick(stream.symbol("X"), 10**17, 100, 101)
    before = stream.snapshot()
    with pytest.raises(TocsinError) as refused:
        stream.tick(*values)
    assert refused.value.code == code
    assert refused.value.hint
    assert stream.snapshot() == before


def test_sets_that_need_more_than_the_kernel_say_so() -> None:
    with pytest.raises(UsageError) as refused:
        FeatureSet.time_features("1m").stream().tick(0, 1, 1, 1)
    assert refused.value.code == "single"


# ---- snapshots


def filled(upto: int) -> Stream:
    stream = FeatureSet.default().stream()
    stream.update(TICKS[:upto])
    return stream


def test_a_snapshot_of_one_symbol_takes_its_place_and_no_other() -> None:
    early, late = filled(1000), filled(3000)
    name = TICKS.symbols[1]
    assert early.restore(late.snapshot(name)) == [name]
    rest = TICKS[3000:]
    mine, others = rest[rest.sid == 1], rest[rest.sid != 1]
    assert early.update(mine).tobytes() == late.update(mine).tobytes()
    assert early.update(others).tobytes() == filled(1000).update(others).tobytes()


def test_a_symbol_that_is_new_there_is_added() -> None:
    fresh = FeatureSet.default().stream()
    fresh.symbol("ANOTHER")
    assert fresh.restore(filled(3000).snapshot()) == TICKS.symbols
    assert fresh.update(TICKS[3000:]).tobytes() == filled(3000).update(TICKS[3000:]).tobytes()


def test_a_snapshot_of_a_stranger_is_refused() -> None:
    with pytest.raises(InputRefused) as refused:
        filled(10).snapshot("NOBODY")
    assert refused.value.code == "symbol"


def remade(blob: bytes, **other: Any) -> bytes:
    body = msgspec.msgpack.decode(blob[32:]) | other
    encoded = msgspec.msgpack.encode(body)
    return hashlib.sha256(encoded).digest() + encoded


@pytest.mark.parametrize("other", [{"format": 1}, {"format": 3}, {"format": None}, {"fingerprint": "0123456789abcdef"}])
def test_a_snapshot_of_another_version_or_set_is_refused_whole(other: dict[str, Any]) -> None:
    stream = filled(500)
    before = stream.snapshot()
    with pytest.raises(InputRefused) as refused:
        stream.restore(remade(filled(1000).snapshot(), **other))
    assert refused.value.code == "snapshot_foreign"
    assert refused.value.hint
    assert stream.snapshot() == before


def test_a_snapshot_that_can_not_be_put_back_whole_is_not_begun() -> None:
    source = FeatureSet.default().stream()
    for instrument in (Instrument("NEW"), Instrument("X", scale=3)):
        source.tick(source.adopt(instrument), 10**17, 100, 101)
    stream = FeatureSet.default().stream()
    stream.tick(stream.symbol("X"), 10**17, 100, 101)
    before = stream.snapshot()
    with pytest.raises(InputRefused) as refused:
        stream.restore(source.snapshot())
    assert refused.value.code == "instrument_changed"
    assert stream.snapshot() == before


def test_no_tick_at_all_is_no_row() -> None:
    assert FeatureSet.default().compute(TICKS[:0]).shape == (0, 64)


@pytest.mark.parametrize("sid", [-1, 3, 10**7])
def test_a_batch_whose_numbers_are_no_symbols_touches_nothing(sid: int) -> None:
    ticks = TICKS[:50]
    ticks.sid = ticks.sid.copy()
    ticks.sid[20] = sid
    with pytest.raises(ValueError, match="sid"):
        EventTime().admit(ticks)
    state = FeatureSet.default().state()
    state.rows.ensure(3)
    if sid != 3:                                   # there is room for a fourth
        with pytest.raises(ValueError, match="sid"):
            state.update(ticks)
    with pytest.raises(ValueError, match="shape"):
        TickBatch(TICKS.instruments, sid=TICKS.sid[:10], ts=TICKS.ts[:9], bid=TICKS.bid[:9], ask=TICKS.ask[:9])


def test_a_first_tick_that_was_none_is_forgotten_like_what_is_before_a_hole() -> None:
    ticks = made_ticks(6000, rate=2.0, flaws=False)
    ticks.bid[0] = ticks.ask[0] = 2**50
    found = dict(zip(FeatureSet.default().names, FeatureSet.default().compute(ticks).T, strict=True))
    plain = dict(zip(FeatureSet.default().names, FeatureSet.default().compute(ticks[1:]).T, strict=True))
    for name in ("rv_60s", "rv_300s", "jump_300s", "zscore_300s", "donchian_300s"):
        known = ~np.isnan(plain[name])
        assert known.sum() > 2000
        assert np.isnan(found[name][1:]).sum() == np.isnan(plain[name]).sum(), name
    assert (found["zscore_300s"][1:][known] == plain["zscore_300s"][known]).all()


def test_any_damage_is_noticed() -> None:
    blob = filled(300).snapshot()
    for at in (0, 31, 32, len(blob) // 2, len(blob) - 1):
        with pytest.raises(InputRefused) as refused:
            FeatureSet.default().restore(blob[:at] + bytes([blob[at] ^ 4]) + blob[at + 1:])
        assert refused.value.code == "snapshot_damaged"


def test_other_bar_lengths_are_another_set() -> None:
    short = FeatureSet.default(["1m", "5m"])
    assert len(short.names) == 64 - 14
    assert len(FeatureSet.default(["1m", "5m", "15m", "1h", "4h", "1d"]).names) == 64 + 14
    with pytest.raises(InputRefused) as refused:
        short.restore(filled(100).snapshot())
    assert refused.value.code == "snapshot_foreign"
    for wrong in (["1m", "1m"], ["2m"]):
        with pytest.raises(UsageError) as unknown:
            FeatureSet.default(wrong)
        assert unknown.value.code == "timeframes"


def test_bars_of_four_hours_and_days_close_on_utcs_grid() -> None:
    features = FeatureSet.default(["4h", "1d"])
    n = 40 * 24 * 6                            # a tick every ten minutes for forty days
    rng = np.random.default_rng(1)
    bid = 110_000 + np.cumsum(rng.integers(-20, 21, n))
    ts = 1_714_953_600_000_000_000 + 600_000_000_000 * np.arange(n)
    ticks = TickBatch([Instrument("X")], sid=np.zeros(n, np.int64), ts=ts, bid=bid, ask=bid + 2)
    found = dict(zip(features.names, features.compute(ticks).T, strict=True))
    for name, bars in (("rsi_4h", 15 * 24), ("rsi_1d", 15 * 144)):
        assert int(np.argmax(~np.isnan(found[name]))) == bars
        changes = np.flatnonzero(np.diff(found[name][bars:])) + 1
        assert (changes % (24 if name.endswith("4h") else 144) == 0).all()
