"""The six tree experts that are measured: fitted by their libraries on made rows, one thread each, as files and as forests.

As large as experts of a long training get: 500 rounds of three classes; a random forest of 200 deep trees per class.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.errors import DeviceMissing
from engine.runtimes.forest.layout import Forest
from engine.types import CLASSES, F32, I64

from ..experts.devices import cpu_budget
from ..export.catboost import export_catboost
from ..export.lightgbm import export_lightgbm
from ..export.xgboost import export_xgboost
from ..family import alone
from .rounds import Tell

FEATURES = 64
HOLES = 0.02
"""Of the values, as columns that wait for their first bars have."""

LABELS = (0, 1, -1)
"""Behind the class numbers of all six, so that a library's columns are ours."""


class Kind(NamedTuple):
    """What one of the six is. parameters: of the library's own trainer. rows: it is fitted on."""

    library: str
    file: str
    parameters: Mapping[str, Any]
    rounds: int
    rows: int = 12_000
    parallel: int = 1
    """Trees per class and round."""


_XGBOOST = {"objective": "multi:softprob", "num_class": len(CLASSES), "tree_method": "hist", "nthread": 1}
_CATBOOST = {
    "loss_function": "MultiClass", "learning_rate": 0.08, "depth": 6, "thread_count": 1, "verbose": 0,
    "allow_writing_files": False,
}

SIX: Mapping[str, Kind] = {
    "lightgbm": Kind("lightgbm", "lightgbm.txt", {
        "objective": "multiclass", "num_class": len(CLASSES), "num_leaves": 31, "learning_rate": 0.05, "num_threads": 1,
        "verbose": -1,
    }, 500),
    "xgboost": Kind("xgboost", "xgboost.ubj", {**_XGBOOST, "max_depth": 6, "eta": 0.05}, 500),
    "xgboost_rf": Kind("xgboost", "xgboost_rf.ubj", {
        **_XGBOOST, "max_depth": 10, "eta": 1.0, "subsample": 0.8, "colsample_bynode": 0.5,
    }, 1, parallel=200),
    # Few rows: the library predicts all dropped trees anew in every round.
    "xgboost_dart": Kind("xgboost", "xgboost_dart.ubj", {
        **_XGBOOST, "booster": "dart", "max_depth": 6, "eta": 0.1, "rate_drop": 0.05, "skip_drop": 0.5,
    }, 500, rows=2000),
    "catboost": Kind("catboost", "catboost.cbm", {**_CATBOOST, "grow_policy": "SymmetricTree"}, 500),
    "catboost_alt": Kind("catboost", "catboost_alt.cbm", {**_CATBOOST, "grow_policy": "Depthwise"}, 500),
}

LIBRARIES = tuple(dict.fromkeys(kind.library for kind in SIX.values()))


def made(n: int, seed: int) -> tuple[F32, I64]:
    """(n, 64) rows of which no two are equal, and their classes, which a tenth of the columns decide, with noise."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, FEATURES)).astype(np.float32)
    score = X[:, :8] @ np.linspace(1.0, 0.3, 8) + X[:, 8] * X[:, 9] + 1.5 * np.sin(2.0 * X[:, 10]) + 1.5 * rng.logistic(size=n)
    X[rng.random(X.shape) < HOLES] = np.nan
    return X, np.digitize(score, [-1.0, 1.0]).astype(np.int64)


def scaled(kind: Kind, share: float) -> Kind:
    """With so large a share of the trees, on at least 1,000 rows."""
    return kind._replace(
        rounds=max(1, round(kind.rounds * share)), parallel=max(1, round(kind.parallel * share)),
        rows=max(1000, round(kind.rows * share)),
    )


def fit_all(folder: Path, share: float, tell: Tell) -> dict[str, Path]:
    """Each in a process of its own, as many at once as there are cores. Raises DeviceMissing (`library_missing`)."""
    missing = [library for library in LIBRARIES if find_spec(library) is None]
    if missing:
        raise DeviceMissing("library_missing", f"the experts are held against {', '.join(missing)}, not installed here",
                            hint="pip install 'tocsin[trees]'")
    tell(f"fitting {', '.join(SIX)}")
    longest_first = ("xgboost_dart", "xgboost_rf", "catboost_alt", "xgboost", "catboost", "lightgbm")
    paths = {name: folder / kind.file for name, kind in SIX.items()}

    def fit_one(name: str) -> None:
        alone(fit, scaled(SIX[name], share), str(paths[name]))
        tell(f"{name} is fitted")

    with ThreadPoolExecutor(cpu_budget()) as pool:
        list(pool.map(fit_one, longest_first))
    return paths


def fit(kind: Kind, path: str) -> None:
    """Write the model's file."""
    os.environ["OMP_NUM_THREADS"] = "1"        # before the library counts the cores
    library = import_module(kind.library)
    X, y = made(kind.rows, seed=0)
    if kind.library == "lightgbm":
        library.train(dict(kind.parameters), library.Dataset(X, y), kind.rounds).save_model(path)
    elif kind.library == "xgboost":
        parameters = {**kind.parameters, "num_parallel_tree": kind.parallel}
        library.train(parameters, library.DMatrix(X, y, nthread=1), kind.rounds).save_model(path)
    else:
        library.CatBoostClassifier(**kind.parameters, iterations=kind.rounds).fit(X, y).save_model(path)


def forest(name: str, path: Path) -> Forest:
    """As it is served."""
    data = path.read_bytes()
    if SIX[name].library == "lightgbm":
        return export_lightgbm(data.decode(), FEATURES, LABELS)
    export = export_xgboost if SIX[name].library == "xgboost" else export_catboost
    return export(data, FEATURES, LABELS)
