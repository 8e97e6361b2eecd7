#!/bin/sh
# A model trained by LightGBM alone becomes a bundle that answers live.
#
#     sh docs/examples/import_model.sh        (PYTHON=… of the environment where tocsin and lightgbm are installed)
set -eu
PYTHON=${PYTHON:-python3}
export TOCSIN_HOME=${TOCSIN_HOME:-$PWD/.tocsin}

"$PYTHON" - <<'SCRIPT'
import lightgbm
import numpy as np

rng = np.random.default_rng(1)
X = rng.normal(size=(2000, 3)).astype(np.float32)
y = np.digitize(X[:, 0] + rng.normal(size=2000), [-0.5, 0.5])          # 0 sell, 1 neutral, 2 buy
params = {"objective": "multiclass", "num_class": 3, "num_leaves": 15, "verbosity": -1}
lightgbm.train(params, lightgbm.Dataset(X, y), 20).save_model("model.txt")
SCRIPT

tocsin models keygen
tocsin models import model.txt --features ret1_s,vol14_s,mom5_s
tocsin models show 1
tocsin models export 1 --to exported
