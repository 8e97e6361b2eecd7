"""The purged split, and the audit that must see every leak a split can have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.errors import InputRefused
from trainers.splits import EMBARGO_NS, Split, audit, purged_split

HOUR = 3_600_000_000_000


def events(seed: int = 0, n: int = 2000, days: int = 20, shuffled: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Event and end stamps of a few symbols over some days; several events share a stamp."""
    rng = np.random.default_rng(seed)
    ts = np.sort(rng.integers(0, days * 24 * HOUR // 10**9, n)) * 10**9
    ts[::7] = ts[1::7][: ts[::7].size] if n % 7 != 1 else ts[::7]
    ts = rng.permutation(ts) if shuffled else np.sort(ts)
    return ts, ts + rng.integers(0, 3 * HOUR, n)


@settings(deadline=None)
@given(
    seed=st.integers(0, 1000), n=st.integers(3, 400), days=st.integers(1, 30), shuffled=st.booleans(),
    embargo_ns=st.sampled_from([0, HOUR, 5 * HOUR]),
)
def test_against_the_rule_row_by_row(seed: int, n: int, days: int, shuffled: bool, embargo_ns: int) -> None:
    ts, end = events(seed, n, days, shuffled)
    by_time = sorted(ts.tolist())
    validation_start, test_start = by_time[int(n * 0.65)], by_time[int(n * 0.8)]
    expected: tuple[list[int], list[int], list[int]] = ([], [], [])
    for row in range(n):
        if ts[row] >= test_start:
            expected[2].append(row)
        elif ts[row] >= validation_start:
            if end[row] + embargo_ns < test_start:
                expected[1].append(row)
        elif end[row] + embargo_ns < validation_start:
            expected[0].append(row)
    assume(all(expected))

    split = purged_split(ts, end, embargo_ns=embargo_ns)
    assert [sorted(part.tolist()) for part in split] == [sorted(part) for part in expected]
    assert all((np.diff(ts[part]) >= 0).all() for part in split)
    audit(split, ts, end, embargo_ns)


def test_shares_and_order() -> None:
    ts, end = events()
    split = purged_split(ts, end)
    assert split.test.size == pytest.approx(400, abs=2)
    assert 250 < split.validation.size <= 302
    assert 1200 < split.train.size <= 1300
    assert end[split.train].max() + EMBARGO_NS < ts[split.validation].min()
    assert end[split.validation].max() + EMBARGO_NS < ts[split.test].min()


def test_one_calendar_for_all_symbols() -> None:
    """Rows of two symbols, one after the other in the file: the boundary is a stamp, not a row."""
    ts, end = events(n=1000)
    both_ts, both_end = np.concatenate([ts, ts]), np.concatenate([end, end])
    split = purged_split(both_ts, both_end)
    for part in split:
        assert np.array_equal(np.sort(part[part < 1000]), np.sort(part[part >= 1000]) - 1000)


def refusal(split: Split, ts: np.ndarray, end: np.ndarray) -> str:
    with pytest.raises(InputRefused) as refused:
        audit(split, ts, end)
    assert refused.value.hint
    return refused.value.code


@pytest.mark.parametrize("seed", range(5))
def test_audit_refuses_shuffled_folds(seed: int) -> None:
    ts, end = events(seed)
    parts = np.split(np.random.default_rng(seed).permutation(ts.size), [1300, 1600])
    assert refusal(Split(*parts), ts, end) == "shuffled"


def test_audit_refuses_one_stray_row_and_a_row_in_two_parts() -> None:
    ts, end = events()
    good = purged_split(ts, end)
    swapped = good._replace(train=np.append(good.train, good.test[-1]), test=good.test[:-1])
    assert refusal(swapped, ts, end) == "shuffled"
    twice = good._replace(validation=np.append(good.validation, good.test[0]))
    assert refusal(twice, ts, end) == "shuffled"
    backwards = Split(good.test, good.validation, good.train)
    assert refusal(backwards, ts, end) == "shuffled"


@pytest.mark.parametrize("boundary", ["train", "validation"])
def test_audit_refuses_an_unpurged_boundary(boundary: str) -> None:
    ts, end = events()
    good = purged_split(ts, end)
    part, later = getattr(good, boundary), good.validation if boundary == "train" else good.test
    purged = np.flatnonzero((ts > ts[part].max()) & (ts < ts[later].min()))
    unpurged = good._replace(**{boundary: np.append(part, purged)})
    assert refusal(unpurged, ts, end) == "unpurged"


def test_audit_refuses_a_boundary_without_embargo() -> None:
    ts, end = events()
    split = purged_split(ts, end, embargo_ns=0)
    audit(split, ts, end, embargo_ns=0)
    assert refusal(split, ts, end) == "unpurged"


def test_the_embargo_is_exact() -> None:
    ts = np.arange(100) * HOUR
    split = purged_split(ts, ts)
    assert split.train.max() == 63        # validation begins at 65; the label at 64 ends exactly an hour before it
    assert split.validation.tolist() == list(range(65, 79))
    assert split.test.tolist() == list(range(80, 100))


@pytest.mark.parametrize("n", [0, 1, 2, 50])
def test_too_few_events(n: int) -> None:
    ts = np.arange(n) * 60 * 10**9        # within the embargo of each other
    with pytest.raises(InputRefused) as refused:
        purged_split(ts, ts)
    assert refused.value.code == "too_few_events"
    ts, end = events()
    assert refusal(purged_split(ts, end)._replace(train=np.zeros(0, np.int64)), ts, end) == "too_few_events"


@pytest.mark.parametrize("end_shift", [-1, None])
def test_an_end_before_its_event_or_a_missing_end_is_refused(end_shift: int | None) -> None:
    ts, _ = events()
    with pytest.raises(InputRefused) as refused:
        purged_split(ts, ts[:-1] if end_shift is None else ts + end_shift)
    assert refused.value.code == "split_columns"
