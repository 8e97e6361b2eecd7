"""XGBoost's JSON or UBJSON model → `Forest` (the schema is doc/model.schema of XGBoost).

What differs between the library's rules (include/xgboost/tree_model.h of version 3) and a forest's is settled here:

- XGBoost goes left where x < t with a float32 t, as a forest does. NaN goes the split's default way.
- Which class a tree speaks for stands in `tree_info`; a round has `num_parallel_tree` trees per class.
- A DART tree counts `weight_drop` times its leaves; that is folded into the leaves.
- `base_score` is the margin before the first tree, but for a logistic objective it is a probability.

Exported is what the library answers that saved the file: a `Booster` all its trees, whatever `best_iteration` says
(slice it, `booster[: best + 1]`, to save fewer); scikit-learn's `XGBClassifier` those up to its best iteration.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.runtimes.forest.layout import Forest
from engine.types import CLASSES, F64

from .forest import LOWEST, Tree, base_of, columns_of, forest, reading, unsupported
from .ubjson import decode

_MULTICLASS = ("multi:softprob", "multi:softmax")
_LOGISTIC = ("binary:logistic", "reg:logistic")
_INSTEAD = "train with objective multi:softprob (binary:logistic for two classes), booster gbtree or dart, numeric features only"


def export_xgboost(model: bytes, n_features: int, classes: Sequence[int] = (-1, 0, 1)) -> Forest:
    """A model's bytes (`Booster.save_raw("json")` or `"ubj"`) as a Forest over `n_features` columns.

    classes: the label behind each of the library's class numbers; a label that isn't among them has probability 0.
    Raises ModelRefused: `forest_unsupported` for what a Forest can't say (another objective or booster, categorical
    splits), `forest_damaged` for bytes that are no whole model.
    """
    with reading("XGBoost"):
        learner = read(model)["learner"]
        booster, weight = learner["gradient_booster"], None
        if booster["name"] == "dart":
            weight, booster = booster["weight_drop"], booster["gbtree"]
        if booster["name"] != "gbtree":
            raise unsupported(f"the booster {booster['name']!r}", _INSTEAD)
        columns = columns_of(classes)
        spoken_for, base = _objective(learner, columns)
        grown = booster["model"]
        trees = [
            _tree(tree, spoken_for[info], 1.0 if weight is None else weight[t])
            for t, (tree, info) in enumerate(zip(grown["trees"], grown["tree_info"], strict=True))
        ]
        if trees and trees[0].value.shape[1] > 1:
            trees = [tree._replace(value=_in_columns(tree.value, columns), speaks_for=-1) for tree in trees]
        return forest(trees[: _answering(learner, grown, len(spoken_for))], n_features, base)


def read(model: bytes) -> Any:
    """What JSON or UBJSON says; both begin with a brace, UBJSON goes on with the length of the first key."""
    return json.loads(model) if model[1:].lstrip()[:1] == b'"' else decode(model)


def _objective(learner: dict[str, Any], columns: list[int]) -> tuple[list[int], F64]:
    """The column that each class number of `tree_info` speaks for, and every class's margin before the first tree."""
    name, shape = learner["objective"]["name"], learner["learner_model_param"]
    score = np.atleast_1d(np.array(json.loads(shape["base_score"]), np.float64))
    if told_apart(learner) != len(columns):
        raise unsupported(f"the objective {name!r} for {len(columns)} classes", f"{_INSTEAD}; name every class")
    if name in _MULTICLASS:
        return columns, base_of(columns, np.broadcast_to(score, len(columns)))
    (p,) = score.tolist()
    if p in (0.0, 1.0):
        raise unsupported("what was trained on rows of one class only", "train on rows of every class")
    return columns[1:], base_of(columns, [0.0, math.log(p / (1.0 - p))])


def told_apart(learner: dict[str, Any]) -> int:
    """How many classes the model tells apart. Raises ModelRefused `forest_unsupported` where it says no probabilities."""
    name, shape = learner["objective"]["name"], learner["learner_model_param"]
    if int(shape.get("num_target", "1")) > 1:
        raise unsupported("several targets at once", _INSTEAD)
    if name in _MULTICLASS:
        return int(shape["num_class"])
    if name in _LOGISTIC:
        return 2
    raise unsupported(f"the objective {name!r}", _INSTEAD)


def _answering(learner: dict[str, Any], grown: dict[str, Any], groups: int) -> int:
    """How many of the trees predict with; see this file's first lines."""
    attributes = learner["attributes"]
    if "scikit_learn" not in attributes or "best_iteration" not in attributes:
        return len(grown["trees"])
    rounds = int(attributes["best_iteration"]) + 1
    if "iteration_indptr" in grown:
        return int(grown["iteration_indptr"][rounds])
    return rounds * groups * int(grown["gbtree_model_param"].get("num_parallel_tree", "1"))


def _tree(tree: dict[str, Any], speaks_for: int, weight: float) -> Tree:
    if any(tree.get("split_type", ())):
        raise unsupported("a categorical split", _INSTEAD)
    left, right = np.array(tree["left_children"], np.int64), np.array(tree["right_children"], np.int64)
    number = np.array(tree["split_conditions"], np.float32)          # threshold of a split, answer of a leaf
    leaf = left < 0
    place = np.where(leaf, ~(np.cumsum(leaf) - 1), np.cumsum(~leaf) - 1)
    value = number[leaf].astype(np.float64)[:, None]
    width = int(tree["tree_param"].get("size_leaf_vector", "1"))
    if width > 1:                                                    # multi_output_tree: a leaf's right child is its row
        value = np.array(tree["leaf_weights"], np.float64).reshape(-1, width)[right[leaf]]
    return Tree(
        np.array(tree["split_indices"], np.int64)[~leaf], np.maximum(number[~leaf], np.float32(LOWEST)),
        place[left[~leaf]], place[right[~leaf]], np.array(tree["default_left"])[~leaf] == 0, value * weight,
        np.array(tree["sum_hessian"], np.float32)[leaf].astype(np.float64), speaks_for,
    )


def _in_columns(value: F64, columns: list[int]) -> F64:
    """(L, K) in the library's order -> (L, 3)."""
    out = np.zeros((len(value), len(CLASSES)))
    out[:, columns] = value
    return out
