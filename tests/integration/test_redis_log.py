"""What only Redis can do to a log: lose connections, forget scripts, run out of memory, be replaced."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from engine import redis_server
from engine.errors import OwnershipLost, TransportUnreachable, UsageError
from engine.redis_server import EmbeddedServer, with_server
from engine.transports import create_log, open_log, redis_client
from engine.transports import redis as transport
from engine.transports.base import KEPT, Log, Record, Topic
from engine.types import LAST_ORDINAL, NOWHERE, START, Entry, Kind, Position

Admin = Any


@pytest.fixture
def server(redis_dir: Path) -> Iterator[EmbeddedServer]:
    with with_server(redis_dir) as server:
        yield server


@pytest.fixture
def admin(server: EmbeddedServer) -> Iterator[Admin]:
    """Somebody with redis-cli."""
    with redis.Redis(unix_socket_path=str(server.socket), protocol=2) as client:
        yield client


@pytest.fixture
def door(server: EmbeddedServer) -> Iterator[Callable[..., Log]]:
    url = f"unix://{server.socket}"
    logs = [create_log(url, 2)]

    def opened() -> Log:
        logs.append(open_log(url))
        return logs[-1]

    yield opened
    for log in logs:
        log.close()


@pytest.fixture
def log(door: Callable[..., Log]) -> Log:
    return door()


def step(n: int, topic: Topic = Topic.SIGNALS) -> list[Record]:
    return [Record(topic, Position((n, 1), 0), b"%d" % n)]


def signals(log: Log) -> list[bytes]:
    return [payload for _, payload in log.published(0, Topic.SIGNALS, NOWHERE, 100)]


def refused(code: str) -> Any:
    return pytest.raises(TransportUnreachable, match=rf"\[{code}\]")


# ---- what lies in Redis


@pytest.mark.parametrize("few", [2000, 0])
def test_what_a_partition_takes_is_told_whatever_lies_first_in_it(
    log: Log, admin: Admin, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large records, then small ones, then some of them forgotten: never a quarter off."""
    monkeypatch.setattr("engine.transports.redis.FEW", few)

    def told() -> float:
        return log.extent(0).bytes / sum(admin.memory_usage(key, samples=0) for key in admin.keys("*.{0}") if b"ticks" in key)

    for payloads in ([bytes(100_000)] * 20, [b"x" * 100] * 20_000, [b"x" * 100] * 300, [bytes(100_000)] * 20):
        log.append(0, payloads)
        assert 0.8 < told() < 1.25
    epoch = log.claim(0, "host", log.ownership(0))
    assert epoch
    while log.trim(0, epoch, log.extent(0).last, 5_000).ticks:
        assert 0.8 < told() < 1.25


def test_keys_and_records_are_what_others_may_rely_on(log: Log, admin: Admin) -> None:
    log.append_control(2, b"two")
    [cursor] = log.append(1, [b"tick"])
    log.append(1, [b"copy"], Kind.CONTROL)
    epoch = log.claim(1, "host", log.ownership(1)) or 0
    log.beat(1, epoch)
    log.stage(1, epoch, {"blob": b"b"})
    position = Position(cursor, 3)
    records = [Record(Topic.SIGNALS, position, b"signal"), Record(Topic.REJECTS, Position(cursor, 4), b"reject")]
    log.publish(1, epoch, records, b"ck")
    for n in range(KEPT):
        log.publish(1, epoch, [], b"ck%d" % n)
    log.settle()
    log.post("hold.a", b"{}")
    [(ms, seq)] = log.append(0, [b"old"])
    assert log.trim(0, log.claim(0, "host", log.ownership(0)) or 0, (ms + 1, 0), 1).ticks == 1

    assert {key.decode() for key in admin.scan_iter()} == {
        "models", "board", "ticks.{1}", "signals.main.{1}", "rejects.main.{1}", "owner.main.{1}", "checkpoints.main.{1}",
        "blobs.main.{1}", "epochs.main.{1}", "ticks.{0}", "trimmed.{0}", "owner.main.{0}", "epochs.main.{0}",
    }
    assert admin.hgetall("board") == {b"hold.a": b"{}"}
    assert admin.get("trimmed.{0}") == b"1"
    ms, seq = cursor
    published = f"{ms}-{seq * 2**32 + 3}".encode()
    rules = b'{"closed":false,"rules":{}}'
    assert admin.xrange("models") == [
        (b"1-0", {b"identity": log.identity.encode(), b"partitions": b"2", b"rules": rules, b"format": b"2"}),
        (b"2-0", {b"c": b"two", b"us": admin.xrange("models", "2-0")[0][1][b"us"]}),
    ]
    assert abs(int(admin.xrange("models", "2-0")[0][1][b"us"]) / 1e6 - time.time()) < 60
    assert [fields for _, fields in admin.xrange("ticks.{1}")] == [{b"t": b"tick"}, {b"c": b"copy"}]
    assert admin.xrange("signals.main.{1}") == [(published, {b"v": b"signal"})]
    owner = admin.hgetall("owner.main.{1}")
    assert len(owner.pop(b"token")) == 16
    assert owner == {b"epoch": b"1", b"owner": b"host", b"beat": b"1"}
    assert admin.lrange("checkpoints.main.{1}", 0, -1) == [b"ck%d" % n for n in reversed(range(KEPT))]
    assert admin.hgetall("blobs.main.{1}") == {b"blob": b"b"}


def test_any_producer_can_write_ticks(log: Log, admin: Admin) -> None:
    ident = admin.xadd("ticks.{0}", {"t": b'{"symbol":"EURUSD"}'})
    [entry] = log.read({0: START}, 10)[0]
    ms = int(ident.split(b"-")[0])
    assert entry == Entry((ms, 0), Kind.TICKS, b'{"symbol":"EURUSD"}', ms * 1_000_000)
    assert log.format(entry.cursor) == ident.decode()


def test_what_is_no_tick_record_is_handed_on_whole(log: Log, admin: Admin) -> None:
    admin.xadd("ticks.{0}", {"symbol": "EURUSD", "bid": "1.1"})
    admin.xadd("ticks.{0}", {"x": "1"})
    assert [(entry.kind, entry.payload) for entry in log.read({0: START}, 10)[0]] == [
        (Kind.TICKS, b"symbol EURUSD bid 1.1"), (Kind.TICKS, b"x 1"),
    ]


def test_an_id_that_leaves_no_room_for_an_ordinal_is_refused_whole(log: Log, admin: Admin) -> None:
    admin.xadd("ticks.{0}", {"t": "x"}, id=f"5-{2**32}")
    [entry] = log.read({0: START}, 10)[0]
    epoch = log.claim(0, "a", log.ownership(0)) or 0
    with refused("cursor"):
        log.publish(0, epoch, [*step(1), Record(Topic.SIGNALS, Position(entry.cursor, 0), b"")])
    log.settle()
    assert signals(log) == []


def test_two_prefixes_are_two_logs(server: EmbeddedServer, admin: Admin) -> None:
    one, two = (create_log(f"unix://{server.socket}?prefix={name}.", 1) for name in ("a", "b"))
    one.append(0, [b"x"])
    assert two.read({0: START}, 1) == {}
    assert one.identity != two.identity
    assert admin.exists("a.ticks.{0}")
    one.close()
    two.close()


# ---- trimming


def test_what_was_published_about_the_first_tick_kept_stays_to_the_last_bit(log: Log, admin: Admin) -> None:
    admin.config_set("stream-node-max-entries", 1)        # then every record is a block
    seqs = [1, 2**21, 2**21 + 1, 2**31 + 1, LAST_ORDINAL - 1, LAST_ORDINAL]
    for seq in seqs:
        admin.xadd("ticks.{0}", {"t": "x"}, id=f"5-{seq}")
    epoch = log.claim(0, "a", log.ownership(0)) or 0
    published = [Position((5, seq), ordinal) for seq in seqs for ordinal in (0, 1, LAST_ORDINAL)]
    log.publish(0, epoch, [Record(Topic.SIGNALS, position, b"") for position in published])
    log.settle()
    for n, seq in enumerate(seqs[1:], 1):
        assert log.trim(0, epoch, (5, seq), 100).ticks == 1
        assert [position for position, _ in log.published(0, Topic.SIGNALS, NOWHERE, 100)] == published[3 * n:]
    admin.xadd("ticks.{0}", {"t": "x"}, id=f"5-{2**64 - 1}")            # nothing can be published about this one
    assert log.trim(0, epoch, (6, 0), 1).ticks == 1
    assert [position for position, _ in log.published(0, Topic.SIGNALS, NOWHERE, 100)] == published[-3:]


def test_a_trim_sweeps_so_much_and_the_next_the_rest(log: Log, admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "SWEEP", 200)
    cursors = log.append(0, [b"x"] * 200)
    epoch = log.claim(0, "a", log.ownership(0)) or 0
    records = [Record(Topic.SIGNALS, Position(cursor, n), b"") for cursor in cursors for n in range(5)]
    for n in range(0, 1000, 500):
        log.publish(0, epoch, records[n:n + 500])
    log.settle()
    assert log.trim(0, epoch, (cursors[-1][0] + 1, 0), 1000).ticks == 200
    left = [admin.xlen("signals.main.{0}")]
    log.append(0, [b"y"] * 200)
    for n in range(6):
        ticks, published = log.trim(0, epoch, (cursors[-1][0] + 1, 0), 1000)
        assert (ticks, published) == (0, 0 if n >= 4 else left[-1] - admin.xlen("signals.main.{0}"))
        left.append(admin.xlen("signals.main.{0}"))
    assert left[:5] == [800, 600, 400, 200, 100]
    assert left[5:] == [100, 100]                         # the block of the newest


def test_a_log_put_in_the_place_of_this_one_is_noticed_on_an_old_connection(
    log: Log, admin: Admin, server: EmbeddedServer
) -> None:
    for k in (2, 3):
        assert log.append_control(k, b"x")
    assert [k for k, _ in log.controls(2)] == [3]
    admin.flushall()
    for known in (1, 3):
        with pytest.raises(TransportUnreachable, match="another log"):
            log.controls(known)
    other = create_log(f"unix://{server.socket}", 1)
    for k in (2, 3):
        assert other.append_control(k, b"x")
    other.close()
    for known in (1, 3):
        with pytest.raises(TransportUnreachable, match="another log"):
            log.controls(known)


def test_payloads_stay_in_the_server(log: Log, admin: Admin) -> None:
    cursors = log.append(0, [b"x" * 500_000] * 4)
    epoch = log.claim(0, "a", log.ownership(0)) or 0
    log.publish(0, epoch, [Record(Topic.SIGNALS, Position(cursor, 0), b"s" * 500_000) for cursor in cursors])
    log.settle()
    before = admin.info("stats")["total_net_output_bytes"]
    assert log.extent(0).kept == 4
    assert log.trim(0, epoch, cursors[3], 2).ticks == 2
    assert log.extent(0).kept == 2
    assert len(log.published(0, Topic.SIGNALS, NOWHERE, 1)) == 1        # the first to go over the wire
    assert 500_000 < admin.info("stats")["total_net_output_bytes"] - before < 550_000


def test_what_was_forgotten_stays_so_when_the_server_starts_again(redis_dir: Path) -> None:
    url = f"redis+embedded://{redis_dir}"
    log = open_log(url, create=2)
    cursors = [log.append(p, [b"%d" % n for n in range(1000)]) for p in range(2)]
    for p, before in enumerate((cursors[0][500], (cursors[1][-1][0] + 1, 0))):
        epoch = log.claim(p, "a", log.ownership(p)) or 0
        log.publish(p, epoch, [Record(Topic.SIGNALS, Position(cursor, 0), b"s") for cursor in cursors[p][:500]])
        log.settle()
        assert log.trim(p, epoch, before, 1000).ticks > 400
    log.post("hold.a", b"1")
    extents = [log.extent(p) for p in range(2)]
    assert extents[1].kept == 0
    there = [(log.published(p, Topic.SIGNALS, NOWHERE, 1000), log.tail(p)) for p in range(2)]
    log.close()

    again = open_log(url)
    assert [again.extent(p)[:4] for p in range(2)] == [extent[:4] for extent in extents]
    assert [(again.published(p, Topic.SIGNALS, NOWHERE, 1000), again.tail(p)) for p in range(2)] == there
    assert again.posts() == {"hold.a": b"1"}
    assert again.append(1, [b"x"])[0] > cursors[1][-1]
    assert len(again.read({1: START}, 9)[1]) == 1
    again.close()


def test_the_disk_gets_back_what_was_forgotten_in_short_runs(redis_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_server, "COMPACT", 2_000_000)
    file = redis_dir / "appendonly.aof"
    for _ in range(4):
        log = open_log(f"redis+embedded://{redis_dir}", create=1)
        epoch = log.claim(0, "a", log.ownership(0)) or 0
        deadline = time.monotonic() + 5
        while file.exists() and file.stat().st_size >= 1_000_000:      # it is rewritten beside our work
            assert time.monotonic() < deadline
            time.sleep(0.01)
        cursors = log.append(0, [b"x" * 1000] * 2200)
        log.trim(0, epoch, cursors[-1], 10_000)
        log.close()
        if not file.exists():
            pytest.skip("this server keeps its file in pieces, and remembers how large it was when it was rewritten")


# ---- a log begins, and ends, and is another


def test_of_two_who_make_a_log_one_does(server: EmbeddedServer) -> None:
    made: list[object] = []

    def make(partitions: int) -> None:
        try:
            log = create_log(f"unix://{server.socket}", partitions)
            made.append(log.partitions)
            log.close()
        except TransportUnreachable as error:
            made.append(error.code)

    makers = [threading.Thread(target=make, args=(n,)) for n in (1, 2, 3, 4)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert sorted(map(str, made))[1:] == ["log_exists"] * 3
    log = open_log(f"unix://{server.socket}", create=9)
    assert log.partitions in made
    log.close()


def test_asking_for_a_log_leaves_nothing_behind(redis_dir: Path) -> None:
    with refused("no_log") as caught:
        open_log(f"redis+embedded://{redis_dir}")
    assert "tocsin feed" in caught.value.hint
    assert not redis_dir.exists()
    redis_dir.mkdir()
    with refused("no_log"):
        open_log(f"redis+embedded://{redis_dir}")         # redis_dir fails the test if the server stays


def test_an_embedded_log_is_there_again(redis_dir: Path) -> None:
    url = f"redis+embedded://{redis_dir}"
    log = open_log(url, create=3)
    cursors = log.append(2, [b"x", b"y"])
    epoch = log.claim(0, "a", log.ownership(0)) or 0
    log.publish(0, epoch, step(1), b"ck")
    log.settle()
    log.close()
    again = open_log(url, create=8)
    assert (again.identity, again.partitions, again.url) == (log.identity, 3, url)
    assert [entry.cursor for entry in again.read({2: START}, 9)[2]] == cursors
    assert (again.tail(0), again.checkpoints(0), again.ownership(0)) == (Position((1, 1), 0), [b"ck"], (1, "a", 0))
    again.close()


def test_a_log_of_another_format_is_refused(server: EmbeddedServer, admin: Admin) -> None:
    admin.xadd("models", {"identity": "x", "partitions": 1, "format": 99}, id="1-0")
    with refused("log_format"):
        open_log(f"unix://{server.socket}")
    admin.delete("models")
    admin.set("models", "not a stream")
    with refused("redis"):
        open_log(f"unix://{server.socket}")


def test_a_replaced_log_is_noticed_when_connecting_again(log: Log, admin: Admin) -> None:
    epoch = log.claim(0, "a", log.ownership(0)) or 0
    log.publish(0, epoch, step(1))
    log.settle()
    log.read({0: START}, 1)
    admin.delete("models")
    admin.xadd("models", {"identity": "other", "partitions": 2, "format": 1}, id="1-0")
    admin.client_kill_filter(_type="normal", skipme=True)
    with refused("identity"):
        log.tail(0)
    for call in (lambda: log.read({0: START}, 1), lambda: (log.publish(0, epoch, step(2)), log.settle())):
        with refused("unreachable"):
            call()
        with refused("identity"):
            call()
    assert admin.xlen("signals.main.{0}") == 1


# ---- refusals and lost answers


def test_scripts_may_be_forgotten_at_any_time(log: Log, admin: Admin) -> None:
    epoch = log.claim(0, "a", log.ownership(0)) or 0
    for n in range(1, 5):
        log.publish(0, epoch, step(n))
        admin.script_flush()
    log.settle()
    assert signals(log) == [b"1", b"2", b"3", b"4"]


def test_without_memory_nothing_of_a_step_is_written(log: Log, admin: Admin) -> None:
    epoch = log.claim(0, "a", log.ownership(0)) or 0
    log.publish(0, epoch, step(1), b"ck")
    log.settle()
    admin.config_set("maxmemory", 1)
    with refused("full"):
        log.append(0, [b"x"])
    with refused("memory"):
        log.publish(0, epoch, step(2), b"ck2")
        log.settle()
    assert (signals(log), log.checkpoints(0)) == ([b"1"], [b"ck"])
    log.publish(0, epoch, step(2))                        # on its way, and refused
    admin.config_set("maxmemory", 0)
    with refused("memory"):
        log.publish(0, epoch, step(3))                    # there would be memory now, but 2 is missing
        log.settle()
    assert signals(log) == [b"1"]
    log.publish(0, epoch, step(2))
    log.settle()
    assert signals(log) == [b"1", b"2"]


def test_a_replica_takes_nothing(log: Log, admin: Admin) -> None:
    epoch = log.claim(0, "a", log.ownership(0)) or 0
    admin.replicaof("127.0.0.1", 1)
    with refused("readonly"):
        log.append(0, [b"x"])
    with refused("readonly"):
        log.publish(0, epoch, step(1))
        log.settle()


def test_what_became_of_a_step_is_never_guessed(
    server: EmbeddedServer, admin: Admin, redis_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step times out, may be done, and is not sent again by itself: the owner asks the log."""
    monkeypatch.setattr(redis_client, "TIMEOUT_S", 0.2)
    log = create_log(f"unix://{server.socket}", 1)
    epoch = log.claim(0, "a", log.ownership(0)) or 0
    log.publish(0, epoch, step(1))
    log.settle()
    process = int((redis_dir / "redis.pid").read_text())
    done: list[int] = []
    os.kill(process, signal.SIGSTOP)
    try:
        with refused("timeout"):
            log.publish(0, epoch, step(2), None, lambda: done.append(2))
            log.settle()
        with refused("timeout"):
            log.tail(0)
    finally:
        os.kill(process, signal.SIGCONT)
    admin.ping()
    log.settle()
    assert done == []
    assert signals(log) == [b"1", b"2"]                   # it was done after all
    with refused("repeat"):
        log.publish(0, epoch, step(2))
        log.settle()
    log.publish(0, epoch, step(3))
    log.settle()
    assert signals(log) == [b"1", b"2", b"3"]
    log.close()


def test_a_step_that_was_lost_is_missed_by_the_next(server: EmbeddedServer, log: Log, redis_dir: Path) -> None:
    epoch = log.claim(0, "a", log.ownership(0)) or 0
    log.publish(0, epoch, step(1))
    log.settle()
    process = int((redis_dir / "redis.pid").read_text())
    os.kill(process, signal.SIGSTOP)
    done: list[int] = []
    for n in (2, 3):                                      # never read by the server
        log.publish(0, epoch, step(n), None, partial(done.append, n))
    os.kill(process, signal.SIGKILL)
    with refused("unreachable"):
        log.settle()
    with with_server(redis_dir):                          # a new server on the same file
        log.settle()
        with refused("broken"):
            log.publish(0, epoch, step(4))
            log.settle()
        assert signals(log) == [b"1"]
        assert done == []
        log.publish(0, epoch, step(2))
        log.publish(0, epoch, step(3))
        log.settle()
        assert signals(log) == [b"1", b"2", b"3"]


def test_after_a_refusal_nothing_is_on_its_way(door: Callable[..., Log]) -> None:
    zombie, heir = door(), door()
    old = zombie.claim(0, "z", zombie.ownership(0)) or 0
    other = zombie.claim(1, "z", zombie.ownership(1)) or 0
    heir.claim(0, "h", heir.ownership(0))
    done: list[str] = []
    zombie.publish(0, old, step(1), None, lambda: done.append("0:1"))
    zombie.publish(0, old, step(2), None, lambda: done.append("0:2"))
    with pytest.raises(OwnershipLost, match=r"owner.main.\{0\} is held with epoch 2"):
        zombie.publish(1, other, step(1), None, lambda: done.append("1:1"))
    zombie.publish(1, other, step(1), None, lambda: done.append("1:1, sent again"))
    zombie.settle()                    # says nothing of 0:2, which was refused as well
    assert done == ["1:1, sent again"]
    assert (zombie.tail(0), zombie.tail(1)) == (NOWHERE, Position((1, 1), 0))


def test_a_server_that_is_not_there(redis_dir: Path) -> None:
    for url in (f"unix://{redis_dir}/none", "redis://127.0.0.1:1/0"):
        with refused("unreachable"):
            open_log(url)


# ---- secrets


def test_a_password_is_never_shown(server: EmbeddedServer, admin: Admin) -> None:
    create_log(f"unix://{server.socket}", 1).close()
    admin.config_set("requirepass", "hunter2")
    try:
        with redis.Redis(unix_socket_path=str(server.socket), password="hunter2") as again:
            log = open_log(f"unix://:hunter2@{server.socket}")
            assert log.url == f"unix://{server.socket}"
            log.close()
            for url in (f"unix://:hunter3@{server.socket}", f"unix://{server.socket}?password=hunter3"):
                with refused("auth") as caught:
                    open_log(url)
                assert "hunter" not in f"{caught.value}{caught.value.__cause__}"
            again.config_set("requirepass", "")
    finally:
        admin.connection_pool.disconnect()


@pytest.mark.parametrize(
    "url", ["redis://:hun/ter2@host:6379", "redis://user:hunter2@host:port", "redis://:hunter2@host?nonsense=hunter2"]
)
def test_an_unreadable_url_is_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match="transport_url") as caught:
        open_log(url)
    assert "ter2" not in str(caught.value)
    assert caught.value.__suppress_context__
