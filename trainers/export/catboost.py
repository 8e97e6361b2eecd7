"""CatBoost's JSON model → `Forest` (Dorogush et al. 2018, arXiv 1810.11363).

What differs between the library's rules and a forest's is settled here:

- CatBoost goes right where x > border with a float32 border; a forest where x >= the next float32 above it.
- A feature's `nan_value_treatment` says where NaN goes: AsTrue right; AsFalse left; AsIs, of a feature without NaN in
  training, left too, since NaN > border is false.
- Trees are symmetric by default: bit j of a leaf's number is what its level j says. Depthwise and Lossguide grow plain
  ones.
- Leaves are multiplied and shifted by `scale_and_bias`.
"""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import DeviceMissing
from engine.runtimes.forest.layout import Forest
from engine.types import CLASSES, F64

from ..family import ChildEnded, alone
from .forest import Tree, base_of, columns_of, forest, next_above, reading, unsupported

_MULTICLASS = ("MultiClass",)
_LOGISTIC = ("Logloss", "CrossEntropy")
_INSTEAD = "train with loss_function MultiClass (Logloss for two classes) and numeric features only"


def export_catboost(model: bytes, n_features: int, classes: Sequence[int] = (-1, 0, 1)) -> Forest:
    """A model's bytes (`save_model(format="json")`, or a .cbm) as a Forest over `n_features` columns.

    classes: the label behind each of the library's class numbers; a label that isn't among them has probability 0.
    Raises ModelRefused: `forest_unsupported` for what a Forest can't say (another loss, categorical, text or embedding
    features), `forest_damaged` for bytes that are no whole model; DeviceMissing (`library_missing`) where a .cbm is
    given and the library isn't there to read it.
    """
    with reading("CatBoost"):
        said = json.loads(model if model[:1] == b"{" else as_json(model))
        columns = columns_of(classes)
        features = _Features(numeric(said))
        scale, bias = said["scale_and_bias"]
        values = _Values(said, columns, float(scale))
        base = base_of(columns, np.array(bias if len(bias) == len(columns) else [0.0, *bias], np.float64))
        if "oblivious_trees" in said:
            return _symmetric(said["oblivious_trees"], features, values, n_features, base)
        return forest([_plain(tree, features, values) for tree in said["trees"]], n_features, base)


def as_json(model: bytes) -> bytes:
    """A .cbm as JSON, by the library itself, in a process of its own: some damaged ones end it.

    Raises ValueError where it is none, ModelRefused `forest_unsupported`, DeviceMissing `library_missing`.
    """
    try:
        become = alone(_converted, model)
    except ChildEnded:
        raise ValueError("the library's process ended on it") from None
    match become:
        case bytes():
            return become
        case ("missing", words):
            raise DeviceMissing(
                "library_missing", f"a .cbm is read by catboost, which can't be imported: {words}",
                hint="pip install 'tocsin[trees]', or save the model as .json",
            )
        case ("unsupported", words):
            raise unsupported(words, _INSTEAD)
        case (_, words):
            raise ValueError(words)


def numeric(said: dict[str, Any]) -> list[dict[str, Any]]:
    """The model's features, all of them numbers. Raises ModelRefused `forest_unsupported` where some aren't."""
    info = said["features_info"]
    other = [kind for kind in info if kind != "float_features" and info[kind]]
    if other:
        raise unsupported(", ".join(kind.replace("_", " ") for kind in other), _INSTEAD)
    found: list[dict[str, Any]] = info["float_features"]
    return found


def told_apart(said: dict[str, Any]) -> int:
    """How many classes the model tells apart. Raises ModelRefused `forest_unsupported` where it says no probabilities."""
    loss, width = _loss(said), len(said["scale_and_bias"][1])
    if loss in _MULTICLASS:
        return width
    if loss in _LOGISTIC and width == 1:
        return 2
    raise unsupported(f"the loss {loss}", _INSTEAD)


def class_names(said: dict[str, Any]) -> tuple[str, ...]:
    """What the model calls its classes, in their order; empty where it only numbers them from 0 on."""
    names, numbers = _class_params(said["model_info"]).get("class_names"), class_numbers(said["model_info"])
    called = tuple(str(names[i] if names else i) for i in numbers)
    if called and len(called) != told_apart(said):
        raise ValueError(f"{len(called)} names for {told_apart(said)} classes")
    with suppress(ValueError):
        if [float(name) for name in called] == list(range(len(called))):
            return ()
    return called


def class_numbers(info: Mapping[str, Any]) -> list[int]:
    """Of the classes that were named, those that were met in training, which alone have leaves; empty where nothing is said.

    info: the model's, as JSON or as the library's metadata.
    """
    return [int(i) for i in _class_params(info).get("class_to_label", ())]


def _class_params(info: Mapping[str, Any]) -> dict[str, Any]:
    params = info.get("class_params") or info.get("multiclass_params") or {}         # the other name is the older one
    return dict(json.loads(params) if isinstance(params, str) else params)


def _loss(said: dict[str, Any]) -> Any:
    params = said["model_info"]["params"]
    return (json.loads(params) if isinstance(params, str) else params)["loss_function"]["type"]


def _converted(model: bytes) -> bytes | tuple[str, str]:
    """JSON; else what is wrong: `missing` (the library), `damaged`, `unsupported`, with the library's words."""
    try:
        library = importlib.import_module("catboost")
    except (ImportError, OSError) as error:
        return "missing", str(error)
    try:
        loaded = library.CatBoost().load_model(blob=model)
    except library.CatBoostError as error:
        return "damaged", str(error).splitlines()[0]
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "model.json"
        try:
            loaded.save_model(str(said), format="json")
        except library.CatBoostError as error:         # text and embedding features
            return "unsupported", str(error).splitlines()[0].rpartition(": ")[2]
        return said.read_bytes()


class _Features:
    """The splits' features as columns, and where NaN goes."""

    def __init__(self, features: list[dict[str, Any]]) -> None:
        self.column = {one["feature_index"]: one["flat_feature_index"] for one in features}
        self.nan_right = {one["feature_index"]: one["nan_value_treatment"] == "AsTrue" for one in features}

    def splits(self, splits: list[dict[str, Any]]) -> tuple[Any, Any, Any]:
        """feature, threshold, nan_right."""
        other = {split["split_type"] for split in splits} - {"FloatFeature"}
        if other:
            raise unsupported(f"splits of type {', '.join(sorted(other))}", _INSTEAD)
        of = [split["float_feature_index"] for split in splits]
        border = np.array([split["border"] for split in splits], np.float32)
        return (
            np.array([self.column[f] for f in of], np.int64), next_above(border.astype(np.float64)),
            np.array([self.nan_right[f] for f in of], np.bool_),
        )


class _Values:
    """The leaves' answers, in a forest's columns."""

    def __init__(self, said: dict[str, Any], columns: list[int], scale: float) -> None:
        if told_apart(said) != len(columns):
            raise unsupported(f"the loss {_loss(said)} for {len(columns)} classes", f"{_INSTEAD}; name every class")
        self.width, self.columns, self.scale = len(said["scale_and_bias"][1]), columns, scale
        self.speaks_for = -1 if _loss(said) in _MULTICLASS else columns[1]

    def of(self, leaves: list[Any]) -> F64:
        """(L, 1) for the one class, (L, 3) for all."""
        value = self.scale * np.array(leaves, np.float64).reshape(-1, self.width)
        if self.speaks_for >= 0:
            return value
        out = np.zeros((len(value), len(CLASSES)))
        out[:, self.columns] = value
        return out


def _symmetric(trees: list[dict[str, Any]], features: _Features, values: _Values, n_features: int, base: F64) -> Forest:
    levels = [tree["splits"] or [] for tree in trees]
    value = [values.of(tree["leaf_values"]) for tree in trees]
    if any(len(leaves) != 1 << len(tree) for leaves, tree in zip(value, levels, strict=True)):
        raise ValueError("not a leaf for every way through a tree's levels")
    feature, threshold, nan_right = features.splits([split for tree in levels for split in tree])
    none = np.zeros(0, np.int32)
    return Forest(
        n_features=n_features, feature=feature.astype(np.int32), threshold=threshold, left=none, right=none,
        nan_right=nan_right, root=~np.cumsum([0, *(len(leaves) for leaves in value[:-1])], dtype=np.int32),
        tree_class=np.full(len(trees), values.speaks_for, np.int32), value=np.concatenate(value), base=base,
        slope_start=none, slope_feature=none, slope=np.zeros(0), fallback=np.zeros(0),
        level_start=np.cumsum([0, *(len(tree) for tree in levels)], dtype=np.int32),
        cover=np.concatenate([
            np.array(tree.get("leaf_weights") or np.ones(len(leaves)), np.float64)
            for tree, leaves in zip(trees, value, strict=True)
        ]),
    )


def _plain(root: dict[str, Any], features: _Features, values: _Values) -> Tree:
    splits: list[dict[str, Any]] = []
    left: list[int] = []
    right: list[int] = []
    leaves: list[Any] = []
    cover: list[float] = []

    def number(node: dict[str, Any]) -> int:
        """Of a split, or ~ of a leaf; a split's children are numbered behind it."""
        if "split" not in node:
            leaves.append(node["value"])
            cover.append(node.get("weight", 1.0))
            return ~(len(leaves) - 1)
        here = len(splits)
        splits.append(node["split"])
        left.append(0)
        right.append(0)
        left[here], right[here] = number(node["left"]), number(node["right"])
        return here

    number(root)
    feature, threshold, nan_right = features.splits(splits)
    return Tree(
        feature, threshold, np.array(left, np.int64), np.array(right, np.int64), nan_right, values.of(leaves),
        np.array(cover, np.float64), values.speaks_for,
    )
