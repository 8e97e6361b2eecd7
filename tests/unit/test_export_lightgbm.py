"""LightGBM's models as forests: the library's probabilities, for every kind of model that has them; refusals for others."""

from __future__ import annotations

import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest

from engine.errors import ModelRefused
from engine.runtimes.forest.layout import Forest
from tests.grown import LABELS, PARITY, differs, noise, real
from trainers.export.lightgbm import export_lightgbm

lightgbm = pytest.importorskip("lightgbm")

FEATURES = 5


def grow(X: np.ndarray, y: np.ndarray, rounds: int = 8, weight: Any = None, **params: Any) -> Any:
    known = {"objective": "multiclass", "num_class": 3, "num_leaves": 15, "min_data_in_leaf": 5, "learning_rate": 0.3,
             "verbosity": -1, "seed": 1, "num_threads": 1, "deterministic": True} | params
    return lightgbm.train(known, lightgbm.Dataset(X, y, weight=weight, params=known), rounds)


def export(booster: Any, classes: tuple[int, ...] = LABELS) -> Forest:
    return export_lightgbm(booster.model_to_string(), booster.num_feature(), classes)


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "missing is zero": {"use_missing": False},
    "zero is missing": {"zero_as_missing": True},
    "stumps": {"num_leaves": 2},
    "deep": {"num_leaves": 4000, "max_depth": 12, "min_data_in_leaf": 1, "min_sum_hessian_in_leaf": 0},
    "no split at all": {"min_data_in_leaf": 400},
    "smoothed": {"path_smooth": 5.0, "bagging_fraction": 0.5, "bagging_freq": 1, "feature_fraction": 0.5, "max_bin": 15},
    "dart": {"boosting": "dart", "drop_rate": 0.5, "skip_drop": 0.2},
    "random forest": {"boosting": "rf", "bagging_fraction": 0.5, "bagging_freq": 1},
    "goss": {"data_sample_strategy": "goss"},
    "quantised": {"use_quantized_grad": True},
    "extra trees": {"extra_trees": True},
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("params", KINDS.values(), ids=KINDS)
def test_answers_as_lightgbm(params: dict[str, Any], missing: float, seed: int) -> None:
    X, y = noise(seed, missing=missing)
    booster = grow(X, y, **params)
    assert differs(export(booster), booster.predict, X) <= PARITY


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("params", [{}, {"boosting": "dart", "drop_rate": 0.5}], ids=str)
def test_linear_leaves_answer_as_lightgbm(params: dict[str, Any], seed: int) -> None:
    X, y = noise(seed)
    booster = grow(X, y, linear_tree=True, linear_lambda=0.1, **params)
    forest = export(booster)
    assert forest.linear
    assert differs(forest, lambda X: booster.predict(X), X) <= PARITY


def test_the_missing_kinds_are_all_met() -> None:
    """The parametrisation above means something only if the models hold these splits."""
    kinds = {}
    for name in ("plain", "missing is zero", "zero is missing"):
        lines = grow(*noise(0), **KINDS[name]).model_to_string().splitlines()
        decisions = [int(x) for line in lines if line.startswith("decision_type=") for x in line[14:].split()]
        kinds[name] = {(d >> 2) & 3 for d in decisions}
    assert 0 in kinds["missing is zero"]
    assert 1 in kinds["zero is missing"]
    assert 2 in kinds["plain"]
    booster = grow(*noise(0), zero_as_missing=True)
    splits = sum(tree["num_leaves"] - 1 for tree in booster.dump_model()["tree_info"])
    assert export(booster).feature.size > splits                         # zeros that go astray take three


@pytest.mark.parametrize("objective", ["binary", "multiclass"])
@pytest.mark.parametrize("classes", [(-1, 1), (0, 1), (1, 0)])
def test_two_classes(objective: str, classes: tuple[int, ...]) -> None:
    X, y = noise(3, classes=2)
    booster = grow(X, y, objective=objective, num_class=2 if objective == "multiclass" else 1)
    forest = export(booster, classes)
    assert differs(forest, booster.predict, X, classes=classes) <= PARITY
    (other,) = {0, 1, 2} - {label % 3 for label in classes}
    assert (forest.predict_proba(X)[:, other] == 0).all()


@pytest.mark.parametrize("params", [{}, KINDS["random forest"], {"linear_tree": True}], ids=str)
def test_a_sigmoid_of_its_own(params: dict[str, Any]) -> None:
    X, y = noise(3, classes=2)
    booster = grow(X, y, objective="binary", num_class=1, sigmoid=1.7, **params)
    assert differs(export(booster, (-1, 1)), booster.predict, X, classes=(-1, 1)) <= PARITY


def test_infinite_is_missing() -> None:
    X, y = noise(1)
    forest = export(grow(X, y))
    missing = np.isnan(X)
    infinite = np.where(missing, np.where(np.arange(X.size).reshape(X.shape) % 2, np.inf, -np.inf), X)
    assert missing.any()
    assert np.array_equal(forest.predict_proba(infinite.astype(np.float32)), forest.predict_proba(X))


def test_real_features() -> None:
    X, y = real()
    for linear in (False, True):
        booster = grow(X, y, 20, num_leaves=31, linear_tree=linear)
        assert differs(export(booster), booster.predict, X) <= PARITY


def test_three_thousand_trees() -> None:
    X, y = noise(5, 300)
    booster = grow(X, y, 1000, num_leaves=4)
    forest = export(booster)
    assert forest.root.size == 3000
    assert differs(forest, booster.predict, X) <= PARITY


def test_one_tree() -> None:
    X, y = noise(5, classes=2)
    booster = grow(X, y, 1, objective="binary", num_class=1)
    assert export(booster, (0, 1)).root.size == 1
    assert differs(export(booster, (0, 1)), booster.predict, X, classes=(0, 1)) <= PARITY


def test_weighted_rows_and_stopped_early() -> None:
    """The text holds the rounds up to the best, and so does `predict`."""
    X, y = noise(6)
    params = {"objective": "multiclass", "num_class": 3, "learning_rate": 0.5, "verbosity": -1, "num_threads": 1}
    train = lightgbm.Dataset(X[:400], y[:400], weight=np.random.default_rng(0).exponential(size=400))
    booster = lightgbm.train(
        params, train, 200, valid_sets=[lightgbm.Dataset(X[400:], y[400:], reference=train)],
        callbacks=[lightgbm.early_stopping(5, verbose=False)],
    )
    assert booster.best_iteration < 200
    forest = export(booster)
    assert forest.root.size == 3 * booster.best_iteration
    assert differs(forest, booster.predict, X) <= PARITY


def refitted(text: str, X: np.ndarray, y: np.ndarray) -> tuple[str, np.ndarray]:
    """Text after a refit, and its probabilities of X; in a child: the library may end the process."""
    booster = lightgbm.Booster(model_str=text).refit(X, y, decay_rate=0.9, num_threads=1, path_smooth=0.0)
    return booster.model_to_string(), booster.predict(X)


@pytest.mark.parametrize("params", [{}, {"linear_tree": True}], ids=str)
def test_refitted_leaves(params: dict[str, Any]) -> None:
    booster = grow(*noise(7), path_smooth=0.0, **params)
    X, y = noise(8)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
        text, said = child.submit(refitted, booster.model_to_string(), X, y).result()
    forest = export_lightgbm(text, FEATURES)
    assert not np.array_equal(forest.value, export(booster).value)
    assert differs(forest, lightgbm.Booster(model_str=text).predict, X) <= PARITY
    assert np.abs(forest.predict_proba(X)[:, [2, 0, 1]] - said).max() <= PARITY


# ---- what can't be exported


def text_of(**params: Any) -> str:
    return str(grow(*noise(0), **params).model_to_string())


def own(scores: np.ndarray, data: Any) -> tuple[np.ndarray, np.ndarray]:
    """An objective of the user's: least squares against the class."""
    wanted = np.eye(3)[data.get_label().astype(int)]
    return scores.reshape(wanted.shape) - wanted, np.ones_like(wanted)


def categorical() -> str:
    X, y = noise(0, missing=0.0)
    X[:, 2] = np.arange(len(X)) % 7
    data = lightgbm.Dataset(X, (y + X[:, 2]) % 3, categorical_feature=[2])
    params = {"objective": "multiclass", "num_class": 3, "verbosity": -1, "num_threads": 1}
    return str(lightgbm.train(params, data, 3).model_to_string())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (text_of(objective="multiclassova"), "multiclassova"), (text_of(objective="regression", num_class=1), "regression"),
        (text_of(num_class=4), "3 classes"), (text_of(objective="mape", num_class=1), "mape"),
        (categorical(), "categorical"), (text_of(objective=own), "one's own"),
    ],
)
def test_what_a_forest_can_not_say_is_refused(text: str, says: str) -> None:
    with pytest.raises(ModelRefused, match=says) as refused:
        export_lightgbm(text, FEATURES)
    assert refused.value.code == "forest_unsupported"
    assert "multiclass" in refused.value.hint


def test_an_older_file() -> None:
    """Before 3.2 no tree said whether its leaves are linear."""
    X, y = noise(1)
    text = grow(X, y).model_to_string()
    assert text.count("\nis_linear=0") > 0
    older = re.sub("\ntree_sizes=.*", "", text.replace("\nis_linear=0", "").replace("version=v4", "version=v3"))
    forest = export_lightgbm(older, FEATURES)
    assert differs(forest, lightgbm.Booster(model_str=older).predict, X) <= PARITY


@pytest.mark.parametrize(
    "text",
    [
        "", "tree\nversion=v4\nend of trees\n", text_of()[:3000], text_of().replace("leaf_value=", "leaf_valve="),
        text_of().replace("threshold=", "threshold=x "), text_of().replace("left_child=1", "left_child=0"),
        text_of().replace("num_class=", "num_glass="), text_of().replace("split_feature=", "split_feature=9 "),
    ],
)
def test_what_is_no_model_is_refused(text: str) -> None:
    with pytest.raises(ModelRefused) as refused:
        export_lightgbm(text, FEATURES)
    assert refused.value.code == "forest_damaged"
