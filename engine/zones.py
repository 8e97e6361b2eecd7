"""Where the world's clocks stand: offsets from UTC of IANA zones, from the tz database of the package `tzdata`.

Not from the system's: two machines must agree to the bit, and a slim container has none. A zone's offsets enter a
fingerprint by value, so that another release of the database matters only where it changes an answer.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np

from .errors import UsageError
from .types import I64

QUARTER_S = 900
"""Clocks change on quarters of an hour."""
FIRST_YEAR, LAST_YEAR = 2000, 2060
"""Offsets are known for these years; before and after them the nearest one holds."""


@lru_cache
def zone(name: str) -> ZoneInfo:
    """The zone of an IANA name. Raises UsageError `zone`."""
    place = files("tzdata").joinpath("zoneinfo", *name.split("/"))
    if not name or ".." in name or not place.is_file():
        raise UsageError("zone", f"no time zone {name!r}", hint="IANA names: Europe/London, Etc/GMT-3 (which is UTC+3)")
    with place.open("rb") as content:
        try:
            return ZoneInfo.from_file(content, key=name)
        except ValueError:                     # a file beside the zones
            raise UsageError("zone", f"{name!r} is no time zone", hint="IANA names: Europe/London, Etc/GMT-3") from None


@lru_cache
def offsets(name: str) -> tuple[I64, I64]:
    """(starts, seconds): from `starts[k]` on (ns UTC, rising) the zone's clock is `seconds[k]` ahead of UTC.

    Changes are looked for between the 1st and the 15th of each month and put on the quarter of an hour. Raises UsageError `zone`.
    """
    where = zone(name)

    def ahead(quarter: int) -> int:
        offset = datetime.fromtimestamp(QUARTER_S * quarter, where).utcoffset()
        assert offset is not None              # an aware datetime has one
        return int(offset.total_seconds())

    halves = [quarter for year in range(FIRST_YEAR, LAST_YEAR + 1) for month in range(1, 13) for day in (1, 15)
              if (quarter := int(datetime(year, month, day, tzinfo=UTC).timestamp()) // QUARTER_S)]
    starts, seconds = [-(2**63)], [ahead(halves[0])]
    for before, after in pairwise(halves):
        if ahead(after) != seconds[-1]:
            quarters = range(before, after)
            change = bisect_left(quarters, True, key=lambda quarter: ahead(quarter) != seconds[-1])
            starts.append(QUARTER_S * 10**9 * (before + change))
            seconds.append(ahead(after))
    return np.array(starts, np.int64), np.array(seconds, np.int64)


def to_utc(local: I64, name: str) -> tuple[I64, I64, I64]:
    """What a zone's clock showed (n,), in ns, to UTC: (its first ns, its last ns, how often the clock showed it) each.

    The clock shows an hour twice when it goes back by it; one that it skips it never shows, and there is no ns of that.
    Raises UsageError `zone`.
    """
    starts, seconds = offsets(name)
    ahead = 1_000_000_000 * seconds
    first = np.searchsorted(starts[1:] + ahead[:-1], local, "right")       # by where the clock stood when an offset ended
    last = np.searchsorted(starts[1:] + ahead[1:], local, "right")         # and when one began
    return local - ahead[first], local - ahead[last], 1 + last - first
