"""Control records: what a planned change looks like in the log, and when a copy of one counts. Pure: no I/O, no clock.

A change is one record, appended once to `models`; its place there is k. The same bytes are then copied into every
tick partition, so that each partition has a position from which the change holds. Copies may be repeated, may be
missing for a while, may be forged: `check` says which of them an owner follows.

The signature covers everything but k, which only the append decides; the nonce stands in for it: a record that was
signed once counts once, at the first k that holds it. It also covers the log's identity and the deployment, so that
a record can't be carried to another log or from paper to live.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct

from ..errors import InputRefused, ModelRefused
from ..manifest import Sha256

FIRST_K = 2
"""The record before it is the log's identity."""

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that aren't what they should be: bad JSON, bad UTF-8, nested too deep."""

_DOMAIN = "tocsin control 1"
"""First among the signed words: what was signed as something else can't be taken for a control record."""

Nonce = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
Sign = Callable[[bytes], bytes]
Verify = Callable[[bytes, bytes], bool]
"""(message, signature) -> whether it is the trusted key's."""


class Activate(Struct, frozen=True, forbid_unknown_fields=True):
    """From here on this bundle answers: its version, and the sha256 of its manifest.json."""

    verb: ClassVar[str] = "activate"

    version: str
    manifest: Sha256


Body: TypeAlias = Activate
"""The union of all verbs' bodies; each names its verb."""

_BODIES: dict[str, type[Body]] = {body.verb: body for body in (Activate,)}


class Control(Struct, frozen=True, forbid_unknown_fields=True):
    """A control record. Its JSON, keys in this order, no spaces, is what `models` and every copy hold."""

    k: int
    deployment: str
    verb: str
    body: Body
    by: str
    comment: str
    nonce: Nonce
    signature: bytes


class _Envelope(Struct, frozen=True, forbid_unknown_fields=True):
    """A control record whose body hasn't been read yet: the signature is checked over the bytes as they came."""

    k: int
    deployment: str
    verb: str
    body: Raw
    by: str
    comment: str
    nonce: Nonce
    signature: bytes


class _Nonce(Struct):
    nonce: str


def signed_bytes(
    identity: str, deployment: str, verb: str, body: Body | Raw, by: str, comment: str, nonce: str
) -> bytes:
    """What is signed: a JSON array, so that no two different records give the same bytes."""
    return msgspec.json.encode([_DOMAIN, identity, deployment, verb, body, by, comment, nonce])


def make(
    k: int, identity: str, deployment: str, body: Body, by: str, comment: str, nonce: str, sign: Sign
) -> bytes:
    """The record for place k. `nonce`: 32 hex digits, random, never used before."""
    signature = sign(signed_bytes(identity, deployment, body.verb, body, by, comment, nonce))
    return msgspec.json.encode(Control(k, deployment, body.verb, body, by, comment, nonce, signature))


def check(
    copy: bytes, models: Mapping[int, bytes], identity: str, deployment: str, verify: Verify, followed: int = 0
) -> Control | None:
    """What a copy in a partition means: a Control to follow from this position on, or None.

    models: payload by k, read after the copy was (a record is in `models` before its first copy).
    followed: the highest k followed in this partition. None: nothing to do, since the copy is another deployment's,
    or repeats what was followed or overtaken.

    Raises InputRefused for a copy that doesn't hold and must change nothing: `control_malformed`; `control_unknown`
    (`models` doesn't hold these bytes at k); `control_replayed` (its nonce was used before); `control_signature`
    (not signed by the trusted key for this log and deployment). Raises ModelRefused `control_newer` for one that
    holds but can't be read by this engine: going on without it would make another decision than its peers.
    """
    envelope = _open(copy)
    if envelope.deployment != deployment:
        return None
    _authenticate(copy, envelope, models, identity, verify)        # also what repeats: a forgery must not pass as one
    if envelope.k <= followed:
        return None
    try:
        body = msgspec.json.decode(envelope.body, type=_BODIES[envelope.verb])
    except (KeyError, *_UNREADABLE):
        raise ModelRefused(
            "control_newer", f"control record {envelope.k} ({envelope.verb}) asks for something this engine can't do",
            hint="upgrade the engine to the version of whoever wrote the record",
        ) from None
    return Control(
        envelope.k, envelope.deployment, envelope.verb, body, envelope.by, envelope.comment, envelope.nonce,
        envelope.signature,
    )


def newest(models: Mapping[int, bytes], identity: str, deployment: str, verify: Verify) -> int | None:
    """The highest k whose record holds for this deployment: the one that must stand in every partition."""
    for k in sorted(models, reverse=True):
        try:
            envelope = _open(models[k])
            if envelope.deployment != deployment or envelope.k != k:
                continue
            _authenticate(models[k], envelope, models, identity, verify)
        except InputRefused:
            continue
        return k
    return None


def _open(payload: bytes) -> _Envelope:
    try:
        return msgspec.json.decode(payload, type=_Envelope)
    except _UNREADABLE as error:
        raise InputRefused("control_malformed", f"not a control record: {error}", hint=_HINT) from None


def _authenticate(
    payload: bytes, envelope: _Envelope, models: Mapping[int, bytes], identity: str, verify: Verify
) -> None:
    k = envelope.k
    if models.get(k) != payload:
        raise InputRefused("control_unknown", f"`models` doesn't hold this control record at {k}", hint=_HINT)
    earlier = next((j for j in sorted(models) if j < k and _nonce(models[j]) == envelope.nonce), None)
    if earlier is not None:
        raise InputRefused("control_replayed", f"control record {k} plays record {earlier} again", hint=_HINT)
    message = signed_bytes(
        identity, envelope.deployment, envelope.verb, envelope.body, envelope.by, envelope.comment, envelope.nonce
    )
    if not verify(message, envelope.signature):
        raise InputRefused(
            "control_signature", f"control record {k} isn't signed by the trusted key for this log", hint=_HINT
        )


def _nonce(payload: bytes) -> str | None:
    """The nonce of whatever lies in `models`, even where the rest of it can't be read."""
    try:
        return msgspec.json.decode(payload, type=_Nonce).nonce
    except _UNREADABLE:
        return None


_HINT = "nothing was changed; if it should hold, write it again with `tocsin models activate`"
