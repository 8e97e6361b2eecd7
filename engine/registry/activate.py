"""Put a bundle into the log: prepare, wait until the engines have it ready, activate, copy into every partition."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct

from .. import clock
from ..errors import ModelRefused, TocsinError
from ..transports.base import Log
from ..types import Cursor
from . import rollout
from .append import append, change
from .liveness import Beats
from .store import Registry

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PATIENCE_S = 30.0
"""So long the engines have to make a bundle ready."""

LOOK_S = 0.05


class Activation(NamedTuple):
    """What was written: `version` answers from `copies[partition]` on, unless a higher k overtook it on the way."""

    k: int
    version: str
    copies: dict[int, Cursor]
    staged_by: list[str]
    """The engines that had it ready; empty: no engine was alive, nothing was waited for."""


class Answer(Struct, frozen=True):
    """What an engine says about a `prepare`, on the board under `answer_name`."""

    engine: str
    status: Annotated[str, Meta(pattern="^(staged|refused)$")]
    code: str = ""
    message: str = ""


def answer_name(deployment: str, k: int, engine: str = "") -> str:
    """Where on the board an engine answers the `prepare` of place k."""
    return f"staged.{deployment}.{k}.{engine}"


def activate(
    log: Log, registry: Registry, private: Ed25519PrivateKey, version: str, by: str, comment: str = "",
    tell: Callable[[str], None] = lambda text: None, patience_s: float = PATIENCE_S,
) -> Activation:
    """Have the engines of the log's deployment answer with a version (or alias).

    The bundle is verified first, then every engine whose beat moved lately verifies, loads and tries it. Ends with the
    newest control records of the deployment in every partition, whoever wrote them. Safe to repeat when it raised.

    tell: hears in words what is waited for. Raises ModelRefused as `Registry.read` does and `engine_refused` (an engine
    can't answer with it), TocsinError `engine_silent` (one that lives didn't answer in time): nothing is activated
    then. Raises UsageError `key_pair` (engines that trust the registry's key would refuse the record),
    TransportUnreachable.
    """
    registry.check_pair(private)
    contents = registry.read(version)
    version, digest = contents.manifest.version, contents.digest
    k, _ = append(log, private, rollout.Prepare(version, digest), by, comment)
    try:
        staged_by = _wait(log, k, version, tell, patience_s)
    finally:
        for name in log.posts(answer_name(log.deployment, k)):
            log.unpost(name)
    k, copies = change(log, registry, private, rollout.Activate(version, digest), by, comment)
    return Activation(k, version, copies, staged_by)


def _wait(log: Log, k: int, version: str, tell: Callable[[str], None], patience_s: float) -> list[str]:
    """Until every engine that lives has answered; their names."""
    beats = Beats()
    start = clock.monotonic_ns()
    while True:
        now = clock.monotonic_ns()
        beats.see({partition: log.ownership(partition) for partition in range(log.partitions)}, now)
        answers = [msgspec.json.decode(post, type=Answer) for post in log.posts(answer_name(log.deployment, k)).values()]
        for answer in answers:
            if answer.status == "refused":
                raise ModelRefused(
                    "engine_refused", f"engine {answer.engine} can't answer with bundle {version}: {answer.message} "
                    f"[{answer.code}]", hint="nothing was activated: mend what it names there, then activate again",
                )
        staged = {answer.engine for answer in answers}
        alive = beats.alive(now)
        if beats.certain(now) and alive <= staged:
            if not alive:
                tell("no engine of this deployment is alive: activated at once")
            return sorted(staged)
        if now - start > patience_s * 1e9:
            raise TocsinError(
                "engine_silent", f"{', '.join(sorted(alive - staged))} didn't say within {patience_s:g} s whether bundle "
                f"{version} is ready", hint="nothing was activated: look at its log lines, then activate again",
            )
        clock.sleep(LOOK_S)
