"""A model file that somebody trained: whose it is, what it says of itself, its forest, and what its library answers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.errors import DeviceMissing, ModelRefused
from engine.runtimes.forest.layout import Forest
from engine.types import CLASSES, F32

from .export import catboost, xgboost
from .export.forest import columns_of, reading
from .export.lightgbm import export_lightgbm, sections
from .export.unrounded import unrounded
from .family import alone


class ModelFile(NamedTuple):
    """A file as it was read; nothing of it is trusted yet."""

    library: str
    """lightgbm, xgboost, catboost."""
    data: bytes
    readable: bytes
    """What its exporter reads: a .cbm as JSON, else the data."""
    suffix: str
    """What such a file is called behind the dot."""
    columns: tuple[str, ...]
    """The model's features, in its order; empty names where the file has none."""
    classes: int
    labels: tuple[int, ...]
    """Behind the class numbers, where the file says so; else empty."""

    def forest(self, classes: Sequence[int]) -> Forest:
        """Over the model's own columns. Raises as the library's exporter does."""
        return _EXPORTS[self.library](self.readable, len(self.columns), classes)

    def answer(self, X: F32, classes: Sequence[int]) -> tuple[NDArray[np.float64], str]:
        """(n, 3) probabilities as the library says them, its sums not rounded to float32, and its version.

        Asked in a process of its own, which a file that the library can't take may end. Raises DeviceMissing
        (`library_missing`), ModelRefused (`model_refused`).
        """
        try:
            heard = alone(_ask, self.library, self.data, X)
        except BrokenProcessPool:
            heard = _Heard(refused="its process ended")
        if heard.missing:
            raise DeviceMissing("library_missing", f"the model is {self.library}'s, which can't be imported: {heard.missing}",
                                hint=f"pip install 'tocsin[trees]'   (or: pip install {self.library})")
        if heard.said is None:
            raise ModelRefused("model_refused", f"{self.library} doesn't answer with this model: {heard.refused}",
                               hint="does the version of the library that saved it read it? save it again")
        out = np.zeros((len(X), len(CLASSES)))
        out[:, columns_of(classes)] = heard.said if heard.said.ndim == 2 else np.stack([1.0 - heard.said, heard.said], 1)
        return out, heard.version


def read_model(path: Path) -> ModelFile:
    """Raises ModelRefused: `model_missing`, `model_unknown` (no library's), `forest_damaged`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelRefused("model_missing", f"can't read {path}: {error.strerror}", hint="name the file of a model") from None
    if data.startswith(b"tree\n"):
        with reading("LightGBM"):
            return _read_lightgbm(data)
    if data.startswith(b"CBM1"):
        with reading("CatBoost"):
            return _read_catboost(data, catboost.as_json(data), "cbm")
    if data.startswith(b"{"):
        with reading("XGBoost or CatBoost"):
            said = xgboost.read(data)
            if "learner" in said:
                return _read_xgboost(data, said["learner"], "json" if data[1:].lstrip()[:1] == b'"' else "ubj")
            if "model_info" in said:
                return _read_catboost(data, data, "json")
    raise ModelRefused(
        "model_unknown", f"{path.name} is no model that LightGBM, XGBoost or CatBoost saved",
        hint="save it with the library: .txt of LightGBM, .json or .ubj of XGBoost, .json or .cbm of CatBoost",
    )


def _export_lightgbm(data: bytes, n_features: int, classes: Sequence[int]) -> Forest:
    with reading("LightGBM"):
        return export_lightgbm(data.decode(), n_features, classes)


_EXPORTS: dict[str, Callable[[bytes, int, Sequence[int]], Forest]] = {
    "lightgbm": _export_lightgbm, "xgboost": xgboost.export_xgboost, "catboost": catboost.export_catboost,
}


def _read_lightgbm(data: bytes) -> ModelFile:
    header, _ = sections(data.decode())
    names = header["feature_names"].split()
    if names == [f"Column_{i}" for i in range(len(names))]:
        names = [""] * len(names)
    return ModelFile("lightgbm", data, data, "txt", tuple(names), max(2, int(header["num_class"])), ())


def _read_xgboost(data: bytes, learner: dict[str, Any], suffix: str) -> ModelFile:
    shape = learner["learner_model_param"]
    names = learner.get("feature_names") or [""] * int(shape["num_feature"])
    return ModelFile("xgboost", data, data, suffix, tuple(names), max(2, int(shape["num_class"])), ())


def _read_catboost(data: bytes, readable: bytes, suffix: str) -> ModelFile:
    said = json.loads(readable)
    numeric = said["features_info"].get("float_features", [])
    names = [""] * (1 + max((one["flat_feature_index"] for one in numeric), default=-1))
    for one in numeric:
        names[one["flat_feature_index"]] = one["feature_id"]
    if all(name in ("", str(i)) for i, name in enumerate(names)):
        names = [""] * len(names)
    classes = max(2, len(said["scale_and_bias"][1]))
    labels = said["model_info"].get("class_params", {}).get("class_names", [])
    if len(labels) != classes or not {-1} <= {*labels} <= {-1, 0, 1}:
        labels = []                            # 0 and 1 may be neutral and buy, or the numbers of any two classes
    return ModelFile("catboost", data, readable, suffix, tuple(names), classes, tuple(labels))


# ---- in the child


class _Heard(NamedTuple):
    """What the library said; else what is missing, or why it refused."""

    said: NDArray[np.float64] | None = None
    version: str = ""
    missing: str = ""
    refused: str = ""


def _ask(name: str, data: bytes, X: F32) -> _Heard:
    try:
        library = import_module(name)
    except (ImportError, OSError) as error:
        return _Heard(missing=str(error))
    try:
        said = _ASKS[name](library, data, X)
    except Exception as error:                     # whatever a library raises at a file it doesn't take
        return _Heard(refused=f"{type(error).__name__}: {error}".splitlines()[0])
    return _Heard(np.asarray(said, np.float64), str(library.__version__))


def _ask_lightgbm(library: Any, data: bytes, X: F32) -> Any:
    return library.Booster(model_str=data.decode()).predict(X, num_threads=1)


def _ask_xgboost(library: Any, data: bytes, X: F32) -> Any:
    booster = library.Booster({"nthread": 1}, model_file=bytearray(data))
    learned = booster.attributes()
    best = {"scikit_learn", "best_iteration"} <= set(learned)
    rounds = int(learned["best_iteration"]) + 1 if best else booster.num_boosted_rounds()
    return unrounded(library, booster, X, rounds)


def _ask_catboost(library: Any, data: bytes, X: F32) -> Any:
    with tempfile.NamedTemporaryFile() as file:        # from memory the library reads .cbm only
        file.write(data)
        file.flush()
        model = library.CatBoost().load_model(file.name, format="json" if data.startswith(b"{") else "cbm")
    return model.predict(X, prediction_type="Probability", thread_count=1)


_ASKS: dict[str, Callable[[Any, bytes, F32], Any]] = {
    "lightgbm": _ask_lightgbm, "xgboost": _ask_xgboost, "catboost": _ask_catboost,
}
