"""Offsets of time zones: what the standard library says, hour by hour, from a database that travels with the package."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from engine.errors import UsageError
from engine.zones import offsets, zone


@pytest.mark.parametrize("name", [
    "America/New_York", "Europe/London", "Asia/Tokyo", "Australia/Sydney", "Australia/Adelaide", "Etc/GMT-3",
])
def test_offsets_are_the_zones_own(name: str) -> None:
    starts, seconds = offsets(name)
    assert (starts[1:] > starts[:-1]).all()
    for year in (2000, 2009, 2024, 2037, 2059):
        first = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
        for hour in range(0, 24 * 365, 5):
            at = first + 3600 * hour + 900 * (hour % 4)
            said = datetime.fromtimestamp(at, ZoneInfo(name)).utcoffset()
            assert said is not None
            assert seconds[np.searchsorted(starts, at * 10**9, "right") - 1] == said.total_seconds()


def test_new_york_and_london_change_on_different_sundays() -> None:
    def at(text: str) -> int:
        return int(datetime.fromisoformat(text).timestamp()) * 10**9

    for name, change in (("America/New_York", "2024-03-10T07:00+00:00"), ("Europe/London", "2024-03-31T01:00+00:00")):
        starts, seconds = offsets(name)
        k = int(np.searchsorted(starts, at(change)))
        assert starts[k] == at(change)
        assert seconds[k] - seconds[k - 1] == 3600


@pytest.mark.parametrize("name", [
    "", "Europe/Nowhere", "../../etc/passwd", "Europe", "EST5EDT4", "zone.tab", "__init__.py", "tzdata.zi",
])
def test_what_is_no_zone_says_so(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        zone(name)
    assert refused.value.code == "zone"
