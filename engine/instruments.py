"""Instruments: in which points a symbol's prices and sizes are counted, and what is done with a crossed quote.

Prices and sizes are int64 points everywhere behind the wire, so that window sums are exact and a price can be
compared and printed without rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from .errors import InputRefused, UsageError


class Instrument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one symbol is counted.

    scale: decimal digits of a price (5: 1.23456 is 123456 points); a finer price is refused.
    size_scale: decimal digits of a size; finer sizes are rounded.
    crossed: what happens to bid > ask: `reject` (default) or `keep`.
    """

    symbol: str = ""
    scale: int = 5
    size_scale: int = 3
    crossed: str = "reject"


class Instruments:
    """The rules by symbol or shell pattern (`*JPY`); the first pattern that matches, in the order given, counts.

    With `closed`, a symbol that matches no rule is unknown (`get` returns None).
    """

    def __init__(self, rules: Mapping[str, Mapping[str, Any]] | None = None, *, closed: bool = False) -> None:
        self.closed = closed
        self._rules: list[tuple[str, Instrument]] = []
        for pattern, fields in (rules or {}).items():
            try:
                rule = msgspec.convert(fields, Instrument)
            except msgspec.ValidationError as error:
                raise UsageError(
                    "instrument_rule", f"[instruments] {pattern!r}: {error}",
                    hint="a rule has scale (0-9), size_scale (0-9) and crossed (reject | keep)",
                ) from None
            if not (0 <= rule.scale <= 9 and 0 <= rule.size_scale <= 9 and rule.crossed in ("reject", "keep")):
                raise UsageError(
                    "instrument_rule", f"[instruments] {pattern!r}: {fields} is out of range",
                    hint="scale and size_scale are 0-9, crossed is reject or keep",
                )
            self._rules.append((pattern, rule))
        self._known: dict[str, Instrument | None] = {}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Instruments:
        """What `to_dict` gave. Raises UsageError."""
        return cls(content.get("rules", {}), closed=bool(content.get("closed", False)))

    def get(self, symbol: str) -> Instrument | None:
        """The instrument of a symbol, or None when the list is closed and doesn't name it."""
        if symbol not in self._known:
            self._known[symbol] = self._find(symbol)
        return self._known[symbol]

    def _find(self, symbol: str) -> Instrument | None:
        for pattern, rule in self._rules:
            if fnmatchcase(symbol, pattern):
                return msgspec.structs.replace(rule, symbol=symbol)
        return None if self.closed else Instrument(symbol)

    def to_dict(self) -> dict[str, Any]:
        """What goes into a bundle's manifest: an engine that counts otherwise must not answer with it."""
        rules = {p: {"scale": r.scale, "size_scale": r.size_scale, "crossed": r.crossed} for p, r in self._rules}
        return {"closed": self.closed, "rules": rules}


class SymbolTable:
    """The symbols of one stream of ticks in order of appearance; a symbol's number is its row in every state.

    Without rules, symbols must come with their instruments (`adopt`).
    """

    def __init__(self, rules: Instruments | None) -> None:
        self.instruments: list[Instrument] = []
        self._rules = rules
        self._sids: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.instruments)

    def sid(self, symbol: str) -> int:
        """The number of a symbol, new ones are added; -1 if the list is closed and doesn't name it."""
        sid = self._sids.get(symbol)
        if sid is None:
            instrument = self._rules.get(symbol) if self._rules else None
            sid = -1 if instrument is None else self._add(instrument)
        return sid

    def recount(self, rules: Instruments) -> list[int]:
        """Go over to other rules; returns the numbers of the symbols that are counted otherwise from now on.

        A symbol that a closed list doesn't name any more keeps its number and row, and is unknown to new ticks.
        """
        before = self.instruments
        self._rules = rules
        self.instruments = []                      # a new list: batches on their way share the old one
        for instrument in before:
            self.restore(rules.get(instrument.symbol) or instrument)
        return [sid for sid, (old, new) in enumerate(zip(before, self.instruments, strict=True)) if old != new]

    def restore(self, instrument: Instrument) -> None:
        """The next number is this symbol's, as it was when the table was kept."""
        known = self._rules is None or self._rules.get(instrument.symbol) is not None
        self._add(instrument)
        if not known:
            self._sids[instrument.symbol] = -1

    def adopt(self, instrument: Instrument) -> int:
        """The number of a symbol that comes with its instrument.

        Raises InputRefused if this stream counts the symbol in other points, or doesn't know it.
        """
        if self._rules is None and instrument.symbol not in self._sids:
            return self._add(instrument)
        sid = self.sid(instrument.symbol)
        if sid < 0 or self.instruments[sid] != instrument:
            raise InputRefused(
                "instrument_changed", f"{instrument.symbol} is counted in other points than this stream's",
                hint="read all ticks with the same [instruments]",
            )
        return sid

    def _add(self, instrument: Instrument) -> int:
        self._sids[instrument.symbol] = len(self.instruments)
        self.instruments.append(instrument)
        return len(self.instruments) - 1
