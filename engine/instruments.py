"""Instruments: in which points a symbol's prices and sizes are counted, what is done with odd quotes, what a trade costs.

Prices and sizes are int64 points everywhere behind the wire, so that window sums are exact and a price can be
compared and printed without rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import msgspec

from .errors import InputRefused, UsageError

if TYPE_CHECKING:
    from .wire.scan import Index


class Instrument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one symbol is counted, and what trading it costs.

    scale: decimal digits of a price (5: 1.23456 is 123456 points); a finer price is refused.
    size_scale: decimal digits of a size; finer sizes are rounded.
    crossed: what happens to bid > ask: `reject` (default) or `keep`.
    spread: points between bid and ask where a feed sends one price only; 0: not declared, such a tick is refused.
    aliases: other names under which its ticks come; not for a pattern. Its ticks go to the partition of the symbol itself.
    zone: IANA zone of stamps in files that come without one (datetimes and text; integers are UTC).
    calendar: when it is closed: `currency` (Friday to Sunday 17:00 New York), `always` open; empty: not known. Decides nothing.
    max_spread: points; where a quote is wider a decision is neutral, with reason `spread`; 0: no such bound.
    commission_bp: paid at entry and again at exit, in 1/10,000 of the price.
    slippage: points lost at entry and again at exit, beyond the quoted price.
    delay_ms: from a decision to the quote it can trade on.
    """

    symbol: str = ""
    scale: int = 5
    size_scale: int = 3
    crossed: str = "reject"
    spread: int = 0
    aliases: tuple[str, ...] = ()
    zone: str = "UTC"
    calendar: str = ""
    max_spread: int = 0
    commission_bp: float = 0.0
    slippage: float = 0.0
    delay_ms: float = 100.0

    @property
    def counting(self) -> tuple[object, ...]:
        """What makes the same record of the log another tick. Costs don't: they change labels only."""
        return self.symbol, self.scale, self.size_scale, self.crossed, self.spread, self.aliases


class Instruments:
    """The rules by symbol or shell pattern (`*JPY`); the first that matches, in the order given, counts.

    An alias is its symbol before any pattern is looked at. With `closed`, a symbol that matches no rule is unknown (`get`
    returns None).
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
                    hint=f"a rule has {', '.join(_FIELDS)}",
                ) from None
            if not _possible(rule):
                raise UsageError(
                    "instrument_rule", f"[instruments] {pattern!r}: {fields} is out of range",
                    hint="scale and size_scale are 0-9, crossed is reject or keep, calendar is currency or always, "
                    "spreads and costs are 0 or more",
                )
            _check_zone(pattern, rule.zone)
            self._rules.append((pattern, rule))
        self._symbols = _symbols(self._rules)
        self._known: dict[str, Instrument | None] = {}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Instruments:
        """What `to_dict` gave. Raises UsageError."""
        return cls(content.get("rules", {}), closed=bool(content.get("closed", False)))

    def get(self, symbol: str) -> Instrument | None:
        """The instrument of a symbol or alias, or None when the list is closed and doesn't name it."""
        if symbol not in self._known:
            if len(self._known) == _REMEMBERED:        # names that junk made up
                self._known.clear()
            self._known[symbol] = self._find(self._symbols.get(symbol, symbol))
        return self._known[symbol]

    def _find(self, symbol: str) -> Instrument | None:
        for pattern, rule in self._rules:
            if fnmatchcase(symbol, pattern):
                aliases = tuple(alias for alias, named in self._symbols.items() if named == symbol)
                return msgspec.structs.replace(rule, symbol=symbol, aliases=aliases)
        return None if self.closed else Instrument(symbol)

    def to_dict(self) -> dict[str, Any]:
        """What goes into a log's first record and a bundle's manifest. What wasn't there at first is told where it's set."""
        return {"closed": self.closed, "rules": {pattern: _told(rule) for pattern, rule in self._rules}}

    def counting(self) -> dict[str, Any]:
        """The part of `to_dict` that makes ticks of records: an engine that counts otherwise must not answer."""
        told = self.to_dict()
        told["rules"] = {p: {n: v for n, v in rule.items() if n in _COUNTING} for p, rule in told["rules"].items()}
        return told


_REMEMBERED = 65_536
"""Names whose instrument is remembered at most."""
_DEFAULT = Instrument()
_FIELDS = Instrument.__struct_fields__[1:]
_ALWAYS = ("scale", "size_scale", "crossed")
_COUNTING = (*_ALWAYS, "spread", "aliases")


def _possible(rule: Instrument) -> bool:
    costs = (rule.spread, rule.max_spread, rule.commission_bp, rule.slippage, rule.delay_ms)
    return (
        0 <= rule.scale <= 9 and 0 <= rule.size_scale <= 9 and rule.crossed in ("reject", "keep")
        and rule.calendar in ("", "currency", "always") and all(0 <= cost < 1e6 for cost in costs)
    )


def _check_zone(pattern: str, name: str) -> None:
    if name != _DEFAULT.zone:
        from .zones import zone  # NumPy: most never need it

        try:
            zone(name)
        except UsageError as error:
            raise UsageError(error.code, f"[instruments] {pattern!r}: {error.args[0]}", hint=error.hint) from None


def _symbols(rules: list[tuple[str, Instrument]]) -> dict[str, str]:
    """The symbol of each alias. Every name must have one meaning: raises UsageError `instrument_alias`."""
    taken = {pattern: pattern for pattern, _ in rules}
    symbols: dict[str, str] = {}
    for pattern, rule in rules:
        for alias in rule.aliases:
            if _is_pattern(pattern):
                why, hint = "a pattern stands for many symbols, it has no aliases", "give them to a rule of the exact name"
            elif not alias or _is_pattern(alias):
                why, hint = f"{alias!r} is no name", "aliases are exact names"
            elif alias in taken:
                why, hint = f"{alias!r} is named by {taken[alias]!r} already", "a name belongs to one rule, once"
            else:
                taken[alias] = symbols[alias] = pattern
                continue
            raise UsageError("instrument_alias", f"[instruments] {pattern!r}: {why}", hint=hint)
    return symbols


def _is_pattern(name: str) -> bool:
    return any(mark in name for mark in "*?[")


def _told(rule: Instrument) -> dict[str, Any]:
    """As JSON would give it back."""
    fields = {n: getattr(rule, n) for n in _FIELDS if n in _ALWAYS or getattr(rule, n) != getattr(_DEFAULT, n)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


class SymbolTable:
    """The symbols of one stream of ticks in order of appearance; a symbol's number is its row in every state.

    Without rules, symbols must come with their instruments (`adopt`).
    index: the same symbols as kernels look them up; wire/scan.py alone makes it.
    """

    def __init__(self, rules: Instruments | None) -> None:
        self.instruments: list[Instrument] = []
        self.index: Index | None = None
        self._rules = rules
        self._sids: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.instruments)

    def find(self, symbol: str) -> tuple[int, Instrument | None]:
        """Number and instrument of a symbol or alias, none is added: -1 if it has no number yet, None if the list is closed
        and doesn't name it."""
        sid = self._sids.get(symbol)
        if sid is None:
            found = self._rules.get(symbol) if self._rules else None
            sid = self._sids.get(found.symbol) if found else None
            if sid is None:
                return -1, found
        return sid, self.instruments[sid]

    def sid(self, symbol: str) -> int:
        """The number of a symbol or alias, new ones are added; -1 if the list is closed and doesn't name it."""
        sid, instrument = self.find(symbol)
        if instrument is None:
            return -1
        if sid < 0:
            sid = self._add(instrument)
        self._sids[symbol] = sid
        return sid

    def names(self, sid: int) -> list[str]:
        """Under which ticks of this number come: none where the rules know the symbol no more, or as another's alias."""
        instrument = self.instruments[sid]
        return [name for name in (instrument.symbol, *instrument.aliases) if self._means(name, instrument.symbol)]

    def _means(self, name: str, symbol: str) -> bool:
        found = self._rules.get(name) if self._rules else None
        return self._rules is None or (found is not None and found.symbol == symbol)

    def recount(self, rules: Instruments) -> list[int]:
        """Go over to other rules; returns the numbers of the symbols that are counted otherwise from now on.

        A symbol that the rules don't know any more, or only as another's alias, keeps its number and row and gets no new
        ticks.
        """
        before = self.instruments
        self._rules = rules
        self._sids = {}
        self.instruments = []                      # a new list: batches on their way share the old one
        for instrument in before:
            counted = rules.get(instrument.symbol)
            self.restore(counted if counted and counted.symbol == instrument.symbol else instrument)
        pairs = zip(before, self.instruments, strict=True)
        return [sid for sid, (old, new) in enumerate(pairs) if old.counting != new.counting]

    def restore(self, instrument: Instrument) -> None:
        """The next number is this symbol's, as it was when the table was kept."""
        if self._means(instrument.symbol, instrument.symbol):
            self._add(instrument)
        else:
            self.instruments.append(instrument)

    def adopt(self, instrument: Instrument) -> int:
        """The number of a symbol that comes with its instrument.

        Raises InputRefused if this stream counts the symbol in other points, or doesn't know it.
        """
        if self._rules is None and instrument.symbol not in self._sids:
            return self._add(instrument)
        sid = self.sid(instrument.symbol)
        if sid < 0 or self.instruments[sid].counting != instrument.counting:
            raise InputRefused(
                "instrument_changed", f"{instrument.symbol} is counted in other points than this stream's",
                hint="read all ticks with the same [instruments]",
            )
        return sid

    def _add(self, instrument: Instrument) -> int:
        self._sids[instrument.symbol] = len(self.instruments)
        self.instruments.append(instrument)
        return len(self.instruments) - 1
