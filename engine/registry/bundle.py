"""A bundle ready to answer: verified, its experts built from their files, its golden rows replayed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from ..errors import ModelRefused
from ..instruments import Instruments
from ..manifest import KINDS, Manifest
from ..runtimes.base import Runtime
from ..runtimes.ensemble import Ensemble
from ..runtimes.forest.layout import Forest
from ..runtimes.forest.runtime import ForestRuntime
from ..types import CLASSES
from .store import Registry

TOLERANCE = 1e-6
"""Largest difference between a golden probability and its replay."""


class Bundle(NamedTuple):
    """What the engine answers with. It never changes."""

    version: str
    digest: str
    """sha256 of manifest.json, as an `activate` record names it."""
    manifest: Manifest
    ensemble: Ensemble


def load_bundle(registry: Registry, name: str, digest: str | None = None) -> Bundle:
    """Verify a version (or alias), build its ensemble, replay its golden rows.

    digest: the sha256 of manifest.json that an `activate` record promised. Raises ModelRefused as `Registry.read`
    does, and `other_bundle` (this number holds another bundle than the one activated), `runtime_unknown`, `format`,
    `golden` (an expert here answers otherwise than where it was trained).
    """
    contents = registry.read(name)
    manifest = contents.manifest
    if digest is not None and digest != contents.digest:
        raise ModelRefused(
            "other_bundle", f"bundle {manifest.version} of {registry.folder} isn't the one that was activated",
            hint="point `[registry] path` at the registry, or a full copy of it, from which it was activated",
        )
    ensemble = Ensemble(_runtimes(manifest, contents.files), manifest.experts, manifest=manifest)
    _replay_golden(manifest, ensemble)
    return Bundle(manifest.version, contents.digest, manifest, ensemble)


def _forests(files: dict[str, bytes]) -> Runtime:
    return ForestRuntime({name: Forest.from_bytes(content) for name, content in files.items()})


_BUILDERS: dict[str, Callable[[dict[str, bytes]], Runtime]] = {"forest": _forests}
"""By the manifest's `runtime`: from {expert: content of its file} to the one that answers for them all."""


def _runtimes(manifest: Manifest, files: dict[str, bytes]) -> list[Runtime]:
    wanted: dict[str, dict[str, bytes]] = {}
    for expert in manifest.experts:
        wanted.setdefault(expert.runtime, {})[expert.name] = files[expert.file]
    for runtime, experts in wanted.items():
        if runtime not in _BUILDERS:
            raise ModelRefused(
                "runtime_unknown",
                f"bundle {manifest.version}: this engine has no runtime {runtime!r} for {', '.join(experts)}",
                hint=f"it has {', '.join(_BUILDERS)}: upgrade the engine, or train without these experts",
            )
    return [_BUILDERS[runtime](experts) for runtime, experts in wanted.items()]


def _replay_golden(manifest: Manifest, ensemble: Ensemble) -> None:
    golden, width = manifest.golden, len(manifest.features.names)
    if (
        manifest.classes != list(CLASSES)
        or len(golden.rows) != len(golden.probabilities)
        or any(len(row) != width for row in golden.rows)
    ):
        raise ModelRefused(
            "format", f"bundle {manifest.version}: classes, features and golden rows don't fit together",
            hint="train again; a bundle like this is the trainer's error",
        )
    if not golden.rows:
        raise ModelRefused(
            "golden", f"bundle {manifest.version} has no golden rows to replay", hint="train again with this trainer"
        )
    rows = np.array([[np.nan if x is None else x for x in row] for row in golden.rows], np.float32)
    difference = np.abs(ensemble.predict_proba(rows) - np.array(golden.probabilities)).max()
    if not difference <= TOLERANCE:  # also for NaN
        raise ModelRefused(
            "golden",
            f"bundle {manifest.version}: its golden rows give other probabilities here, by up to {difference:.2g}",
            hint="engine and trainer must be of matching versions; train again with this one",
        )


def difference(before: list[str], after: list[str]) -> str:
    """How two sets of columns differ, in words."""
    gone, new = [name for name in before if name not in after], [name for name in after if name not in before]
    said = [f"{what} {', '.join(names)}" for what, names in (("without", gone), ("with", new)) if names]
    return " and ".join(said) or "the same columns, of other formulas, in another order or by another release"


def check_features(manifest: Manifest, names: list[str], fingerprint: str) -> None:
    """Whether this engine computes what the bundle was trained on, and asks when it wants to be asked.

    names, fingerprint: of the engine's own features. Raises ModelRefused `features_differ`, `moments_unknown`.
    """
    if manifest.moments.kind not in KINDS:
        raise ModelRefused(
            "moments_unknown", f"bundle {manifest.version} is asked at {manifest.moments.kind!r}, which this engine can't do",
            hint=f"it knows {', '.join(KINDS)}: upgrade the engine",
        )
    trained = manifest.features.fingerprint
    if trained != fingerprint:
        raise ModelRefused(
            "features_differ",
            f"bundle {manifest.version} was trained on features {trained}, this engine computes {fingerprint}: "
            + difference(manifest.features.names, names),
            hint="have [features] say what it said in training, run the version that trained it, or train again",
        )


def check_instruments(manifest: Manifest, rules: Instruments) -> None:
    """Whether prices are counted as in training. Raises ModelRefused `instruments_differ`."""
    difference = _first_difference(manifest.instruments, rules)
    if difference:
        raise ModelRefused(
            "instruments_differ", f"bundle {manifest.version} counts prices otherwise than this log: {difference}",
            hint="train again under the present rules, or change them: tocsin settings set instruments=file",
        )


def _first_difference(trained: dict[str, object], instruments: Instruments) -> str:
    """In words, or empty. The order of the rules counts: the first that matches a symbol is its rule."""
    then, now = Instruments.from_dict(trained).counting(), instruments.counting()
    for theirs, mine in zip_longest(then["rules"].items(), now["rules"].items()):
        if theirs != mine:
            return f"{_rule(theirs)} in training, {_rule(mine)} here"
    if then != now:
        return f"closed = {then['closed']} in training, {now['closed']} here"
    return ""


def _rule(rule: tuple[str, object] | None) -> str:
    return "no such rule" if rule is None else f"{rule[0]!r} = {rule[1]}"
