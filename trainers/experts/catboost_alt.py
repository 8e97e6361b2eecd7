"""CatBoost's symmetric trees, deeper and held back more: another opinion from the same library."""

from __future__ import annotations

from typing import Any, ClassVar

from .catboost_base import CatBoostBase


class CatBoostAltExpert(CatBoostBase):
    """As `CatBoostExpert`, the same parameters, of another depth, regularisation and seed."""

    name: ClassVar[str] = "catboost_alt"
    place: ClassVar[int] = 6
    library_file: ClassVar[str] = "catboost_alt.cbm"
    cost: ClassVar[float] = 2.0
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "lean": {
            "rounds": 60, "early_stopping": 0, "depth": 8, "learning_rate": 0.12, "l2_leaf_reg": 6.0,
            "random_strength": 1.0, "border_count": 32, "rsm": 0.3, "bootstrap_type": "Bernoulli", "subsample": 0.5,
            "random_seed": 7,
        },
        "seed": {
            "rounds": 900, "early_stopping": 50, "depth": 10, "learning_rate": 0.03, "l2_leaf_reg": 6.0,
            "random_strength": 1.5, "border_count": 254, "rsm": 1.0, "bootstrap_type": "Bayesian", "subsample": 1.0,
            "random_seed": 7,
        },
    }
