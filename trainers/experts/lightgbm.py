"""LightGBM (Ke et al. 2017, NeurIPS): leaf-wise boosted trees over binned features.

The same rows, settings and number of threads give the same model: `deterministic`, `force_row_wise` and every seed are
set. Another number of threads sums histograms in another order, which can move a split where two are nearly as good.
On a GPU the library promises less: single-precision histograms, summed in any order.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
from functools import cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from engine.errors import ModelRefused, TocsinError
from engine.runtimes.forest.layout import Forest
from engine.types import F32

from ..export.forest import export_forest
from .base import Fitted, Task, Trainable
from .devices import Gpus
from .rows import remap_labels_to_contiguous, reorder_to_neutral_buy_sell, restore_labels, time_series_train_val_split

__all__ = [
    "LightGBMExpert", "LightGBMModel", "remap_labels_to_contiguous", "reorder_to_neutral_buy_sell", "restore_labels",
    "time_series_train_val_split",
]

_GPU_MAX_BIN = 63
_LEAVES_WORTH_OF_ROWS = 50
"""The lean preset's smallest leaf is a fiftieth of the rows where those are few."""

_DESCRIPTION = re.compile(rb"\ntocsin=(?P<digest>[0-9a-f]{64}) (?P<said>\{.*\})\n")
_END = b"\npandas_categorical:"


class LightGBMExpert(Trainable):
    """Gradient-boosted trees of LightGBM, softmax over the classes; see `Trainable`.

    Parameters besides the common ones: rounds (trees per class), early_stopping (rounds without gain on the last 15 %
    of rows; 0: train on all rows), num_leaves, learning_rate, min_data_in_leaf, feature_fraction, bagging_fraction
    (drawn anew each round), max_bin, path_smooth, linear_tree (Shi et al. 2019, arXiv 1802.05640; CPU only), seed.
    The lean preset's min_data_in_leaf shrinks to a fiftieth of the rows where that is less.
    """

    name: ClassVar[str] = "lightgbm"
    requires: ClassVar[str] = "lightgbm"
    library_file: ClassVar[str] = "lightgbm.txt"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "lean": {
            "rounds": 40, "early_stopping": 0, "num_leaves": 16, "learning_rate": 0.1, "min_data_in_leaf": 500,
            "feature_fraction": 0.4, "bagging_fraction": 0.5, "max_bin": 63, "path_smooth": 10.0,
            "linear_tree": False, "seed": 42,
        },
        "seed": {
            "rounds": 800, "early_stopping": 50, "num_leaves": 64, "learning_rate": 0.03, "min_data_in_leaf": 50,
            "feature_fraction": 0.6, "bagging_fraction": 0.8, "max_bin": 255, "path_smooth": 10.0,
            "linear_tree": False, "seed": 42,
        },
    }

    def settings(self, n: int) -> dict[str, Any]:
        settings = super().settings(n)
        given = self.get_params()
        if self.preset == "lean" and given["min_data_in_leaf"] is None:
            settings["min_data_in_leaf"] = min(settings["min_data_in_leaf"], max(1, n // _LEAVES_WORTH_OF_ROWS))
        return settings
