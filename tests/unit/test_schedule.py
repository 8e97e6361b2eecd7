"""When the next training is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from engine.errors import UsageError
from trainers.schedule import schedule

NOW = datetime(2026, 3, 6, 12, 34, 56, tzinfo=UTC)
"""A Friday."""


@pytest.mark.parametrize(
    ("every", "step"),
    [("90s", timedelta(seconds=90)), ("15m", timedelta(minutes=15)), ("24h", timedelta(days=1)), ("7d", timedelta(days=7)),
     ("999999d", timedelta(days=999_999))],
)
def test_an_interval_counts_from_the_start_of_the_last_training(every: str, step: timedelta) -> None:
    due = schedule(every)
    last = NOW - timedelta(minutes=5)
    assert due(last, NOW) == last + step
    assert due(None, NOW) == NOW, "there was none: now"


def test_an_interval_that_passed_meanwhile_is_due() -> None:
    due = schedule("1h")(NOW - timedelta(days=3), NOW)
    assert due is not None
    assert due < NOW


@pytest.mark.parametrize(
    ("every", "next_time"),
    [
        ("30 5 * * 1-5", datetime(2026, 3, 9, 5, 30, tzinfo=UTC)),
        ("35 12 * * *", datetime(2026, 3, 6, 12, 35, tzinfo=UTC)),
        ("34 12 * * *", datetime(2026, 3, 7, 12, 34, tzinfo=UTC)),
        ("0 0 29 2 *", datetime(2028, 2, 29, tzinfo=UTC)),
        ("0 0 13 * 5", datetime(2026, 3, 13, tzinfo=UTC)),
    ],
)
def test_a_cron_time_is_the_next_one_whenever_the_last_was(every: str, next_time: datetime) -> None:
    for last in (None, NOW, NOW - timedelta(days=30)):
        assert schedule(every)(last, NOW) == next_time


def test_nothing_is_due_by_itself_on_demand() -> None:
    assert schedule("")(None, NOW) is None
    assert schedule("")(NOW - timedelta(days=300), NOW) is None


@pytest.mark.parametrize(
    "every", ["0s", "-5m", "5", "5 m", "1.5h", "5w", "tomorrow", "@daily", "* * * *", "* * * * * *", "61 * * * *", "0 0 31 2 *",
              " ", "9999999d", "99999999999999999999s"],
)
def test_what_is_neither_is_refused_and_named(every: str) -> None:
    with pytest.raises(UsageError, match="every") as refused:
        schedule(every)
    assert refused.value.code == "schedule"
    assert repr(every) in str(refused.value)
