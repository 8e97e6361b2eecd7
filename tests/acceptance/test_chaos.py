"""Whatever is killed, no signal is lost, said twice or different, the lake equals the log, all partitions end on one bundle.

The short forms; `make chaos SEED=1` and `make chaos TRANSPORT=redis SEED=1` are the long ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from tests.acceptance.conftest import Tocsin
from tests.chaos.scenarios import ANY, swaps
from tests.chaos.server import COMPILER
from tests.chaos.storm import storm
from tests.servers import found

KILLS = [
    ("engine", ANY), ("training", "activate"), ("recorder", ANY), ("engine", "prepare"), ("trainer", ANY), ("engine", "copy 0"),
]

SHORT = (
    "kill engine", "kill recorder", "kill feeder", "kill server", "engine and heir sleep", "server stalls", "cut", "half-open",
    "disk full", "replicas flicker", "clock of engine", "scale",
)


def test_kills_while_bundles_are_swapped(tocsin: Tocsin) -> None:
    report = swaps(tocsin.folder, 21, KILLS, 200, tocsin.command, days=20.0, rate=10_000)
    assert sum(report["kills"].values()) == len(KILLS)
    assert report["signals"] > 20_000
    assert report["gaps"] == 0


def test_a_storm_over_a_server_of_its_own(tocsin: Tocsin, missing: Callable[[str], NoReturn]) -> None:
    if not found():
        missing("a Redis server")
    kinds = [kind for kind in SHORT if COMPILER or not kind.startswith("clock of engine")]
    report = storm(tocsin.folder / "world", 5, len(kinds), kinds, tocsin.command, pause_s=(0.5, 2.5))
    assert sum(report["disturbances"].values()) == len(kinds)
    assert report["signals"] > 10_000
