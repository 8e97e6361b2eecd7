"""A model of one's own becomes a bundle that answers as its library does; what can't is refused and nothing is published."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.cli import main
from engine.errors import EXIT_DONE, EXIT_INPUT, EXIT_MODEL, EXIT_USAGE
from engine.features import FeatureSet
from engine.files import write_ticks
from engine.instruments import Instruments
from engine.manifest import Moments
from engine.registry.bundle import load_bundle
from engine.registry.store import Registry
from engine.replay import replay
from engine.wire.records import signal_decoder
from tests.grown import PARITY, noise, three
from tests.made import made_ticks
from trainers.dataset import build
from trainers.importing import over_engine_columns

FEATURES = FeatureSet.default()
NAMES = [FEATURES.names[i] for i in (7, 3, 40, 0, 21)]
"""The model's five columns: not the engine's order."""

Ask = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    kept = {key: os.environ[key] for key in ("XDG_CACHE_HOME", "PATH") if key in os.environ}
    monkeypatch.setattr("os.environ", {"HOME": str(tmp_path), **kept})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lightgbm(suffix: str = "txt", classes: int = 3, names: Any = "auto") -> Ask:
    library = pytest.importorskip("lightgbm")
    X, y = noise(1, classes=classes)
    objective = {"objective": "multiclass", "num_class": 3} if classes == 3 else {"objective": "binary"}
    params = objective | {"num_leaves": 7, "verbosity": -1, "num_threads": 1}
    booster = library.train(params, library.Dataset(X, y, feature_name=names), 5)
    booster.save_model("model.txt")
    return lambda X: booster.predict(X)


def xgboost(suffix: str = "json", classes: int = 3, names: Any = None) -> Ask:
    library = pytest.importorskip("xgboost")
    X, y = noise(1, classes=classes)
    params = {"objective": "multi:softprob", "num_class": 3} if classes == 3 else {"objective": "binary:logistic"}
    booster = library.train(params | {"max_depth": 4, "nthread": 1}, library.DMatrix(X, y, feature_names=names), 5)
    booster.save_model(f"model.{suffix}")
    return lambda X: booster.predict(library.DMatrix(X, feature_names=names))


def softmax(suffix: str = "json") -> Ask:
    library = pytest.importorskip("xgboost")
    X, y = noise(1)
    booster = library.train({"objective": "multi:softmax", "num_class": 3, "nthread": 1}, library.DMatrix(X, y), 5)
    booster.save_model(f"model.{suffix}")
    booster.set_param({"objective": "multi:softprob"})
    return lambda X: booster.predict(library.DMatrix(X))


def stopped(suffix: str = "json") -> Ask:
    library = pytest.importorskip("xgboost")
    X, y = noise(9)
    model = library.XGBClassifier(n_estimators=200, early_stopping_rounds=5, learning_rate=0.5, n_jobs=1)
    model.fit(X[:400], y[:400], eval_set=[(X[400:], y[400:])], verbose=False)
    model.save_model(f"model.{suffix}")
    return lambda X: model.predict_proba(X)


def catboost(suffix: str = "cbm", classes: int = 3, labels: Any = None) -> Ask:
    library = pytest.importorskip("catboost")
    X, y = noise(1, classes=classes)
    if labels is not None:
        y = np.array(labels)[y]
    loss = "MultiClass" if classes == 3 else "Logloss"
    model = library.CatBoostClassifier(
        iterations=5, depth=4, loss_function=loss, thread_count=1, verbose=False, allow_writing_files=False
    ).fit(X, y)
    model.save_model(f"model.{suffix}", format=suffix)
    return lambda X: model.predict_proba(X)


def published(version: str = "1") -> Any:
    return load_bundle(Registry(".tocsin/registry", ".tocsin/keys/public.pem"), version)


def versions() -> list[str]:
    return Registry(".tocsin/registry").versions()


def rows(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(500, len(FEATURES.names))).astype(np.float32)
    X[rng.random(X.shape) < 0.2] = np.nan
    return X


CASES = {
    "lightgbm": (lightgbm, "txt", {}), "xgboost json": (xgboost, "json", {}), "xgboost ubj": (xgboost, "ubj", {}),
    "xgboost softmax": (softmax, "json", {}), "xgboost by scikit-learn": (stopped, "ubj", {}),
    "catboost cbm": (catboost, "cbm", {}), "catboost json": (catboost, "json", {}),
    "catboost's labels": (catboost, "cbm", {"labels": (-1, 0, 1)}),
}


@pytest.mark.parametrize(("grow", "suffix", "more"), CASES.values(), ids=CASES)
def test_the_bundle_votes_as_the_library(
    grow: Callable[..., Ask], suffix: str, more: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    ask = grow(suffix, **more)
    assert main(["models", "import", f"model.{suffix}", "--features", ",".join(NAMES), "--json"]) == EXIT_DONE
    said = json.loads(capsys.readouterr().out)
    assert said["version"] == "1"
    assert said["parity"] <= PARITY
    assert said["classes"] == ["sell", "neutral", "buy"]

    bundle, X = published(), rows()
    library = ask(X[:, [FEATURES.names.index(name) for name in NAMES]])
    assert np.abs(bundle.ensemble.predict_proba(X) - three(library)).max() <= PARITY
    assert bundle.manifest.experts[0].parity == said["parity"]
    for verb in ("show", "verify"):
        assert main(["models", verb, "1"]) == EXIT_DONE
    assert f"elsewhere; imported from model.{suffix}" in capsys.readouterr().out


@pytest.mark.parametrize("grow", [lightgbm, xgboost, catboost], ids=lambda grow: grow.__name__)
def test_two_classes_are_what_the_user_says(grow: Callable[..., Ask], capsys: pytest.CaptureFixture[str]) -> None:
    ask = grow(classes=2)
    (file,) = Path().glob("model.*")
    argv = ["models", "import", str(file), "--features", ",".join(NAMES)]
    assert main(argv) == EXIT_USAGE
    assert "--classes" in capsys.readouterr().err
    assert versions() == []
    assert main([*argv, "--classes", "sell,buy"]) == EXIT_DONE
    X = rows()
    p = published().ensemble.predict_proba(X)
    library = ask(X[:, [FEATURES.names.index(name) for name in NAMES]])
    assert np.abs(p - three(library, (-1, 1))).max() <= PARITY


def test_labels_in_the_file_need_no_words() -> None:
    catboost(classes=2, labels=(-1, 1))
    assert main(["models", "import", "model.cbm", "--features", ",".join(NAMES)]) == EXIT_DONE
    assert published().manifest.experts[0].params["classes"] == [-1, 1]


def test_sides_in_the_file_stay_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """The library sorts its classes' names, and their columns with them."""
    ask = catboost(labels=("sell", "neutral", "buy"))
    argv = ["models", "import", "model.cbm", "--features", ",".join(NAMES), "--json"]
    assert main([*argv, "--classes", "sell,neutral,buy"]) == EXIT_USAGE
    assert "buy, neutral, sell" in capsys.readouterr().err
    assert main(argv) == EXIT_DONE
    assert json.loads(capsys.readouterr().out)["classes"] == ["buy", "neutral", "sell"]
    X = rows()
    library = ask(X[:, [FEATURES.names.index(name) for name in NAMES]])
    assert np.abs(published().ensemble.predict_proba(X) - library[:, [1, 0, 2]]).max() <= PARITY


@pytest.mark.parametrize("grow", [lightgbm, xgboost], ids=lambda grow: grow.__name__)
def test_columns_may_be_named_in_the_model_or_in_a_file(grow: Callable[..., Ask]) -> None:
    grow(names=NAMES)
    (file,) = Path().glob("model.*")
    Path("names.txt").write_text("\n".join(NAMES) + "\n")
    assert main(["models", "import", str(file)]) == EXIT_DONE
    assert main(["models", "import", str(file), "--features", "names.txt"]) == EXIT_DONE
    X = rows()
    assert published("1").ensemble.predict_proba(X).tobytes() == published("2").ensemble.predict_proba(X).tobytes()


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        ([], EXIT_USAGE, "--features"),
        (["--features", ",".join([*NAMES[:4], NAMES[4] + "x"])], EXIT_USAGE, f"did you mean {NAMES[4]}?"),
        (["--features", ",".join(NAMES[:4])], EXIT_USAGE, "4 names for the 5 columns"),
        (["--features", ",".join([*NAMES[:4], NAMES[0]])], EXIT_USAGE, f"{NAMES[0]} is named twice"),
        (["--features", ",".join(NAMES), "--classes", "sell,buy"], EXIT_USAGE, "3 classes"),
        (["--features", ",".join(NAMES), "--classes", "sell,neutral,sell"], EXIT_USAGE, "sell is named twice"),
        (["--features", ",".join(NAMES), "--classes", "0,1,2"], EXIT_USAGE, "'0' is no side"),
        (["--features", ",".join(NAMES), "--classes=-1,0,1"], EXIT_USAGE, "'-1' is no side"),
        (["--features", ",".join(NAMES), "--classes", "down,up"], EXIT_USAGE, "sell,buy"),
        (["--features", ",".join(NAMES), "--threshold", "1.5"], EXIT_USAGE, "between 0 and 1"),
        (["--features", ",".join(NAMES), "--map", "bid=Bid"], EXIT_USAGE, "--ticks"),
        (["--features", ",".join(NAMES), "--ticks", "missing.parquet"], EXIT_INPUT, "missing.parquet"),
    ],
)
def test_what_can_not_be_meant_is_refused(argv: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    lightgbm()
    assert main(["models", "import", "model.txt", *argv]) == code
    said = capsys.readouterr()
    assert says in said.err
    assert "→" in said.err
    assert said.out == ""
    assert versions() == []


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, "model_missing"), (b"", "model_unknown"), (b"hello", "model_unknown"), (b'{"a": 1}', "model_unknown"),
     (b"{L\0", "forest_damaged"), (b"tree\nversion=v4\n", "forest_damaged"), (b"CBM1\0\0", "forest_damaged"),
     (b"tree\n\xff\xff", "forest_damaged"), (b'{"learner": {}}', "forest_damaged"), (b'{"model_info": {}}', "forest_damaged")],
)
def test_what_is_no_model_is_refused(content: bytes | None, code: str, capsys: pytest.CaptureFixture[str]) -> None:
    if content is not None:
        Path("model").write_bytes(content)
    assert main(["models", "import", "model", "--features", "a"]) == EXIT_MODEL
    assert f"[{code}]" in capsys.readouterr().err
    assert versions() == []


def test_a_library_that_refuses_the_file_publishes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A file that the exporter reads and the library doesn't."""
    xgboost()
    said = json.loads(Path("model.json").read_text())
    del said["version"]
    del said["learner"]["gradient_booster"]["model"]["gbtree_model_param"]
    Path("model.json").write_text(json.dumps(said))
    assert main(["models", "import", "model.json", "--features", ",".join(NAMES)]) == EXIT_MODEL
    assert "[model_refused]" in capsys.readouterr().err
    assert versions() == []


def test_a_model_whose_answers_part_is_not_published(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A single leaf, read wrongly."""
    def misread(*args: Any) -> Any:
        forest = over_engine_columns(*args)
        value = forest.value.copy()
        value[len(value) // 2] += 1e-3
        return replace(forest, value=value)

    xgboost()
    monkeypatch.setattr("trainers.importing.over_engine_columns", misread)
    assert main(["models", "import", "model.json", "--features", ",".join(NAMES)]) == EXIT_MODEL
    assert "[parity]" in capsys.readouterr().err
    assert versions() == []


def test_thresholds_from_ticks_and_signals_from_the_bundle(capsys: pytest.CaptureFixture[str]) -> None:
    ticks = made_ticks(30_000)
    write_ticks(ticks, "ticks.parquet")
    data = build(ticks, Moments(), FEATURES)
    library = pytest.importorskip("lightgbm")
    params = {"objective": "multiclass", "num_class": 3, "num_leaves": 15, "verbosity": -1, "num_threads": 1}
    X = data.matrix[:, [FEATURES.names.index(name) for name in NAMES]]
    library.train(params, library.Dataset(X, data.y + 1), 10).save_model("model.txt")
    argv = ["models", "import", "model.txt", "--features", ",".join(NAMES), "--ticks", "ticks.parquet", "--json"]
    assert main(argv) == EXIT_DONE
    policy = json.loads(capsys.readouterr().out)["policy"]
    bundle = published()
    p = bundle.ensemble.predict_proba(data.matrix).astype(np.float64)
    margin = p[:, 1] - p[:, 2]
    assert (margin > policy["buy"]).mean() == pytest.approx(0.1, abs=0.01)
    assert (margin < policy["sell"]).mean() == pytest.approx(0.1, abs=0.01)
    assert bundle.manifest.training.end == data.end_ts.max()
    assert main(["models", "show", "1"]) == EXIT_DONE
    assert "thresholds of" in capsys.readouterr().out
    sides = {signal_decoder.decode(record).side for record in replay(ticks, bundle, Instruments(), features=FEATURES).signals}
    assert {"buy", "sell"} <= sides


def test_export_gives_the_files_back_as_they_were_signed(capsys: pytest.CaptureFixture[str]) -> None:
    xgboost("ubj")
    assert main(["models", "import", "model.ubj", "--features", ",".join(NAMES)]) == EXIT_DONE
    assert main(["models", "export", "1", "--to", "out", "--json"]) == EXIT_DONE
    said = json.loads(capsys.readouterr().out)
    assert said == {
        "version": "1", "folder": "out", "experts": [{"name": "xgboost", "library": "xgboost.ubj", "serves": "xgboost.npz"}]
    }
    assert Path("out/xgboost.ubj").read_bytes() == Path("model.ubj").read_bytes()
    assert Path("out/xgboost.npz").read_bytes() == Path(".tocsin/registry/1/xgboost.npz").read_bytes()
    assert main(["models", "export", "1", "--to", "out"]) == EXIT_USAGE
    assert "[export_exists]" in capsys.readouterr().err
    assert main(["models", "export", "1"]) == EXIT_DONE
    assert "bundle-1/xgboost.ubj" in capsys.readouterr().out
    Path(".tocsin/registry/1/xgboost.ubj").write_bytes(b"other")
    assert main(["models", "export", "1", "--to", "again"]) == EXIT_MODEL
    assert not Path("again").exists()
