"""What the two experts of CatBoost (Prokhorenkova et al. 2018, NeurIPS) share: symmetric trees, ordered boosting's library.

The same rows, settings and number of threads give the same model; on a GPU the library promises less. It writes when,
and under which random name, a model was trained into the model: both are taken out.
"""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.runtimes.forest.layout import Forest
from engine.types import F32

from ..export.catboost import export_catboost
from .base import Fitted, Progress, Space, Task, Trainable, plain_names
from .devices import GPU, Device, Gpus, cuda_gpus
from .parameters import FROM_0, LIMITS, SEEDS, SHARE, Limits, Span
from .rows import Rows

_GPU_BORDER_COUNT = 32
_ATTRIBUTE = "tocsin"
_OF_THIS_RUN = ("train_finish_time", "model_guid", "output_options", "training")
"""What the library keeps in a model of the run that made it."""


class CatBoostBase(Trainable):
    """Symmetric trees of CatBoost; an expert's own file says which."""

    requires = "catboost"
    limits: ClassVar[Limits] = LIMITS | {
        "depth": Span(1, 16), "learning_rate": Span(0, above=True), "l2_leaf_reg": FROM_0, "random_strength": FROM_0,
        "border_count": Span(1, 65_535), "rsm": SHARE, "subsample": SHARE, "random_seed": SEEDS,
        "bootstrap_type": ("Bayesian", "Bernoulli", "MVS", "No", "Poisson"),
    }
    cost: ClassVar[float] = 1.5
    search_space: ClassVar[Space] = {
        "rounds": (30, 300, "int"), "depth": (4, 10, "int"), "learning_rate": (0.03, 0.3, "log"),
        "l2_leaf_reg": (1.0, 20.0, "log"), "random_strength": (0.5, 3.0, "log"), "border_count": (32, 64, 128, 254),
        "rsm": (0.2, 1.0, "linear"),
    }

    def settings(self, n: int, device: Device) -> dict[str, Any]:
        settings, given = super().settings(n, device), self.get_params()
        if device.kind == GPU and given["border_count"] is None:
            settings["border_count"] = min(settings["border_count"], _GPU_BORDER_COUNT)
        return settings

    def _train(self, task: Task) -> tuple[Model, int]:
        library, settings = self.library(), dict(task.settings)
        rounds, patience = settings.pop("rounds"), settings.pop("early_stopping")
        params = settings | {
            "loss_function": "MultiClass", "iterations": rounds, "thread_count": task.threads, "logging_level": "Silent",
            "allow_writing_files": False,
        }
        if settings["bootstrap_type"] == "Bayesian":       # weighs every row, draws none
            params.pop("subsample")
        reporting = None
        if task.device.kind == GPU:
            params |= {"task_type": "GPU", "devices": str(task.device.number)}
            params.pop("rsm")                              # the library can't on a GPU
        elif task.progress is not None:                    # nor call back
            reporting = _Reporting(task.progress, rounds)
        if task.validation is not None:
            params |= {"od_type": "Iter", "od_wait": patience, "use_best_model": True}
        model = library.CatBoost(params)
        try:
            train = _pool(library, task.train, task.names)
            validation = None if task.validation is None else _pool(library, task.validation, task.names)
            model.fit(train, eval_set=validation, callbacks=[reporting] if reporting else None)
        except library.CatBoostError as error:
            raise self.fit_failed(error) from None
        if reporting is not None and reporting.failure is not None:
            raise reporting.failure
        metadata = model.get_metadata()
        for entry in _OF_THIS_RUN:
            if entry in metadata.keys():                   # noqa: SIM118 - the library's mapping knows no `in`
                del metadata[entry]
        model = Model.of(_file(model))
        return model, int(model.booster.tree_count_)

    def _answer(self, fitted: Fitted, X: F32) -> NDArray[Any]:
        return np.asarray(fitted.model.booster.predict(
            X, prediction_type="Probability", thread_count=self.cpu_threads()
        ))

    def _export(self, fitted: Fitted) -> Forest:
        return export_catboost(_file(fitted.model.booster, "json"), fitted.n_features, fitted.classes)

    def _write(self, model: Model, description: str) -> bytes:
        copy = Model.of(model.raw).booster                 # the model itself may be answering
        copy.get_metadata()[_ATTRIBUTE] = description
        return _file(copy)

    def _read(self, data: bytes) -> Model:
        booster = Model.of(data).booster
        del booster.get_metadata()[_ATTRIBUTE]
        return Model(booster, _file(booster))

    def _gpus(self) -> Gpus:
        self.library()

        driver = cuda_gpus()
        if not driver.usable:                              # the library would complain on its own
            return driver
        there = importlib.import_module("catboost.utils").get_gpu_device_count()
        return Gpus(there, "CatBoost finds no GPU, though the CUDA driver does", "install a newer NVIDIA driver")


class Model(NamedTuple):
    """The library's model and its .cbm."""

    booster: Any
    raw: bytes

    @classmethod
    def of(cls, raw: bytes) -> Model:
        """What answers is always read from the bytes, so that saving and loading can't change a bit."""
        return cls(CatBoostBase.library().CatBoost().load_model(blob=raw), raw)


class _Reporting:
    """Tells the progress; what that raises ends the fit and is kept, for the library would lose it."""

    def __init__(self, progress: Progress, rounds: int) -> None:
        self._progress, self._rounds = progress, rounds
        self.failure: BaseException | None = None

    def after_iteration(self, info: Any) -> bool:
        try:
            self._progress(info.iteration, self._rounds)
        except BaseException as failure:
            self.failure = failure
        return self.failure is None


def _pool(library: Any, rows: Rows, names: tuple[str, ...] | None) -> Any:
    return library.Pool(rows.X, rows.y, weight=rows.weight, feature_names=plain_names(names))


def _file(model: Any, kind: str = "cbm") -> bytes:
    """The model as the library writes it, in one of its formats; it knows only files."""
    with tempfile.TemporaryDirectory(prefix="tocsin-") as folder:
        path = Path(folder) / "model"
        model.save_model(str(path), format=kind)
        return path.read_bytes()
