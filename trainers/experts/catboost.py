"""CatBoost's symmetric trees."""

from __future__ import annotations

from typing import Any, ClassVar

from .catboost_base import CatBoostBase


class CatBoostExpert(CatBoostBase):
    """Gradient-boosted symmetric trees of CatBoost, softmax over the classes; see `Trainable`, `CatBoostBase` on determinism.

    Own parameters, as the library calls them: rounds (its iterations), early_stopping (rounds without a better
    validation, 0: none), depth, learning_rate, l2_leaf_reg, random_strength, border_count, rsm (share of the features
    tried at each split; CPU only), bootstrap_type, subsample (not with Bayesian), random_seed.
    """

    name: ClassVar[str] = "catboost"
    place: ClassVar[int] = 5
    library_file: ClassVar[str] = "catboost.cbm"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "lean": {
            "rounds": 60, "early_stopping": 0, "depth": 6, "learning_rate": 0.12, "l2_leaf_reg": 3.0,
            "random_strength": 1.0, "border_count": 32, "rsm": 0.3, "bootstrap_type": "Bernoulli", "subsample": 0.5,
            "random_seed": 42,
        },
        "seed": {
            "rounds": 800, "early_stopping": 50, "depth": 8, "learning_rate": 0.05, "l2_leaf_reg": 3.0,
            "random_strength": 1.0, "border_count": 254, "rsm": 1.0, "bootstrap_type": "Bayesian", "subsample": 1.0,
            "random_seed": 42,
        },
    }
