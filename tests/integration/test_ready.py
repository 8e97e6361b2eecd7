"""Once an engine is ready nothing is compiled any more: a kernel that meets another array layout would stall a tick."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
from numba.core import event
from engine.features import FeatureSet
from engine.warmup import compile_everything

compile_everything(print, FeatureSet.default())
with event.install_recorder("numba:compile") as compiled:
    from engine.instruments import Instruments
    from engine.replay import replay
    from engine.transports.base import Topic
    from tests.integration.test_recovery import TICKS, Topic, crash_and_recover, filled, published, run_engine
    from tests.made import made_ticks, speaking_bundle

    for rows in (1, 7, 200):
        log = crash_and_recover(rows, [(40, True), (90, False)], warm=TICKS[:100])
        assert len(published(log, Topic.SIGNALS)) > 2000
    for bundle in (speaking_bundle("tick"), speaking_bundle("cusum")):
        for batch in (1, 256):
            assert replay(made_ticks(3000, symbols=2, rate=0.1), bundle, Instruments(), batch=batch).signals
print(len(compiled.buffer))
"""


def test_nothing_compiles_after_ready() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "0"
