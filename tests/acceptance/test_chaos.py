"""Whatever is killed, no signal is lost, said twice or different, the lake equals the log, all partitions end on one bundle.

The short form; `make chaos SEED=1` is the long one.
"""

from __future__ import annotations

from tests.acceptance.conftest import Tocsin
from tests.chaos.scenarios import ANY, swaps

KILLS = [
    ("engine", ANY), ("training", "activate"), ("recorder", ANY), ("engine", "prepare"), ("trainer", ANY), ("engine", "copy 0"),
]


def test_kills_while_bundles_are_swapped(tocsin: Tocsin) -> None:
    report = swaps(tocsin.folder, 21, KILLS, 200, tocsin.command, days=20.0, rate=10_000)
    assert sum(report["kills"].values()) == len(KILLS)
    assert report["signals"] > 20_000
    assert report["gaps"] == 0
