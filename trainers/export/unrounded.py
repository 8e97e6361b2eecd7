"""What an XGBoost model says without the rounding of its sums.

The library adds a row's leaves in float32, tree after tree. A thousand trees of large leaves make its probabilities part by
more than 1e-6 from the sum of the same leaves in float64, which is what a forest is compared with: a forest that reads one
leaf wrongly must not hide behind rounding, nor rounding refuse a forest that reads all of them rightly.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.types import F32, F64

_PARTS = 64
"""Of the rounds: few trees at a time round little, since their sums are small."""


def unrounded(library: Any, booster: Any, X: F32, rounds: int) -> F64:
    """(n,) or (n, K) probabilities of the first `rounds` rounds of a booster with a logistic or softmax objective."""
    as_it_is, from_zero = library.DMatrix(X), library.DMatrix(X)

    def margins(rows: Any, first: int, last: int) -> F64:
        said = booster.predict(rows, output_margin=True, iteration_range=(first, last), validate_features=False)
        return np.asarray(said, np.float64)

    step = -(-rounds // _PARTS)
    parts = [(first, min(first + step, rounds)) for first in range(0, rounds, step)]
    with_base = margins(as_it_is, *parts[0])
    from_zero.set_base_margin(np.zeros_like(with_base))
    first = margins(from_zero, *parts[0])
    total = (with_base - first) + first + sum(margins(from_zero, *part) for part in parts[1:])
    if total.ndim == 1:                        # of two classes, for the second
        return np.asarray(1 / (1 + np.exp(-total)))
    shares = np.exp(total - total.max(1, keepdims=True))
    return np.asarray(shares / shares.sum(1, keepdims=True))
