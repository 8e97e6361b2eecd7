"""Write control records: one append to `models` decides, copies into every tick partition follow."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ..transports.base import Log
from ..types import Cursor, Kind
from . import rollout, signing
from .controls import Controls, read_controls
from .store import Registry

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Decide = Callable[[Controls], rollout.Body]
"""What to write, given all that was written before; asked again if somebody else writes meanwhile. May raise instead."""


def change(
    log: Log, registry: Registry, private: Ed25519PrivateKey, decide: Decide, by: str, comment: str
) -> tuple[int, dict[int, Cursor]]:
    """Have a change hold from here on: returns k and the cursors of its copies by partition, none if it was overtaken.

    Ends with the newest control records of the deployment in every partition, whoever wrote them. Raises UsageError
    `key_pair` (engines that trust the registry's key would refuse the record), TransportUnreachable, what `decide` raises.
    """
    registry.check_pair(private)
    controls = read_controls(log, registry.public_key())
    k = append(log, controls, private, decide, by, comment)
    return k, complete(log, controls).get(k, {})


def append(log: Log, controls: Controls, private: Ed25519PrivateKey, decide: Decide, by: str, comment: str) -> int:
    """Sign a record and store it at the next free place of `models`, right behind all that `decide` saw; its place."""
    sign = partial(signing.sign, private)
    nonce = secrets.token_hex(16)
    while True:
        controls.refresh()
        k = controls.last + 1
        record = rollout.make(k, log.identity, log.deployment, decide(controls), by, comment, nonce, sign)
        if log.append_control(k, record):
            return k


def complete(log: Log, controls: Controls) -> dict[int, dict[int, Cursor]]:
    """Copy the deployment's newest record of each slot into every partition; the cursors by k and partition.

    In the order of k, and whoever wrote them: their writer may have died before its copies. Copies are idempotent, so
    nothing is read first; what was written meanwhile is copied too.
    """
    made: dict[int, dict[int, Cursor]] = {}
    controls.refresh()
    while missing := [control.k for control in controls.due() if control.k not in made]:
        for k in missing:
            made[k] = copy(log, controls.payload(k))
        controls.refresh()
    return made


def copy(log: Log, record: bytes) -> dict[int, Cursor]:
    """A copy into every tick partition; returns their cursors. Copies may be repeated."""
    return {partition: log.append(partition, [record], Kind.CONTROL)[0] for partition in range(log.partitions)}
