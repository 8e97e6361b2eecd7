"""SIGKILL the engine while ticks flow, restart it: not one signal is lost, said twice or different from the replay."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from engine.files import write_ticks
from engine.transports import open_log
from engine.transports.base import Topic
from engine.types import NOWHERE
from tests.acceptance.conftest import Tocsin
from tests.made import made_ticks


class Published:
    """How many signals are there, read on from where the last look ended."""

    def __init__(self, folder: Path) -> None:
        self._log = open_log(f"redis+embedded://{folder / '.tocsin/log'}")
        self._after = dict.fromkeys(range(self._log.partitions), NOWHERE)
        self._count = 0

    def count(self) -> int:
        while found := self._log.follow(Topic.SIGNALS, self._after, 10_000):
            for partition, records in found.items():
                self._after[partition] = records[-1][0]
                self._count += len(records)
        return self._count

    def close(self) -> None:
        self._log.close()


KILLS = 6
WARM = 60_000


@pytest.mark.parametrize(("moments", "rows", "rate", "seed"), [
    ("cusum", 1, 20_000, 11),
    ("cusum", 1000, 20_000, 12),
    ("tick", 1024, 4_000, 13),
])
def test_kills_while_ticks_flow(tocsin: Tocsin, moments: str, rows: int, rate: int, seed: int) -> None:
    made = made_ticks(WARM + 60 * rate, symbols=3, rate=0.5)
    first, second = tocsin.folder / "first.parquet", tocsin.folder / "second.parquet"
    write_ticks(made[:WARM], first)
    write_ticks(made[WARM:], second)
    url = "redis+embedded://.tocsin/log"
    trained = tocsin.json("train", "--ticks", first, "--moments", moments, "--activate", "always", "--transport", url)
    assert trained["activated"]

    published = Published(tocsin.folder)
    rng = random.Random(seed)
    engine = tocsin.start("run", "engine", "--warm", first)
    tocsin.wait_until_ready(engine)
    feeder = tocsin.start("feed", "files", second, "--rate", rate, "--frame", rows, "--json")
    for _ in range(KILLS):
        before = published.count()
        while published.count() == before:
            assert engine.poll() is None, "the engine left by itself"
            assert feeder.poll() is None, "ticks flow no more"
            time.sleep(0.02)
        time.sleep(rng.choice((0.0, rng.uniform(0, 0.05), rng.uniform(0, 0.8))))
        assert feeder.poll() is None
        engine.kill()
        engine.wait()
        engine = tocsin.start("run", "engine", "--warm", first)
    feeder.terminate()
    assert feeder.stdout
    sent = json.loads(feeder.stdout.read())["sent"]
    assert feeder.wait() == 0

    both = tocsin.folder / "both.parquet"
    write_ticks(made[:WARM + sent], both)
    expected = tocsin("replay", both, "--from", int(made.ts[WARM]), "--canonical").encode()
    lines = expected.count(b"\n")
    assert lines > 1000
    deadline = time.monotonic() + 60
    while published.count() < lines and time.monotonic() < deadline:
        assert engine.poll() is None, "the engine left by itself"
        time.sleep(0.1)
    published.close()
    engine.terminate()
    assert engine.wait(30) == 0
    assert tocsin("signals", "--canonical").encode() == expected
