"""The registry of signed bundles, and the control records that put them into the log."""

from __future__ import annotations

from .store import Registry

__all__ = ["Registry"]
