"""Features: what the engine knows of a symbol at a tick. One code for training and live, equal bit for bit."""

from __future__ import annotations

from .featureset import FeatureSet, Rows, Stream

__all__ = ["FeatureSet", "Rows", "Stream"]
