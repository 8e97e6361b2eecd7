"""What the trainer decided about each bundle, and why: beside the bundles, signed by the same key.

    REG/decisions/<version>.json   about a bundle
    REG/decisions/failed.json      the last training that made none
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from . import signing
from .store import Registry

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FOLDER = "decisions"
FAILED = "failed"

_DOMAIN = b"tocsin decision 1\n"
"""Before the signed bytes: what was signed as something else can't be taken for a decision."""


class Decision(Struct, frozen=True, forbid_unknown_fields=True):
    """about: the bundle's version, or `failed`. at: RFC 3339. trigger: schedule, signal, file or command. rule:
    if-better, manual or always. copies: where the activation stands, by partition, as the log writes cursors."""

    about: str
    at: str
    deployment: str
    trigger: str
    rule: str
    better: bool
    """Whether `if-better` would activate it."""
    activated: bool
    why: str
    seconds: float
    k: int | None = None
    copies: dict[str, str | int] = {}


_decisions = msgspec.json.Decoder(Decision)


class _Signed(Struct, forbid_unknown_fields=True):
    decision: msgspec.Raw
    signature: bytes


_signed = msgspec.json.Decoder(_Signed)


def keep(registry: Registry, decision: Decision, private: Ed25519PrivateKey) -> None:
    """Write it in place of an earlier one about the same."""
    content = msgspec.json.encode(decision)
    signed = msgspec.json.encode(_Signed(msgspec.Raw(content), signing.sign(private, _DOMAIN + content)))
    folder = registry.folder / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".tmp-{secrets.token_hex(8)}"
    temporary.write_bytes(signed)
    temporary.replace(folder / f"{decision.about}.json")


def decision(registry: Registry, about: str) -> Decision | None:
    """What was decided about a version (or `failed`); None where nothing was, or it isn't signed by the trusted key."""
    try:
        signed = _signed.decode((registry.folder / FOLDER / f"{about}.json").read_bytes())
        if not signing.verify(registry.public_key(), _DOMAIN + bytes(signed.decision), signed.signature):
            return None
        found = _decisions.decode(signed.decision)
        return found if found.about == about else None         # not another bundle's, copied here
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def forget(registry: Registry, about: str) -> None:
    (registry.folder / FOLDER / f"{about}.json").unlink(missing_ok=True)
