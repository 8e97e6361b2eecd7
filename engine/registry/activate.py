"""Put a bundle into the log: one record in `models`, its copies in every tick partition."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ..transports.base import Log
from ..types import Cursor, Kind
from . import rollout, signing
from .store import Registry

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


class Activation(NamedTuple):
    """What was written: `version` answers from `copies[partition]` on, unless a higher k overtook it on the way."""

    k: int
    version: str
    copies: dict[int, Cursor]


def activate(
    log: Log, registry: Registry, private: Ed25519PrivateKey, version: str, by: str, comment: str = ""
) -> Activation:
    """Have the engines of the log's deployment answer with a version (or alias).

    The bundle is verified first. Ends with the newest control record of the deployment in every partition, whoever
    wrote it: if another activation died, or is still on its way, between its record and its copies, the copies are
    completed here. Safe to repeat when it raised.

    Raises ModelRefused as `Registry.read` does, UsageError `key_pair` (engines that trust the registry's key would
    refuse the record), TransportUnreachable.
    """
    registry.check_pair(private)
    contents = registry.read(version)
    body = rollout.Activate(contents.manifest.version, contents.digest)
    sign = partial(signing.sign, private)
    nonce = secrets.token_hex(16)
    while True:
        k = max((k for k, _ in log.controls()), default=rollout.FIRST_K - 1) + 1
        record = rollout.make(k, log.identity, log.deployment, body, by, comment, nonce, sign)
        if log.append_control(k, record):
            break
    copies = _copy(log, record)
    complete(log, registry.public_key(), since=k)
    return Activation(k, body.version, copies)


def complete(log: Log, public: Ed25519PublicKey, since: int = 0) -> dict[int, Cursor]:
    """Copy the deployment's newest control record into every partition again, if its k is above `since`.

    Copies are idempotent, so nothing is read first. Returns the cursors of the copies by partition.
    """
    models: Mapping[int, bytes] = dict(log.controls())
    k = rollout.newest(models, log.identity, log.deployment, partial(signing.verify, public))
    return {} if k is None or k <= since else _copy(log, models[k])


def _copy(log: Log, record: bytes) -> dict[int, Cursor]:
    return {partition: log.append(partition, [record], Kind.CONTROL)[0] for partition in range(log.partitions)}
