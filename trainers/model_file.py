"""A model file that somebody trained: whose it is, what it says of itself, its forest, and what its library answers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.errors import DeviceMissing, ModelRefused
from engine.runtimes.forest.layout import MAX_FEATURES, Forest
from engine.types import CLASSES, F32

from .export import catboost, lightgbm, xgboost
from .export.forest import columns_of, reading, unsupported
from .export.unrounded import unrounded
from .family import ChildEnded, alone


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
    """How many it tells apart: two or three."""
    named: tuple[str, ...] = ()
    """What the file calls its classes, in their order; empty where it only numbers them."""

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
        except ChildEnded:
            heard = _Heard(refused="its process ended")
        if heard.missing:
            raise DeviceMissing("library_missing", f"the model is {self.library}'s, which can't be imported: {heard.missing}",
                                hint=f"pip install 'tocsin[trees]'   (or: pip install {self.library})")
        if heard.said is None or heard.said.shape != (len(X), len(classes)):
            what = heard.refused if heard.said is None else f"an answer of shape {heard.said.shape} for {len(classes)} classes"
            raise ModelRefused("model_refused", f"{self.library} doesn't answer with this model: {what}",
                               hint="does the version of the library that saved it read it? save it again")
        out = np.zeros((len(X), len(CLASSES)))
        out[:, columns_of(classes)] = heard.said
        return out, heard.version


def read_model(path: Path) -> ModelFile:
    """What is no model of sides is refused here, before anybody is asked what its columns and classes mean.

    Raises ModelRefused: `model_missing`, `model_unknown` (no library's), `forest_damaged`, `forest_unsupported`;
    DeviceMissing (`library_missing`) for a .cbm.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelRefused("model_missing", f"can't read {path}: {error.strerror}", hint="name the file of a model") from None
    model = _read(path.name, data)
    if model.classes not in (2, len(CLASSES)):
        raise unsupported(f"{model.classes} classes", "train on sell, neutral and buy, or on two of them")
    return model


def _read(name: str, data: bytes) -> ModelFile:
    if data.startswith((b"tree\n", b"tree\r\n")):
        with reading("LightGBM"):
            return _read_lightgbm(data.replace(b"\r\n", b"\n"))     # the library counts bytes, and ends where they don't fit
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
        "model_unknown", f"{name} is no model that LightGBM, XGBoost or CatBoost saved",
        hint="save it with the library: .txt of LightGBM, .json or .ubj of XGBoost, .json or .cbm of CatBoost",
    )


def _export_lightgbm(data: bytes, n_features: int, classes: Sequence[int]) -> Forest:
    return lightgbm.export_lightgbm(data.decode(), n_features, classes)


_EXPORTS: dict[str, Callable[[bytes, int, Sequence[int]], Forest]] = {
    "lightgbm": _export_lightgbm, "xgboost": xgboost.export_xgboost, "catboost": catboost.export_catboost,
}


def _read_lightgbm(data: bytes) -> ModelFile:
    header, _ = lightgbm.sections(data.decode())
    classes = lightgbm.told_apart(header)
    names = header["feature_names"].split()
    if names == [f"Column_{i}" for i in range(len(names))]:
        names = _unnamed(len(names))
    return ModelFile("lightgbm", data, data, "txt", tuple(names), classes)


def _read_xgboost(data: bytes, learner: dict[str, Any], suffix: str) -> ModelFile:
    classes = xgboost.told_apart(learner)
    names = learner.get("feature_names") or _unnamed(int(learner["learner_model_param"]["num_feature"]))
    return ModelFile("xgboost", data, data, suffix, tuple(map(str, names)), classes)


def _read_catboost(data: bytes, readable: bytes, suffix: str) -> ModelFile:
    said = json.loads(readable)
    classes, features = catboost.told_apart(said), catboost.numeric(said)
    names = _unnamed(1 + max((one["flat_feature_index"] for one in features), default=-1))
    for one in features:
        names[one["flat_feature_index"]] = one["feature_id"]
    if all(name in ("", str(i)) for i, name in enumerate(names)):
        names = _unnamed(len(names))
    return ModelFile("catboost", data, readable, suffix, tuple(map(str, names)), classes, catboost.class_names(said))


def _unnamed(columns: int) -> list[str]:
    if columns > MAX_FEATURES:
        raise unsupported(f"{columns} columns", f"train on {MAX_FEATURES} at most")
    return [""] * columns


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
    said = np.asarray(said, np.float64)
    return _Heard(said if said.ndim == 2 else np.stack([1.0 - said, said], 1), str(library.__version__))


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
    said = model.predict(X, prediction_type="Probability", thread_count=1)
    about = model.get_metadata()
    met = catboost.class_numbers({key: about[key] for key in about.keys()})      # noqa: SIM118 - a mapping that isn't iterable
    return said[:, met] if met else said                       # a class that was only named has a column too


_ASKS: dict[str, Callable[[Any, bytes, F32], Any]] = {
    "lightgbm": _ask_lightgbm, "xgboost": _ask_xgboost, "catboost": _ask_catboost,
}
