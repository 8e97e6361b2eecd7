"""What forests are compared with: XGBoost's own leaves, summed in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xgboost

from trainers.export.probe import probing_rows
from trainers.export.unrounded import unrounded
from trainers.export.xgboost import export_xgboost
from trainers.fit import PARITY


def rows(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 6)).astype(np.float32)
    X[rng.random(X.shape) < 0.1] = np.nan
    return X, rng.integers(0, 3, n)


def grow(rounds: int, X: np.ndarray, y: np.ndarray, **params: Any) -> Any:
    kind = {"objective": "multi:softprob", "num_class": 3, "nthread": 1, "max_depth": 6} | params
    return xgboost.train({k: v for k, v in kind.items() if v is not None}, xgboost.DMatrix(X, y), rounds)


KINDS: dict[str, dict[str, Any]] = {
    "softprob": {},
    "a base for each class": {"base_score": [0.2, 0.3, 0.5]},
    "dart": {"booster": "dart", "rate_drop": 0.3},
    "parallel trees": {"num_parallel_tree": 4, "subsample": 0.5},
    "vector leaves": {"multi_strategy": "multi_output_tree", "tree_method": "hist"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_says_what_the_library_says(kind: str) -> None:
    X, y = rows()
    booster = grow(20, X, y, **KINDS[kind])
    assert np.abs(unrounded(xgboost, booster, X, 20) - booster.predict(xgboost.DMatrix(X))).max() < PARITY
    some = booster.predict(xgboost.DMatrix(X), iteration_range=(0, 7))
    assert np.abs(unrounded(xgboost, booster, X, 7) - some).max() < PARITY


def test_of_two_classes() -> None:
    X, y = rows()
    booster = grow(20, X, y == 1, objective="binary:logistic", num_class=None, base_score=0.2)
    assert np.abs(unrounded(xgboost, booster, X, 20) - booster.predict(xgboost.DMatrix(X))).max() < PARITY


def test_a_thousand_rounds_of_large_leaves_are_taken_and_one_wrong_leaf_is_not() -> None:
    """The library's own sums part by more than is allowed."""
    X, _ = rows(2000)
    y = np.digitize(np.nan_to_num(X[:, 0] + X[:, 1] * X[:, 2]), [-0.5, 0.5])
    booster = grow(1000, X, y, eta=0.3)
    forest = export_xgboost(bytes(booster.save_raw("ubj")), 6)
    X = probing_rows(forest, 2000)
    exact = unrounded(xgboost, booster, X, 1000)[:, [1, 2, 0]]
    served = forest.predict_proba(X)
    assert np.abs(booster.predict(xgboost.DMatrix(X))[:, [1, 2, 0]] - exact).max() > PARITY
    assert np.abs(served - exact).max() <= PARITY
    value = forest.value.copy()
    value[len(value) // 2] += 1e-3
    wrong = type(forest)(**{name: getattr(forest, name) for name in forest.__dataclass_fields__} | {"value": value})
    assert np.abs(wrong.predict_proba(X) - exact).max() > PARITY
