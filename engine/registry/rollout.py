"""Control records: what a planned change looks like in the log, and when a copy of one counts. Pure: no I/O, no clock.

A change is one record, appended once to `models`; its place there is k. The same bytes are then copied into every
tick partition, so that each partition has a position from which the change holds. Copies may be repeated, may be
missing for a while, may be forged: `check` says which of them an owner follows. In a partition the highest k of each
*slot* counts: a slot is one verb, or verbs that undo each other (`pause` and `resume`), so that a late copy of the one never
overrules the other. `prepare` is never copied: it asks the engines to make a bundle ready for the `activate` that may come.

The signature covers everything but k, which only the append decides; the nonce stands in for it: a record that was
signed once counts once, at the first k that holds it. It also covers the log's identity and the deployment, so that
a record can't be carried to another log or from paper to live.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, TypeAlias

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

_NOTHING: Mapping[Any, Any] = {}

Nonce = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
Sign = Callable[[bytes], bytes]
Verify = Callable[[bytes, bytes], bool]
"""(message, signature) -> whether it is the trusted key's."""


class Activate(Struct, frozen=True, forbid_unknown_fields=True):
    """From here on this bundle answers: its version, and the sha256 of its manifest.json."""

    verb: ClassVar[str] = "activate"
    slot: ClassVar[str] = "activate"

    version: str
    manifest: Sha256


class Prepare(Struct, frozen=True, forbid_unknown_fields=True):
    """Have this bundle ready: it may be activated soon."""

    verb: ClassVar[str] = "prepare"
    slot: ClassVar[str] = "prepare"

    version: str
    manifest: Sha256


class PolicyRules(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What of a bundle's policy (manifest.Policy) is overruled; the rest stays the bundle's."""

    buy: Annotated[float, Meta(ge=0, le=1)] | None = None
    sell: Annotated[float, Meta(ge=-1, le=0)] | None = None
    hysteresis: Annotated[float, Meta(ge=0, le=1)] | None = None
    cooldown_s: Annotated[float, Meta(ge=0)] | None = None
    max_spread: Annotated[float, Meta(gt=0)] | None = None


class Settings(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """From here on these rules lie over whatever bundle answers. Whole: what an earlier record said is gone.

    weights: of experts by name, relative to each other; experts it doesn't name keep the bundle's.
    instruments: as Instruments.to_dict gives them; a symbol that is counted otherwise than before starts anew.
    """

    verb: ClassVar[str] = "settings"
    slot: ClassVar[str] = "settings"

    policy: PolicyRules = PolicyRules()
    weights: dict[str, Annotated[float, Meta(ge=0)]] = {}
    instruments: dict[str, Any] | None = None


class Pause(Struct, frozen=True, forbid_unknown_fields=True):
    """From here on these symbols, or shell patterns of symbols, are named no side. Whole: all that is paused from here on, so
    that a record missed on the way is harmless."""

    verb: ClassVar[str] = "pause"
    slot: ClassVar[str] = "pause"

    symbols: list[str]


class Resume(Struct, frozen=True, forbid_unknown_fields=True):
    """As `Pause`: what stays paused from here on."""

    verb: ClassVar[str] = "resume"
    slot: ClassVar[str] = Pause.slot

    symbols: list[str]


Body: TypeAlias = Activate | Prepare | Settings | Pause | Resume
"""The union of all verbs' bodies; each names its verb and its slot."""

_BODIES: dict[str, type[Body]] = {body.verb: body for body in (Activate, Prepare, Settings, Pause, Resume)}
_decoders = {verb: msgspec.json.Decoder(body) for verb, body in _BODIES.items()}

COPIED = (Activate.slot, Settings.slot, Pause.slot)
"""The slots whose records are copied into every tick partition."""


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

    @property
    def slot(self) -> str:
        """Among the records of one slot the highest k counts."""
        return self.body.slot


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


_envelopes = msgspec.json.Decoder(_Envelope)


class _Nonce(Struct):
    nonce: str


_nonces = msgspec.json.Decoder(_Nonce)


class Models:
    """What lies in `models`: the payload by k, and where each nonce was used first."""

    def __init__(self, payloads: Mapping[int, bytes] = _NOTHING) -> None:
        self.payloads: dict[int, bytes] = {}
        self._first_use: dict[str, int] = {}
        for k in sorted(payloads):
            self.add(k, payloads[k])

    def add(self, k: int, payload: bytes) -> None:
        """k rises from call to call."""
        self.payloads[k] = payload
        nonce = _nonce(payload)
        if nonce is not None:
            self._first_use.setdefault(nonce, k)

    def earlier(self, k: int, nonce: str) -> int | None:
        """The place before k that used the nonce."""
        first = self._first_use.get(nonce, k)
        return first if first < k else None


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
    copy: bytes, models: Models, identity: str, deployment: str, verify: Verify,
    followed: Mapping[str, int] = _NOTHING,
) -> Control | None:
    """What a copy in a partition means: a Control to follow from this position on, or None.

    models: read after the copy was (a record is in `models` before its first copy).
    followed: the highest k followed in this partition, by slot. None: nothing to do, since the copy is another
    deployment's, of a verb that isn't copied, or repeats what was followed or overtaken.

    Raises InputRefused for a copy that doesn't hold and must change nothing: `control_malformed`; `control_unknown`
    (`models` doesn't hold these bytes at k); `control_replayed` (its nonce was used before); `control_signature`
    (not signed by the trusted key for this log and deployment). Raises ModelRefused `control_newer` for one that
    holds but can't be read by this engine: going on without it would make another decision than its peers.
    """
    envelope = _open(copy)
    if envelope.deployment != deployment:
        return None
    _authenticate(copy, envelope, models, identity, verify)        # also what repeats: a forgery must not pass as one
    body = _BODIES.get(envelope.verb)
    if body is Prepare or (body and envelope.k <= followed.get(body.slot, 0)):
        return None
    return _read(envelope)


def holding(models: Models, identity: str, deployment: str, verify: Verify, after: int = 0) -> Iterator[Control]:
    """The deployment's records above place `after` that hold, k rising; what doesn't hold is passed over.

    Raises ModelRefused `control_newer`, as `check` does.
    """
    for k, payload in models.payloads.items():
        if k <= after:
            continue
        try:
            envelope = _open(payload)
            if envelope.deployment != deployment or envelope.k != k:
                continue
            _authenticate(payload, envelope, models, identity, verify)
        except InputRefused:
            continue
        yield _read(envelope)


def deployments(models: Models) -> set[str]:
    """Whose records there are, holding or not."""
    found = set()
    for payload in models.payloads.values():
        try:
            found.add(_open(payload).deployment)
        except InputRefused:
            continue
    return found


def _read(envelope: _Envelope) -> Control:
    try:
        body = _decoders[envelope.verb].decode(envelope.body)
    except (KeyError, *_UNREADABLE):
        raise ModelRefused(
            "control_newer", f"control record {envelope.k} ({envelope.verb}) asks for something this engine can't do",
            hint="upgrade the engine to the version of whoever wrote the record",
        ) from None
    return Control(
        envelope.k, envelope.deployment, envelope.verb, body, envelope.by, envelope.comment, envelope.nonce,
        envelope.signature,
    )


def _open(payload: bytes) -> _Envelope:
    try:
        return _envelopes.decode(payload)
    except _UNREADABLE as error:
        raise InputRefused("control_malformed", f"not a control record: {error}", hint=_HINT) from None


def _authenticate(
    payload: bytes, envelope: _Envelope, models: Models, identity: str, verify: Verify
) -> None:
    k = envelope.k
    if models.payloads.get(k) != payload:
        raise InputRefused("control_unknown", f"`models` doesn't hold this control record at {k}", hint=_HINT)
    earlier = models.earlier(k, envelope.nonce)
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
        return _nonces.decode(payload).nonce
    except _UNREADABLE:
        return None


_HINT = "nothing was changed; if it should hold, write it again with `tocsin models activate`"
