"""The long form: `python -m tests.chaos embedded|redis SEED [SCENARIO …]`; exit code 1 where something doesn't hold."""

from __future__ import annotations

import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chaos.harness import Failed
from tests.chaos.scenarios import PLACES, places, plan, swaps, trimming
from tests.chaos.storm import restarts, storm


def _places(folder: Path, seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    chosen = [(place, rng.random() < 0.4) for place in rng.sample(PLACES, len(PLACES))]
    return places(folder, seed, chosen, rng.choice((1, 64)))


SCENARIOS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "frames": lambda folder, seed: swaps(folder, seed, plan(seed), 1000),
    "singles": lambda folder, seed: swaps(folder, seed + 1000, plan(seed + 1000), 1),
    "small frames": lambda folder, seed: swaps(folder, seed + 2000, plan(seed + 2000), 50),
    "places": _places,
    "trimming": lambda folder, seed: trimming(folder, seed, 4),
}


TRANSPORTS: dict[str, dict[str, Callable[[Path, int], dict[str, Any]]]] = {
    "embedded": SCENARIOS,
    "redis": {
        "storm": lambda folder, seed: storm(folder, seed, 105),
        "restarts": restarts,
    },
}


def main(transport: str, seed: int, names: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))     # so that whatever runs is ended with us
    scenarios = TRANSPORTS[transport]
    for name in names or scenarios:
        folder = Path(tempfile.mkdtemp(prefix="tocsin-chaos-"))
        start = time.monotonic()
        try:
            report = scenarios[name](folder, seed)
        except Failed as failed:
            print(f"{name}, seed {seed}: {failed}\n  everything is kept in {folder}", flush=True)
            return 1
        shutil.rmtree(folder)
        print(f"{name}, seed {seed}, {time.monotonic() - start:.0f} s", flush=True)
        for what, figure in report.items():
            print(f"  {what:<20}{figure}", flush=True)
    print("everything held", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
