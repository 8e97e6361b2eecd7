"""Libraries that compute technical indicators, each in the way its own documentation recommends."""

from __future__ import annotations

from . import nautilus, polars, talib
from .base import OnWindow, Peer, Series, TickByTick, WholeArrays
from .pandas_ta import PANDAS_TA
from .river import RIVER
from .talipp import TALIPP

PEERS: tuple[Peer, ...] = (
    TALIPP, RIVER, nautilus.CYTHON, nautilus.RUST, talib.STREAM, polars.WINDOW, PANDAS_TA, talib.WHOLE, polars.WHOLE,
)

__all__ = ["PEERS", "OnWindow", "Peer", "Series", "TickByTick", "WholeArrays"]
