"""XGBoost's boosted random forests: each round grows several trees side by side on different rows and columns."""

from __future__ import annotations

from typing import Any, ClassVar

from .base import Space
from .parameters import FROM_1, SHARE, Limits
from .xgboost_base import BOOST_LIMITS, TREE_SPACE, XGBoostBase


class XGBoostForestExpert(XGBoostBase):
    """Boosted random forests of XGBoost, softmax over the classes; see `Trainable`, and `XGBoostBase` on determinism.

    Own parameters: as `XGBoostExpert`'s, and num_parallel_tree (trees of a class per round; the library divides the
    learning rate among them), colsample_bynode (columns drawn anew at every split).
    """

    name: ClassVar[str] = "xgboost_rf"
    place: ClassVar[int] = 3
    library_file: ClassVar[str] = "xgboost_rf.ubj"
    cost: ClassVar[float] = 2.0
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "lean": {
            "rounds": 12, "early_stopping": 0, "num_parallel_tree": 4, "max_depth": 6, "learning_rate": 0.3,
            "subsample": 0.4, "colsample_bynode": 0.4, "colsample_bytree": 0.8, "min_child_weight": 1.0, "max_bin": 64,
            "seed": 42,
        },
        "seed": {
            "rounds": 400, "early_stopping": 50, "num_parallel_tree": 8, "max_depth": 6, "learning_rate": 0.3,
            "subsample": 0.8, "colsample_bynode": 0.8, "colsample_bytree": 0.8, "min_child_weight": 1.0, "max_bin": 256,
            "seed": 42,
        },
    }
    limits: ClassVar[Limits] = BOOST_LIMITS | {"num_parallel_tree": FROM_1, "colsample_bynode": SHARE}
    search_space: ClassVar[Space] = TREE_SPACE | {
        "rounds": (5, 50, "int"), "num_parallel_tree": (2, 8, "int"), "colsample_bynode": (0.2, 1.0, "linear"),
    }
