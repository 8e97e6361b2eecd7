"""XGBoost's models as forests: the library's probabilities, for every kind of model that has them; refusals for others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import ModelRefused
from tests.grown import PARITY, differs, noise, real
from trainers.export.xgboost import export_xgboost

xgboost = pytest.importorskip("xgboost")


def grow(X: np.ndarray, y: np.ndarray, rounds: int = 8, weight: Any = None, **params: Any) -> Any:
    known = {"objective": "multi:softprob", "num_class": 3, "nthread": 1, "verbosity": 0, "max_depth": 5, "seed": 1} | params
    known = {name: value for name, value in known.items() if value is not None}
    return xgboost.train(known, xgboost.DMatrix(X, y, weight=weight), rounds)


def export(booster: Any, classes: tuple[int, ...] = (-1, 0, 1), kind: str = "json") -> Any:
    return export_xgboost(bytes(booster.save_raw(kind)), booster.num_features(), classes)


def asked(booster: Any) -> Any:
    return lambda X: booster.predict(xgboost.DMatrix(X))


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stumps": {"max_depth": 1},
    "deep": {"max_depth": 12, "min_child_weight": 0, "eta": 1.0},
    "no split at all": {"gamma": 1e9},
    "pruned": {"gamma": 2.0, "tree_method": "exact"},
    "approx": {"tree_method": "approx", "max_bin": 16},
    "lossguide": {"grow_policy": "lossguide", "max_leaves": 20, "max_depth": 0},
    "random forest": {"num_parallel_tree": 6, "subsample": 0.8, "colsample_bynode": 0.8},
    "dart": {"booster": "dart", "rate_drop": 0.4, "skip_drop": 0.1},
    "dart of forests": {"booster": "dart", "rate_drop": 0.4, "num_parallel_tree": 3, "subsample": 0.7},
    "vector leaves": {"multi_strategy": "multi_output_tree"},
    "vector leaves of forests": {"multi_strategy": "multi_output_tree", "num_parallel_tree": 2, "subsample": 0.7},
    "one base for all": {"base_score": 0.3},
    "softmax": {"objective": "multi:softmax"},
}


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("params", KINDS.values(), ids=KINDS)
def test_answers_as_xgboost(params: dict[str, Any], missing: float) -> None:
    X, y = noise(3, missing=missing)
    booster = grow(X, y, **params)
    forest = export(booster)
    booster.set_param({"objective": "multi:softprob"})          # softmax says classes, its margins are the same
    assert differs(forest, asked(booster), X) <= PARITY


def test_the_kinds_hold_what_they_are_named_for() -> None:
    def learner(name: str) -> Any:
        return json.loads(bytes(grow(*noise(3), **KINDS[name]).save_raw("json")))["learner"]

    assert min(learner("dart")["gradient_booster"]["weight_drop"]) < 1.0
    assert learner("random forest")["gradient_booster"]["model"]["tree_info"][:12] == [0] * 6 + [1] * 6
    assert len(set(json.loads(learner("plain")["learner_model_param"]["base_score"]))) == 3
    trees = learner("pruned")["gradient_booster"]["model"]["trees"]
    assert any(int(tree["tree_param"]["num_deleted"]) for tree in trees)
    assert export(grow(*noise(3), **KINDS["vector leaves"])).value.shape[1] == 3
    defaults = {d for tree in learner("plain")["gradient_booster"]["model"]["trees"] for d in tree["default_left"]}
    assert defaults == {0, 1}


@pytest.mark.parametrize("objective", ["binary:logistic", "reg:logistic", "multi:softprob"])
@pytest.mark.parametrize("classes", [(-1, 1), (0, 1), (1, 0)])
def test_two_classes(objective: str, classes: tuple[int, ...]) -> None:
    X, y = noise(4, classes=2)
    booster = grow(X, y, objective=objective, num_class=2 if objective == "multi:softprob" else None)
    forest = export(booster, classes)
    assert differs(forest, asked(booster), X, classes=classes) <= PARITY
    (other,) = {0, 1, 2} - {label % 3 for label in classes}
    assert (forest.predict_proba(X)[:, other] == 0).all()


def test_the_base_of_a_logistic_model_is_a_probability() -> None:
    X, y = noise(4, classes=2)
    booster = grow(X, y, 1, objective="binary:logistic", num_class=None, base_score=0.9, gamma=1e9, eta=1e-6)
    assert export(booster, (-1, 1)).predict_proba(X)[:, 1] == pytest.approx(0.9, abs=1e-5)


def test_real_features() -> None:
    X, y = real()
    booster = grow(X, y, 20, max_depth=8)
    assert differs(export(booster), asked(booster), X) <= PARITY


def test_three_thousand_trees() -> None:
    """The library sums in float32, so that so many trees part from the exact sum; the margins stay small on purpose."""
    X, y = noise(5, 300)
    booster = grow(X, y, 1000, eta=0.002, max_depth=2)
    forest = export(booster)
    assert forest.root.size == 3000
    assert differs(forest, asked(booster), X) <= PARITY


def test_one_tree() -> None:
    X, y = noise(5, classes=2)
    booster = grow(X, y, 1, objective="binary:logistic", num_class=None)
    assert export(booster, (0, 1)).root.size == 1
    assert differs(export(booster, (0, 1)), asked(booster), X, classes=(0, 1)) <= PARITY


def test_weighted_rows_and_a_column_that_is_all_missing() -> None:
    X, y = noise(6)
    X[:, 2] = np.nan
    booster = grow(X, y, weight=np.random.default_rng(0).exponential(size=len(y)))
    assert differs(export(booster), asked(booster), X) <= PARITY


def test_refreshed_leaves() -> None:
    X, y = noise(7)
    booster = grow(X, y)
    before = export(booster)
    other, label = noise(8)
    booster = xgboost.train(
        {"process_type": "update", "updater": "refresh", "refresh_leaf": 1, "objective": "multi:softprob", "num_class": 3,
         "nthread": 1}, xgboost.DMatrix(other, label), 8, xgb_model=booster,
    )
    forest = export(booster)
    assert not np.array_equal(forest.value, before.value)
    assert np.array_equal(forest.threshold, before.threshold)
    assert differs(forest, asked(booster), X) <= PARITY


def early(**more: Any) -> Any:
    """A classifier that stopped early, some rounds after its best."""
    X, y = noise(9)
    model = xgboost.XGBClassifier(n_estimators=200, early_stopping_rounds=5, learning_rate=0.5, n_jobs=1, **more)
    model.fit(X[:400], y[:400], eval_set=[(X[400:], y[400:])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    return model, X


@pytest.mark.parametrize("more", [{}, KINDS["random forest"], KINDS["vector leaves"]], ids=str)
def test_stopped_early_is_what_predict_answers(more: dict[str, Any], tmp_path: Path) -> None:
    model, X = early(**more)
    booster = model.get_booster()
    assert differs(export(booster), asked(booster), X) <= PARITY                    # a Booster's predict uses all its trees
    best = booster[: booster.best_iteration + 1]
    assert differs(export(best), asked(best), X) <= PARITY
    model.save_model(tmp_path / "model.json")
    forest = export_xgboost((tmp_path / "model.json").read_bytes(), 5)
    assert differs(forest, model.predict_proba, X) <= PARITY
    assert forest.root.size < export(booster).root.size


def test_ubjson_is_json() -> None:
    booster = grow(*noise(1))
    assert export(booster, kind="ubj").to_bytes() == export(booster).to_bytes()


def test_ubjson_cut_anywhere_is_refused() -> None:
    data = bytes(grow(*noise(1, 100), 1, max_depth=1).save_raw("ubj"))
    for length in range(len(data)):
        with pytest.raises(ModelRefused):
            export_xgboost(data[:length], 5)
    with pytest.raises(ModelRefused, match="behind the end"):
        export_xgboost(data + b"x", 5)


def test_an_older_file() -> None:
    """Before 3.1 one base_score stood for all classes, and before 2 nobody wrote where rounds begin."""
    X, y = noise(1)
    booster = grow(X, y, base_score=0.5)
    said = json.loads(bytes(booster.save_raw("json")))
    assert said["learner"]["learner_model_param"]["base_score"] == "[5E-1,5E-1,5E-1]"
    said["learner"]["learner_model_param"]["base_score"] = "5E-1"
    del said["learner"]["gradient_booster"]["model"]["iteration_indptr"]
    assert export_xgboost(json.dumps(said).encode(), 5).to_bytes() == export(booster).to_bytes()


def test_an_older_file_of_a_classifier_that_stopped_early(tmp_path: Path) -> None:
    model, _ = early(**KINDS["random forest"])
    model.save_model(tmp_path / "model.json")
    whole = (tmp_path / "model.json").read_bytes()
    said = json.loads(whole)
    del said["learner"]["gradient_booster"]["model"]["iteration_indptr"]
    assert export_xgboost(json.dumps(said).encode(), 5).to_bytes() == export_xgboost(whole, 5).to_bytes()


def test_a_vector_leaf_is_where_its_node_says() -> None:
    """The library writes leaves in the order of their nodes; nothing promises that."""
    X, y = noise(3)
    booster = grow(X, y, **KINDS["vector leaves"])
    said = json.loads(bytes(booster.save_raw("json")))
    for tree in said["learner"]["gradient_booster"]["model"]["trees"]:
        weights = np.array(tree["leaf_weights"]).reshape(-1, 3)
        tree["leaf_weights"] = weights[::-1].ravel().tolist()
        leaf = np.array(tree["left_children"]) < 0
        right = np.array(tree["right_children"])
        tree["right_children"] = np.where(leaf, len(weights) - 1 - right, right).tolist()
    assert export_xgboost(json.dumps(said).encode(), 5).to_bytes() == export(booster).to_bytes()


def test_a_split_that_only_asks_whether_there_is_a_value() -> None:
    X, y = noise(3)
    said = json.loads(bytes(grow(X, y, 1).save_raw("json")))
    for tree in said["learner"]["gradient_booster"]["model"]["trees"]:
        tree["split_conditions"][0] = -np.inf
    data = json.dumps(said).encode()
    booster = xgboost.Booster(model_file=bytearray(data))
    forest = export_xgboost(data, 5)
    assert forest.threshold.min() == np.finfo(np.float32).min
    assert differs(forest, asked(booster), X) <= PARITY


def categorical() -> bytes:
    X, y = noise(1, missing=0.0)
    X[:, 2] = np.arange(len(X)) % 7
    y = np.where(X[:, 2] == 3, 1, y)
    data = xgboost.DMatrix(X, y, feature_types=["q", "q", "c", "q", "q"], enable_categorical=True)
    params = {"objective": "multi:softprob", "num_class": 3, "nthread": 1, "tree_method": "hist"}
    return bytes(xgboost.train(params, data, 3).save_raw("json"))


@pytest.mark.parametrize(
    ("params", "classes", "says"),
    [
        ({"objective": "binary:logitraw", "num_class": None}, (0, 1), "logitraw"),
        ({"objective": "reg:squarederror", "num_class": None}, (0, 1), "squarederror"),
        ({"objective": "rank:pairwise", "num_class": None}, (0, 1), "pairwise"),
        ({"booster": "gblinear"}, (-1, 0, 1), "gblinear"),
        ({"num_class": 4}, (-1, 0, 1), "3 classes"),
        ({"objective": "binary:logistic", "num_class": None}, (-1, 0, 1), "3 classes"),
    ],
)
def test_what_a_forest_can_not_say_is_refused(params: dict[str, Any], classes: tuple[int, ...], says: str) -> None:
    X, y = noise(1, classes=2)
    with pytest.raises(ModelRefused, match=says) as refused:
        export(grow(X, y, **params), classes)
    assert refused.value.code == "forest_unsupported"
    assert "multi:softprob" in refused.value.hint


@pytest.mark.parametrize("only", [0, 1])
def test_rows_of_one_class_teach_nothing(only: int) -> None:
    X, y = noise(1, classes=2)
    booster = grow(X, np.full_like(y, only), objective="binary:logistic", num_class=None)
    with pytest.raises(ModelRefused, match="one class only") as refused:
        export(booster, (-1, 1))
    assert refused.value.code == "forest_unsupported"


def test_categorical_splits_are_refused() -> None:
    with pytest.raises(ModelRefused, match="categorical") as refused:
        export_xgboost(categorical(), 5)
    assert refused.value.code == "forest_unsupported"


def test_what_is_no_model_is_refused() -> None:
    whole = bytes(grow(*noise(1)).save_raw("json"))
    ubj = bytes(grow(*noise(1)).save_raw("ubj"))
    broken = [
        b"", b"{", b"{}", b"[]", b'{"learner": 1}', b"tree\nversion=v4", whole[: len(whole) // 2], ubj[: len(ubj) // 2],
        b'{"a":' * 100_000, whole.replace(b'"left_children":[1', b'"left_children":[0'),
        whole.replace(b'"split_indices":[', b'"split_indices":[99,'), whole.replace(b"base_score", b"base_scare"),
        whole.replace(b'"tree_info":[', b'"tree_info":[7,'), whole.replace(b"split_conditions", b"split_conditiona"),
    ]
    for data in broken:
        with pytest.raises(ModelRefused) as refused:
            export_xgboost(data, 5)
        assert refused.value.code == "forest_damaged", data[:40]
    with pytest.raises(ModelRefused):
        export_xgboost(whole, 2)                                                     # fewer columns than it splits on
