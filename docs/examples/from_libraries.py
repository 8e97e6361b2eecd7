"""Each expert as a script would use it: fitted, saved, loaded, served without its library.

    python docs/examples/from_libraries.py
"""

import tempfile
from pathlib import Path

import numpy as np

from engine.runtimes.forest.layout import Forest
from engine.runtimes.forest.runtime import ForestRuntime
from trainers.experts import create, names

rng = np.random.default_rng(7)
X = rng.normal(size=(3000, 12)).astype(np.float32)
score = X[:, 0] - 0.5 * X[:, 1] + rng.normal(size=3000)
y = np.digitize(score, [-0.6, 0.6]) - 1                 # -1 sell, 0 neutral, 1 buy

forests: dict[str, Forest] = {}
with tempfile.TemporaryDirectory() as folder:
    for name in names():
        model = create(name, device="cpu", rounds=20).fit(X, y)
        file = Path(folder) / model.library_file
        model.save(file)
        again = create(name).load(file)
        assert (again.predict_proba(X) == model.predict_proba(X)).all()
        forests[name] = again.export()
        difference = np.abs(forests[name].predict_proba(X) - model.predict_proba(X)).max()
        print(f"{name}: {(model.predict(X) == y).mean():.1%} right on what it has seen, served within {difference:.1e}")

votes = ForestRuntime(forests).votes(X[:5])             # all of them in one pass: (5, experts, 3)
print("the first row's mean of all:", votes[0].mean(0).round(3), "[neutral, buy, sell]")
