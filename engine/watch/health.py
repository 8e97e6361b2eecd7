"""Whether a process lives, and whether it does its work: facts in, an answer and its reason out. Pure.

Alive (`/healthz`) is what a supervisor restarts for; ready (`/readyz`) is what an operator looks into. A process that
isn't ready because it waits for something must not be restarted for it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

STUCK_S = 10.0
"""A loop that hasn't turned for so long does no work any more."""

FAR_BEHIND_S = 10.0
"""Older than this, a signal's tick is no news."""


class Vitals(NamedTuple):
    """What every process shows of itself."""

    turned: int | None
    """Monotonic ns when the main loop last turned; None before it did."""
    died: tuple[str, ...] = ()
    """Loops beside it that died, each with its cause."""


class Work(NamedTuple):
    """What an engine does with one partition of its own."""

    partition: int
    bundle: str | None
    """The version that answers; None before the first activation."""
    k: int = 0
    """The control record that named it; 0 where there is none."""
    waits_for: str | None = None
    """The bundle in front of whose activation it stands still."""
    lag_records: int | None = None
    lag_ticks: float | None = None
    lag_s: float | None = None
    """Age of what is to be read next, 0 where nothing is; None where nobody knows."""
    full: str = ""
    """Why feeds are refused just now, in words; empty where they aren't."""
    held_by: str | None = None
    """Takes more than its share of the log's room and can't be trimmed: who still needs what should go."""
    paused: tuple[str, ...] = ()
    """Symbols and patterns that an operator paused: no failing, but to be seen."""
    paused_symbols: int = 0
    """Of those known in the partition, how many that makes."""


class Facts(NamedTuple):
    """What an engine's readiness is decided on."""

    vitals: Vitals
    work: tuple[Work, ...] = ()
    warm_share: float | None = None
    """Share of the symbols that moved whose features are warm; None where none has moved."""
    outage: str | None = None
    """Why the log is out of reach; None while it isn't."""


class Verdict(NamedTuple):
    """The answer, its reason in a few stable words, and the details."""

    ok: bool
    reason: str
    details: dict[str, Any]


def health(vitals: Vitals, now: int) -> Verdict:
    """Whether the process should be left alone; now: monotonic ns."""
    if vitals.died:
        return Verdict(False, "a loop died", {"loops": list(vitals.died)})
    if vitals.turned is None:
        return Verdict(True, "starting", {})
    since = (now - vitals.turned) / 1e9
    details = {"seconds_since_turn": round(since, 3)}
    return Verdict(False, "stuck", details) if since > STUCK_S else Verdict(True, "running", details)


def started(vitals: Vitals, now: int) -> Verdict:
    """Ready as soon as it runs: for a process that waits for nobody."""
    alive = health(vitals, now)
    return alive if vitals.turned is not None else Verdict(False, alive.reason, alive.details)


def readiness(facts: Facts, now: int) -> Verdict:
    """Whether ticks become signals here; the first of these that doesn't hold is the reason."""
    details = {"warm_share": facts.warm_share, "partitions": {work.partition: _told(work) for work in facts.work}}
    runs = started(facts.vitals, now)
    if not runs.ok:
        return Verdict(False, runs.reason, details | runs.details)
    waiting = [work for work in facts.work if work.waits_for is not None]
    mute = [work for work in facts.work if work.bundle is None]
    late = [work for work in facts.work if (work.lag_s or 0.0) > FAR_BEHIND_S]
    full = [work for work in facts.work if work.full]
    over = [work for work in facts.work if work.held_by is not None]
    reason, hint = "ready", ""
    if facts.outage is not None:
        reason, hint = f"no log: {facts.outage}", "it goes on by itself when the log answers again"
    elif not facts.work:
        reason, hint = "no partition owned", "other engines of this deployment own them all; this one stands by"
    elif waiting:
        reason = f"paused: partition {_numbers(waiting)} waits for bundle {waiting[0].waits_for}"
        hint = "the engine can't load it yet: is this registry, or its copy, complete? tocsin models verify"
    elif mute:
        reason, hint = "no bundle", "tocsin models activate champion"
    elif facts.warm_share == 0.0:
        reason, hint = "warming", "the windows fill with the ticks that come, or with files: tocsin run engine --warm FILE"
    elif full:
        held = "" if full[0].held_by is None else f", held by {full[0].held_by}"
        reason = f"log full: partition {_numbers(full)}{held}"
        hint = f"feeds hold their ticks ({full[0].full}): it passes by itself unless somebody holds the log (tocsin log info)"
    elif late:
        reason = f"far behind: partition {_numbers(late)}"
        hint = "it catches up by itself if this machine can; else let another engine own some of the partitions"
    elif over:
        reason = f"log over its quota: partition {_numbers(over)}, held by {over[0].held_by}"
        hint = "start what holds it, end its hold if it is gone for good (tocsin log release), or raise [log] keep_mb"
    return Verdict(reason == "ready", reason, details | ({"hint": hint} if hint else {}))


def _told(work: Work) -> dict[str, Any]:
    return {
        "bundle": work.bundle, "k": work.k, "lag_records": work.lag_records,
        "lag_seconds": None if work.lag_s is None else round(work.lag_s, 3), "paused": list(work.paused),
        "paused_symbols": work.paused_symbols,
    }


def _numbers(work: list[Work]) -> str:
    return ", ".join(str(one.partition) for one in work)
