"""Our DART loop beside the library's own: seconds, and log loss on rows neither has seen.

    python -m tests.long.dart [ROUNDS=600] [ROWS=5000] [THREADS=1]

The library's time grows with the square of the rounds. On a machine that does something else besides, more than one thread
measures how threads wait for one another.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from trainers.experts.xgboost_dart import XGBoostDartExpert
from trainers.metrics import log_loss


def made(seed: int, n: int, features: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Rows of which much can be learned, so that 600 rounds are not too many."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, features)).astype(np.float32)
    score = 0.4 * X[:, 0] + 0.4 * X[:, 1] * X[:, 2] + np.sin(2 * X[:, 3]) * 0.4 + 0.5 * rng.normal(size=n)
    return X, np.where(score > 0.5, 1, np.where(score < -0.5, -1, 0))


def main(rounds: int = 600, rows: int = 5_000, threads: int = 1) -> None:
    X, y = made(0, rows)
    unseen, truth = made(1, 20_000)
    seconds = {}
    for booster in ("cached", "library"):
        model = XGBoostDartExpert(
            device="cpu", threads=threads, preset="seed", rounds=rounds, early_stopping=0, booster=booster
        )
        start = time.perf_counter()
        model.fit(X, y)
        seconds[booster] = time.perf_counter() - start
        loss = log_loss(truth, model.predict_proba(unseen))
        print(f"{booster:8} {rounds} rounds, {rows:,} rows: {seconds[booster]:7.1f} s, log loss {loss:.4f}", flush=True)
    print(f"{seconds['library'] / seconds['cached']:.1f} times as fast")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
