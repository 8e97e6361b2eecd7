"""CatBoost's models as forests: the library's probabilities, symmetric trees and others; refusals for the rest."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import DeviceMissing, ModelRefused
from engine.runtimes.forest.layout import Forest
from tests.grown import LABELS, PARITY, differs, noise, real
from trainers.export.catboost import export_catboost
from trainers.export.probe import probing_rows

catboost = pytest.importorskip("catboost")


def grow(X: Any, y: np.ndarray, rounds: int = 8, **params: Any) -> Any:
    known = {"loss_function": "MultiClass", "depth": 4, "random_seed": 1, "thread_count": 1, "verbose": False,
             "allow_writing_files": False, "learning_rate": 0.3}
    fit = {name: params.pop(name) for name in ("sample_weight", "eval_set") if name in params}
    return catboost.CatBoostClassifier(iterations=rounds, **known | params).fit(X, y, **fit)


def saved(model: Any, tmp_path: Path, kind: str = "json") -> bytes:
    model.save_model(str(tmp_path / "model"), format=kind)
    return (tmp_path / "model").read_bytes()


def export(model: Any, tmp_path: Path, classes: tuple[int, ...] = LABELS, kind: str = "json") -> Forest:
    return export_catboost(saved(model, tmp_path, kind), 5, classes)


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stumps": {"depth": 1},
    "deep": {"depth": 12, "rounds": 2},
    "depthwise": {"grow_policy": "Depthwise", "depth": 6},
    "lossguide": {"grow_policy": "Lossguide", "max_leaves": 20},
    "few borders": {"border_count": 5, "feature_border_type": "Uniform"},
    "ordered": {"boosting_type": "Ordered"},
    "average as base": {"boost_from_average": True, "loss_function": "Logloss"},
    "logloss": {"loss_function": "Logloss"},
    "logloss depthwise": {"loss_function": "Logloss", "grow_policy": "Depthwise"},
    "cross entropy": {"loss_function": "CrossEntropy"},
}


@pytest.mark.parametrize("nan_mode", ["Min", "Max"])
@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("params", KINDS.values(), ids=KINDS)
def test_answers_as_catboost(params: dict[str, Any], missing: float, nan_mode: str, tmp_path: Path) -> None:
    """Rows with holes are asked also where training had none."""
    two = params.get("loss_function") is not None
    X, y = noise(3, missing=missing, classes=2 if two else 3)
    model = grow(X, y, nan_mode=nan_mode, **params)
    classes = (-1, 1) if two else LABELS
    forest = export(model, tmp_path, classes)
    assert forest.symmetric == (params.get("grow_policy") is None)
    assert differs(forest, model.predict_proba, X, classes=classes) <= PARITY


def test_the_kinds_of_missing_values_are_all_met(tmp_path: Path) -> None:
    met = {}
    for missing, nan_mode in ((0.0, "Min"), (0.3, "Min"), (0.3, "Max")):
        said = json.loads(saved(grow(*noise(3, missing=missing), nan_mode=nan_mode), tmp_path))
        met[missing, nan_mode] = {one["nan_value_treatment"] for one in said["features_info"]["float_features"]}
    assert met[0.0, "Min"] == {"AsIs"}
    assert "AsFalse" in met[0.3, "Min"]
    assert "AsTrue" in met[0.3, "Max"]


@pytest.mark.parametrize("classes", [(-1, 1), (0, 1), (1, 0)])
@pytest.mark.parametrize("loss", ["Logloss", "MultiClass"])
def test_two_classes(loss: str, classes: tuple[int, ...], tmp_path: Path) -> None:
    X, y = noise(4, classes=2)
    model = grow(X, y, loss_function=loss)
    forest = export(model, tmp_path, classes)
    assert differs(forest, model.predict_proba, X, classes=classes) <= PARITY
    (other,) = {0, 1, 2} - {label % 3 for label in classes}
    assert (forest.predict_proba(X)[:, other] == 0).all()


@pytest.mark.parametrize("names", [(-1, 0, 1), (0, 1, -1)])
def test_classes_stand_in_the_library_s_order(names: tuple[int, ...], tmp_path: Path) -> None:
    X, y = noise(4)
    model = grow(X, y - 1, class_names=list(names))
    assert tuple(model.classes_) == names
    assert differs(export(model, tmp_path, names), model.predict_proba, X, classes=names) <= PARITY


def test_real_features(tmp_path: Path) -> None:
    X, y = real()
    for policy in ("SymmetricTree", "Depthwise"):
        model = grow(X, y, 20, depth=6, grow_policy=policy)
        forest = export_catboost(saved(model, tmp_path), X.shape[1])
        assert differs(forest, model.predict_proba, X) <= PARITY


def test_three_thousand_trees(tmp_path: Path) -> None:
    X, y = noise(5, 300)
    model = grow(X, y, 3000, depth=2)
    forest = export(model, tmp_path)
    assert forest.root.size == 3000
    assert differs(forest, model.predict_proba, X) <= PARITY


def test_one_tree_of_nothing(tmp_path: Path) -> None:
    """A model that found nothing to split on has trees of one leaf."""
    X, y = noise(5)
    model = grow(np.ones_like(X)[:, :5] + np.arange(600)[:, None] * [0, 0, 0, 0, 1e-9], y, 1)
    forest = export(model, tmp_path)
    assert differs(forest, model.predict_proba, X) <= PARITY


def test_scale_and_bias(tmp_path: Path) -> None:
    X, y = noise(5)
    model = grow(X, y, rounds=3)
    model.set_scale_and_bias(0.5, [0.1, -0.2, 0.3])
    assert differs(export(model, tmp_path), model.predict_proba, X) <= PARITY


def test_weighted_rows_and_stopped_early(tmp_path: Path) -> None:
    X, y = noise(6)
    weight = np.random.default_rng(0).exponential(size=400)
    model = grow(X[:400], y[:400], 200, sample_weight=weight, eval_set=(X[400:], y[400:]), early_stopping_rounds=5)
    assert model.tree_count_ < 200
    forest = export(model, tmp_path)
    assert forest.root.size == model.tree_count_
    assert differs(forest, model.predict_proba, X) <= PARITY


def test_columns_are_those_of_the_rows(tmp_path: Path) -> None:
    """A feature's own number counts numeric ones only; a forest asks columns. Ignored ones keep their places."""
    X, y = noise(7)
    model = grow(X, y, ignored_features=[1])
    forest = export(model, tmp_path)
    assert 1 not in forest.feature
    assert differs(forest, model.predict_proba, X) <= PARITY


def test_cbm_is_json(tmp_path: Path) -> None:
    model = grow(*noise(1))
    assert export(model, tmp_path, kind="cbm").to_bytes() == export(model, tmp_path).to_bytes()


def test_cbm_without_the_library_is_a_coded_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of that name that can't be imported stands before the real one; the child looks there too."""
    data = saved(grow(*noise(1)), tmp_path, "cbm")
    (tmp_path / "catboost.py").write_text("raise ImportError('not here')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DeviceMissing) as refused:
        export_catboost(data, 5)
    assert refused.value.code == "library_missing"


def other(kind: str) -> Any:
    X, y = noise(1, missing=0.0)
    if kind == "categorical":
        rows = [[*row[:4].tolist(), str(int(row[1] > 0))] for row in X]
        return grow(rows, y, cat_features=[4], one_hot_max_size=1)
    if kind == "one hot":
        rows = [[*row[:4].tolist(), str(int(row[1] > 0))] for row in X]
        return grow(rows, y, cat_features=[4], one_hot_max_size=10)
    if kind == "text":
        rows = [[*row[:4].tolist(), f"word{int(row[1] > 0)} other"] for row in X]
        return grow(rows, y, text_features=[4])
    if kind == "embedding":
        rows = [[*row[:4].tolist(), row.tolist()] for row in X]
        return grow(rows, y, embedding_features=[4])
    if kind == "regression":
        return catboost.CatBoostRegressor(iterations=2, verbose=False, allow_writing_files=False, thread_count=1).fit(X, y)
    return grow(X, y, loss_function="MultiClassOneVsAll")


@pytest.mark.parametrize(
    ("kind", "says", "formats"),
    [("categorical", "categorical features", ("json", "cbm")), ("one hot", "categorical features", ("json", "cbm")),
     ("text", "text", ("cbm",)), ("embedding", "embedding", ("cbm",)), ("regression", "RMSE", ("json", "cbm")),
     ("ova", "MultiClassOneVsAll", ("json", "cbm"))],
)
def test_what_a_forest_can_not_say_is_refused(kind: str, says: str, formats: tuple[str, ...], tmp_path: Path) -> None:
    model = other(kind)
    for format in formats:
        with pytest.raises(ModelRefused, match=says) as refused:
            export(model, tmp_path, kind=format)
        assert refused.value.code == "forest_unsupported"
        assert "MultiClass" in refused.value.hint


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    model = grow(*noise(1))
    with pytest.raises(ModelRefused, match="2 classes") as refused:
        export(model, tmp_path, (-1, 1))
    assert refused.value.code == "forest_unsupported"


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    model = grow(*noise(1))
    whole, cbm = saved(model, tmp_path), saved(model, tmp_path, "cbm")
    broken = [b"", b"{", b"{}", b"CBM1", b"tree\nversion=v4", whole[: len(whole) // 2], cbm[: len(cbm) // 2], b'{"a":' * 100_000]
    split = {"split_type": "FloatFeature", "float_feature_index": 1, "border": 0}
    for wrong in (
        {"scale_and_bias": [1e300, [0, 0, 0]]}, {"scale_and_bias": 1}, {"features_info": {}}, {"oblivious_trees": []},
        {"oblivious_trees": [{"splits": [split | {"float_feature_index": 9}], "leaf_values": [0] * 6}]},
        {"oblivious_trees": [{"splits": [split], "leaf_values": [0] * 3}]},
        {"oblivious_trees": [{"splits": [split], "leaf_values": [0] * 3}, {"splits": [split], "leaf_values": [0] * 9}]},
    ):
        broken.append(json.dumps(json.loads(whole) | wrong).encode())
    for data in broken:
        with pytest.raises(ModelRefused) as refused:
            export_catboost(data, 5)
        assert refused.value.code == "forest_damaged", data[:40]
    with pytest.raises(ModelRefused):
        export_catboost(whole, 2)                                                    # fewer columns than it splits on


def test_a_cbm_that_ends_the_library_ends_nobody_else(tmp_path: Path) -> None:
    """One bit of an offset: version 1.2 of the library crashes on it."""
    broken = bytearray(saved(grow(*noise(1)), tmp_path, "cbm"))
    broken[broken.index(bytes([16, 0, 0, 0, 20, 0, 0, 0, 24, 0, 0, 0, 28, 0, 0, 0])) + 16] ^= 0x40
    with pytest.raises(ModelRefused) as refused:
        export_catboost(bytes(broken), 5)
    assert refused.value.code == "forest_damaged"


def test_probing_rows_tell_a_border_from_its_neighbours(tmp_path: Path) -> None:
    """What this file's comparisons rest on: a forest whose thresholds are one float32 off differs."""
    model = grow(*noise(3))
    forest = export(model, tmp_path)
    assert set(forest.threshold[forest.feature == 1]) <= set(probing_rows(forest, 1000)[:, 1])
    off = dataclasses.replace(forest, threshold=np.nextafter(forest.threshold, np.float32(np.inf)))
    assert differs(off, model.predict_proba) > PARITY
