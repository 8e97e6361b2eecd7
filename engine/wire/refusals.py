"""Refused inputs as people meet them: where each stands, what its code means, what can be done. Pure."""

from __future__ import annotations

import base64
from typing import Any, NamedTuple

import msgspec

from ..errors import UsageError
from ..types import Code, Position
from .records import Reject, cursor_of


class Meaning(NamedTuple):
    """Of a code: what is wrong, and what to do about it."""

    wrong: str
    advice: str


MEANINGS: dict[Code, Meaning] = {
    Code.MALFORMED: Meaning(
        "it isn't a tick: no JSON object, or a field is missing, unknown or of the wrong type",
        "mend whoever sends it; docs/protocols.md says what a tick is"),
    Code.VERSION: Meaning("a packed frame of a version that this engine doesn't read",
                          "upgrade the engine, then requeue it"),
    Code.CHECKSUM: Meaning("a packed frame whose bytes aren't those that were sent", "have its sender send it again"),
    Code.OVERSIZE: Meaning("a record of more than 8 MiB, or a symbol of more than 64 characters", "send smaller records"),
    Code.PRICE: Meaning("a price that isn't finite and positive, or is beyond what the instrument's scale can count",
                        "mend the sender; where the scale is too fine, tocsin settings set instruments=file, then requeue it"),
    Code.SCALE: Meaning("a price finer than the instrument's scale",
                        "raise the instrument's scale (tocsin settings set instruments=file), then requeue it"),
    Code.SIZE: Meaning("a size that isn't finite, is negative or too large", "mend the sender"),
    Code.SYMBOL: Meaning("no instrument of this name, and the list is closed",
                         "name it in [instruments], as a symbol or an alias (tocsin settings set instruments=file), then "
                         "requeue it"),
    Code.SPREAD: Meaning("one price only, and the instrument declares no spread",
                         "declare `spread` (tocsin settings set instruments=file), then requeue it"),
    Code.CROSSED: Meaning("its bid is above its ask",
                          "if this feed means it, crossed = \"keep\" (tocsin settings set instruments=file), then requeue it"),
    Code.FUTURE: Meaning("its stamp is later than the log received it, by more than 2 seconds",
                         "mend the sender's clock or time zone; requeued once its time has come it counts, unless later "
                         "ticks were taken before it"),
    Code.LATE: Meaning("a later tick of its symbol was taken before it", "nothing: order within a symbol is time's"),
    Code.DUPLICATE: Meaning("the same tick was taken already", "nothing: it counts, once"),
    Code.POISON: Meaning("every engine that tried to take it ended",
                         "report it; once an engine is there that can take it, requeue it"),
    Code.CONTROL: Meaning("a control record that doesn't hold: forged, played again, or void since settings came between",
                          "if it should hold, write it anew: tocsin models activate, settings set, pause, resume"),
}


def meaning(code: str) -> Meaning:
    """Also of a code that only another version knows."""
    try:
        return MEANINGS[Code(code)]
    except (KeyError, ValueError):
        return Meaning("refused for a reason that this version doesn't know", "look it up where it was refused")


# ---- where it stands


class Stands(NamedTuple):
    """Of a refused input: the partition, and the position there."""

    partition: int
    position: Position


def told_place(reject: Reject) -> str:
    """PARTITION:CURSOR:ORDINAL, the cursor as the log writes it."""
    return f"{reject.log.partition}:{reject.log.cursor}:{reject.log.ordinal}"


def place(text: str) -> Stands:
    """The inverse of `told_place`. Raises UsageError `position`."""
    partition, _, rest = text.partition(":")
    at, _, ordinal = rest.partition(":")
    try:
        if partition.isdecimal() and ordinal.isdecimal():
            return Stands(int(partition), Position(cursor_of(at), int(ordinal)))
    except ValueError:
        pass
    raise UsageError("position", f"{text!r} is no position",
                     hint="PARTITION:CURSOR:ORDINAL, as `tocsin rejects list` prints it: 1:1700000000000-0:0")


# ---- what it is


class _Named(msgspec.Struct):
    symbol: str


_named = msgspec.json.Decoder(_Named)


def content(reject: Reject) -> bytes:
    """As it came."""
    return base64.b64decode(reject.payload) if reject.encoding == "base64" else reject.payload.encode()


def symbol_of(payload: bytes) -> str | None:
    """The symbol that a payload names; None where none can be read."""
    try:
        return _named.decode(payload).symbol
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def shown(payload: bytes) -> str:
    """For a terminal: as text if all of it can be printed, else in hexadecimal."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return payload.hex(" ", 4)
    return text if text.replace("\n", "").replace("\t", "").isprintable() else payload.hex(" ", 4)


def told(reject: Reject) -> dict[str, Any]:
    """One object: the reject as published, with the place by which it is named and the symbol, where it has one."""
    return {
        "position": told_place(reject), "code": reject.code, "symbol": symbol_of(content(reject)),
        "encoding": reject.encoding, "payload": reject.payload,
    }
