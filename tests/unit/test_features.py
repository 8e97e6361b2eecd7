"""Features: every column against a plain-Python telling of its formula, and the same bits however ticks are cut."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputRefused
from engine.eventtime import EventTime
from engine.features import FeatureSet
from engine.features.kernel import augment_time_features
from engine.types import F32, Reason, TickBatch
from tests.made import made_ticks

NAMES = ["ret1", "ret1_lag1", "ret1_lag2", "ret1_lag5", "ret1_lag8", "vol14", "vol50", "mom5", "mom15"]


# ---- the oracle: lists and loops, nothing shared with the kernel


def nine(closes: list[float]) -> list[float]:
    """The nine raw time features of the closes so far."""
    def ret(back: int) -> float:
        return closes[-1 - back] / closes[-2 - back] - 1 if len(closes) >= back + 2 else math.nan

    rets = [closes[i] / closes[i - 1] - 1 for i in range(max(1, len(closes) - 50), len(closes))]
    vols = [statistics.stdev(rets[-k:]) if len(rets) >= k else math.nan for k in (14, 50)]
    moms = [closes[-1] - closes[-1 - k] if len(closes) > k else math.nan for k in (5, 15)]
    return [ret(0), ret(1), ret(2), ret(5), ret(8), *vols, *moms]


def close_to(found: F32, expected: list[list[float]]) -> None:
    wanted = np.array(expected)
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    scale = np.maximum(np.nanstd(wanted, axis=0), 1e-12)
    assert np.nanmax(np.abs(found - wanted) / np.maximum(scale, np.abs(wanted))) < 1e-6


def admitted(ticks: TickBatch) -> TickBatch:
    return ticks[EventTime().admit(ticks) == 0]


def test_the_nine_on_the_tick_clock_and_of_plain_closes() -> None:
    ticks = admitted(made_ticks(2000))
    mids = ((ticks.bid + ticks.ask) / 2e5).tolist()
    expected = [nine(mids[max(0, i - 60):i + 1]) for i in range(len(mids))]
    close_to(FeatureSet.time_features("tick").compute(ticks), expected)
    close_to(augment_time_features(np.array(mids)), expected)


# ---- parity


def bits(matrix: F32) -> list[int]:
    return matrix.view(np.int32).tolist()  # type: ignore[no-any-return]


TICKS = made_ticks(6000, symbols=3)
WHOLE = FeatureSet.default().compute(TICKS)


@given(st.lists(st.integers(1, 900), min_size=1, max_size=40), st.sets(st.integers(0, 39)))
@settings(max_examples=25, deadline=None)
def test_any_split_and_any_restore_gives_the_same_bits(cuts: list[int], restores: set[int]) -> None:
    features = FeatureSet.default()
    stream, parts, at = features.stream(), [], 0
    for k, cut in enumerate([*cuts, len(TICKS)]):
        if k in restores:
            stream = features.restore(stream.snapshot())
        parts.append(stream.update(TICKS[at:at + cut]))
        at += cut
    assert bits(np.concatenate(parts)) == bits(WHOLE)


def test_one_tick_at_a_time_gives_the_same_bits() -> None:
    stream = FeatureSet.default().stream()
    parts = [stream.update(TICKS[i:i + 1]) for i in range(2000)]
    assert bits(np.concatenate(parts)) == bits(WHOLE[:sum(map(len, parts))])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_a_symbol_alone_or_interleaved_gives_the_same_bits(seed: int) -> None:
    taken = admitted(TICKS)
    shuffled = np.concatenate([np.flatnonzero(taken.sid == s) for s in np.random.default_rng(seed).permutation(3)])
    for s in range(3):
        alone = FeatureSet.default().compute(taken[taken.sid == s])
        assert bits(alone) == bits(WHOLE[taken.sid == s])
    by_symbol = FeatureSet.default().compute(taken[shuffled])
    assert bits(by_symbol) == bits(WHOLE[shuffled])


def test_later_ticks_change_no_earlier_row() -> None:
    changed = made_ticks(6000, symbols=3)
    at = 4000
    changed.bid[at:] += 5000
    changed.ask[at:] += 5007
    kept = int((EventTime().admit(TICKS)[:at] == 0).sum())
    assert bits(FeatureSet.default().compute(changed)[:kept]) == bits(WHOLE[:kept])
    assert bits(FeatureSet.default().compute(changed)[kept:]) != bits(WHOLE[kept:])


def test_a_frame_and_its_rows_can_be_joined_on() -> None:
    frame = FeatureSet.default().frame(TICKS)
    assert frame.columns == ["symbol", "ts", "row", *FeatureSet.default().names]
    rows = frame["row"].to_numpy()
    assert frame["ts"].to_physical().to_list() == TICKS.ts[rows].tolist()
    assert bits(frame.drop("symbol", "ts", "row").to_numpy().astype(np.float32)) == bits(WHOLE)


def test_status_is_warmup_then_ready_then_gap_after_a_hole() -> None:
    ticks = admitted(made_ticks(30_000, rate=1.5))
    status = FeatureSet.default().state().update(ticks).status
    hole = int(np.argmax(np.diff(ticks.ts))) + 1
    ready = np.flatnonzero(status == Reason.DECIDED)
    assert set(status[:ready[0]]) == {Reason.WARMUP}
    assert ticks.ts[ready[0]] - ticks.ts[0] > 50 * 60e9
    assert status[hole - 1] == Reason.DECIDED
    assert status[hole] == Reason.GAP
    after = hole + int(np.argmax(status[hole:] == Reason.DECIDED))
    assert 50 * 60e9 < ticks.ts[after] - ticks.ts[hole] < 53 * 60e9
    awaited = [column.awaited for column in FeatureSet.default().columns]
    assert not np.isnan(FeatureSet.default().state().update(ticks).matrix[status == Reason.DECIDED][:, awaited]).any()


def test_a_damaged_or_foreign_snapshot_is_refused() -> None:
    features = FeatureSet.default()
    stream = features.stream()
    stream.update(TICKS[:100])
    blob = stream.snapshot()
    for damaged in (blob[:-1], b"", blob[:40] + bytes([blob[40] ^ 1]) + blob[41:]):
        with pytest.raises(InputRefused) as found:
            features.restore(damaged)
        assert found.value.code == "snapshot_damaged"
    with pytest.raises(InputRefused) as found:
        FeatureSet.time_features("1m").restore(blob)
    assert found.value.code == "snapshot_foreign"


def test_fingerprints_tell_sets_apart() -> None:
    sets = [FeatureSet.default(), FeatureSet.time_features("1m"), FeatureSet.time_features("tick")]
    assert len({s.fingerprint for s in sets}) == 3
    assert sets[1].names == NAMES
    assert set(sets[0].warmup) == set(sets[0].names)
