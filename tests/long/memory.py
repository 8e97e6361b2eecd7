"""What every process takes while ticks flow for long: `make memory`, or `python -m tests.long.memory MINUTES [RATE]`.

Engine, trainer with its recorder, a feed, a consumer that follows signals, and the embedded Redis, over a log so small that
it is trimmed all the time; a bundle that is asked at every tick, so that as much as possible is published. The resident size
of each is looked at every ten seconds. It fails where one still grows after the first third: by more than GROWTH_MB_H an hour,
and by more than NOISE_MB over what was looked at.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from engine.feeds.sim import simulate
from engine.files import write_ticks
from tests.chaos.harness import TOCSIN, wait_for
from tests.children import recorder

EVERY_S = 10.0
GROWTH_MB_H, NOISE_MB = 20.0, 8.0
KEEP_MB = 48
TICKS_PER_DAY = 71_000
"""Of the simulated market, about."""

SETTINGS = {
    "TOCSIN_ENGINE_LISTEN": "", "TOCSIN_TRAINER_LISTEN": "", "TOCSIN_TRAINER_EVERY": "", "TOCSIN_LOG_KEEP_MB": str(KEEP_MB),
    "TOCSIN_TRAINER_MOMENTS": "tick", "TOCSIN_TRAINER_ACTIVATE": "always", "TOCSIN_LAKE_QUOTA_GB": "1",
}


def main(minutes: float, rate: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        environ = {k: v for k, v in os.environ.items() if not k.startswith("TOCSIN_")} | SETTINGS
        running: dict[str, subprocess.Popen[bytes]] = {}

        def start(name: str, *argv: str) -> None:
            with (home / f"{name}.log").open("wb") as said:
                running[name] = subprocess.Popen([TOCSIN, *argv], cwd=home, env=environ, stdout=subprocess.DEVNULL, stderr=said)

        write_ticks(simulate(2.0, seed=9), home / "first.parquet")
        days = minutes * 60 * rate / TICKS_PER_DAY + 0.1
        url = "redis+embedded://.tocsin/log"
        try:
            subprocess.run([TOCSIN, "train", "--ticks", "first.parquet", "--transport", url], cwd=home, env=environ, check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            start("engine", "run", "engine", "--warm", "first.parquet")
            wait_for("the engine ready", lambda: b"ready:" in (home / "engine.log").read_bytes(), 300.0)
            start("trainer", "run", "trainer")
            start("signals", "signals", "--follow")
            start("feed", "feed", "sim", "--days", f"{days:.3f}", "--rate", str(rate))
            wait_for("a recorder", lambda: recorder(running["trainer"].pid, home / ".tocsin"), 120.0)
            return judge(watch(running, home, minutes))
        finally:
            for process in running.values():
                process.terminate()
            for process in running.values():
                process.wait(60)


def watch(running: dict[str, subprocess.Popen[bytes]], home: Path, minutes: float) -> dict[str, list[tuple[float, float]]]:
    """By process: (hours since the start, MB resident), every EVERY_S."""
    of = {name: psutil.Process(process.pid) for name, process in running.items()}
    of["redis"] = psutil.Process(int((home / ".tocsin/log/redis.pid").read_text()))
    child = recorder(running["trainer"].pid, home / ".tocsin")
    assert child
    of["recorder"] = child
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in of}
    began = time.monotonic()
    while (since := time.monotonic() - began) < 60 * minutes:
        for name, process in of.items():
            seen[name].append((since / 3600, process.memory_info().rss / 1e6))
        dead = [name for name, process in running.items() if process.poll() is not None]
        if dead:
            print(f"{dead} ended: {(home / f'{dead[0]}.log').read_text()[-1000:]}", file=sys.stderr)
            raise SystemExit(1)
        time.sleep(EVERY_S)
    return seen


def judge(seen: dict[str, list[tuple[float, float]]]) -> int:
    """Print the table; how many processes grow."""
    growing = 0
    print(f"{'process':10}{'start':>8}{'10 min':>8}{'most':>8}{'end':>8}   MB, and MB/h after the first third")
    for name, samples in sorted(seen.items()):
        hours, size = np.array(samples).T
        late = hours >= hours[-1] / 3
        slope = float(np.polyfit(hours[late], size[late], 1)[0])
        grows = slope > GROWTH_MB_H and slope * (hours[-1] - hours[late][0]) > NOISE_MB
        growing += grows
        at = size[np.searchsorted(hours, min(1 / 6, hours[-1]))]
        print(f"{name:10}{size[0]:8.1f}{at:8.1f}{size.max():8.1f}{size[-1]:8.1f}   {slope:+.1f}{'  GROWS' if grows else ''}")
    return growing


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if sys.argv[1:] else 60.0, int(sys.argv[2]) if sys.argv[2:] else 1000))
