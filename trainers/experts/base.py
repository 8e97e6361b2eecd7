"""What every trainable expert shares: the sklearn conventions, weights, the split in time, saving and loading.

An expert's own file says which library it calls, its parameters, and how to train, answer, export, write and read.
All else is here, once.

Who calls what: `create(...)` or the class makes an estimator; `fit` makes it answer; everything else may be called
from any thread from then on. A fit replaces what answers in one assignment at its end, so a prediction running beside
it, or after a failed one, comes from the model before.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import json
import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.errors import DeviceMissing, InputRefused, ModelRefused, TocsinError, UsageError
from engine.runtimes.forest.layout import Forest
from engine.types import CLASSES, F32, F64, I64

from ..metrics import LABELS
from .devices import Device, Gpus, choose_device, cpu_budget
from .parameters import FROM_1, LIMITS, Limits, ParameterRefused, checked
from .rows import (
    Rows,
    column_of,
    labels_of,
    remap_labels_to_contiguous,
    rows_of,
    spans_of,
    train_and_validation,
    weights_of,
)

FORMAT = 2
"""Of a saved expert's description. 2: sealed as a whole."""

Progress = Callable[[int, int], None]
"""Called with (round, of so many)."""


Space = dict[str, tuple[Any, ...]]
"""What a search may try: {parameter: (low, high, "log" | "linear" | "int")}, evenly over the logarithm, the numbers or
the whole numbers from low to high, both included; or {parameter: (one, another, …)}, choices that are equally good."""

SCALES = ("log", "linear", "int")


class Served(Protocol):
    """What the engine runs: a Forest, or a network's graph."""

    def predict_proba(self, X: F32) -> F32: ...

    def to_bytes(self) -> bytes: ...


class NotFitted(InputRefused, AttributeError):
    """Asked before it was fitted; also sklearn's NotFittedError wherever sklearn is loaded."""


class Task(NamedTuple):
    """One fit, as an expert's own file gets it."""

    train: Rows
    validation: Rows | None
    """To stop early on; None where the settings don't ask for it."""
    classes: int
    names: tuple[str, ...] | None
    settings: dict[str, Any]
    device: Device
    threads: int
    progress: Progress | None


@dataclass(frozen=True)
class Fitted:
    """All that answers; replaced whole.

    classes: the labels the model knows, in the library's order. class_prior: n_c / n · K per class [neutral, buy,
    sell], what puts back the priors that class weights bent (1 where nothing was, 0 for a class not seen).
    settings: the parameters as they were used. rounds: how many the model has.
    """

    model: Any
    classes: tuple[int, ...]
    class_prior: tuple[float, ...]
    n_features: int
    names: tuple[str, ...] | None
    settings: dict[str, Any]
    rounds: int


class Trainable(ABC):
    """Base of every expert.

    idx: from 1, decides the GPU. device, gpu_only: see `choose_device`. threads: of the CPU, all by default. preset:
    `lean` (cheap and no worse, for scheduled retraining) or `seed` (large, stops early). class_weight: `balanced`
    (n / (K · n_c)) or None. The expert's own parameters override the preset's; None is the preset's value.
    Raises ParameterRefused (`parameter`) for one it doesn't have; values are looked at by `fit`.

    In scikit-learn: its own scorers of probabilities (neg_log_loss, roc_auc_ovr, …) take columns for sorted labels, -1,
    0, 1, and so measure these wrongly without a word. Score with ours, or by labels, as `score` does:

        from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
        from trainers.metrics import neg_log_loss
        search = GridSearchCV(model, {"rounds": [20, 40]}, scoring=neg_log_loss, cv=TimeSeriesSplit(3)).fit(X, y)
    """

    name: ClassVar[str]
    place: ClassVar[int]
    """Among all experts: its idx where all are trained."""
    requires: ClassVar[str]
    """The library, as it is imported."""
    library_file: ClassVar[str]
    """What the library's own file is called in a bundle."""
    presets: ClassVar[dict[str, dict[str, Any]]]
    """The expert's own parameters, the same names in each."""
    limits: ClassVar[Limits] = LIMITS
    """What those may be."""
    search_space: ClassVar[Space] = {}
    """Of the expert's own parameters, those worth searching."""
    cost: ClassVar[float] = 1.0
    """How long a lean fit takes, LightGBM's being 1; of parallel fits the longest begins first."""
    ndim: ClassVar[int] = 2
    """Of X; 3 for windows (n, T, F)."""

    _estimator_type = "classifier"

    def __init__(
        self, idx: int = 1, device: str = "auto", gpu_only: bool = False, threads: int | None = None,
        preset: str = "lean", class_weight: str | None = "balanced", **params: Any,
    ) -> None:
        self.idx = idx
        self.device = device
        self.gpu_only = gpu_only
        self.threads = threads
        self.preset = preset
        self.class_weight = class_weight
        self._fitted: Fitted | None = None
        self.set_params(**dict.fromkeys(self.presets["lean"]) | params)

    # what an expert's own file says

    @abstractmethod
    def _train(self, task: Task) -> tuple[Any, int]:
        """The library's model and its number of rounds."""

    @abstractmethod
    def _answer(self, fitted: Fitted, X: F32) -> NDArray[Any]:
        """(n, K) probabilities, a column per class the model knows."""

    def _unrounded(self, fitted: Fitted, X: F32) -> NDArray[Any]:
        """The same, for a library that sums in float32 (not in float64, as this takes for granted) summed in float64."""
        return self._answer(fitted, X)

    @abstractmethod
    def _export(self, fitted: Fitted) -> Served:
        """What the engine runs."""

    @abstractmethod
    def _write(self, model: Any, description: str) -> bytes:
        """The library's own file, with the description (a line of ASCII) inside, once and as it is."""

    @abstractmethod
    def _read(self, data: bytes) -> Any:
        """The model of such a file, without the description."""

    @abstractmethod
    def _gpus(self) -> Gpus:
        """The GPUs the library can use."""

    def where(self, gpus: Gpus | None = None) -> Device:
        """Where a fit would run; with other GPUs than the library finds, if they are given.

        Raises ParameterRefused, DeviceMissing.
        """
        return choose_device(self.device, self.idx, self.gpu_only, lambda: gpus or self._gpus())

    # fit, predict

    def fit(
        self, X: Any, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None, times: ArrayLike | None = None,
        end_times: ArrayLike | None = None, *, progress: Progress | None = None,
    ) -> Self:
        """Train; rows stand in order of time, or `times` says when each was.

        X: (n, F) array or frame; (n, T, F) for an expert of windows. y: (n,) in {-1, 0, 1}. sample_weight: (n,); a row
        that weighs nothing is as one that wasn't given. times, end_times: (n,) ns UTC or datetimes, when a row was asked
        and when its label was certain. progress: called with (round, of so many).

        Where the settings stop early, the last 15 % of rows validates. Training rows end 24 rows or 1 % before it,
        or, with times and end_times, are those whose label ends before it begins. A class without training rows has
        probability 0; where only one class has any, that class has probability 1 and no library is asked. Raises
        InputRefused (`shape`, `empty`, `dtype`, `feature_twice`, `labels`, `weights`, `end_times`, `too_few_rows`),
        ParameterRefused (`parameter`, `device`), DeviceMissing, TocsinError (`fit_failed`).
        """
        rows, names = rows_of(X, ndim=self.ndim)
        n = len(rows)
        if y is None:
            raise InputRefused("labels", f"{self.name} requires y to be passed, but the target y is None", hint="fit(X, y)")
        labels, weight = labels_of(column_of("y", y, n)), weights_of(sample_weight, n)
        when, ends = spans_of(times, end_times, n)
        there = np.flatnonzero(weight)
        device = self.where()
        settings = self.settings(there.size, device)
        train, validation = there, there[:0]
        if settings["early_stopping"]:
            train, validation = train_and_validation(there, when, ends)

        contiguous, classes = remap_labels_to_contiguous(labels[train])
        class_weight = np.ones(classes.size)
        if self.class_weight == "balanced":
            class_weight = train.size / (classes.size * np.bincount(contiguous))
        class_prior = np.zeros(len(CLASSES))
        class_prior[classes % len(CLASSES)] = 1.0 / class_weight

        def part(chosen: I64) -> Rows:
            y = np.searchsorted(classes, labels[chosen])
            return Rows(rows[chosen], y, weight[chosen] * class_weight[y])

        validation = validation[np.isin(labels[validation], classes)]
        model, rounds = None, 0
        if classes.size > 1:
            model, rounds = self._train(Task(
                part(train), part(validation) if validation.size else None, classes.size, names, settings, device,
                self.cpu_threads(), progress,
            ))
        self._fitted = Fitted(
            model, tuple(classes.tolist()), tuple(class_prior.tolist()), rows.shape[-1], names, settings, rounds
        )
        return self

    def predict_proba(self, X: Any) -> F32:
        """(n, 3) float32 [neutral, buy, sell] as the library says them, rows summing to 1.

        Raises NotFitted, InputRefused (`shape`, `empty`, `dtype`, `feature_missing`).
        """
        return self._in_columns(X, self._answer).astype(np.float32)

    def unrounded_proba(self, X: Any) -> F64:
        """The same in float64 and summed so, also where the library sums in float32: what `export` is compared with."""
        return self._in_columns(X, self._unrounded)

    def _in_columns(self, X: Any, answer: Callable[[Fitted, F32], NDArray[Any]]) -> F64:
        fitted = self._now()
        rows, _ = rows_of(X, fitted.names, self.ndim)
        if rows.shape[-1] != fitted.n_features:
            raise InputRefused(
                "shape", f"X has {rows.shape[-1]} features, but {type(self).__name__} is expecting {fitted.n_features} "
                "features as input", hint="give the columns of the fit",
            )
        out = np.zeros((len(rows), len(CLASSES)))
        columns = [label % len(CLASSES) for label in fitted.classes]
        out[:, columns] = answer(fitted, rows) if len(columns) > 1 else 1.0
        return out

    def predict(self, X: Any) -> I64:
        """(n,) labels: the most probable class of each row. Raises as `predict_proba`."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(1)])

    def score(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Share of the rows, by weight, whose label `predict` says. Raises as `predict_proba`, and for y as `fit`."""
        said = self.predict(X)
        right = said == labels_of(column_of("y", y, said.size))
        return float(np.average(right, weights=weights_of(sample_weight, said.size)))

    # what it answers with

    def export(self) -> Served:
        """What the engine runs: answers (n, F) float32 as `unrounded_proba` within 1e-6. Raises NotFitted."""
        fitted = self._now()
        return self._export(fitted) if len(fitted.classes) > 1 else _always(fitted)

    def save(self, path: str | os.PathLike[str]) -> Self:
        """One file, written whole or not at all: the library's own, with what `load` needs inside.

        Where the fit saw only one class no library was asked: the file is a line of JSON that only `load` reads. Raises
        NotFitted, UsageError (`out`) where it can't be written.
        """
        data, part = self.to_bytes(), Path(f"{os.fsdecode(path)}.part")
        try:
            part.write_bytes(data)
            part.replace(path)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            raise UsageError(
                "out", f"{os.fsdecode(path)!r} can't be written: {error.strerror or error}",
                hint="name a file in a folder that is there",
            ) from None
        return self

    def load(self, path: str | os.PathLike[str]) -> Self:
        """The same bits as before `save`. Raises ModelRefused as `from_bytes`, or where there is no such file."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise ModelRefused(
                "model_missing", f"can't read {path}: {error.strerror}", hint="name a file that `save` wrote"
            ) from None
        return self.from_bytes(data)

    def to_bytes(self) -> bytes:
        """What `save` writes: the library's own file; where only one class was seen, the description alone."""
        fitted = self._now()
        said = {field: getattr(fitted, field) for field in _SAVED}
        description = _OPEN + json.dumps({"format": FORMAT, "name": self.name} | said)
        return _seal(self._write(fitted.model, description) if len(fitted.classes) > 1 else description.encode())

    def from_bytes(self, data: bytes) -> Self:
        """What `load` reads. Raises ModelRefused (`model_format`, `model_damaged`)."""
        said = _unseal(data)
        ours = said.keys() == {"format", "name", *_SAVED} and (said["format"], said["name"]) == (FORMAT, self.name)
        try:
            fitted = msgspec.convert(said | {"model": None}, Fitted) if ours else None
        except msgspec.ValidationError:
            fitted = None
        if fitted is None:
            raise ModelRefused(
                "model_format", f"not a {self.name} of format {FORMAT}",
                hint="load it with the expert, and the version of Tocsin, that saved it",
            )
        self._fitted = replace(fitted, model=self._read(data)) if len(fitted.classes) > 1 else fitted
        return self

    @property
    def classes_(self) -> I64:
        """[0, 1, -1], the label of each column."""
        return np.array(LABELS)

    @property
    def n_features_in_(self) -> int:
        return self._now().n_features

    @property
    def feature_names_in_(self) -> NDArray[np.object_]:
        """Only where a frame was fitted, as in sklearn."""
        names = self._now().names
        if names is None:
            raise AttributeError("fitted on an array: the features have no names")
        return np.array(names, object)

    @property
    def class_prior_(self) -> F64:
        """(3,) n_c / n · K [neutral, buy, sell]: times the probabilities, renormalised, class weights are undone."""
        return np.array(self._now().class_prior)

    @property
    def settings_(self) -> dict[str, Any]:
        """The parameters as the fit used them."""
        return dict(self._now().settings)

    @property
    def rounds_(self) -> int:
        """How many rounds the model has, after early stopping."""
        return self._now().rounds

    def _now(self) -> Fitted:
        fitted = self._fitted
        if fitted is None:
            theirs = getattr(sys.modules.get("sklearn.exceptions"), "NotFittedError", None)
            kind = type("NotFitted", (NotFitted, theirs), {}) if theirs else NotFitted
            raise kind("not_fitted", f"the expert {self.name} isn't fitted yet", hint="call fit or load first")
        return fitted

    # parameters

    def settings(self, n: int, device: Device) -> dict[str, Any]:
        """The preset's parameters, overridden by those given, for n rows there. Raises ParameterRefused (`parameter`)."""
        checked("class_weight", self.class_weight, "", ("balanced",), optional=True)
        preset = self.presets[checked("preset", self.preset, "", tuple(self.presets))]
        own = {
            parameter: checked(parameter, getattr(self, parameter), usual, self.limits.get(parameter), optional=True)
            for parameter, usual in preset.items()
        }
        return preset | {parameter: value for parameter, value in own.items() if value is not None}

    def cpu_threads(self) -> int:
        """Of a fit or an answer. Raises ParameterRefused (`parameter`)."""
        return int(checked("threads", self.threads, 1, FROM_1, optional=True) or cpu_budget())

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Every parameter as it was given."""
        return {parameter: getattr(self, parameter) for parameter in (*_COMMON, *self.presets["lean"])}

    def set_params(self, **params: Any) -> Self:
        """Counts from the next fit on. Raises ParameterRefused (`parameter`)."""
        known = (*_COMMON, *self.presets["lean"])
        for parameter, value in params.items():
            if parameter not in known:
                near = difflib.get_close_matches(parameter, known, 1)
                raise ParameterRefused(
                    "parameter", f"the expert {self.name} has no parameter {parameter!r}",
                    hint=f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}",
                )
            setattr(self, parameter, value)
        return self

    def versions(self) -> dict[str, str]:
        """{library: version}. Raises DeviceMissing (`library_missing`)."""
        return {self.requires: str(self.library().__version__)}

    @classmethod
    def fit_failed(cls, error: Exception) -> TocsinError:
        """What the library said, as our error."""
        return TocsinError(
            "fit_failed", f"{cls.requires} could not fit: {error}", hint="its message names the parameter or the data"
        )

    @classmethod
    def library(cls) -> Any:
        """The imported library. Raises DeviceMissing (`library_missing`)."""
        try:
            return importlib.import_module(cls.requires)
        except (ImportError, OSError) as error:
            raise DeviceMissing(
                "library_missing", f"the expert {cls.name} needs {cls.requires}, which can't be imported: {error}",
                hint=f"pip install 'tocsin[trees]'   (or: pip install {cls.requires})",
            ) from None

    def __sklearn_is_fitted__(self) -> bool:
        return self._fitted is not None

    def __sklearn_tags__(self) -> Any:
        utils = importlib.import_module("sklearn.utils")      # only sklearn asks
        return utils.Tags(
            estimator_type="classifier", target_tags=utils.TargetTags(required=True),
            classifier_tags=utils.ClassifierTags(), input_tags=utils.InputTags(allow_nan=True),
        )


_COMMON = ("idx", "device", "gpu_only", "threads", "preset", "class_weight")
_SAVED = tuple(field.name for field in fields(Fitted) if field.name != "model")
_OPEN = f"tocsin={'0' * 64} "
"""How a description begins until its file is sealed; the digest takes the zeros' place."""
_SEAL = re.compile(rb"tocsin=([0-9a-f]{64}) (?=\{)")


def plain_names(names: tuple[str, ...] | None) -> list[str] | None:
    """Names as every library's file can hold them; None where they couldn't be told apart then."""
    plain = [re.sub(r"[^\w.-]", "_", name, flags=re.ASCII) for name in names or ()]
    return plain if plain and len(set(plain)) == len(plain) else None


def _always(fitted: Fitted) -> Forest:
    """One leaf, for the only class there is."""
    none = np.zeros(0, np.int32)
    column = fitted.classes[0] % len(CLASSES)
    base = np.full(len(CLASSES), -np.inf)
    base[column] = 0.0
    return Forest(
        n_features=fitted.n_features, feature=none, threshold=np.zeros(0, np.float32), left=none, right=none,
        nan_right=np.zeros(0, np.bool_), root=np.array([~0], np.int32), tree_class=np.array([column], np.int32),
        value=np.zeros((1, 1)), base=base, slope_start=none, slope_feature=none, slope=np.zeros(0),
        fallback=np.zeros(0), level_start=none, cover=np.zeros(0),
    )


def _seal(data: bytes) -> bytes:
    """The file with its own SHA-256 in the place of the description's zeros."""
    return data.replace(_OPEN.encode(), f"tocsin={hashlib.sha256(data).hexdigest()} ".encode(), 1)


def _unseal(data: bytes) -> dict[str, Any]:
    """What a file says of itself, before a library reads a byte: they don't survive every damaged file.

    Raises ModelRefused (`model_damaged`).
    """
    found = _SEAL.search(data)
    if found is None:
        raise ModelRefused(
            "model_damaged", "not a whole model that this version saved", hint="save it again, or name another file"
        )
    if hashlib.sha256(data[: found.start()] + _OPEN.encode() + data[found.end() :]).hexdigest() != found[1].decode():
        raise ModelRefused("model_damaged", "the model was altered after it was saved", hint="fetch it again")
    try:
        said: dict[str, Any] = json.JSONDecoder().raw_decode(data[found.end() :].decode("latin-1"))[0]
    except (ValueError, RecursionError):
        raise ModelRefused("model_damaged", "the model's description can't be read", hint="save the model again") from None
    return said
