"""An XGBoost model as plain gradient boosting: what DART multiplies is in the leaves, and tree t speaks for class t mod K.

The same answers. XGBoost itself is quicker with it, since a DART booster is walked tree by tree; and what others convert is
read rightly: they take the trees' order for their classes, which a random forest's isn't.
"""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

import numpy as np

from ..export.xgboost import read


def folded(model: bytes) -> bytes:
    """A model's file, JSON or UBJSON, as JSON."""
    said = read(model)
    learner = said["learner"]
    booster, weight = learner["gradient_booster"], None
    if booster["name"] == "dart":
        weight, booster = booster["weight_drop"], booster["gbtree"]
    grown = booster["model"]
    trees = [_weighted(tree, 1.0 if weight is None else weight[t]) for t, tree in enumerate(grown["trees"])]
    by_class: dict[int, list[Any]] = {}
    for tree, speaks_for in zip(trees, grown["tree_info"], strict=True):
        by_class.setdefault(int(speaks_for), []).append(tree)
    classes = sorted(by_class)
    ordered = list(chain.from_iterable(zip(*(by_class[c] for c in classes), strict=True)))
    learner["gradient_booster"] = {"name": "gbtree", "model": {
        **grown, "trees": [{**tree, "id": t} for t, tree in enumerate(ordered)],
        "tree_info": [classes[t % len(classes)] for t in range(len(ordered))],
        "iteration_indptr": list(range(0, len(ordered) + 1, len(classes))),
        "gbtree_model_param": {**grown["gbtree_model_param"], "num_parallel_tree": "1"},
    }}
    return json.dumps(said, default=_plain).encode()


def _weighted(tree: dict[str, Any], weight: float) -> dict[str, Any]:
    number = np.array(tree["split_conditions"], np.float32)
    leaf = np.array(tree["left_children"]) < 0
    number[leaf] *= np.float32(weight)
    return {**tree, "split_conditions": number.tolist()}


def _plain(held: Any) -> Any:
    """An array or number of numpy's, as UBJSON is read to."""
    return held.tolist()
