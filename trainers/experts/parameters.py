"""What a parameter may be: of the kind of its preset's value, and within its limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from engine.errors import UsageError


class ParameterRefused(UsageError, ValueError):
    """A parameter the expert doesn't have, or a value it can't take."""


@dataclass(frozen=True)
class Span:
    """Numbers from `least` to `most`, both included; `above`: `least` itself is not."""

    least: float
    most: float = math.inf
    above: bool = False

    def __contains__(self, value: float) -> bool:
        return self.least <= value <= self.most and not (self.above and value == self.least)

    def __str__(self) -> str:
        begin = f"{'above' if self.above else 'at least'} {self.least:g}"
        return begin if self.most == math.inf else f"{begin} and at most {self.most:.10g}"


Limits = dict[str, Span | tuple[str, ...]]
"""Of parameters, by name: the numbers there are, or the words."""

FROM_0, FROM_1, SHARE, SEEDS = Span(0), Span(1), Span(0, 1, above=True), Span(0, 2**31 - 1)

LIMITS: Limits = {"rounds": FROM_1, "early_stopping": FROM_0}
"""Of what every expert has."""

_KINDS: dict[type, tuple[str, Any]] = {
    bool: ("True or False", (bool, np.bool_)), int: ("a whole number", Integral), float: ("a number", Real), str: ("text", str),
}


def checked(
    parameter: str, value: Any, like: Any, allowed: Span | tuple[str, ...] | None = None, optional: bool = False
) -> Any:
    """The value, as plain as JSON knows it. like: another, of whose kind it must be. optional: None will do too.

    Raises ParameterRefused (`parameter`).
    """
    if (value is None and optional) or type(like) not in _KINDS:
        return value
    kind, types = _KINDS[type(like)]
    fits = isinstance(value, types) and isinstance(value, bool | np.bool_) == isinstance(like, bool)
    if not fits or (allowed is not None and value not in allowed):
        wanted = " or ".join(allowed) if isinstance(allowed, tuple) else f"{kind}, {allowed}" if allowed else kind
        hint = f"{parameter} is {wanted}{', or None' if optional else ''}"
        raise ParameterRefused("parameter", f"{parameter} {value!r}", hint=hint)
    return type(like)(value)
