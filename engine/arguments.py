"""Values of flags that several verbs take."""

from __future__ import annotations

from .errors import UsageError


def stamp(text: str) -> int:
    """ns UTC of a flag's value: an integer, or RFC 3339. Raises UsageError."""
    from .wire.stamps import rfc3339_to_ns

    ns = int(text) if text.isdigit() else rfc3339_to_ns(text)
    if ns <= 0:
        raise UsageError("stamp_flag", f"{text!r} is no stamp", hint="give ns since 1970, or 2014-05-06T10:00:00Z")
    return ns


def column_map(text: str | None) -> dict[str, str]:
    """`bid=Bid,ts=Time:ms` as a mapping, ours to theirs. Raises UsageError."""
    pairs = [item.partition("=") for item in (text or "").split(",") if item]
    if any(not name or not source for name, _, source in pairs):
        raise UsageError("map", f"--map {text}: pairs of ours=theirs", hint="for example bid=Bid,ask=Ask,ts=Time:ms")
    return {name: source for name, _, source in pairs}
