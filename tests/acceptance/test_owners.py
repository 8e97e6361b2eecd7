"""Two engines on one log: one dies or sleeps, the other takes over; nothing is said twice and nothing is lost."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from engine.files import write_ticks
from engine.transports import open_log
from engine.transports.base import Topic
from engine.types import NOWHERE
from tests.acceptance.conftest import Tocsin
from tests.made import made_ticks

WARM, URL = 60_000, "redis+embedded://.tocsin/log"


def wait_for_signals(folder: Path, count: int, within_s: float = 60.0) -> int:
    log = open_log(f"redis+embedded://{folder / '.tocsin/log'}")
    try:
        deadline = time.monotonic() + within_s
        while True:
            found = log.follow(Topic.SIGNALS, dict.fromkeys(range(log.partitions), NOWHERE), 10**6)
            if sum(map(len, found.values())) >= count or time.monotonic() > deadline:
                return sum(map(len, found.values()))
            time.sleep(0.1)
    finally:
        log.close()


@pytest.mark.parametrize("disturbance", ["kill", "sleep", "same name"])
def test_another_engine_takes_over(tocsin: Tocsin, disturbance: str) -> None:
    made = made_ticks(WARM + 600_000, symbols=3, rate=0.5)
    write_ticks(made[:WARM], tocsin.folder / "first.parquet")
    write_ticks(made[WARM:], tocsin.folder / "second.parquet")
    tocsin("train", "--ticks", "first.parquet", "--activate", "always", "--transport", URL)
    one = tocsin.start("run", "engine", "--warm", "first.parquet", "--name", "one")
    tocsin.wait_until_ready(one)
    two_name = "one" if disturbance == "same name" else "two"
    feeder = tocsin.start("feed", "files", "second.parquet", "--rate", 10_000, "--json")
    assert wait_for_signals(tocsin.folder, 200) >= 200
    two = tocsin.start("run", "engine", "--name", two_name)
    tocsin.wait_until_ready(two)
    if disturbance == "kill":
        one.kill()
    elif disturbance == "sleep":
        one.send_signal(signal.SIGSTOP)
        time.sleep(6)
        one.send_signal(signal.SIGCONT)
    if disturbance == "sleep":                 # it wakes to find what it held with the other one, and has a share again
        tocsin.wait_until_said(one, "everything held is dropped")
    else:
        assert one.wait(30) == (-signal.SIGKILL if disturbance == "kill" else 7)
    time.sleep(5)                              # the lease, and some ticks under the new owner
    feeder.terminate()
    assert feeder.stdout
    sent = json.loads(feeder.stdout.read())["sent"]
    write_ticks(made[:WARM + sent], tocsin.folder / "both.parquet")
    expected = tocsin("replay", "both.parquet", "--from", int(made.ts[WARM]), "--canonical").encode()
    assert wait_for_signals(tocsin.folder, expected.count(b"\n")) == expected.count(b"\n")
    assert tocsin("signals", "--canonical").encode() == expected
    epochs = {json.loads(line)["log"]["epoch"] for line in tocsin("signals", "--json").splitlines()}
    assert len(epochs) > 1
    assert two.poll() is None
