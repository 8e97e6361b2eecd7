"""The benchmark of tree experts asks what it says: rows that vary, models that answer alike, the quickest of all for the mix."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import TocsinError
from engine.runtimes.forest.runtime import ForestRuntime
from engine.types import F32
from trainers.bench import calls, six
from trainers.bench.answerers import OTHERS, Other, library
from trainers.bench.experts import DART, difference, one_after_the_other, quickest, rows_that_differ
from trainers.bench.folded import folded
from trainers.bench.six import SIX, scaled


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("six")
    found = {name: folder / kind.file for name, kind in SIX.items()}
    for name, path in found.items():
        kind = scaled(SIX[name], 0.02)
        if name == DART:                       # so few rounds drop something only if they are made to
            kind = kind._replace(parameters={**kind.parameters, "skip_drop": 0.0, "one_drop": 1})
        six.fit(kind, str(path))
    return found


def test_rows_are_the_seeds_and_have_holes() -> None:
    X, y = six.made(3000, seed=1)
    again, other = six.made(3000, seed=1)[0], six.made(3000, seed=2)[0]
    assert X.dtype == np.float32
    assert X.shape == (3000, 64)
    assert np.array_equal(X, again, equal_nan=True)
    assert not np.array_equal(X, other, equal_nan=True)
    assert 0.01 < np.isnan(X).mean() < 0.03
    assert len(np.unique(np.nan_to_num(X), axis=0)) == 3000
    assert np.bincount(y).min() > 500


@pytest.mark.parametrize("name", SIX)
def test_a_forest_answers_as_its_library(name: str, paths: dict[str, Path]) -> None:
    rows, _ = six.made(500, seed=1)
    forest = six.forest(name, paths[name])
    assert difference(forest, library(name, paths[name]), rows) <= 1e-6
    swapped = library(name, paths[name])
    assert difference(forest, lambda X: np.asarray(swapped(X))[:, [0, 2, 1]], rows) > 1e-3


@pytest.mark.parametrize("name", ["xgboost", "xgboost_rf", DART])
def test_a_folded_model_answers_the_same_as_plain_boosting(name: str, paths: dict[str, Path]) -> None:
    rows, _ = six.made(500, seed=1)
    usual, plain = (library(name, paths[name], fold)(rows) for fold in (False, True))
    assert np.abs(plain - usual).max() <= 2e-6
    learner = json.loads(folded(paths[name].read_bytes()))["learner"]
    assert learner["gradient_booster"]["name"] == "gbtree"
    trees = learner["gradient_booster"]["model"]["tree_info"]
    assert trees == [t % 3 for t in range(len(trees))]


def test_dart_has_weights_to_fold(paths: dict[str, Path]) -> None:
    from trainers.export.xgboost import read

    weights = np.array(read(paths[DART].read_bytes())["learner"]["gradient_booster"]["weight_drop"])
    assert (weights != 1.0).any()


def test_the_mix_takes_whoever_is_quickest_for_each() -> None:
    ways: dict[tuple[str, str], Any] = {(name, who): f"{name} by {who}" for name in "ab" for who in ("x", "y")}
    del ways["b", "y"]
    took = {("a", "x"): 3.0, ("a", "y"): 2.0, ("b", "x"): 9.0}
    assert quickest(took, ways) == {"a": ("y", "a by y"), "b": ("x", "b by x")}


def test_one_after_the_other_answers_as_the_six_in_one_pass(paths: dict[str, Path]) -> None:
    rows, _ = six.made(100, seed=1)
    ours = ForestRuntime({name: six.forest(name, path) for name, path in paths.items()}).votes(rows)
    theirs = one_after_the_other({name: library(name, path) for name, path in paths.items()})(rows)
    assert ours.shape == theirs.shape == (100, 6, 3)
    assert np.abs(ours - theirs).max() <= 1e-6


def test_rows_whose_bits_depend_on_their_batch_are_counted() -> None:
    rows, _ = six.made(300, seed=1)
    assert rows_that_differ(lambda X: X[:, :3].copy(), rows) == 0

    def last_of_a_batch(X: F32) -> F32:
        out = np.zeros((len(X), 3), np.float32)
        if len(X) == 7:
            out[-1] = np.nextafter(np.float32(0), np.float32(1))
        return out

    assert rows_that_differ(last_of_a_batch, rows) == 300 // 7


# ---- what is timed


def test_calls_take_other_rows_each_time_round_after_round() -> None:
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    seen: list[Any] = []

    def predict(X: F32) -> F32:
        seen.append(X[:, 0].tolist())
        return X

    once = calls.per_call(predict, rows, 3, 2)
    assert once() > 0.0
    once()
    assert seen == [[0, 2, 4], [6, 8, 10], [12, 14, 16], [0, 2, 4]]
    assert calls.per_call(predict, rows, 1, 5, of=lambda took: float(len(took)), between=calls.flusher())() == 5.0
    assert calls.p99(list(range(101))) == 99.0


def test_every_thread_makes_all_its_calls() -> None:
    rows = np.zeros((40, 2), np.float32)
    seen: list[int] = []
    core = (calls.usable_cores() or [0])[0]
    assert calls.in_threads(lambda X: seen.append(len(X)) or X, rows, 10, 6, [core, core])() > 0.0
    assert seen == [10] * 2 * (6 + 1)          # one before the clock starts


def test_beside_a_busy_thread_the_switch_interval_is_anothers_and_comes_back() -> None:
    usual = sys.getswitchinterval()
    assert calls.beside_busy(sys.getswitchinterval, frozenset(), 1e-3)() == pytest.approx(1e-3)
    assert sys.getswitchinterval() == usual


# ---- others


@pytest.mark.parametrize("other", [other for other in OTHERS if other.version], ids=lambda other: other.name)
def test_another_answers_as_the_library(other: Other, paths: dict[str, Path]) -> None:
    rows, _ = six.made(200, seed=1)
    expected = {name: np.asarray(library(name, path)(rows)) for name, path in paths.items()}
    assert len(other.answering(paths, expected, rows)) >= 5


def test_another_that_computes_something_else_is_refused_and_one_that_takes_no_such_model_left_out() -> None:
    rows, expected = np.zeros((2, 64), np.float32), {"xgboost": np.full((2, 3), 1 / 3)}
    here = {"xgboost": Path()}

    def saying(answer: Any) -> Other:
        return Other("made", "numpy", ("numpy",), lambda name, path: answer, "")

    assert saying(lambda X: expected["xgboost"] + 5e-6).answering(here, expected, rows).keys() == {"xgboost"}
    assert saying(None).answering(here, expected, rows) == {}
    for wrong in (2e-5, np.nan):
        with pytest.raises(TocsinError, match="xgboost") as refused:
            saying(lambda X, wrong=wrong: expected["xgboost"] + wrong).answering(here, expected, rows)
        assert refused.value.code == "bench_peer"
    assert Other("made", "numpy", ("no_such_module",), lambda name, path: None, "").version is None
