"""A log that can't be reached for a while: which failures pass, and how one waits for the very same log to come back.

Whoever was connected drops what it held, waits, opens the log anew and goes on as after a restart of its own: there is
one way of recovering, whatever ended the connection. A failure at the first start is told at once instead; a URL may
simply be wrong.
"""

from __future__ import annotations

from collections.abc import Callable

from . import clock
from .errors import TransportUnreachable
from .transports.base import Log

PASSING = frozenset({
    "unreachable", "timeout", "loading", "busy", "readonly", "replicas", "memory", "disk", "broken", "repeat", "rolled_back",
})
"""Codes of TransportUnreachable that may be over by themselves: a server gone, failing over, reading its file, or full; a
step whose predecessor, or whose outcome, got lost on the way; a log that lost its end."""

FIRST_S, LONGEST_S = 0.05, 2.0
"""Between two tries; each wait is twice the one before."""


def passes(error: TransportUnreachable) -> bool:
    return error.code in PASSING


def again(
    open_it: Callable[[], Log], identity: str, stop: Callable[[], bool], tell: Callable[[str], None]
) -> Log | None:
    """The log, once it can be opened again; None if `stop` said so first.

    tell: hears why not yet, once per reason. Raises TransportUnreachable `identity` if another log answers there, and
    whatever doesn't pass.
    """
    said, wait = "", FIRST_S
    while not stop():
        try:
            log = open_it()
        except TransportUnreachable as error:
            if not passes(error):
                raise
            if error.code != said:
                said = error.code
                tell(f"waiting for the log: {error.args[0]}")
            rest(wait, stop)
            wait = min(2 * wait, LONGEST_S)
            continue
        if log.identity != identity:
            log.close()
            raise TransportUnreachable(
                "identity", f"{log.url} holds another log now than {identity}",
                hint="somebody replaced the log, or its server came back without its file: bring the old one back",
            )
        return log
    return None


def rest(seconds: float, stop: Callable[[], bool]) -> None:
    """Wait, but not past `stop` by more than a moment."""
    until = clock.monotonic_ns() + int(seconds * 1e9)
    while not stop() and (left := (until - clock.monotonic_ns()) / 1e9) > 0:
        clock.sleep(min(left, FIRST_S))
