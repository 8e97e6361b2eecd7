"""A server that is full of ticks before any engine runs: the engine finds room, the feed goes on, nothing is lost or twice."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from engine.errors import DeviceMissing
from engine.files import write_ticks
from engine.redis_server import redis_executable
from engine.transports import open_log
from engine.transports.redis_client import Client
from engine.wire.records import canonical_order
from tests.acceptance.conftest import Tocsin
from tests.made import made_ticks

WARM, LIVE = 60_000, 140_000
MAXMEMORY, OTHERS = 192 * 2**20, 84 * 2**20


@pytest.fixture
def small(tmp_path: Path, missing: Callable[[str], NoReturn]) -> Iterator[str]:
    """URL of a server that has little memory and evicts nothing."""
    try:
        executable = redis_executable()
    except DeviceMissing as error:
        missing(error.args[0])
    socket = tmp_path / "s"
    process = subprocess.Popen(
        [executable, "--port", "0", "--unixsocket", str(socket), "--dir", str(tmp_path), "--appendonly", "yes", "--save", "",
         "--maxmemory", str(MAXMEMORY), "--maxmemory-policy", "noeviction"], stdout=subprocess.DEVNULL,
    )
    try:
        while not socket.exists():
            assert process.poll() is None
            time.sleep(0.01)
        yield f"unix://{socket}"
    finally:
        process.terminate()
        process.wait()


def used(url: str) -> int:
    client = Client(url)
    told = client.ask("INFO", "memory").decode()
    client.close()
    return int(told.partition("used_memory:")[2].partition("\r")[0])


@pytest.mark.parametrize(("moments", "keep_mb"), [
    ("cusum", 512),                                            # the server's memory is what ends first
    ("cusum", 4),                                              # the quota is
    ("tick", 512),                                             # and much is published while room is made
])
def test_a_full_server_is_no_deadlock(tocsin: Tocsin, small: str, moments: str, keep_mb: int) -> None:
    tocsin.environ |= {"TOCSIN_LOG_KEEP_MB": str(keep_mb), "TOCSIN_LOG_TRANSPORT": small}
    made = made_ticks(WARM + LIVE, symbols=3, rate=0.5)
    write_ticks(made[:WARM], tocsin.folder / "first.parquet")
    write_ticks(made[WARM:], tocsin.folder / "second.parquet")
    write_ticks(made, tocsin.folder / "both.parquet")
    client = Client(small)
    for n in range(OTHERS // 2**20):                           # so that it is full soon, and half of it is the engine's
        client.ask("SET", f"somebody.else.{n}", b"x" * (2**20 - 64))
    client.close()
    tocsin("log", "create", "--partitions", 2)
    tocsin("train", "--ticks", "first.parquet", "--moments", moments, "--activate", "always", "--transport", small)

    feeder = tocsin.start("feed", "files", "second.parquet", "--speed", "max", "--json")
    said = tocsin.folder / f"feed-{tocsin.running.index(feeder)}.log"
    deadline = time.monotonic() + 60
    while b"[full]" not in said.read_bytes():
        assert feeder.poll() is None, said.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert used(small) < MAXMEMORY * 0.55
    [room] = [found for found in tocsin.json("doctor") if found["what"] == "room in the log"]
    assert room["state"] == "missing"
    assert "feeds hold their ticks" in room["advice"]
    log = open_log(small)
    kept = [log.extent(partition).kept for partition in range(2)]
    assert 1000 < sum(kept) < LIVE
    log.close()

    with (tocsin.folder / "signals").open("wb") as published:
        consumer = subprocess.Popen([tocsin.command, "signals", "--follow", "--json"], cwd=tocsin.folder, env=tocsin.environ,
                                    stdout=published)
    tocsin.running.append(consumer)
    engine = tocsin.start("run", "engine", "--warm", "first.parquet")
    try:
        assert feeder.wait(150) == 0, said.read_text()
    except subprocess.TimeoutExpired:
        pytest.fail((tocsin.folder / f"run-{tocsin.running.index(engine)}.log").read_text() + said.read_text())
    assert feeder.stdout
    told = json.loads(feeder.stdout.read())
    assert (told["sent"], told["spooled"]) == (LIVE, 0)
    assert told["held_s"] > 0.5

    expected = tocsin("replay", "both.parquet", "--from", int(made.ts[WARM]), "--canonical").encode()
    lines = expected.count(b"\n")
    assert lines > 500
    deadline = time.monotonic() + 120
    while (tocsin.folder / "signals").read_bytes().count(b"\n") < lines and time.monotonic() < deadline:
        assert engine.poll() is None, "the engine left by itself"
        time.sleep(0.1)
    engine.terminate()
    assert engine.wait(30) == 0
    found = (tocsin.folder / "signals").read_bytes().splitlines()
    assert b"".join(record + b"\n" for record in canonical_order(found)) == expected
    log = open_log(small)
    assert sum(log.extent(partition).kept for partition in range(2)) < LIVE - 20_000, "it was trimmed"
    log.close()


def test_a_feed_that_cant_wait_spools_is_stopped_and_sends_the_rest_first(tocsin: Tocsin) -> None:
    tocsin.environ |= {"TOCSIN_LOG_KEEP_MB": "1"}              # half a MB of ticks in each of four partitions
    feeder = tocsin.start("feed", "sim", "--days", "2", "--rate", "8000", "--json")
    said = tocsin.folder / f"feed-{tocsin.running.index(feeder)}.log"
    spool = tocsin.folder / ".tocsin/spool/sim-1"
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 200_000 for path in spool.glob("*.spool")):
        assert feeder.poll() is None, said.read_text()
        assert time.monotonic() < deadline, said.read_text()
        time.sleep(0.05)
    feeder.terminate()
    assert feeder.wait(20) == 0, said.read_text()
    assert feeder.stdout
    told = json.loads(feeder.stdout.read())
    assert told["spooled"] > 1000
    assert "they go to .tocsin/spool/sim-1" in said.read_text()
    [waits] = [found for found in tocsin.json("doctor") if found["what"] == "spool sim-1"]
    assert waits["state"] == "missing"

    log = open_log(f"redis+embedded://{tocsin.folder / '.tocsin/log'}")
    try:
        before = sum(log.extent(partition).kept for partition in range(4))
        for partition in range(4):
            log.limit(partition, 2**30)
        again = tocsin.json("feed", "sim", "--days", "0.01", "--rate", "8000")
        assert f"{told['spooled']:,} ticks wait" in tocsin.stderr
        assert again["spooled"] == 0
        assert sum(log.extent(partition).kept for partition in range(4)) == before + again["sent"]
        assert before == told["sent"]
        assert again["sent"] > told["spooled"]
    finally:
        log.close()
    assert not list(spool.glob("*.spool"))
