"""The way of a model, top to bottom: dataset, purged split, fits, calibration, thresholds, comparison, bundle.

What is scored is what is published: nothing is fitted again after the test. The test is the last fifth of the events;
validation lies before it and sets calibration and thresholds; a fit sees neither.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engine import __version__, clock
from engine.errors import ModelRefused, TocsinError
from engine.features import FeatureSet
from engine.instruments import Instruments
from engine.manifest import FORMAT, Expert, Features, Golden, Manifest, Moments, Policy, Training
from engine.registry.bundle import Bundle, load_bundle
from engine.registry.store import Registry
from engine.runtimes.ensemble import Ensemble
from engine.runtimes.forest.layout import Forest
from engine.runtimes.forest.runtime import ForestRuntime
from engine.types import CLASSES, F32, I64, TickBatch

from .calibration import fit_calibration
from .dataset import Dataset, build
from .fit import PARITY, Failed, Fits, Fitted, Rows
from .label_file import LabelFile
from .metrics import auc, columns, compare, log_loss, prior, row_losses
from .splits import Split, audit, purged_split
from .thresholds import thresholds

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

log = logging.getLogger(__name__)

GOLDEN = 16
"""Rows replayed before a bundle may answer."""

Progress = Callable[[str, int, int], None]
"""(stage, done, of so many)"""


@dataclass(frozen=True)
class Trained:
    """A published bundle and what is known of it."""

    version: str
    better_than_prior: bool
    better_than_champion: bool | None
    """None where there is no champion to compare with."""
    metrics: dict[str, Any]

    @property
    def better(self) -> bool:
        """What `if-better` asks: better than the prior, and than the champion if there is one."""
        return self.better_than_prior and self.better_than_champion is not False


def train(
    ticks: TickBatch, registry: Registry, private: Ed25519PrivateKey, rules: Instruments, fits: Fits,
    moments: Moments, progress: Progress, features: FeatureSet, champion: str | None = None, labels: LabelFile | None = None,
) -> Trained:
    """Ticks to a signed bundle in the registry; any failure leaves the registry as it was.

    fits: children started beforehand, one per expert; one that fails costs its expert, which `metrics` and the log name.
    champion: the version to beat. labels: learned instead of the triple barrier's. Raises InputRefused (too few events, bad
    ticks or labels), and where no expert stands what the first raised: ModelRefused (`parity`), DeviceMissing, TocsinError
    (`fit_died`, `fit_failed`).
    """
    progress("features and labels", 0, 1)
    data = build(ticks, moments, features, labels)
    split = purged_split(data.event_ts, data.end_ts)
    audit(split, data.event_ts, data.end_ts)
    progress("features and labels", 1, 1)

    fitted, failed = _fit(fits, data, split, progress)

    progress("calibration and comparison", 0, 1)
    served = {f.name: Forest.from_bytes(f.served) for f in fitted}
    votes = ForestRuntime(served).votes(data.matrix)
    experts = [
        Expert(
            f.name, f.idx, "forest", f"{f.name}.npz", 1.0 / len(fitted),
            fit_calibration(votes[split.validation, i], columns(data.y[split.validation]), np.array(f.class_prior),
                            data.weight[split.validation]),
            f.parity, f.params,
        )
        for i, f in enumerate(fitted)
    ]
    probabilities, _ = Ensemble([ForestRuntime(served)], experts).blend(votes)
    margins = probabilities[split.validation, 1].astype(np.float64) - probabilities[split.validation, 2]
    buy, sell = thresholds(margins)
    metrics = _compare(data, split, probabilities, _bundle(registry, champion, features))
    metrics["failed"] = {name: f"{error.args[0]} [{error.code}]" for name, error in failed}
    golden = _golden(data, split, probabilities)
    manifest = _manifest(data, features, experts, Policy(buy, sell), moments, rules, metrics, fitted, golden)
    files = {f"{f.name}.npz": f.served for f in fitted}
    files |= {f.library_file: f.library for f in fitted if f.params["rounds"]}      # 0: one class only, no library was asked
    version = registry.publish(manifest, files, private)
    progress("calibration and comparison", 1, 1)
    against = metrics["against_champion"]
    return Trained(version, metrics["against_prior"]["better"], against["better"] if against else None, metrics)


def _fit(fits: Fits, data: Dataset, split: Split, progress: Progress) -> tuple[list[Fitted], list[Failed]]:
    rows = split.train
    sent = Rows(data.matrix[rows], data.y[rows], data.weight[rows], data.event_ts[rows], data.end_ts[rows])
    done, failed = fits.run(sent, lambda name, done, total: progress(f"fitting {name}", done, total))
    fitted = [f for f in done if f.parity <= PARITY]
    failed += [Failed(f.name, _unlike(f)) for f in done if not f.parity <= PARITY]
    for name, error in failed:
        log.error("training without %s: %s", name, error.args[0])
    if not fitted:
        raise failed[-1].error
    return fitted, failed


def _unlike(fitted: Fitted) -> ModelRefused:
    return ModelRefused(
        "parity", f"{fitted.name}: exported and library probabilities differ by {fitted.parity:.2g}",
        hint="this combination of library version and parameters can't be served; report it",
    )


def _compare(data: Dataset, split: Split, probabilities: F32, champion: Bundle | None) -> dict[str, Any]:
    """Scores on the test, and the verdicts against the prior of the training rows and against the champion."""
    test = split.test
    losses = row_losses(data.y[test], probabilities[test])
    base = np.broadcast_to(prior(data.y[split.train]), (len(test), 3))
    prior_losses = row_losses(data.y[test], base)
    against_champion = None
    if champion is not None:
        unseen = data.event_ts[test] > champion.manifest.training.end
        theirs = champion.ensemble.predict_proba(data.matrix[test])
        against_champion = asdict(compare(
            losses[unseen], row_losses(data.y[test], theirs)[unseen], data.event_ts[test][unseen]
        )) | {"champion": champion.version}
    return {
        "events": {"train": len(split.train), "validation": len(split.validation), "test": len(test)},
        "classes": {name: float(share) for name, share in zip(CLASSES, prior(data.y), strict=True)},
        "refused": data.refused,
        "dropped": data.dropped,
        "auc": _aucs(data.y[test], probabilities[test]),
        "log_loss": log_loss(data.y[test], probabilities[test]),
        "prior_log_loss": log_loss(data.y[test], base),
        "against_prior": asdict(compare(losses, prior_losses, data.event_ts[test])),
        "against_champion": against_champion,
    }


def _aucs(y: I64, p: F32) -> dict[str, float]:
    """How well the probabilities rank whether the price moves, and, where it does, which way."""
    moved = y != 0
    return {"neutral": auc(y == 0, p[:, 0]), "direction": auc(y[moved] > 0, p[moved, 1] - p[moved, 2])}


def _bundle(registry: Registry, champion: str | None, features: FeatureSet) -> Bundle | None:
    """The present champion, if it can answer the same rows."""
    if champion is None:
        return None
    try:
        bundle = load_bundle(registry, champion)
    except TocsinError:
        return None                            # a champion that can't answer isn't one; `models list` says why
    return bundle if bundle.manifest.features.fingerprint == features.fingerprint else None


def _golden(data: Dataset, split: Split, probabilities: F32) -> Golden:
    chosen = split.test[np.linspace(0, len(split.test) - 1, min(GOLDEN, len(split.test))).astype(np.int64)]
    rows = [[None if np.isnan(x) else float(x) for x in row] for row in data.matrix[chosen]]
    return Golden(rows, probabilities[chosen].astype(np.float64).tolist())


def _manifest(
    data: Dataset, features: FeatureSet, experts: list[Expert], policy: Policy, moments: Moments, rules: Instruments,
    metrics: dict[str, Any], fitted: list[Fitted], golden: Golden,
) -> Manifest:
    """Everything but `version` and `files`, which the registry fills in when it publishes."""
    libraries = {"tocsin": __version__, "numpy": np.__version__}
    for f in fitted:
        libraries |= f.versions
    return Manifest(
        FORMAT, "", clock.stamp(), list(CLASSES),
        Features(features.names, features.fingerprint), moments, rules.to_dict(), experts, policy,
        Training(int(data.event_ts[0]), int(data.end_ts.max()), data.symbols, data.ticks, len(data.y), data.digest, data.labels),
        metrics, libraries, golden, {},
    )
