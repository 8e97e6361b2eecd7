"""An engine's lives over a log on a server: each ends with the log, or with what the server or the way to it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from engine.errors import TocsinError
from engine.instruments import Instruments
from engine.transports import create_log, open_log
from engine.transports.base import Log, Topic
from engine.types import START, Entry
from tests.integration.test_recovery import TICKS, filled, published, run_engine

MADE = filled(TICKS[:800], 1).read({0: START}, 10**9)[0]
"""Single ticks, an activation before them, settings and a swap between."""

EVERY = 100
"""Ticks between two checkpoints."""


def _expected() -> dict[Topic, list[bytes]]:
    log = filled(TICKS[:800], 1)
    run_engine(log, EVERY, read=40)
    return {topic: published(log, topic) for topic in Topic}


EXPECTED = _expected()
"""What is published about MADE, undisturbed."""


def pour(log: Log, entries: Sequence[Entry]) -> None:
    for kind, run in groupby(entries, lambda entry: entry.kind):
        log.append(0, [entry.payload for entry in run], kind)


def log_of(url: str, entries: Sequence[Entry] = MADE) -> None:
    """A new log of one partition that holds these."""
    log = create_log(url, 1, Instruments())
    pour(log, entries)
    log.close()


class Disturbed:
    """Another door to a log, through which something happens just before the n-th publish step, or just after."""

    def __init__(self, log: Log, at: int, what: Callable[[], object], after: bool = False) -> None:
        self._log, self._left, self._what, self._after = log, at, what, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def publish(self, *args: Any, **kwargs: Any) -> None:
        self._left -= 1
        if self._left == 0 and not self._after:
            self._what()
        self._log.publish(*args, **kwargs)
        if self._left == 0 and self._after:
            self._what()


def life(url: str, disturb: Callable[[Log], Any] = lambda log: log) -> str:
    """One life of an engine until the log has nothing more: the code it ended with, "" for a peaceful end."""
    log = None
    try:
        log = open_log(url, create=1)
        run_engine(disturb(log), EVERY, read=40)
    except TocsinError as error:
        return error.code
    finally:
        if log:
            log.close()
    return ""


def told(url: str) -> dict[Topic, list[bytes]]:
    """Everything published, as canonical records in order."""
    log = open_log(url)
    try:
        return {topic: published(log, topic) for topic in Topic}  # type: ignore[arg-type]
    finally:
        log.close()
