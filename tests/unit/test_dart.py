"""Trees with dropout: our loop against the library, the weights folded into leaves, and where it stops."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from engine.errors import UsageError
from tests.contract.test_expert import DATA, OTHER
from trainers.experts.xgboost_base import folded
from trainers.experts.xgboost_dart import XGBoostDartExpert
from trainers.metrics import log_loss

library = pytest.importorskip("xgboost")


def dart(**params: Any) -> XGBoostDartExpert:
    return XGBoostDartExpert(device="cpu", threads=1, preset="seed", class_weight=None, **params)


def matrix(X: np.ndarray = DATA.X) -> Any:
    return library.QuantileDMatrix(X, DATA.y + 1, max_bin=256, nthread=1)


def params_of(**more: Any) -> dict[str, Any]:
    return {
        "objective": "multi:softprob", "num_class": 3, "tree_method": "hist", "nthread": 1, "learning_rate": 0.05, "seed": 42,
        "max_depth": 8, "base_score": 0.0,
    } | more


def test_what_never_drops_is_plain_boosting() -> None:
    """With every row and column in every round, the loop's gradients and sums are the library's."""
    given = {"rounds": 25, "early_stopping": 0, "subsample": 1.0, "colsample_bytree": 1.0}
    ours = dart(rate_drop=0.0, **given).fit(DATA.X, DATA.y).predict_proba(OTHER.X)
    theirs = library.train(params_of(), matrix(), 25).inplace_predict(OTHER.X)
    assert np.abs(ours[:, [2, 0, 1]] - theirs).max() < 1e-5


def test_dropping_changes_what_is_learned() -> None:
    given = {"rounds": 25, "early_stopping": 0}
    plain, dropping = (dart(rate_drop=rate, skip_drop=0.0, **given).fit(DATA.X, DATA.y) for rate in (0.0, 0.3))
    apart = np.abs(plain.predict_proba(OTHER.X) - dropping.predict_proba(OTHER.X))
    assert apart.max() > 0.02


def test_what_is_kept_of_every_tree_adds_up_to_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums the gradients were taken of, after all drops, are what the finished model says."""
    from trainers.experts import xgboost_dart

    margins = []

    class Spied(xgboost_dart._Outputs):
        def add(self, grower: Any, weight: float) -> None:
            super().add(grower, weight)
            margins.append(self.sum.T.copy())

    monkeypatch.setattr(xgboost_dart, "_Outputs", Spied)
    model = dart(rounds=40, early_stopping=0, rate_drop=0.3, skip_drop=0.1).fit(DATA.X, DATA.y)
    assert np.abs(xgboost_dart._softmax(margins[-1]) - model.predict_proba(DATA.X)[:, [2, 0, 1]]).max() < 1e-5


def test_both_ways_learn_alike() -> None:
    losses = {}
    for booster in ("cached", "library"):
        model = dart(rounds=120, early_stopping=0, booster=booster).fit(DATA.X, DATA.y)
        losses[booster] = log_loss(OTHER.y, model.predict_proba(OTHER.X))
    assert abs(losses["cached"] - losses["library"]) < 0.03             # of 900 rows; on many it is 0.003
    assert losses["cached"] < 0.8


def test_the_library_s_weights_fold_into_the_leaves() -> None:
    booster = library.train(params_of(booster="dart", rate_drop=0.3, skip_drop=0.1), matrix(), 30)
    weight = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]["weight_drop"]
    assert min(weight) < 0.5
    plain = library.Booster()
    plain.load_model(bytearray(folded(booster, np.array(weight))))
    assert json.loads(bytes(plain.save_raw("json")))["learner"]["gradient_booster"]["name"] == "gbtree"
    asked = library.DMatrix(OTHER.X)
    assert np.abs(plain.predict(asked) - booster.predict(asked)).max() < 1e-6


@pytest.mark.parametrize("booster", ["cached", "library"])
def test_it_stops_where_validation_says(booster: str) -> None:
    long = dart(rounds=400, early_stopping=10, booster=booster, rate_drop=0.2).fit(DATA.X, DATA.y)
    assert 1 < long.rounds_ < 350


def test_the_best_round_s_weights_come_back() -> None:
    """What is kept is the model as it was then: the same fit, told to end there."""
    stopped = dart(rounds=400, early_stopping=10, rate_drop=0.2).fit(DATA.X, DATA.y)
    short = dart(rounds=stopped.rounds_, early_stopping=10, rate_drop=0.2).fit(DATA.X, DATA.y)
    assert short.rounds_ == stopped.rounds_
    assert short.predict_proba(OTHER.X).tobytes() == stopped.predict_proba(OTHER.X).tobytes()


def test_another_booster_is_refused() -> None:
    with pytest.raises(UsageError, match="booster"):
        dart(booster="fast").fit(DATA.X, DATA.y)
