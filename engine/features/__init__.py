"""Features: what the engine knows of a symbol at a tick. One code for training and live, equal bit for bit."""

from __future__ import annotations

from .featureset import FeatureSet
from .kernel import augment_time_features
from .own import Seen
from .spec import MID, QUOTES, SIZES, TICKS, Column, Family
from .state import Rows
from .stream import Stream

__all__ = [
    "MID", "QUOTES", "SIZES", "TICKS", "Column", "Family", "FeatureSet", "Rows", "Seen", "Stream",
    "augment_time_features",
]
