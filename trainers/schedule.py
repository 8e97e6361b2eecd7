"""When to train: an interval, a cron expression, or only when asked. Pure: stamps in, a stamp out."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError

from engine.errors import UsageError

_INTERVAL = re.compile(r"([1-9][0-9]{0,5})(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Schedule = Callable[[datetime | None, datetime], datetime | None]
"""(start of the last training, now) -> when the next is due; None: never by itself."""


def schedule(every: str) -> Schedule:
    """`90s`, `15m`, `24h`, `7d`; five cron fields in UTC, as Debian's cron reads them; empty: on demand only.

    An interval counts from the start of the last training; where there was none, one is due at once. A cron time that
    passed while nobody was there to hear it is not made up for. Raises UsageError `schedule`.
    """
    interval = _INTERVAL.fullmatch(every)
    if interval:
        step = timedelta(**{_UNITS[interval[2]]: int(interval[1])})
        return lambda last, now: now if last is None else last + step
    if not every:
        return lambda last, now: None
    try:
        if len(every.split()) != 5:
            raise CronSimError("five fields")                  # CronSim takes seconds for a sixth
        CronSim(every, datetime.now(UTC))
    except CronSimError as error:
        raise UsageError(
            "schedule", f"[trainer] every = {every!r} is neither an interval nor a cron expression ({error})",
            hint="for example 24h, or '30 5 * * 1-5' for 05:30 UTC from Monday to Friday, or nothing for on demand only",
        ) from None

    def next_time(last: datetime | None, now: datetime) -> datetime | None:
        return next(CronSim(every, now), None)

    return next_time
