"""What a model file says of itself: its classes by name, its columns in their places; refused before anything is asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import ModelRefused, UsageError
from engine.features import FeatureSet
from engine.types import CLASSES
from tests.grown import PARITY, noise
from trainers.export.forest import parity
from trainers.importing import chosen_classes, chosen_columns, over_engine_columns
from trainers.model_file import ModelFile, read_model

FEATURES = FeatureSet.default()
NAMES = [FEATURES.names[i] for i in (7, 3, 40, 0, 21)]
DECIDES = 1
"""The model's column that the classes were planted by: the first of them where it is low, the last where it is high."""

PLANTED = ["sell", "neutral", "buy"]


def planted(classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    return noise(1, missing=0.0, classes=classes)


def rows(columns: int, decides: int) -> np.ndarray:
    """In which the column that decides is low, in the middle, high."""
    X = np.zeros((3, columns), np.float32)
    X[:, decides] = (-2.0, 0.0, 2.0)
    return X


def catboost(path: Path, labels: Sequence[Any] = (-1, 0, 1), names: Any = None, **params: Any) -> Path:
    """Trained on these labels, of planted classes; saved as JSON."""
    library = pytest.importorskip("catboost")
    X, y = planted(len(labels))
    params = {"loss_function": "MultiClass", "iterations": 5, "depth": 3, "thread_count": 1, "learning_rate": 0.5} | params
    model = library.CatBoostClassifier(verbose=False, allow_writing_files=False, **params)
    model.fit(library.Pool(X, np.array(labels)[y], feature_names=names)).save_model(str(path / "model"), format="json")
    return path / "model"


def lightgbm(path: Path, names: Any = "auto", **params: Any) -> Path:
    library = pytest.importorskip("lightgbm")
    X, y = planted(2 if "objective" in params else 3)
    params = {"objective": "multiclass", "num_class": 3, "num_leaves": 7, "verbosity": -1, "num_threads": 1} | params
    group = {"group": [len(y)]} if params["objective"] == "lambdarank" else {}
    data = library.Dataset(X, y, feature_name=names, **group)
    library.train(params, data, 5).save_model(path / "model")
    return path / "model"


def xgboost(path: Path, names: Any = None, kind: str = "json", **params: Any) -> Path:
    library = pytest.importorskip("xgboost")
    X, y = planted(2 if "objective" in params else 3)
    params = {"objective": "multi:softprob", "num_class": 3, "max_depth": 3, "nthread": 1} | params
    booster = library.train(params, library.DMatrix(X, y, feature_names=names), 5)
    (path / "model").write_bytes(bytes(booster.save_raw(kind)))
    return path / "model"


def named(model: ModelFile, given: tuple[int, ...] = ()) -> list[str]:
    """The sides that a model votes for where its planted classes are."""
    forest = model.forest(chosen_classes(model, given))
    return [CLASSES[i] for i in forest.predict_proba(rows(len(model.columns), DECIDES)).argmax(1)]


@pytest.mark.parametrize(
    ("labels", "params"),
    [
        (["sell", "neutral", "buy"], {}), (["SELL", "Neutral", " Buy "], {}), ([-1, 0, 1], {}), ([-1.0, 0.0, 1.0], {}),
        (["-1", "0", "1"], {}), (["-1.0", "0.0", "1.0"], {}), (["-1", "-0", "+1"], {}), ([0, 1, 2], {}), (["0", "1", "2"], {}),
        ([-1, 0, 1], {"class_names": [1, 0, -1]}), ([-1, 0, 1], {"class_names": [0, 1, -1]}),
        (["sell", "neutral", "buy"], {"class_names": ["neutral", "sell", "buy"]}),
    ],
    ids=str,
)
def test_classes_are_what_they_are_called(labels: list[Any], params: dict[str, Any], tmp_path: Path) -> None:
    assert named(read_model(catboost(tmp_path, labels, **params))) == PLANTED


@pytest.mark.parametrize("loss", ["MultiClass", "Logloss"])
@pytest.mark.parametrize(
    ("labels", "params"),
    [(["sell", "buy"], {}), ([-1, 1], {}), (["-1.0", "1.0"], {}), ([-1, 1], {"class_names": [1, -1]}), (["Sell", "BUY"], {})],
    ids=str,
)
def test_two_classes_are_what_they_are_called(labels: list[Any], params: dict[str, Any], loss: str, tmp_path: Path) -> None:
    low, _, high = named(read_model(catboost(tmp_path, labels, loss_function=loss, **params)))
    assert (low, high) == ("sell", "buy")


@pytest.mark.parametrize(
    ("labels", "params", "order"),
    [
        (["low", "mid", "up"], {}, (-1, 0, 1)), (["low", "mid", "high"], {}, (1, -1, 0)),
        ([10, 20, 30], {}, (-1, 0, 1)), ([0, 1, 2], {"class_names": [2, 1, 0]}, (1, 0, -1)),
        (["low", "high"], {}, (1, -1)), ([False, True], {"loss_function": "Logloss"}, (-1, 1)),
        ([0, 1], {"class_names": [1, 0], "loss_function": "Logloss"}, (1, -1)),
    ],
    ids=str,
)
def test_other_names_need_the_user_s_word(
    labels: list[Any], params: dict[str, Any], order: tuple[int, ...], tmp_path: Path
) -> None:
    model = read_model(catboost(tmp_path, labels, **params))
    with pytest.raises(UsageError, match=", ".join(model.named)) as refused:
        chosen_classes(model, ())
    assert refused.value.code == "import_classes"
    assert "--classes sell" in refused.value.hint
    sides = named(model, order)
    assert (sides[0], sides[-1]) == ("sell", "buy")


@pytest.mark.parametrize("labels", [["sell", "neutral", "buy"], [-1, 0, 1]], ids=str)
def test_names_that_say_it_are_not_overruled(labels: list[Any], tmp_path: Path) -> None:
    model = read_model(catboost(tmp_path, labels))
    order = chosen_classes(model, ())
    assert chosen_classes(model, tuple(order)) == tuple(order)
    with pytest.raises(UsageError, match="calls its classes") as refused:
        chosen_classes(model, tuple(order[::-1]))
    assert refused.value.code == "import_classes"
    assert "leave --classes away" in refused.value.hint


def test_a_class_that_was_named_and_never_met(tmp_path: Path) -> None:
    """The library's answers have a column for it, its leaves don't."""
    model = read_model(catboost(tmp_path, [-1, 1], class_names=[-1, 0, 1]))
    assert model.classes == 2
    low, _, high = named(model)
    assert (low, high) == ("sell", "buy")
    X, _ = planted()
    classes = chosen_classes(model, ())
    assert parity(model.forest(classes), model.answer(X, classes)[0], X) <= PARITY


def test_the_older_name_of_a_model_s_classes(tmp_path: Path) -> None:
    path = catboost(tmp_path, ["sell", "neutral", "buy"])
    said = json.loads(path.read_text())
    said["model_info"]["multiclass_params"] = json.dumps(said["model_info"].pop("class_params"))
    path.write_text(json.dumps(said))
    assert named(read_model(path)) == PLANTED


@pytest.mark.parametrize("grow", [lightgbm, xgboost], ids=lambda grow: grow.__name__)
def test_numbers_without_names(grow: Any, tmp_path: Path) -> None:
    assert named(read_model(grow(tmp_path))) == PLANTED
    assert named(read_model(grow(tmp_path)), (1, 0, -1)) == PLANTED[::-1]


@pytest.mark.parametrize("grow", [lightgbm, xgboost, catboost], ids=lambda grow: grow.__name__)
@pytest.mark.parametrize("how", ["file", "user", "both"])
def test_columns_stand_where_the_engine_has_them(grow: Any, how: str, tmp_path: Path) -> None:
    model = read_model(grow(tmp_path, **({} if how == "user" else {"names": NAMES})))
    names = chosen_columns(model, [] if how == "file" else NAMES, FEATURES)
    forest = over_engine_columns(model.forest(chosen_classes(model, ())), names, FEATURES)
    asked = rows(len(FEATURES.names), FEATURES.names.index(NAMES[DECIDES]))
    assert [CLASSES[i] for i in forest.predict_proba(asked).argmax(1)] == PLANTED


@pytest.mark.parametrize("names", [NAMES, ["a", NAMES[1], "c", "d", "e"]], ids=["all", "one"])
def test_columns_that_the_file_names_are_not_overruled(names: list[str], tmp_path: Path) -> None:
    model = read_model(lightgbm(tmp_path, names=names))
    assert chosen_columns(model, NAMES, FEATURES) == NAMES
    swapped = [NAMES[1], NAMES[0], *NAMES[2:]]
    with pytest.raises(UsageError, match="the file calls its column") as refused:
        chosen_columns(model, swapped, FEATURES)
    assert refused.value.code == "import_features"


@pytest.mark.parametrize(
    ("grow", "params"),
    [
        (lightgbm, {"objective": "regression", "num_class": 1}), (lightgbm, {"objective": "lambdarank", "num_class": 1}),
        (xgboost, {"objective": "reg:squarederror", "num_class": 0}), (xgboost, {"objective": "count:poisson", "num_class": 0}),
        (xgboost, {"objective": "rank:pairwise", "num_class": 0}),
    ],
    ids=str,
)
def test_what_tells_no_classes_apart_is_refused_first(grow: Any, params: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="objective") as refused:
        read_model(grow(tmp_path, **params))
    assert refused.value.code == "forest_unsupported"


def test_four_classes_are_refused_first(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="4 classes") as refused:
        read_model(lightgbm(tmp_path, num_class=4))
    assert refused.value.code == "forest_unsupported"


def test_catboost_s_other_columns_are_refused_before_they_are_counted(tmp_path: Path) -> None:
    library = pytest.importorskip("catboost")
    X, y = planted()
    mixed = [[*row[:4].tolist(), str(int(row[1] > 0))] for row in X]
    model = library.CatBoostClassifier(iterations=2, cat_features=[4], verbose=False, allow_writing_files=False, thread_count=1)
    model.fit(mixed, y).save_model(str(tmp_path / "model"), format="json")
    with pytest.raises(ModelRefused, match="categorical features") as refused:
        read_model(tmp_path / "model")
    assert refused.value.code == "forest_unsupported"


@pytest.mark.parametrize(
    "said",
    [
        {"learner": {"objective": {"name": "multi:softprob"},
                     "learner_model_param": {"num_feature": "1000000000000", "num_class": "3"}}},
        {"model_info": {"params": {"loss_function": {"type": "MultiClass"}}}, "scale_and_bias": [1, [0, 0, 0]],
         "features_info": {"float_features": [{"flat_feature_index": 10**12, "feature_id": ""}]}},
    ],
    ids=["xgboost", "catboost"],
)
def test_columns_that_no_memory_holds_are_refused(said: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "model").write_text(json.dumps(said))
    with pytest.raises(ModelRefused, match="1000000000") as refused:
        read_model(tmp_path / "model")
    assert refused.value.code == "forest_unsupported"


def test_names_that_are_none(tmp_path: Path) -> None:
    """Of columns, in a file that somebody made up."""
    path = xgboost(tmp_path, names=NAMES)
    said = json.loads(path.read_text())
    said["learner"]["feature_names"] = [1, None, *NAMES[2:]]
    path.write_text(json.dumps(said))
    with pytest.raises(UsageError, match="no column '1'"):
        chosen_columns(read_model(path), [], FEATURES)


def test_line_ends_of_another_system(tmp_path: Path) -> None:
    """LightGBM's own offsets don't fit such a file: it is answered as it was before an editor took it."""
    path = lightgbm(tmp_path)
    whole = read_model(path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_model(path) == whole


@pytest.mark.parametrize("kind", ["json", "ubj"])
def test_a_damaged_model_is_to_be_saved_again(kind: str, tmp_path: Path) -> None:
    path = xgboost(tmp_path, kind=kind)
    data = bytearray(path.read_bytes())
    if kind == "json":
        data = data.replace(b'"left_children":[1', b'"left_children":[0')
    else:
        at = data.index(b"left_children") + len(b"left_children")
        start = data.index(b"#", at) + 10                  # the count's mark and eight bytes
        data[start:start + 4] = b"\0\0\0\0"
    path.write_bytes(data)
    with pytest.raises(ModelRefused, match="not a whole XGBoost model") as refused:
        read_model(path).forest((-1, 0, 1))
    assert refused.value.code == "forest_damaged"
    assert refused.value.hint == "save the model again with XGBoost"
