"""What was changed in a deployment, in order: who, why, when, from which place of each partition on; and what to go back to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from ..errors import ModelRefused
from ..transports.base import Log
from ..types import START, Cursor, Kind
from .controls import Controls
from .rollout import COPIED, Activate, Control, Pause, Prepare, Resume, Settings

PAGE = 200
"""Records of a partition looked at at once for a copy."""

LOOKED = 20_000
"""So many records behind the place where a copy is to be expected are looked at, where the log keeps no stamps."""

LATE_NS = 60_000_000_000
"""A copy comes within moments of its record, or, where nobody lived to write it, much later: so long it is looked for."""


class Event(NamedTuple):
    """One control record, and what came of it."""

    control: Control
    words: str
    """What it asks for or changes."""
    at: int | None
    """ns UTC when the log stored it; None where nobody knows."""
    copies: dict[int, Cursor]
    """By partition its first copy, where that still is in the log."""


def history(log: Log, controls: Controls) -> list[Event]:
    """Every control record of the deployment that holds, k rising."""
    held = controls.holding()
    stamps = log.control_stamps()
    found = copies(log, controls, held, stamps)
    told: list[Event] = []
    newest: dict[str, Control] = {}
    for control in held:
        k = control.k
        told.append(Event(control, words(control, newest.get(control.slot)), stamps.get(k), found.get(k, {})))
        newest[control.slot] = control
    return told


def words(control: Control, before: Control | None) -> str:
    """What a record asks for; before: the last one of its slot."""
    match control.body:
        case Prepare(version=version):
            return f"have bundle {version} ready"
        case Activate(version=version):
            return f"bundle {version} answers"
        case Settings() as settings:
            then = before.body if before and isinstance(before.body, Settings) else Settings()
            return "; ".join(_overruled(then, settings)) or "settings as before"
        case Pause(symbols=symbols) | Resume(symbols=symbols) as body:
            then_paused = before.body.symbols if before and isinstance(before.body, Pause | Resume) else []
            return _paused(type(body).verb, then_paused, symbols)
        case _:                                    # pragma: no cover - every body is named above
            return control.verb


def _paused(verb: str, then: list[str], now: list[str]) -> str:
    moved = [name for name in now if name not in then] if verb == Pause.verb else [name for name in then if name not in now]
    return f"{verb} {', '.join(moved) or 'nothing more'}; paused now: {', '.join(now) or 'nothing'}"


def _overruled(then: Settings, now: Settings) -> Iterable[str]:
    """Key by key, in words."""
    before, after = overruled(then), overruled(now)
    for key in [*after, *(key for key in before if key not in after)]:
        if before.get(key) != after.get(key):
            yield f"{key} = {after[key]}" if key in after else f"{key}: the bundle's own again"
    if then.instruments != now.instruments:
        yield "instruments: other ones" if now.instruments is not None else "instruments: the log's first ones again"


def overruled(settings: Settings) -> dict[str, Any]:
    """By key what lies over the bundle's own rules; instruments aside."""
    told = msgspec.to_builtins(settings)
    return {f"{part}.{key}": value for part in ("policy", "weights") for key, value in told.get(part, {}).items()}


# ---- where copies stand


def copies(
    log: Log, controls: Controls, held: Iterable[Control], stamps: Mapping[int, int]
) -> dict[int, dict[int, Cursor]]:
    """By k and partition the first copy; what was trimmed, or comes later than is looked for, isn't there."""
    wanted = {controls.payload(control.k): control.k for control in held if control.slot in COPIED}
    found: dict[int, dict[int, Cursor]] = {}
    for partition in range(log.partitions):
        for k, cursor in _of_partition(log, partition, wanted, stamps).items():
            found.setdefault(k, {})[partition] = cursor
    return found


def _of_partition(log: Log, partition: int, wanted: Mapping[bytes, int], stamps: Mapping[int, int]) -> dict[int, Cursor]:
    found: dict[int, Cursor] = {}
    at = START
    for k in sorted(wanted.values()):
        at = max(at, log.since(stamps[k]) if k in stamps else START)
        looked = 0
        while k not in found and looked < LOOKED:
            entries = log.read({partition: at}, PAGE).get(partition, [])
            if not entries:
                break
            for entry in entries:
                if entry.kind is Kind.CONTROL and entry.payload in wanted:
                    found.setdefault(wanted[entry.payload], entry.cursor)
            at = entries[-1].cursor
            looked += len(entries)
            if k in stamps and entries[-1].appended > stamps[k] + LATE_NS:
                break
    return found


def held_at(log: Log, events: Iterable[Event], slot: str, partition: int, cursor: Cursor) -> Control | None:
    """Which record of a slot held at a place of a partition; None: none had come.

    A copy that isn't in the log any more stood before all that is.
    """
    first = log.extent(partition).first
    holds = None
    for event in events:
        if event.control.slot != slot:
            continue
        copy = event.copies.get(partition)
        trimmed = copy is None and event.at is not None and log.since(event.at) < first
        if trimmed or (copy is not None and copy < cursor):
            holds = event.control
    return holds


# ---- back again


def before_present(controls: Controls) -> tuple[Control, Activate]:
    """The newest activation, and the bundle to go back to: the one that answered before the present one first came.

    So a second rollback goes one further back, never to the bundle that was just left. Raises ModelRefused `no_rollback`.
    """
    answered: list[Activate] = []
    newest = None
    for control in controls.holding():
        if isinstance(control.body, Activate):
            newest = control
            if control.body in answered:           # somebody went back to it: what came after it is no way back
                del answered[answered.index(control.body):]
            answered.append(control.body)
    if newest is None or len(answered) < 2:
        present = f"bundle {answered[0].version} is the first that answers" if answered else "no bundle answers"
        raise ModelRefused(
            "no_rollback", f"there is nothing to go back to: {present}",
            hint="tocsin models list names the bundles there are, models activate V has one of them answer",
        )
    return newest, answered[-2]
