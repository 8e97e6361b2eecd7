"""Every kernel called once before the engine says it is ready, on made ticks in memory.

Loading a kernel from the cache (or compiling it) takes up to half a second; at the first real tick it would be felt.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .features import FeatureSet
from .instruments import Instrument, Instruments, SymbolTable
from .jit import cache_folder, is_cold
from .manifest import FORMAT, Calibration, Expert, Features, Golden, Manifest, Moments, Policy, Training
from .partition.policy import PolicyState
from .registry.bundle import Bundle
from .replay import replay
from .runtimes.ensemble import Ensemble
from .runtimes.forest.layout import Forest
from .runtimes.forest.runtime import ForestRuntime
from .types import CLASSES, START, Entry, Kind, TickBatch
from .wire import frame
from .wire.ticks import decode, encode


def compile_everything(tell: Callable[[str], None], features: FeatureSet) -> None:
    """Run made ticks through the whole pipeline; an hour of them, so that every branch of a window is met."""
    if is_cold():
        tell(f"compiling kernels for this machine, once (into {cache_folder()}); it takes about half a minute")
    n = 4000
    ts = 1_000_000_000_000_000_000 + np.arange(n, dtype=np.int64) * 1_000_000_000
    bid = 100_000 + (np.arange(n, dtype=np.int64) * 7919) % 613
    ticks = TickBatch([Instrument("MADE")], sid=np.zeros(n, np.int64), ts=ts, bid=bid, ask=bid + 10)
    replay(ticks, made_bundle("tick", features), Instruments(), features=features)
    for payload in (encode(ticks, 0), frame.pack(ticks)):
        decode([Entry(START, Kind.TICKS, payload)], SymbolTable(Instruments()))
    one = np.zeros(1, np.int64)
    PolicyState().apply(one, one, one, 1)


def made_bundle(moments: str, features: FeatureSet) -> Bundle:
    """A bundle of one forest of one leaf: it knows nothing and says so evenly."""
    identity = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    calibration = Calibration([1.0, 1.0, 1.0], identity, [0.0, 0.0, 0.0])
    expert = Expert("made", 1, "forest", "made.npz", 1.0, calibration, 0.0, {})
    manifest = Manifest(
        FORMAT, "made", "1970-01-01T00:00:00Z", list(CLASSES), Features(features.names, features.fingerprint),
        Moments(kind=moments), Instruments().to_dict(), [expert], Policy(0.0, 0.0), Training(0, 0, [], 0, 0, "0" * 64),
        {}, {}, Golden([], []), {},
    )
    forest = Forest(
        n_features=len(features.names), feature=np.zeros(0, np.int32), threshold=np.zeros(0, np.float32),
        left=np.zeros(0, np.int32), right=np.zeros(0, np.int32), nan_right=np.zeros(0, np.bool_),
        root=np.array([~0], np.int32), tree_class=np.array([-1], np.int32), value=np.zeros((1, 3)), base=np.zeros(3),
        slope_start=np.zeros(0, np.int32), slope_feature=np.zeros(0, np.int32), slope=np.zeros(0), fallback=np.zeros(0),
        level_start=np.zeros(0, np.int32), cover=np.zeros(0),
    )
    return Bundle("made", "", manifest, Ensemble([ForestRuntime({"made": forest})], [expert]))
