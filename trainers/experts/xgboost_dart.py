"""XGBoost's trees with dropout: DART (Rashmi & Gilad-Bachrach 2015, arXiv 1505.01866).

Each round may set some earlier trees aside, grows its own on what the others leave to explain, and then shares their
weight with those set aside: of k dropped trees, learning rate η and K classes, the new ones weigh 1 / (k + η/K) and the
dropped ones k / (k + η/K) of what they did (the paper's rule, with shrinkage as the library applies it).

The library predicts the whole forest again in every round that drops something, so its time grows with the square of
the rounds. Here every tree's outputs are kept, and a drop costs an addition; that takes 4 bytes times rows times
classes for each round. `python -m tests.long.dart` measures both: at 600 rounds of depth 8 and 3,000 rows ours
takes a seventh of the time. Which trees are dropped moves the loss of such a fit by a few thousandths from seed to seed,
either way's.

Either way the weights end up folded into the leaves: what is saved, loaded, exported and asked is plain boosted trees,
which also answer several times faster than the library's own DART.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

import numpy as np

from engine.types import F32, F64, I64

from .base import Space, Task
from .parameters import Limits, Span
from .xgboost_base import BOOST_LIMITS, TREE_SPACE, Grown, XGBoostBase


class XGBoostDartExpert(XGBoostBase):
    """Trees with dropout of XGBoost, softmax over the classes; see `Trainable`, and `XGBoostBase` on determinism.

    Own parameters: as `XGBoostExpert`'s, and rate_drop (chance of each earlier tree to be dropped), skip_drop (chance
    of a round to drop none), booster: `cached` (ours) or `library`. Stopping early, `cached` restores the weights of the
    best round; the library keeps its first rounds with the weights they had at the end.
    """

    name: ClassVar[str] = "xgboost_dart"
    place: ClassVar[int] = 4
    library_file: ClassVar[str] = "xgboost_dart.ubj"
    cost: ClassVar[float] = 2.3
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "lean": {
            "rounds": 45, "early_stopping": 0, "max_depth": 5, "learning_rate": 0.1, "subsample": 0.4,
            "colsample_bytree": 0.4, "min_child_weight": 50.0, "max_bin": 64, "rate_drop": 0.1, "skip_drop": 0.5,
            "booster": "cached", "seed": 42,
        },
        "seed": {
            "rounds": 600, "early_stopping": 50, "max_depth": 8, "learning_rate": 0.05, "subsample": 0.9,
            "colsample_bytree": 0.9, "min_child_weight": 1.0, "max_bin": 256, "rate_drop": 0.1, "skip_drop": 0.5,
            "booster": "cached", "seed": 42,
        },
    }
    limits: ClassVar[Limits] = BOOST_LIMITS | {
        "rate_drop": Span(0, 1), "skip_drop": Span(0, 1), "booster": ("cached", "library"),
    }
    search_space: ClassVar[Space] = TREE_SPACE | {
        "rounds": (20, 200, "int"), "rate_drop": (0.02, 0.3, "log"), "skip_drop": (0.2, 0.8, "linear"),
    }

    def _grow(self, params: dict[str, Any], rounds: int, patience: int, train: Any, validation: Any, task: Task) -> Grown:
        params = dict(params)
        booster, rate, skip = params.pop("booster"), params.pop("rate_drop"), params.pop("skip_drop")
        if booster == "library":
            dart = params | {"booster": "dart", "rate_drop": rate, "skip_drop": skip}
            grown = super()._grow(dart, rounds, patience, train, validation, task)
            kept = json.loads(bytes(grown.booster[: grown.rounds].save_raw("json")))
            return grown._replace(tree_weight=np.array(kept["learner"]["gradient_booster"]["weight_drop"]))
        return self._cached(params, rounds, patience, train, validation, task, rate, skip)

    def _cached(
        self, params: dict[str, Any], rounds: int, patience: int, train: Any, validation: Any, task: Task, rate: float,
        skip: float,
    ) -> Grown:
        """The loop: one booster of plain trees, the weight of each round beside it."""
        grower = self.library().Booster(params | {"base_score": 0.0}, [train])
        draw, eta = np.random.default_rng(params["seed"]), params["learning_rate"] / task.classes
        learned = _Outputs(train, task.train.y.size, task.classes)
        judged = None if validation is None or task.validation is None else _Outputs(
            validation, task.validation.y.size, task.classes
        )
        weight = np.zeros((0, task.classes))
        best, best_loss, best_weight = rounds, np.inf, weight
        for done in range(rounds):
            dropped = (draw.random(weight.shape) < rate) & (draw.random() >= skip)
            margin = learned.sum - learned.of(dropped * weight)
            gradient, hessian = _softmax_gradients(margin.T, task.train.y, task.train.weight)
            grower.boost(train, done, grad=gradient, hess=hessian)
            k = np.count_nonzero(dropped)
            share, new = (k / (k + eta), 1.0 / (k + eta)) if k else (1.0, 1.0)
            for outputs in (learned, judged):
                if outputs is not None:
                    outputs.sum += outputs.of(dropped * weight) * (share - 1.0)
                    outputs.add(grower, new)
            weight = np.concatenate([np.where(dropped, weight * share, weight), np.full((1, task.classes), new)])
            if task.progress is not None:
                task.progress(done + 1, rounds)
            if judged is not None and task.validation is not None:
                loss = _log_loss(judged.sum.T, task.validation.y, task.validation.weight)
                if loss < best_loss:
                    best, best_loss, best_weight = done + 1, loss, weight
                elif done + 1 - best >= patience:
                    break
        return Grown(grower, best, (weight if judged is None else best_weight).ravel())


class _Outputs:
    """What every tree says of some rows, unweighted, and the weighted sum of each class's (K, n)."""

    def __init__(self, matrix: Any, n: int, classes: int) -> None:
        self._matrix = matrix
        self._rounds: list[F32] = []
        self.sum: F64 = np.zeros((classes, n))

    def of(self, weight: F64) -> F64:
        """(K, n): the sum of the trees that weigh something here (R, K)."""
        total = np.zeros_like(self.sum)
        for i, k in np.argwhere(weight):
            total[k] += self._rounds[i][k] * weight[i, k]
        return total

    def add(self, grower: Any, weight: float) -> None:
        """Ask the newest round, and count it."""
        newest = len(self._rounds)
        said = grower.predict(self._matrix, output_margin=True, iteration_range=(newest, newest + 1))
        self._rounds.append(np.ascontiguousarray(said.T))
        self.sum += self._rounds[-1] * weight


def _softmax(margin: F64) -> F64:
    p = np.exp(margin - margin.max(1, keepdims=True))
    return np.asarray(p / p.sum(1, keepdims=True))


def _softmax_gradients(margin: F64, y: I64, weight: F64) -> tuple[F32, F32]:
    """First and second derivatives of the weighted log loss, (n, K), the second as the library takes it: 2 p (1 - p)."""
    p = _softmax(margin)
    hessian = np.maximum(2.0 * p * (1.0 - p), 1e-16) * weight[:, None]
    p[np.arange(y.size), y] -= 1.0
    return (p * weight[:, None]).astype(np.float32), hessian.astype(np.float32)


def _log_loss(margin: F64, y: I64, weight: F64) -> float:
    p = _softmax(margin)[np.arange(y.size), y]
    return float(-np.average(np.log(np.maximum(p, 1e-16)), weights=weight))
