"""Tocsin: ticks in, signals out. Everything is imported when it is first asked for (import ≤ 50 ms)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app import Engine
    from .client import publish, publisher, subscribe
    from .config import Config
    from .features import FeatureSet
    from .files import read_ticks
    from .registry import Registry

__version__ = "0.1.0"

_HOMES = {
    "Engine": ".app", "Config": ".config", "FeatureSet": ".features", "Registry": ".registry",
    "read_ticks": ".files", "publish": ".client", "publisher": ".client", "subscribe": ".client",
}
__all__ = ["Config", "Engine", "FeatureSet", "Registry", "publish", "publisher", "read_ticks", "subscribe"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
