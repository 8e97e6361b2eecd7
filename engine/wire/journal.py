"""Notes of the journal: what an owner suffered, written with the position from which it holds, in one step with its signals.

JSON records, told apart by `note`. Whoever reads the log again, after a crash or in a replay, obeys them.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from .records import Place, RedisCursor


class Runtime(Struct, frozen=True, tag_field="note", tag="runtime"):
    """From here on decided by: engine version, device, who computes there, and the kind of processor.

    The bits of a decision are promised per runtime; what was published is never computed again.
    """

    engine: str
    device: str
    provider: str
    cpu: str
    log: Place


class Void(Struct, frozen=True, tag_field="note", tag="void"):
    """From here on the activation of control record k isn't followed: it ended every engine that tried."""

    k: int
    why: str
    log: Place


class Skip(Struct, frozen=True, tag_field="note", tag="skip"):
    """This row, or the whole record, was not taken: it ended every engine that tried. It stands in `rejects`."""

    what: Literal["row", "record"]
    why: str
    log: Place


class Gap(Struct, frozen=True, tag_field="note", tag="gap"):
    """The records after `after`, and before this place, were gone when the partition was taken over; windows start anew."""

    after: int | RedisCursor
    log: Place


Note: TypeAlias = Runtime | Void | Skip | Gap

decoder = msgspec.json.Decoder(Note)


def encode(note: Note) -> bytes:
    return msgspec.json.encode(note)


def schema() -> dict[str, Any]:
    """The JSON Schema of a note, as docs/schemas publishes it."""
    return msgspec.json.schema(Note)
