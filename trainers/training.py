"""One training, whole: from its ticks to a bundle, to what is decided about it and why, to the log."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from engine import clock
from engine.config import MAIN, Config
from engine.errors import TocsinError
from engine.features import FeatureSet
from engine.instruments import Instruments
from engine.manifest import Moments
from engine.registry import decisions
from engine.registry.activate import activate
from engine.registry.controls import read_controls
from engine.registry.decisions import Decision
from engine.registry.rollout import Activate
from engine.registry.store import CHAMPION, Registry
from engine.terminal import whoever
from engine.transports.base import Log
from engine.types import TickBatch

from .experts import chosen
from .experts.devices import cpu_budget
from .fit import Fits
from .label_file import LabelFile
from .pipeline import Progress, Trained, train

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def start_fits(experts: str, preset: str, config: Config) -> Fits:
    """Their children, the first started ahead so that importing a library costs no time. Raises UsageError as `chosen`."""
    return Fits(chosen(experts), preset, config.trainer.threads or cpu_budget())


def train_and_decide(
    ticks: TickBatch, registry: Registry, private: Ed25519PrivateKey, rules: Instruments, fits: Fits,
    moments: Moments, progress: Progress, features: FeatureSet, *, log: Log | None, deployment: str, rule: str, trigger: str,
    comment: str = "", tell: Callable[[str], None] = lambda text: None, labels: LabelFile | None = None,
) -> tuple[Trained, Decision]:
    """Train, decide by `rule` (if-better, manual, always), activate where it says so, and keep what was decided.

    log: whose engines answer with the bundle, None for the alias only. labels: learned instead of the triple barrier's.
    Raises what `train` and `activate` raise; a bundle that was made and couldn't be activated is kept with the reason.
    """
    start = time.monotonic()
    champion = _champion(log, registry)
    trained = train(ticks, registry, private, rules, fits, moments, progress, features, champion, labels)
    wanted = rule == "always" or (rule == "if-better" and trained.better)
    done: dict[str, Any] = {"activated": False}
    failure: TocsinError | None = None
    why = reason(trained)
    if wanted:
        try:
            done = _activate(trained.version, registry, private, log, deployment, comment, tell, features)
        except TocsinError as error:
            failure, why = error, f"{why}; not activated: {error.args[0]} [{error.code}]"
    decision = Decision(
        about=trained.version, at=clock.stamp(),
        deployment=deployment, trigger=trigger, rule=rule, better=trained.better, why=why,
        seconds=round(time.monotonic() - start, 3), **done,
    )
    decisions.keep(registry, decision, private)
    if failure:
        raise failure
    return trained, decision


def _champion(log: Log | None, registry: Registry) -> str | None:
    """Who answers now: the log's newest activation, else the alias."""
    if log is not None:
        newest = read_controls(log, registry.public_key()).newest().get(Activate.slot)
        if newest is not None and isinstance(newest.body, Activate):
            return newest.body.version
    return registry.aliases().get(CHAMPION)


def _activate(
    version: str, registry: Registry, private: Ed25519PrivateKey, log: Log | None, deployment: str, comment: str,
    tell: Callable[[str], None], features: FeatureSet,
) -> dict[str, Any]:
    if log is None:
        if deployment == MAIN:
            registry.set_alias(CHAMPION, version)
        return {"activated": True}
    activation = activate(log, registry, private, version, whoever(), comment, tell, features=features)
    copies = {str(partition): log.format(cursor) for partition, cursor in activation.copies.items()}
    return {"activated": bool(copies), "k": activation.k, "copies": copies}


def reason(trained: Trained) -> str:
    """What `if-better` goes by, in words."""
    metrics = trained.metrics
    words = [verdict(metrics["against_prior"], "the prior")]
    if metrics["against_champion"]:
        words.append(verdict(metrics["against_champion"], f"champion {metrics['against_champion']['champion']}"))
    words += [f"without {name}: {why}" for name, why in metrics["failed"].items()]
    return "; ".join(words)


def verdict(compared: dict[str, Any], other: str) -> str:
    if compared["verdict"] == "not comparable":
        return f"not comparable with {other} ({compared['events']} common events)"
    direction = "better" if compared["mean"] >= 0 else "worse"
    proven = "more than chance" if compared["better"] else "not enough"
    return (
        f"{abs(compared['mean']):.4f} ± {compared['standard_error']:.4f} nats {direction} than {other} "
        f"({compared['blocks']} blocks of {compared['block_ns'] / 60e9:g} min): {proven}"
    )
