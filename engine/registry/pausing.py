"""Which symbols are paused, and what is paused after the next `pause` or `resume`. Pure.

A paused symbol is asked as ever and named no side (reason `paused`). What is paused is a list of symbols and shell patterns;
`resume` takes entries of it away, it makes no exceptions from a pattern.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from ..errors import UsageError
from ..instruments import Instruments
from .controls import Controls
from .rollout import Control, Pause, Resume

ALL = "*"
"""The pattern of every symbol."""

LONGEST = 64
"""Characters of a symbol or pattern."""


def is_paused(symbol: str, paused: Iterable[str]) -> bool:
    return any(fnmatchcase(symbol, pattern) for pattern in paused)


def paused_now(controls: Controls) -> list[str]:
    """As the newest `pause` or `resume` of the log says."""
    newest = controls.newest().get(Pause.slot)
    return list(newest.body.symbols) if newest and isinstance(newest.body, Pause | Resume) else []


def after_pause(paused: Sequence[str], asked: Sequence[str], rules: Instruments) -> Pause:
    """What is paused once these are, too; none asked: everything. Raises UsageError `pause`."""
    asked = [_meant(name, rules) for name in asked] or [ALL]
    return Pause([*paused, *(name for name in dict.fromkeys(asked) if name not in paused)])


def after_resume(paused: Sequence[str], asked: Sequence[str], rules: Instruments) -> Resume:
    """What stays paused when these go on; none asked: nothing. Raises UsageError `pause`, `not_paused`."""
    left = list(paused)
    for name in [_meant(name, rules) for name in asked] or [ALL]:
        ending = [entry for entry in paused if entry == name or fnmatchcase(entry, name)]
        if not ending and asked:
            raise _not_paused(name, paused)
        left = [entry for entry in left if entry not in ending]
    return Resume(left)


def paused_by(symbol: str, history: Iterable[Control]) -> Control | None:
    """The record since which the symbol is paused without a break; None where it isn't. history: k rising."""
    since = None
    for control in history:
        if isinstance(control.body, Pause | Resume):
            paused = is_paused(symbol, control.body.symbols)
            since = (since or control) if paused else None
    return since


def _meant(name: str, rules: Instruments) -> str:
    """A symbol's own name where an alias is given; else as given."""
    if not (0 < len(name) <= LONGEST and name.isprintable()):
        raise UsageError("pause", f"{name!r} can't be a symbol", hint="a symbol or a shell pattern: EURUSD, '*JPY'")
    instrument = None if any(mark in name for mark in "*?[") else rules.get(name)
    return instrument.symbol if instrument else name


def _not_paused(name: str, paused: Sequence[str]) -> UsageError:
    because = [entry for entry in paused if fnmatchcase(name, entry)]
    if because:
        return UsageError("not_paused", f"{name} is paused by {because[0]!r}: it can't be resumed alone",
                          hint=f"tocsin resume {because[0]!r}, then tocsin pause what shall stay paused")
    there = ", ".join(paused) or "nothing"
    return UsageError("not_paused", f"{name} isn't paused", hint=f"paused is: {there}")
