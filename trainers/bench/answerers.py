"""Who answers for a tree expert: the library that fitted it, and others that take its model over.

Each in its quickest way from Python: one thread, no check of columns' names, float32 rows as they are.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import TocsinError
from engine.types import F32

from .folded import folded
from .machine import installed
from .six import FEATURES, SIX

Predict = Callable[[F32], NDArray[Any]]
"""(n, 64) float32 -> (n, 3) probabilities."""

WITHIN = 1e-5
"""So far from the library's probabilities another may be: some sum in float32."""


def library(name: str, path: Path, fold: bool = False) -> Predict:
    """One of the six as its library answers. fold: XGBoost's as plain gradient boosting (see `folded.py`)."""
    model = load(name, path, fold)
    if SIX[name].library == "lightgbm":
        return lambda rows: model.predict(rows, num_threads=1, validate_features=False)
    if SIX[name].library == "xgboost":
        return lambda rows: model.inplace_predict(rows, validate_features=False)
    return lambda rows: model.predict_proba(rows, thread_count=1)


def load(name: str, path: Path, fold: bool = False) -> Any:
    """The library's own object."""
    module = import_module(SIX[name].library)
    if SIX[name].library == "lightgbm":
        return module.Booster(model_file=str(path))
    if SIX[name].library == "xgboost":
        booster = module.Booster(model_file=bytearray(folded(path.read_bytes())) if fold else str(path))
        booster.set_param({"nthread": 1})
        return booster
    return module.CatBoostClassifier().load_model(str(path))


@dataclass(frozen=True)
class Other:
    """Somebody else who answers. take: (name, path) -> Predict, None where it doesn't take such a model."""

    name: str
    package: str
    modules: tuple[str, ...]
    take: Callable[[str, Path], Predict | None]
    install: str

    @property
    def version(self) -> str | None:
        """None where something of it isn't here."""
        return installed(self.package) if all(find_spec(module) for module in self.modules) else None

    def answering(self, paths: Mapping[str, Path], expected: Mapping[str, NDArray[Any]], rows: F32) -> dict[str, Predict]:
        """Those of the six it takes. Raises TocsinError `bench_peer` where it says something else than the library."""
        found = {}
        for name, path in paths.items():
            with _quiet():
                predict = self.take(name, path)
            if predict is None:
                continue
            off = float(np.abs(np.asarray(predict(rows)) - expected[name]).max())
            if not off <= WITHIN:
                raise TocsinError(
                    "bench_peer", f"{self.name} {self.version} is {off:.2g} off {SIX[name].library}'s probabilities on {name}",
                    hint="a peer that computes something else isn't timed; try the version that pyproject.toml names",
                )
            found[name] = predict
        return found


@contextmanager
def _quiet() -> Any:
    """Converters' words don't belong on stdout."""
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _lignum(name: str, path: Path) -> Predict | None:
    """CatBoost's trees only where they are symmetric, and from JSON."""
    if name == "catboost_alt":
        return None
    lignum = import_module("lignum")
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/model.json"
        if SIX[name].library == "catboost":
            load(name, path).save_model(file, format="json")
        elif SIX[name].library == "xgboost":
            Path(file).write_bytes(folded(path.read_bytes()))
        model = lignum.load(str(path) if SIX[name].library == "lightgbm" else file)
    return lambda rows: model.predict(rows, n_jobs=1)


def _daal4py(name: str, path: Path) -> Predict:
    daal4py = import_module("daal4py")
    daal4py.daalinit(1)                        # threads
    model = daal4py.mb.convert_model(load(name, path, fold=True))
    return lambda rows: np.asarray(model.predict_proba(rows))


def _onnxruntime(name: str, path: Path) -> Predict | None:
    """Its TreeEnsemble operator. CatBoost writes no ONNX of trees that aren't symmetric."""
    if name == "catboost_alt":
        return None
    if SIX[name].library == "catboost":
        return _session(_without_zipmap(load(name, path)))
    tools, shape = import_module("onnxmltools"), import_module("onnxmltools.convert.common.data_types").FloatTensorType
    model, inputs = load(name, path, fold=True), [("rows", shape([None, FEATURES]))]
    if SIX[name].library == "lightgbm":
        return _session(tools.convert_lightgbm(model, initial_types=inputs, target_opset=15, zipmap=False))
    return _session(tools.convert_xgboost(model, initial_types=inputs, target_opset=15))


def _without_zipmap(model: Any) -> Any:
    """CatBoost's ONNX with an array for an answer, not a dictionary per row."""
    onnx = import_module("onnx")
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/model.onnx"
        model.save_model(file, format="onnx")
        said = onnx.load(file)
    (zipmap,) = [node for node in said.graph.node if node.op_type == "ZipMap"]
    said.graph.node.remove(zipmap)
    del said.graph.output[:]
    said.graph.output.append(onnx.helper.make_tensor_value_info(zipmap.input[0], onnx.TensorProto.FLOAT, [None, 3]))
    return said


def _session(model: Any) -> Predict:
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given, wanted = session.get_inputs()[0].name, [session.get_outputs()[-1].name]
    return lambda rows: session.run(wanted, {given: rows})[0]


OTHERS = (
    Other("lignum", "pylignum", ("lignum",), _lignum, "pip install pylignum"),
    Other("daal4py", "scikit-learn-intelex", ("daal4py",), _daal4py, "pip install scikit-learn-intelex"),
    Other("onnxruntime", "onnxruntime", ("onnxruntime", "onnxmltools", "skl2onnx"), _onnxruntime,
          "pip install onnxruntime onnxmltools skl2onnx"),
)
