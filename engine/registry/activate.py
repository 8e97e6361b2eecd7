"""Put a bundle into the log: prepare, wait until the engines have it ready, activate, copy into every partition."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import Struct

from .. import clock
from ..config import MAIN
from ..errors import ModelRefused, TocsinError, UsageError
from ..features import FeatureSet
from ..manifest import Manifest
from ..transports.base import Log
from ..types import Cursor
from .append import Decide, append, change
from .bundle import check_instruments, difference
from .controls import Controls, read_controls
from .follow import load_for_engine
from .history import before_present
from .liveness import Beats
from .rollout import Activate, Prepare
from .settings import counted_now
from .store import CHAMPION, Registry

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PATIENCE_S = 30.0
"""So long the engines have to make a bundle ready."""

LOOK_S = 0.05

LONG_AGO = 100
"""So many control records later nobody waits for an answer any more."""


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
    status: str
    """staged or refused."""
    code: str = ""
    message: str = ""


_answer = msgspec.json.Decoder(Answer)


def answer_name(deployment: str, k: int | None = None, engine: str = "") -> str:
    """Where on the board an engine answers the `prepare` of place k; without: how the names of all answers begin."""
    return f"staged.{deployment}." if k is None else f"staged.{deployment}.{k}.{engine}"


def activate(
    log: Log, registry: Registry, private: Ed25519PrivateKey, version: str, by: str, comment: str = "",
    tell: Callable[[str], None] = lambda text: None, patience_s: float = PATIENCE_S, features: FeatureSet | None = None,
    over: int | None = None,
) -> Activation:
    """Have the engines of the log's deployment answer with a version (or alias); on `main` the alias champion follows.

    The bundle is verified first, then every engine whose beat moved lately verifies, loads and tries it; where none
    lives, that is done here. Ends with the newest control records of the deployment in every partition, whoever wrote
    them. Safe to repeat when it raised.

    tell: hears in words what is waited for. features: of the deployment's engines. over: the newest activation that this is
    decided on; nothing is activated over a newer one.
    Raises ModelRefused as `load_for_engine` does, `instruments_differ` (it
    counts prices otherwise than the log does now) and `engine_refused` (an engine can't answer with it), TocsinError
    `engine_silent` (one that lives didn't answer in time): nothing is activated then. Raises UsageError `key_pair`
    (engines that trust the registry's key would refuse the record), `overtaken`, TransportUnreachable.
    """
    registry.check_pair(private)
    controls = read_controls(log, registry.public_key())
    contents = registry.read(version)
    version, digest = contents.manifest.version, contents.digest

    def if_it_fits(body: Prepare | Activate) -> Decide:
        """The bundle may have been removed, and settings changed, since it was last looked at."""
        def decide(seen: Controls) -> Prepare | Activate:
            _check_over(seen, over)
            manifest = registry.read(version).manifest
            check_instruments(manifest, counted_now(log, seen))
            _check_features(manifest, registry, seen)
            return body

        return decide

    k = append(log, controls, private, if_it_fits(Prepare(version, digest)), by, comment)
    try:
        staged_by = _wait(log, k, version, tell, patience_s)
    finally:
        _forget_answers(log, k)
    if not staged_by:
        load_for_engine(registry, features or FeatureSet.default(), version, digest)
        tell("no engine of this deployment is alive: activated at once")
    k, copies = change(log, registry, private, if_it_fits(Activate(version, digest)), by, comment)
    controls.refresh()
    if log.deployment == MAIN and controls.newest()[Activate.slot].k == k:     # paper must not move it for live
        registry.set_alias(CHAMPION, version)
    return Activation(k, version, copies, staged_by)


def rollback(
    log: Log, registry: Registry, private: Ed25519PrivateKey, by: str, comment: str = "",
    tell: Callable[[str], None] = lambda text: None, patience_s: float = PATIENCE_S, features: FeatureSet | None = None,
) -> Activation:
    """Have the bundle answer that did before the present one, as `activate` does.

    Raises as `activate`, and ModelRefused `no_rollback`, `rollback_gone`, `other_bundle`.
    """
    newest, target = before_present(read_controls(log, registry.public_key()))
    if target.version not in registry.versions():
        raise ModelRefused(
            "rollback_gone", f"bundle {target.version}, which answered before, is gone from {registry.folder}",
            hint="[registry] keep says how many stay; models list names those there are, models activate V takes one",
        )
    if registry.read(target.version).digest != target.manifest:
        raise ModelRefused(
            "other_bundle", f"bundle {target.version} of {registry.folder} isn't the one that answered before",
            hint="point `[registry] path` at the registry it was activated from",
        )
    return activate(log, registry, private, target.version, by, comment, tell, patience_s, features, over=newest.k)


def _check_over(seen: Controls, over: int | None) -> None:
    newest = seen.newest().get(Activate.slot)
    if over is not None and newest is not None and newest.k != over and isinstance(newest.body, Activate):
        raise UsageError(
            "overtaken", f"bundle {newest.body.version} was activated meanwhile (control record {newest.k}, by {newest.by})",
            hint="tocsin models history says what happened; if it is to be taken back as well, say so again",
        )


def _check_features(manifest: Manifest, registry: Registry, seen: Controls) -> None:
    """A deployment's states are of one set of features, and so are all its bundles. Raises ModelRefused `features_differ`."""
    newest = seen.newest().get(Activate.slot)
    if newest is None or not isinstance(newest.body, Activate):
        return
    try:
        then = registry.read(newest.body.version).manifest
    except ModelRefused:                           # gone from the registry: nothing to compare with
        return
    if then.features.fingerprint != manifest.features.fingerprint:
        raise ModelRefused(
            "features_differ", f"bundle {manifest.version} is of features {manifest.features.fingerprint}, this deployment "
            f"answers on {then.features.fingerprint}: {difference(then.features.names, manifest.features.names)}",
            hint="other features are another deployment: --deployment NAME, warmed by run engine --warm",
        )


def _wait(log: Log, k: int, version: str, tell: Callable[[str], None], patience_s: float) -> list[str]:
    """Until every engine that lives has answered; their names."""
    beats = Beats()
    start = clock.monotonic_ns()
    while True:
        now = clock.monotonic_ns()
        beats.see({partition: log.ownership(partition) for partition in range(log.partitions)}, now)
        answers = list(_answers(log, k))
        for answer in answers:
            if answer.status == "refused":
                raise ModelRefused(
                    "engine_refused", f"engine {answer.engine} can't answer with bundle {version}: {answer.message} "
                    f"[{answer.code}]", hint="nothing was activated: mend what it names there, then activate again",
                )
        staged = {answer.engine for answer in answers if answer.status == "staged"}
        alive = beats.alive(now)
        if beats.certain(now) and alive <= staged:
            return sorted(staged)
        if now - start > patience_s * 1e9:
            raise TocsinError(
                "engine_silent", f"{', '.join(sorted(alive - staged))} didn't say within {patience_s:g} s whether bundle "
                f"{version} is ready", hint="nothing was activated: look at its log lines, then activate again",
            )
        clock.sleep(LOOK_S)


def _answers(log: Log, k: int) -> Iterator[Answer]:
    """What can't be read is no answer: another version's engine wrote it."""
    for post in log.posts(answer_name(log.deployment, k)).values():
        with suppress(msgspec.DecodeError):
            yield _answer.decode(post)


def _forget_answers(log: Log, k: int) -> None:
    """To this `prepare`, and those that came when nobody waited any more to one long ago."""
    before = answer_name(log.deployment)
    for name in log.posts(before):
        place = name.removeprefix(before).partition(".")[0]
        if place == str(k) or (place.isdecimal() and int(place) < k - LONG_AGO):
            log.unpost(name)
