"""A user's own model file → a signed bundle whose votes are the library's."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine import __version__, clock
from engine.errors import ModelRefused, UsageError
from engine.features import FeatureSet
from engine.instruments import Instruments
from engine.manifest import FORMAT, Calibration, Expert, Features, Golden, Manifest, Moments, Policy, Training
from engine.registry.bundle import load_bundle
from engine.registry.store import Registry
from engine.runtimes.ensemble import Ensemble
from engine.runtimes.forest.layout import Forest
from engine.runtimes.forest.runtime import ForestRuntime
from engine.types import CLASSES, F32, TickBatch

from .dataset import Dataset, build
from .export.forest import parity
from .export.probe import probing_rows
from .fit import PARITY
from .model_file import ModelFile, read_model
from .pipeline import GOLDEN
from .thresholds import thresholds

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PROBES = 2000
"""Rows on which forest and library must agree."""

LABELS = (-1, 0, 1)
"""Behind the numbers of three classes without names."""

SIDES = {"sell": -1, "neutral": 0, "buy": 1}

_SAID = SIDES | {repr(float(label)): label for label in LABELS}


class Imported(NamedTuple):
    """A published bundle."""

    version: str
    library: str
    parity: float
    policy: Policy
    columns: tuple[str, ...]
    classes: tuple[int, ...]


def import_model(
    path: Path, names: Sequence[str], classes: Sequence[int], features: FeatureSet, moments: Moments, policy: Policy,
    ticks: TickBatch | None, rules: Instruments, registry: Registry, private: Ed25519PrivateKey,
) -> Imported:
    """Publish a model file as a bundle; any failure leaves the registry as it was.

    names: of the model's columns, in its order, out of the engine's; empty: as the file says. classes: labels behind the
    model's class numbers; empty: as the file names them, else -1, 0, 1. ticks: the policy's thresholds are learned at their
    moments, instead of the policy's own. Raises UsageError (`import_features`, `import_classes`), ModelRefused as
    `read_model` and the exporters do, and `parity`; DeviceMissing (`library_missing`); InputRefused as `build` does.
    """
    model = read_model(path)
    names = chosen_columns(model, names, features)
    classes = chosen_classes(model, classes)
    forest = over_engine_columns(model.forest(classes), names, features)
    probes = probing_rows(forest, PROBES)
    said, version = model.answer(probes[:, [features.names.index(name) for name in names]], classes)
    difference = parity(forest, said, probes)
    if not difference <= PARITY:
        raise ModelRefused(
            "parity", f"the forest and {model.library} {version} differ by {difference:.2g}, {PARITY:g} is allowed",
            hint="this combination of library version and model can't be served; report it",
        )
    expert = Expert(
        model.library, 1, "forest", f"{model.library}.npz", 1.0,
        Calibration([1.0] * len(CLASSES), np.eye(len(CLASSES)).tolist(), [0.0] * len(CLASSES)), difference,
        {"file": path.name, "classes": list(classes), "features": list(names)},
    )
    ensemble = Ensemble([ForestRuntime({model.library: forest})], [expert])
    training = Training(0, 0, [], 0, 0, hashlib.sha256().hexdigest())
    learned = "given"
    if ticks is not None:
        data = build(ticks, moments, features)
        policy, training, learned = _policy(data, ensemble), _seen(data), f"of {len(data.y)} moments"
    manifest = Manifest(
        FORMAT, "", clock.stamp(), list(CLASSES), Features(features.names, features.fingerprint), moments, rules.to_dict(),
        [expert], policy, training,
        {"imported": {"file": path.name, "parity": difference, "rows": PROBES, "thresholds": learned}},
        {"tocsin": __version__, "numpy": np.__version__, model.library: version}, _golden(ensemble, probes), {},
    )
    files = {expert.file: forest.to_bytes(), f"{model.library}.{model.suffix}": model.data}
    published = registry.publish(manifest, files, private)
    load_bundle(registry, published)
    return Imported(published, model.library, difference, policy, tuple(names), tuple(classes))


def chosen_columns(model: ModelFile, names: Sequence[str], features: FeatureSet) -> Sequence[str]:
    """The engine's column behind each of the model's. Raises UsageError `import_features`.

    A column that the file calls as the engine calls one is that one: no row could tell if it were fed another.
    """
    if not names and not all(model.columns):
        raise UsageError("import_features", f"the file doesn't name the {len(model.columns)} columns of its model",
                         hint="--features a,b,c or a file of names, in the order of the model's columns")
    names = names or model.columns
    _once("import_features", names)
    for name in names:
        if name not in features.names:
            near = difflib.get_close_matches(name, features.names, 1)
            raise UsageError("import_features", f"the engine computes no column {name!r}",
                             hint=f"did you mean {near[0]}?" if near else "`tocsin features list` names them")
    if len(names) != len(model.columns):
        raise UsageError("import_features", f"{len(names)} names for the {len(model.columns)} columns of the model",
                         hint="one name per column of the model, in its order")
    for place, (name, said) in enumerate(zip(names, model.columns, strict=True), 1):
        if said in features.names and name != said:
            raise UsageError("import_features", f"the file calls its column {place} {said}, and --features {name}",
                             hint=f"name {said} in place {place}; if the file's isn't the engine's, save it without names")
    return names


def over_engine_columns(forest: Forest, names: Sequence[str], features: FeatureSet) -> Forest:
    """The same forest, asked over the engine's whole rows."""
    place = np.array([features.names.index(name) for name in names], np.int32)
    return replace(
        forest, n_features=len(features.names), feature=place[forest.feature], slope_feature=place[forest.slope_feature]
    )


def chosen_classes(model: ModelFile, given: Sequence[int]) -> Sequence[int]:
    """The label behind each of the model's classes, in their order. Raises UsageError `import_classes`."""
    said = labels_of(model.named)
    called = f"the file calls its classes {', '.join(model.named)}"
    if given and said and tuple(given) != said:
        raise UsageError("import_classes", f"{called}, and --classes {_sides(given)}",
                         hint=f"leave --classes away: in the file's order they are {_sides(said)}")
    example = _sides((-1, 1) if model.classes == 2 else LABELS)
    if not given and not said and (model.named or model.classes != len(LABELS)):
        what = called if model.named else f"the model tells {model.classes} classes apart by number"
        raise UsageError("import_classes", f"{what}: which sides are they?", hint=f"name them in this order: --classes {example}")
    chosen = given or said or LABELS
    _once("import_classes", _sides(chosen).split(","))
    if len(chosen) != model.classes:
        raise UsageError("import_classes", f"{len(chosen)} sides for the {model.classes} classes of the model",
                         hint=f"one for each class of the model, in its order: --classes {example}")
    return chosen


def labels_of(named: Sequence[str]) -> tuple[int, ...]:
    """The labels behind names that say them, sell, neutral, buy in any case, or -1, 0, 1 in any writing; else empty.

    0 and 1 alone say nothing: they may be the numbers of any two classes.
    """
    words = [_word(name) for name in named]
    if not {*words} <= {*_SAID} or {*words} <= {"0.0", "1.0"}:
        return ()
    labels = tuple(_SAID[word] for word in words)
    return labels if len({*labels}) == len(labels) else ()


def _word(name: str) -> str:
    word = name.strip().lower()
    with suppress(ValueError):
        return repr(float(word) + 0.0)             # -0 is 0
    return word


def _sides(labels: Sequence[int]) -> str:
    return ",".join(CLASSES[label % len(CLASSES)] for label in labels)


def _once(code: str, names: Sequence[str]) -> None:
    """Raises UsageError with that code where something is named twice."""
    for place, name in enumerate(names):
        if name in names[:place]:
            raise UsageError(code, f"{name} is named twice", hint="one name for each of the model's, in its order")


def _policy(data: Dataset, ensemble: Ensemble) -> Policy:
    p = ensemble.predict_proba(data.matrix).astype(np.float64)
    buy, sell = thresholds(p[:, 1] - p[:, 2])
    return Policy(buy, sell)


def _seen(data: Dataset) -> Training:
    """The ticks that set the thresholds, so that nobody takes them for unseen."""
    return Training(int(data.event_ts[0]), int(data.end_ts.max()), data.symbols, data.ticks, len(data.y), data.digest)


def _golden(ensemble: Ensemble, probes: F32) -> Golden:
    rows = probes[:GOLDEN]
    held = [[None if np.isnan(x) else float(x) for x in row] for row in rows]
    return Golden(held, ensemble.predict_proba(rows).astype(np.float64).tolist())
