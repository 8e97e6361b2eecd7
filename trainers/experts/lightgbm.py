"""LightGBM (Ke et al. 2017, NeurIPS): leaf-wise boosted trees over binned features.

The same rows, settings and number of threads give the same model: `deterministic`, `force_row_wise` and every seed are
set. One, two and four threads gave the same bits on every data set tried, but histograms are summed in as many parts as
there are threads, so a split could fall otherwise where two are equally good. On a GPU the library promises less.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.runtimes.forest.layout import Forest
from engine.types import F32

from ..export.lightgbm import export_lightgbm
from .base import Fitted, Progress, Space, Task, Trainable, plain_names
from .devices import GPU, Device, Gpus
from .parameters import FROM_0, LIMITS, SEEDS, SHARE, Limits, Span
from .rows import (
    Rows,
    remap_labels_to_contiguous,
    reorder_to_neutral_buy_sell,
    restore_labels,
    time_series_train_val_split,
)

__all__ = [
    "LightGBMExpert", "LightGBMModel", "remap_labels_to_contiguous", "reorder_to_neutral_buy_sell", "restore_labels",
    "time_series_train_val_split",
]

_GPU_MAX_BIN = 63
_ROWS_PER_LEAF_ROW = 50
_CL_DEVICE_TYPE, _CL_DEVICE_TYPE_GPU, _CL_DEVICE_TYPE_ALL = 0x1000, 1 << 2, 0xFFFFFFFF

_DESCRIPTION = re.compile(r"\ntocsin=.*")
_END = "\npandas_categorical:"
"""What the library's text ends with; the description stands on a line before it, where the library doesn't look."""


class LightGBMExpert(Trainable):
    """Gradient-boosted trees of LightGBM, softmax over the classes; see `Trainable`.

    Parameters besides the common ones: rounds (trees per class), early_stopping (rounds without gain on the last 15 %
    of rows; 0: train on all rows), num_leaves, learning_rate, min_data_in_leaf, feature_fraction, bagging_fraction
    (drawn anew each round), max_bin, path_smooth, linear_tree (Shi et al. 2019, arXiv 1802.05640; CPU only), seed.
    The lean preset's min_data_in_leaf shrinks to a fiftieth of the rows where that is less.
    """

    name: ClassVar[str] = "lightgbm"
    place: ClassVar[int] = 1
    requires: ClassVar[str] = "lightgbm"
    library_file: ClassVar[str] = "lightgbm.txt"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "lean": {
            "rounds": 30, "early_stopping": 0, "num_leaves": 16, "learning_rate": 0.05, "min_data_in_leaf": 500,
            "feature_fraction": 0.4, "bagging_fraction": 0.5, "max_bin": 63, "path_smooth": 10.0,
            "linear_tree": False, "seed": 42,
        },
        "seed": {
            "rounds": 800, "early_stopping": 50, "num_leaves": 64, "learning_rate": 0.03, "min_data_in_leaf": 50,
            "feature_fraction": 0.6, "bagging_fraction": 0.8, "max_bin": 255, "path_smooth": 10.0,
            "linear_tree": False, "seed": 42,
        },
    }
    limits: ClassVar[Limits] = LIMITS | {
        "num_leaves": Span(2, 131_072), "learning_rate": Span(0, above=True), "min_data_in_leaf": FROM_0,
        "feature_fraction": SHARE, "bagging_fraction": SHARE, "max_bin": Span(2, 65_535), "path_smooth": FROM_0, "seed": SEEDS,
    }
    search_space: ClassVar[Space] = {
        "rounds": (20, 200, "int"), "num_leaves": (8, 64, "int"), "learning_rate": (0.02, 0.2, "log"),
        "min_data_in_leaf": (20, 1000, "int"), "feature_fraction": (0.2, 1.0, "linear"),
        "bagging_fraction": (0.3, 1.0, "linear"), "max_bin": (31, 63, 127, 255), "path_smooth": (0.0, 50.0, "linear"),
    }

    def settings(self, n: int, device: Device) -> dict[str, Any]:
        settings, given = super().settings(n, device), self.get_params()
        if self.preset == "lean" and given["min_data_in_leaf"] is None:
            settings["min_data_in_leaf"] = min(settings["min_data_in_leaf"], max(1, n // _ROWS_PER_LEAF_ROW))
        if device.kind == GPU and given["max_bin"] is None:
            settings["max_bin"] = min(settings["max_bin"], _GPU_MAX_BIN)
        return settings

    def _train(self, task: Task) -> tuple[_Model, int]:
        library, settings = self.library(), dict(task.settings)
        rounds, patience = settings.pop("rounds"), settings.pop("early_stopping")
        params = settings | {
            "objective": "multiclass", "num_class": task.classes, "metric": "multi_logloss", "bagging_freq": 1,
            "num_threads": task.threads, "deterministic": True, "force_row_wise": True, "verbosity": -1,
        }
        if task.device.kind == GPU:
            platform, device = _opencl_gpus()[task.device.number]
            params |= {"device_type": "gpu", "gpu_platform_id": platform, "gpu_device_id": device}

        def dataset(rows: Rows, reference: Any = None) -> Any:
            return library.Dataset(
                rows.X, rows.y, reference=reference, weight=rows.weight,
                feature_name=plain_names(task.names) or "auto", params=params,
            )

        train = dataset(task.train)
        callbacks, valid = [], []
        if task.validation is not None:
            valid.append(dataset(task.validation, train))
            callbacks.append(library.early_stopping(patience, verbose=False))
        if task.progress is not None:
            callbacks.append(_reporting(task.progress))
        try:
            booster = library.train(params, train, rounds, valid_sets=valid, callbacks=callbacks)
        except library.basic.LightGBMError as error:
            raise self.fit_failed(error) from None
        model = _Model.of(booster.model_to_string())             # up to the best round
        return model, int(model.booster.current_iteration())

    def _answer(self, fitted: Fitted, X: F32) -> NDArray[Any]:
        return np.asarray(fitted.model.booster.predict(X, num_threads=self.cpu_threads()))

    def _export(self, fitted: Fitted) -> Forest:
        return export_lightgbm(fitted.model.text, fitted.n_features, fitted.classes)

    def _write(self, model: _Model, description: str) -> bytes:
        before, end, after = model.text.rpartition(_END)
        return f"{before}\n{description}{end}{after}".encode()

    def _read(self, data: bytes) -> _Model:
        return _Model.of(_DESCRIPTION.sub("", data.decode(), count=1))

    def _gpus(self) -> Gpus:
        if self.get_params()["linear_tree"]:
            return Gpus(0, "LightGBM's linear_tree knows only the CPU", "leave out linear_tree, or the GPU")
        return _gpus()


LightGBMModel = LightGBMExpert


class _Model(NamedTuple):
    """The library's model and its text."""

    booster: Any
    text: str

    @classmethod
    def of(cls, text: str) -> _Model:
        """What answers is always read from the text, so that saving and loading can't change a bit."""
        return cls(LightGBMExpert.library().Booster(model_str=text), text)


def _reporting(progress: Progress) -> Callable[[Any], None]:
    def report(state: Any) -> None:
        progress(state.iteration + 1, state.end_iteration)

    return report


@cache
def _gpus() -> Gpus:
    """The library's GPUs, if one fit on the first goes well."""
    install = "install the GPU's OpenCL driver: nvidia-opencl-icd, rocm-opencl-runtime or intel-opencl-icd"
    there = _opencl_gpus()
    if not there:
        return Gpus(0, "LightGBM's GPU training needs OpenCL, which shows no GPU", install)
    library = LightGBMExpert.library()
    platform, device = there[0]
    params = {"device_type": "gpu", "gpu_platform_id": platform, "gpu_device_id": device, "verbosity": -1}
    rows = np.random.default_rng(0).normal(size=(200, 2))
    try:
        library.train(params | {"objective": "binary"}, library.Dataset(rows, rows[:, 0] > 0, params=params), 1)
    except library.basic.LightGBMError as error:
        return Gpus(0, f"LightGBM's OpenCL training fails here: {error}", install)
    return Gpus(len(there))


@cache
def _opencl_gpus() -> list[tuple[int, int]]:
    """(platform, device) numbers of every GPU, as the OpenCL loader inside LightGBM's own library counts them."""
    opencl = LightGBMExpert.library().basic._LIB
    count = ctypes.c_uint(0)
    if not hasattr(opencl, "clGetPlatformIDs") or opencl.clGetPlatformIDs(0, None, ctypes.byref(count)) != 0:
        return []
    platforms = (ctypes.c_void_p * count.value)()
    opencl.clGetPlatformIDs(count, platforms, None)
    found = []
    for p, platform in enumerate(platforms):
        here, every = ctypes.c_void_p(platform), ctypes.c_ulonglong(_CL_DEVICE_TYPE_ALL)
        if opencl.clGetDeviceIDs(here, every, 0, None, ctypes.byref(count)) != 0:
            continue
        devices = (ctypes.c_void_p * count.value)()
        opencl.clGetDeviceIDs(here, every, count, devices, None)
        for d, device in enumerate(devices):
            kind = ctypes.c_ulonglong(0)
            opencl.clGetDeviceInfo(
                ctypes.c_void_p(device), _CL_DEVICE_TYPE, ctypes.sizeof(kind), ctypes.byref(kind), None
            )
            if kind.value & _CL_DEVICE_TYPE_GPU:
                found.append((p, d))
    return found
