"""Whatever a server, or the way to it, does in the middle of publishing: in the end the log holds each record once, in order.

An engine's life ends with a code; the next takes over, as after a restart, and goes on where the log ends.
"""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from engine.errors import TransportUnreachable
from engine.outage import PASSING
from engine.transports import open_log, redis_client
from tests.engines import wait_for
from tests.lives import EXPECTED, Disturbed, life, log_of, told
from tests.proxy import CUT, DOWN, SWALLOW, UP, Proxy
from tests.servers import Server

Admin = Any


@pytest.fixture
def admin(host: Server) -> Iterator[Admin]:
    with host.admin() as client:
        yield client


def patiently(url: str) -> list[str]:
    """The codes of as many lives as it takes."""
    codes = []
    deadline = time.monotonic() + 20
    while code := life(url):
        assert code in PASSING, code
        codes.append(code)
        assert time.monotonic() < deadline, codes
        time.sleep(0.05)
    return codes


def disturbed(host: Server, what: Callable[[], object], mend: Callable[[], object], codes: set[str]) -> None:
    """It happens before a step and after one, early and late; the life it happens in ends with one of these codes."""
    for n, (at, after) in enumerate(((2, False), (6, True), (11, False))):
        url = f"{host.url()}?prefix=try{n}."
        log_of(url)
        code = life(url, lambda log, at=at, after=after: Disturbed(log, at, what, after))  # type: ignore[misc]
        assert code in codes
        mend()
        patiently(url)
        assert told(url) == EXPECTED


def limit(host: Server, size: int) -> None:
    """No file of the server's grows beyond so many bytes."""
    assert host.process
    resource.prlimit(host.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_expected_means_something() -> None:
    assert [len(records) > least for records, least in zip(EXPECTED.values(), (500, 3, -1), strict=True)] == [True] * 3


def test_nothing_lost_nothing_twice_when_the_primary_becomes_a_replica(host: Server, admin: Admin) -> None:
    disturbed(host, lambda: admin.replicaof("127.0.0.1", 1), lambda: admin.replicaof("NO", "ONE"), {"readonly"})


def test_nothing_lost_nothing_twice_when_memory_runs_out(host: Server, admin: Admin) -> None:
    disturbed(host, lambda: admin.config_set("maxmemory", 1), lambda: admin.config_set("maxmemory", 0), {"memory"})


def test_nothing_lost_nothing_twice_when_replicas_are_missing(host: Server, admin: Admin) -> None:
    name = "min-replicas-to-write"
    disturbed(host, lambda: admin.config_set(name, 1), lambda: admin.config_set(name, 0), {"replicas"})


def test_nothing_lost_nothing_twice_when_clients_are_killed(host: Server, admin: Admin) -> None:
    def kill() -> None:
        admin.client_kill_filter(_type="normal", skipme=True)

    disturbed(host, kill, lambda: None, {"unreachable"})


def test_nothing_happens_when_scripts_are_forgotten(host: Server, admin: Admin) -> None:
    disturbed(host, admin.script_flush, lambda: None, {""})


def test_nothing_lost_nothing_twice_when_somebodys_script_holds_the_server(host: Server, admin: Admin) -> None:
    admin.config_set("lua-time-limit", 10)

    def forever() -> None:
        with host.admin() as other, suppress(redis.RedisError):
            other.eval("while true do end", 0)

    def busy() -> bool:
        try:
            admin.get("x")
        except redis.ResponseError as error:
            return "busy running" in str(error)
        return False

    def hold() -> None:
        threading.Thread(target=forever, daemon=True).start()
        wait_for(busy)

    disturbed(host, hold, admin.script_kill, {"busy"})


def test_nothing_lost_nothing_twice_when_the_append_only_file_can_not_grow(host: Server, admin: Admin) -> None:
    """A full disk, as the server sees it: a write to its file fails half-way."""
    def fill_up() -> None:
        limit(host, max(file.stat().st_size for file in host.folder.rglob("*.aof")) + 1000)

    disturbed(host, fill_up, lambda: limit(host, resource.RLIM_INFINITY), {"disk"})
    host.kill()                                           # what was acknowledged is in the file, too
    with host:
        assert told(f"{host.url()}?prefix=try0.") == EXPECTED


def test_nothing_lost_nothing_twice_when_snapshots_fail(executable: str, tmp_path: Path) -> None:
    with Server(executable, tmp_path / "host", "--save", "900", "1") as host, host.admin() as admin:
        def save(status: str, size: int) -> None:
            limit(host, size)
            admin.bgsave()
            wait_for(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == status)

        disturbed(host, lambda: save("err", 100), lambda: save("ok", resource.RLIM_INFINITY), {"disk"})


def test_a_server_that_reads_its_file_says_so_and_is_waited_for(host: Server, admin: Admin) -> None:
    log_of(host.url())
    for n in range(5000):                                 # it looks up from its file every 1000 commands
        admin.set("filler", n)
    assert life(host.url(), lambda log: Disturbed(log, 4, host.kill)) == "unreachable"
    host.start_with("--key-load-delay", "200")
    with pytest.raises(TransportUnreachable, match=r"\[loading\]"):
        open_log(host.url())
    with suppress(redis.RedisError):
        admin.config_set("key-load-delay", 0)
    assert set(patiently(host.url())) <= {"loading"}
    assert told(host.url()) == EXPECTED


# ---- the way between


@pytest.fixture
def way(host: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setattr(redis_client, "TIMEOUT_S", 0.5)
    with Proxy(host.port) as proxy:
        yield proxy


def through(way: Proxy, host: Server, name: str) -> str:
    log_of(f"{host.url()}?prefix={name}.")
    return f"{host.url(port=way.port)}?prefix={name}."


def undisturbed_bytes(way: Proxy, host: Server) -> dict[str, int]:
    before = dict(way.bytes)
    url = through(way, host, "calm")
    assert life(url) == ""
    return {direction: way.bytes[direction] - before[direction] for direction in (UP, DOWN)}


@pytest.mark.parametrize("direction", [UP, DOWN])
def test_nothing_lost_nothing_twice_when_the_connection_is_cut_at_any_byte(host: Server, way: Proxy, direction: str) -> None:
    """Cut on the way up a step may have been half sent; on the way down it was done, and nobody heard."""
    total = undisturbed_bytes(way, host)[direction]
    for n in range(1, 8):
        url = through(way, host, f"cut{n}")
        way.after(direction, total * n // 8 + 13 * n, CUT)
        codes = patiently(url)
        assert codes in ([], ["unreachable"])
        assert told(f"{host.url()}?prefix=cut{n}.") == EXPECTED
        way.heal()


@pytest.mark.parametrize("direction", [UP, DOWN])
def test_nothing_lost_nothing_twice_when_the_outcome_is_unknown(host: Server, way: Proxy, direction: str) -> None:
    """From some byte on nothing comes through, and nobody hangs up: a half-open connection."""
    total = undisturbed_bytes(way, host)[direction]
    for n in (1, 2, 3):
        url = through(way, host, f"lost{n}")
        way.after(direction, total * n // 4 + 7 * n, SWALLOW)
        assert life(url) == "timeout"
        way.heal()
        way.cut()
        assert patiently(url) == []
        assert told(f"{host.url()}?prefix=lost{n}.") == EXPECTED


def test_a_slow_way_changes_nothing(host: Server, way: Proxy) -> None:
    url = through(way, host, "slow")
    way.delay(UP, 0.002)
    way.delay(DOWN, 0.002)
    assert life(url) == ""
    assert told(url) == EXPECTED


def test_what_is_sent_late_by_one_who_was_given_up_counts_for_nothing(host: Server, way: Proxy) -> None:
    """Its step sits in the network until somebody else has taken over; then it arrives."""
    url = through(way, host, "zombie")
    done: list[str] = []

    def slow() -> None:
        way.delay(UP, 0.3)

    zombie = threading.Thread(target=lambda: done.append(life(url, lambda log: Disturbed(log, 4, slow))))
    zombie.start()
    wait_for(lambda: way._delay[UP] > 0 or not zombie.is_alive())
    assert patiently(f"{host.url()}?prefix=zombie.") == []
    zombie.join(20)
    assert done in (["fenced"], ["timeout"])
    assert told(f"{host.url()}?prefix=zombie.") == EXPECTED
