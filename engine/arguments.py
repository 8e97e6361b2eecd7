"""Values of flags that several verbs take."""

from __future__ import annotations

from .errors import UsageError

COLUMNS = ("symbol", "ts", "bid", "ask", "bid_size", "ask_size", "seq", "ingest")
UNITS = ("s", "ms", "us", "ns")


def stamp(text: str) -> int:
    """ns UTC of a flag's value: an integer, or RFC 3339. Raises UsageError."""
    from .wire.stamps import rfc3339_to_ns

    ns = int(text) if text.isdigit() else rfc3339_to_ns(text)
    if ns <= 0:
        raise UsageError("stamp_flag", f"{text!r} is no stamp", hint="give ns since 1970, or 2014-05-06T10:00:00Z")
    return ns


def comment(text: str) -> str:
    """Why something was changed, as the log keeps it. Raises UsageError."""
    if not text.isprintable():
        raise UsageError("comment", "the comment has characters that can't be printed", hint="one line of plain text")
    return text


def cursor(text: str) -> tuple[int, int]:
    """A place in the log as signals and `log info` write it. Raises UsageError."""
    from .wire.records import cursor_of

    try:
        return cursor_of(text)
    except ValueError:
        raise UsageError("position", f"{text!r} is no cursor", hint="1700000000000-0 on Redis, a number elsewhere") from None


def column_map(text: str | None) -> dict[str, str]:
    """`bid=Bid,ts=Time:ms` as a mapping, ours to theirs. Raises UsageError."""
    pairs = [item.partition("=") for item in (text or "").split(",") if item]
    if any(not name or not source for name, _, source in pairs):
        raise UsageError("map", f"--map {text}: pairs of ours=theirs", hint="for example bid=Bid,ask=Ask,ts=Time:ms")
    for name, _, source in pairs:
        unit = source.partition(":")[2]
        if name not in COLUMNS or (unit and unit not in UNITS):
            raise UsageError("map", f"--map {name}={source}: no such {'unit' if name in COLUMNS else 'column of a tick'}",
                             hint=f"columns are {', '.join(COLUMNS)}; units are {', '.join(UNITS)}")
    return {name: source for name, _, source in pairs}
