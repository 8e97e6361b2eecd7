"""Which features made a decision: the newest row of a stretch of ticks, asked of a bundle in a registry.

    python docs/examples/attributions.py REGISTRY PUBLIC_KEY TICKS [BUNDLE]
"""

import sys
from pathlib import Path

import numpy as np

from engine import FeatureSet, read_ticks
from engine.registry.bundle import load_bundle
from engine.registry.store import Registry

registry, key, ticks = map(Path, sys.argv[1:4])
bundle = load_bundle(Registry(registry, key), sys.argv[4] if len(sys.argv) > 4 else "champion")
features = FeatureSet.default()
row = features.compute(read_ticks(ticks))[-1:]

for expert, parts in bundle.ensemble.attributions(row).items():
    neutral, buy, sell = parts[0].sum(0)                # the margins: what was expected, and what each feature added
    print(f"{expert}: margin of buy {buy:+.4f}, of sell {sell:+.4f}, of neutral {neutral:+.4f}; buy against sell by")
    leaning = parts[0, :-1, 1] - parts[0, :-1, 2]
    for f in np.argsort(-np.abs(leaning))[:5]:
        print(f"  {features.names[f]:>20} {leaning[f]:+.4f}  (its value {row[0, f]:.4g})")
