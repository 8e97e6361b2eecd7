"""What the three experts of XGBoost (Chen & Guestrin 2016, arXiv 1603.02754) share: histograms, softmax, one booster.

The same rows, settings and number of threads give the same model. Gradients are summed in as many parts as there are
threads, so another number of threads may split otherwise where two splits are equally good. On a GPU the library
promises less.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.runtimes.forest.layout import Forest
from engine.types import F32, F64

from ..export.unrounded import unrounded
from ..export.xgboost import export_xgboost
from .base import Fitted, Progress, Space, Task, Trainable, plain_names
from .devices import CPU, GPU, Device, Gpus, cuda_gpus, left_for_cpu
from .parameters import FROM_0, LIMITS, SEEDS, SHARE, Limits, Span
from .rows import Rows

ROWS_FOR_WHOLE_WEIGHT = 25_000
"""With fewer rows the lean presets ask for less in a leaf."""

BOOST_LIMITS: Limits = LIMITS | {
    "max_depth": FROM_0, "learning_rate": Span(0, above=True), "subsample": SHARE, "colsample_bytree": SHARE,
    "min_child_weight": FROM_0, "max_bin": Span(2, 65_535), "seed": SEEDS,
}

TREE_SPACE: Space = {
    "max_depth": (3, 8, "int"), "learning_rate": (0.03, 0.3, "log"), "subsample": (0.3, 1.0, "linear"),
    "colsample_bytree": (0.2, 1.0, "linear"), "min_child_weight": (1.0, 200.0, "log"), "max_bin": (32, 64, 128, 256),
}

_ATTRIBUTE = "tocsin"
_INSTALL = "pip install xgboost   (in the place of xgboost-cpu), and the NVIDIA driver"


class XGBoostBase(Trainable):
    """Boosted trees of XGBoost; an expert's own file says which, and may say how they are grown (`_grow`)."""

    requires = "xgboost"
    limits: ClassVar[Limits] = BOOST_LIMITS

    def settings(self, n: int, device: Device) -> dict[str, Any]:
        settings = super().settings(n, device)
        if self.preset == "lean" and self.get_params()["min_child_weight"] is None:
            settings["min_child_weight"] *= min(1.0, n / ROWS_FOR_WHOLE_WEIGHT)
        return settings

    def _grow(self, params: dict[str, Any], rounds: int, patience: int, train: Any, validation: Any, task: Task) -> Grown:
        """Up to `rounds` rounds on a QuantileDMatrix, the best ones if there is another to validate."""
        library = self.library()
        callbacks = [_reporting(library, task.progress, rounds)] if task.progress else []
        evals = []
        if validation is not None:
            evals.append((validation, "validation"))
            callbacks.append(library.callback.EarlyStopping(rounds=patience))
        booster = library.train(params, train, rounds, evals=evals, callbacks=callbacks, verbose_eval=False)
        return Grown(booster, rounds if validation is None else booster.best_iteration + 1)

    def _train(self, task: Task) -> tuple[Model, int]:
        library, settings = self.library(), dict(task.settings)
        rounds, patience = settings.pop("rounds"), settings.pop("early_stopping")
        wanted = f"cuda:{task.device.number}" if task.device.kind == GPU else CPU
        params = settings | {
            "objective": "multi:softprob", "eval_metric": "mlogloss", "num_class": task.classes, "tree_method": "hist",
            "device": wanted, "nthread": task.threads, "verbosity": 0,
        }

        def matrix(rows: Rows, ref: Any = None) -> Any:
            return library.QuantileDMatrix(
                rows.X, rows.y, weight=rows.weight, feature_names=plain_names(task.names), ref=ref,
                max_bin=settings["max_bin"], nthread=task.threads,
            )

        try:
            train = matrix(task.train)
            validation = None if task.validation is None else matrix(task.validation, train)
            grown = self._grow(params, rounds, patience, train, validation, task)
        except library.core.XGBoostError as error:
            raise self.fit_failed(error) from None
        used = json.loads(grown.booster.save_config())["learner"]["generic_param"]["device"]
        if used != wanted:                     # the library only warns
            left_for_cpu(self.device, self.gpu_only, f"XGBoost was to train on {wanted} and used {used}", _INSTALL)
        booster = grown.booster[: grown.rounds]
        booster.set_attr(best_iteration=None, best_score=None)
        raw = bytes(booster.save_raw("ubj")) if grown.tree_weight is None else folded(booster, grown.tree_weight)
        model = Model.of(raw, self.cpu_threads())
        return model, int(model.booster.num_boosted_rounds())

    def _answer(self, fitted: Fitted, X: F32) -> NDArray[Any]:
        return np.asarray(fitted.model.booster.inplace_predict(X, validate_features=False))

    def _unrounded(self, fitted: Fitted, X: F32) -> NDArray[Any]:
        booster = fitted.model.booster
        return unrounded(self.library(), booster, X, booster.num_boosted_rounds())

    def _export(self, fitted: Fitted) -> Forest:
        return export_xgboost(fitted.model.raw, fitted.n_features, fitted.classes)

    def _write(self, model: Model, description: str) -> bytes:
        return model.with_attribute(description)

    def _read(self, data: bytes) -> Model:
        booster = Model.of(data, self.cpu_threads()).booster
        booster.set_attr(**{_ATTRIBUTE: None})
        return Model(booster, bytes(booster.save_raw("ubj")))

    def _gpus(self) -> Gpus:
        return usable_gpus(self.library().build_info())


class Grown(NamedTuple):
    """A booster, how many of its rounds count, and, where its trees don't all weigh 1, what each of those weighs."""

    booster: Any
    rounds: int
    tree_weight: F64 | None = None


class Model(NamedTuple):
    """The library's booster and its UBJSON."""

    booster: Any
    raw: bytes

    @classmethod
    def of(cls, raw: bytes, threads: int) -> Model:
        """What answers is always read from the bytes and on the CPU, so that saving and loading can't change a bit."""
        booster = XGBoostBase.library().Booster({"nthread": threads, "device": "cpu"})
        booster.load_model(bytearray(raw))
        return cls(booster, raw)

    def with_attribute(self, description: str) -> bytes:
        """The UBJSON with the description inside, made of another booster: this one may be answering."""
        copy = self.of(self.raw, 1).booster
        copy.set_attr(**{_ATTRIBUTE: description})
        return bytes(copy.save_raw("ubj"))


def folded(booster: Any, tree_weight: F64) -> bytes:
    """The UBJSON of plain boosted trees that answer as the booster's, each weighing `tree_weight` (T,).

    A leaf's value stands where a split's threshold does; 32-bit, as the library keeps it.
    """
    whole = json.loads(bytes(booster.save_raw("json")))
    grower = whole["learner"]["gradient_booster"]
    plain = grower["gbtree"] if grower["name"] == "dart" else grower
    for tree, weight in zip(plain["model"]["trees"], tree_weight.astype(np.float32), strict=True):
        values, leaf = np.array(tree["split_conditions"], np.float32), np.array(tree["left_children"]) < 0
        tree["split_conditions"] = np.where(leaf, values * weight, values).tolist()
    whole["learner"]["gradient_booster"] = plain
    model = XGBoostBase.library().Booster()
    model.load_model(bytearray(json.dumps(whole).encode()))
    return bytes(model.save_raw("ubj"))


def usable_gpus(build: Mapping[str, Any]) -> Gpus:
    """The library's GPUs, by how it was built and what the driver shows."""
    if not build.get("USE_CUDA"):
        return Gpus(0, "this XGBoost is built without CUDA", _INSTALL)
    return cuda_gpus()


def _reporting(library: Any, progress: Progress, rounds: int) -> Any:
    class Reporting(library.callback.TrainingCallback):       # type: ignore[misc]
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            progress(epoch + 1, rounds)
            return False

    return Reporting()
