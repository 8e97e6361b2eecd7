"""Write control records: one append to `models` decides, copies into every tick partition follow."""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING

from ..transports.base import Log
from ..types import Cursor, Kind
from . import rollout, signing
from .controls import read_controls
from .store import Registry

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


def change(
    log: Log, registry: Registry, private: Ed25519PrivateKey, body: rollout.Body, by: str, comment: str
) -> tuple[int, dict[int, Cursor]]:
    """Have a change hold from here on: returns k and the cursors of its copies by partition.

    Ends with the newest control records of the deployment in every partition, whoever wrote them. Raises UsageError
    `key_pair` (engines that trust the registry's key would refuse the record), TransportUnreachable.
    """
    registry.check_pair(private)
    k, record = append(log, private, body, by, comment)
    copies = copy(log, record)
    complete(log, registry.public_key(), since=k)
    return k, copies


def append(log: Log, private: Ed25519PrivateKey, body: rollout.Body, by: str, comment: str) -> tuple[int, bytes]:
    """Sign a record and store it at the next free place of `models`; returns the place and the record."""
    sign = partial(signing.sign, private)
    nonce = secrets.token_hex(16)
    while True:
        k = max((k for k, _ in log.controls()), default=rollout.FIRST_K - 1) + 1
        record = rollout.make(k, log.identity, log.deployment, body, by, comment, nonce, sign)
        if log.append_control(k, record):
            return k, record


def copy(log: Log, record: bytes) -> dict[int, Cursor]:
    """A copy into every tick partition; returns their cursors. Copies may be repeated."""
    return {partition: log.append(partition, [record], Kind.CONTROL)[0] for partition in range(log.partitions)}


def complete(log: Log, public: Ed25519PublicKey, since: int = 0) -> None:
    """Copy the deployment's newest record of each verb into every partition again, where its k is above `since`.

    For whoever may have died between a record and its copies: copies are idempotent, so nothing is read first.
    """
    controls = read_controls(log, public)
    for control in controls.due():
        if control.k > since:
            copy(log, controls.payload(control.k))
