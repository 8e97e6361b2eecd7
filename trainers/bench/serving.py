"""Processes that serve the six: a bundle of forests as the engine loads it, the libraries with their files, a bare Python."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from engine import __version__, clock
from engine.features import FeatureSet
from engine.instruments import Instruments
from engine.manifest import FORMAT, Calibration, Expert, Features, Golden, Manifest, Moments, Policy, Training
from engine.registry import signing
from engine.registry.store import Registry
from engine.runtimes.ensemble import Ensemble
from engine.runtimes.forest.layout import Forest
from engine.runtimes.forest.runtime import ForestRuntime
from engine.types import CLASSES, F32

from .machine import resident_mb
from .processes import Child
from .rounds import Contestant
from .six import FEATURES, SIX

_GOLDEN = 64


def _files(library: str) -> list[str]:
    return [kind.file for kind in SIX.values() if kind.library == library]


_READY = """
print("ready:", file=sys.stderr, flush=True)
sys.stdin.read()
"""
_OURS = """
import sys, numpy
from engine.registry.store import Registry
ensemble = Registry(sys.argv[1], sys.argv[2]).load(sys.argv[3])
ensemble.predict_proba(numpy.zeros((1, len(ensemble.manifest.features.names)), numpy.float32))
""" + _READY
_LIBRARIES = f"""
import os, sys
os.chdir(sys.argv[1])
import numpy, lightgbm, xgboost, catboost
rows = numpy.zeros((1, {FEATURES}), numpy.float32)
lights = [lightgbm.Booster(model_file=name) for name in {_files("lightgbm")}]
for light in lights:
    light.predict(rows, num_threads=1)
boosters = [xgboost.Booster(model_file=name) for name in {_files("xgboost")}]
for booster in boosters:
    booster.inplace_predict(rows)
models = [catboost.CatBoostClassifier().load_model(name) for name in {_files("catboost")}]
for model in models:
    model.predict_proba(rows, thread_count=1)
""" + _READY
_BARE = "import sys, numpy" + _READY


class Processes:
    """Of three kinds: `ours`, `libraries`, `bare`."""

    def __init__(self, folder: Path, forests: Mapping[str, Forest], rows: F32, cores: frozenset[int]) -> None:
        """folder: with the libraries' model files; a registry is made there."""
        self._folder, self._cores = folder, cores
        version = _publish(folder, forests, rows)
        self._argv = {
            "ours": (_OURS, str(folder / "registry"), str(folder / "keys/public.pem"), version),
            "libraries": (_LIBRARIES, str(folder)),
            "bare": (_BARE,),
        }

    def start(self, which: str) -> Contestant:
        """Seconds from exec to the first answer; our kernels are in their cache from the round that doesn't count."""
        def once() -> float:
            with self._child(which) as child:
                return child.ready() - child.started

        return once

    def memory(self, which: str) -> Contestant:
        """MB resident after the first answer."""
        def once() -> float:
            with self._child(which) as child:
                child.ready()
                return resident_mb(child.process.pid)

        return once

    def _child(self, which: str) -> Child:
        return Child(f"a process of {which}", [sys.executable, "-c", *self._argv[which]], self._folder, self._cores)


def _publish(folder: Path, forests: Mapping[str, Forest], rows: F32) -> str:
    """A signed bundle of all forests; its version."""
    signing.generate(folder / "keys")
    features = FeatureSet.default()
    same = Calibration([1.0] * len(CLASSES), np.eye(len(CLASSES)).tolist(), [0.0] * len(CLASSES))
    experts = [
        Expert(name, idx, "forest", f"{name}.npz", 1.0, same, 0.0, {}) for idx, name in enumerate(forests, 1)
    ]
    ensemble = Ensemble([ForestRuntime(forests)], experts)
    golden = rows[:_GOLDEN]
    manifest = Manifest(
        FORMAT, "", clock.stamp(), list(CLASSES), Features(features.names, features.fingerprint), Moments(),
        Instruments().to_dict(), experts, Policy(0.1, -0.1), Training(0, 0, [], 0, 0, hashlib.sha256().hexdigest()), {},
        {"tocsin": __version__}, Golden(
            [[None if np.isnan(x) else float(x) for x in row] for row in golden],
            ensemble.predict_proba(golden).astype(np.float64).tolist(),
        ), {},
    )
    registry = Registry(folder / "registry", folder / "keys/public.pem")
    files = {expert.file: forests[expert.name].to_bytes() for expert in experts}
    return registry.publish(manifest, files, signing.load_private(folder / "keys/private.pem"))
