"""XGBoost's boosted trees."""

from __future__ import annotations

from typing import Any, ClassVar

from .base import Space
from .xgboost_base import TREE_SPACE, XGBoostBase


class XGBoostExpert(XGBoostBase):
    """Gradient-boosted trees of XGBoost, softmax over the classes; see `Trainable`, and `XGBoostBase` on determinism.

    Own parameters, as the library calls them: rounds, early_stopping (rounds without a better validation, 0: none),
    max_depth, learning_rate, subsample (drawn anew each round), colsample_bytree, min_child_weight, max_bin, seed. The
    lean preset's min_child_weight shrinks with the rows below 25,000.
    """

    name: ClassVar[str] = "xgboost"
    place: ClassVar[int] = 2
    library_file: ClassVar[str] = "xgboost.ubj"
    cost: ClassVar[float] = 1.5
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "lean": {
            "rounds": 35, "early_stopping": 0, "max_depth": 5, "learning_rate": 0.1, "subsample": 0.4,
            "colsample_bytree": 0.4, "min_child_weight": 50.0, "max_bin": 64, "seed": 42,
        },
        "seed": {
            "rounds": 800, "early_stopping": 50, "max_depth": 8, "learning_rate": 0.05, "subsample": 0.9,
            "colsample_bytree": 0.9, "min_child_weight": 1.0, "max_bin": 256, "seed": 42,
        },
    }
    search_space: ClassVar[Space] = {"rounds": (20, 200, "int")} | TREE_SPACE
