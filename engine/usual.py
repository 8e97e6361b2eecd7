"""The shipped table of instruments: rules for symbols that many feeds carry, for whoever has none of their own."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any

from .instruments import Instruments

NAME = "usual"
"""What `[instruments] table` calls it."""


@lru_cache
def rules() -> dict[str, dict[str, Any]]:
    """usual.toml, by symbol."""
    return tomllib.loads(files(__package__).joinpath("usual.toml").read_text())


def behind(own: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """One's own rules, and the table's behind them; a name that is in one's own, as a symbol or alias, isn't the table's."""
    taken = {*own, *(alias for rule in own.values() for alias in rule.get("aliases", ()))}
    left = {symbol: rule for symbol, rule in rules().items() if symbol not in taken}
    return {**own, **{
        symbol: {**rule, "aliases": [alias for alias in rule["aliases"] if alias not in taken]} for symbol, rule in left.items()
    }}


@lru_cache
def _known() -> Instruments:
    return Instruments(rules(), closed=True)


def calendar(symbol: str) -> str:
    """When the table says that a symbol, or alias, is closed; empty for one that it doesn't name."""
    instrument = _known().get(symbol)
    return instrument.calendar if instrument else ""
