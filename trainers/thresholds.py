"""From probabilities to a side: how far p_buy - p_sell must lean before a side is named."""

from __future__ import annotations

import numpy as np

from engine.errors import InputRefused
from engine.types import F32, F64


def thresholds(margins: F32 | F64, q: float = 0.1) -> tuple[float, float]:
    """(buy, sell): the 1 - q and the q quantile of p_buy - p_sell.

    margins: (n,) of validation rows, never of test rows. One threshold per side, else a model that leans one way
    never speaks the other. Raises InputRefused (margins).
    """
    if margins.size == 0 or not np.isfinite(margins).all():
        raise InputRefused(
            "margins", f"{margins.size} margins, not all of them numbers: no thresholds follow",
            hint="pass p_buy - p_sell of the validation rows",
        )
    sell, buy = np.quantile(margins.astype(np.float64), [q, 1.0 - q])
    return float(buy), float(sell)
