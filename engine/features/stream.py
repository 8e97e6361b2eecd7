"""Features as ticks come: admitted by event time, carried by the kernels, kept and taken up again as bytes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import InputRefused, UsageError
from ..eventtime import EventTime
from ..files import ticks_from_frame
from ..instruments import Instrument, Instruments, SymbolTable
from ..types import F32, NO_SEQ, TickBatch
from ..wire.ticks import MAX_SYMBOL, renumber
from .single import IMPOSSIBLE, UNKNOWN, Single
from .state import FeatureState, State

if TYPE_CHECKING:
    import polars as pl

FORMAT = 2


class Stream:
    """Any cutting of the same ticks into batches, and any snapshot and restore in between, gives the same bits."""

    def __init__(self, fingerprint: str, state: State, rules: Instruments | None = None) -> None:
        """rules: for ticks that come one by one; batches bring their instruments along."""
        self._fingerprint = fingerprint
        self._rules = rules
        self._symbols = SymbolTable(rules)
        self._event_time = EventTime()
        self._state = state
        self._single: Single | None = None

    def update(self, ticks: TickBatch | pl.DataFrame) -> F32:
        """(m, F) for the m ticks of the batch that are admitted.

        Raises InputRefused where the batch can't be taken, UsageError `family_failed`: take a snapshot up again after it.
        """
        self._single = None                        # rows may move
        batch = renumber(as_batch(ticks, self._rules), self._symbols)
        taken = self._event_time.admit(batch) == 0
        return self._state.update(batch if taken.all() else batch[taken]).matrix

    # ---- one by one

    def symbol(self, name: str) -> int:
        """The number by which `tick` knows a symbol. Raises InputRefused `symbol` if the instruments don't name it."""
        instrument = (self._rules or Instruments()).get(name) if 0 < len(name) <= MAX_SYMBOL else None
        if instrument is None:
            raise InputRefused("symbol", f"symbol {name!r} isn't in the instruments, and the list is closed, or no name",
                               hint=f"add it to the instruments; a name has 1 to {MAX_SYMBOL} characters")
        return self.adopt(instrument)

    def adopt(self, instrument: Instrument) -> int:
        """The same for a symbol that comes with its instrument. Raises InputRefused `instrument_changed`."""
        known = len(self._symbols)
        sid = self._symbols.adopt(instrument)
        if len(self._symbols) > known:
            self._single = None
        return sid

    def tick(self, sid: int, ts: int, bid: int, ask: int, bid_size: int = 0, ask_size: int = 0, seq: int = NO_SEQ) -> int:
        """One tick, in points and size points, as `update` takes a batch of one: 0 if it's admitted, then `row` has its
        columns, else an index into eventtime.VERDICTS.

        sid: of `symbol`. Raises UsageError `symbol_number`, `single` (families of one's own need `update`), InputRefused
        `tick` (what isn't a whole number, or can be no stamp, price or size).
        """
        single = self._single or self._bind()
        try:
            sid | ts | bid | ask | bid_size | ask_size | seq       # whole numbers only: the call would cut others down
            verdict = single.call(single.places, sid, ts, bid, ask, bid_size, ask_size, seq)
        except (TypeError, OverflowError):
            verdict = IMPOSSIBLE
        if verdict < 0:
            _refuse(verdict, sid)
        return verdict

    @property
    def row(self) -> F32:
        """(F,) of the tick last admitted by `tick`; the same memory until a symbol is added or `update` is called."""
        return (self._single or self._bind()).row

    def _bind(self) -> Single:
        if not isinstance(self._state, FeatureState) or self._state.own:
            raise UsageError("single", "single ticks are for the default columns alone", hint="use update()")
        keep_crossed = self._event_time.keeps_crossed(self._symbols.instruments)
        self._single = Single(len(self._symbols), self._event_time, keep_crossed, self._state)
        return self._single

    # ---- snapshots

    def snapshot(self, *symbols: str) -> bytes:
        """The state of these symbols, of all if none is named, to continue from elsewhere with the same bits.

        Raises InputRefused `symbol` for one that never came.
        """
        known = {instrument.symbol: sid for sid, instrument in enumerate(self._symbols.instruments)}
        strangers = [name for name in symbols if name not in known]
        if strangers:
            raise InputRefused("symbol", f"no tick of {strangers[0]!r} ever came", hint=f"known: {', '.join(known) or 'none'}")
        parts = (self._event_time.rows, self._state.rows)
        for part in parts:
            part.ensure(len(known))
        body = {
            "format": FORMAT, "fingerprint": self._fingerprint,
            "symbols": [
                {"instrument": self._symbols.instruments[known[name]], "rows": [part.snapshot(known[name]) for part in parts]}
                for name in symbols or known
            ],
        }
        encoded = msgspec.msgpack.encode(body)
        return hashlib.sha256(encoded).digest() + encoded

    def restore(self, blob: bytes) -> list[str]:
        """Put the symbols of a snapshot in place of what is here of them; which they were. Take up one's own only: a
        checksum tells damage, not intent.

        Raises InputRefused: `snapshot_damaged` (its checksum doesn't hold), `snapshot_foreign` (of other features, or of
        a version whose rows mean something else: rebuild the state from ticks), `instrument_changed`.
        """
        if len(blob) < 32 or hashlib.sha256(blob[32:]).digest() != blob[:32]:
            raise InputRefused("snapshot_damaged", "the snapshot's checksum doesn't hold", hint="take a new one")
        body: dict[str, Any] = msgspec.msgpack.decode(blob[32:])
        if body.get("format") != FORMAT or body.get("fingerprint") != self._fingerprint:
            raise InputRefused(
                "snapshot_foreign", f"the snapshot is of features {body.get('fingerprint')} in format {body.get('format')}, "
                f"these are {self._fingerprint} in format {FORMAT}", hint="rebuild the state from ticks",
            )
        self._single = None
        instruments = [msgspec.convert(symbol["instrument"], Instrument) for symbol in body["symbols"]]
        here = {instrument.symbol: instrument for instrument in self._symbols.instruments}
        for instrument in instruments:             # all of them first: nothing is half put back
            if here.get(instrument.symbol, instrument).counting != instrument.counting:
                raise InputRefused("instrument_changed", f"{instrument.symbol} is counted in other points here",
                                   hint="take the snapshot up in a fresh stream")
        for instrument, symbol in zip(instruments, body["symbols"], strict=True):
            sid = self._symbols.adopt(instrument)
            for part, row in zip((self._event_time.rows, self._state.rows), symbol["rows"], strict=True):
                part.restore(sid, row)
        return [instrument.symbol for instrument in instruments]


def _refuse(verdict: int, sid: int) -> None:
    if verdict == UNKNOWN:
        raise UsageError("symbol_number", f"no symbol has the number {sid}", hint="symbol(name) gives it one")
    raise InputRefused("tick", "stamp and prices are above 0, sizes not below; all are whole, prices and sizes below 2^52",
                       hint="prices are points: 1.07701 of scale 5 is 107701")


def as_batch(ticks: TickBatch | pl.DataFrame, rules: Instruments | None = None) -> TickBatch:
    """A TickBatch as it is; a polars frame (symbol, ts, bid, ask, bid_size, ask_size) by the rules or default ones."""
    if isinstance(ticks, TickBatch):
        return ticks
    return ticks_from_frame(ticks, rules or Instruments())
