"""RFC 3339 stamps with nanoseconds, which the standard library's datetime can't hold."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

_STAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d\d):(\d\d))"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339_to_ns(text: str) -> int:
    """ns since 1970 UTC, or -1 if the text is no RFC 3339 stamp (its zone may not be left out)."""
    found = _STAMP.fullmatch(text)
    if not found:
        return -1
    year, month, day, hour, minute, second = (int(found[k]) for k in range(1, 7))
    offset = timedelta()
    if found[9]:
        offset = timedelta(hours=int(found[10]), minutes=int(found[11])) * (-1 if found[9] == "-" else 1)
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone(offset))
    except ValueError:
        return -1
    seconds = (moment - _EPOCH) // timedelta(seconds=1)
    return seconds * 1_000_000_000 + int((found[7] or "0").ljust(9, "0"))


def ns_to_rfc3339(ns: int) -> str:
    """The stamp for people: UTC, with as many digits as it needs."""
    seconds, rest = divmod(ns, 1_000_000_000)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{text}{fraction}Z"
