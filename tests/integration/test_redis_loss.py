"""A server that loses the end of what it held: what is left is gone on from, decided again, and owned by one."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import OwnershipLost, TransportUnreachable
from engine.transports import open_log
from engine.transports.base import KEPT, Log, Record, Topic
from engine.types import NOWHERE, START, Position
from tests.engines import wait_for
from tests.lives import EXPECTED, MADE, Disturbed, life, log_of, pour, told
from tests.proxy import DOWN, Proxy
from tests.servers import Server

TWO_THIRDS = 2 * len(MADE) // 3



def ends_as_if_nothing_had_happened(url: str) -> None:
    """What is left is decided as before; with the ticks sent again that are gone, everything is."""
    log = open_log(url)
    try:
        left = log.extent(0).kept
        assert life(url) == ""
        for topic, records in told(url).items():
            assert records == EXPECTED[topic][:len(records)]
        pour(log, MADE[left:])
        assert life(url) == ""
        assert told(url) == EXPECTED
    finally:
        log.close()


# ---- power loss


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_after_a_power_loss_the_rest_is_decided_the_same(host: Server, seed: int) -> None:
    """The append-only file ends anywhere, in the middle of a command too."""
    log_of(host.url(), MADE[:TWO_THIRDS])
    at_least = aof(host).stat().st_size                   # what stood there before was on the disk
    assert life(host.url(), lambda log: Disturbed(log, 9, host.kill)) == "unreachable"
    with host:
        log = open_log(host.url())
        pour(log, MADE[TWO_THIRDS:])
        log.close()
        assert life(host.url()) == ""
    for _ in range(3):                                    # one loss after another
        size = aof(host).stat().st_size
        with open(aof(host), "r+b") as file:
            file.truncate(random.Random(seed).randint(at_least, size - 1))
        with host:
            ends_as_if_nothing_had_happened(host.url())


def test_half_of_a_step_that_a_server_brings_back_is_finished(host: Server) -> None:
    """A file that ends in the middle of a transaction's command is cut behind the command before it, and at the start after
    that the server takes what it finds of the transaction."""
    log_of(host.url())
    assert life(host.url()) == ""
    host.kill()
    whole = aof(host).read_bytes()
    aof(host).write_bytes(whole[:whole.index(b"rejects.main.{0}") + 5])
    with host:
        assert life(host.url(), lambda log: Disturbed(log, 1, host.kill)) == "unreachable"
    with host:
        ends_as_if_nothing_had_happened(host.url())


def aof(host: Server) -> Path:
    """The file that grows."""
    return max(host.folder.rglob("*.aof"), key=lambda file: (file.name.endswith(".incr.aof"), file.stat().st_mtime_ns))


# ---- single keys that are older than the others


@pytest.fixture
def admin(host: Server) -> Iterator[Any]:
    with host.admin() as client:
        yield client


def older(admin: Any) -> Callable[[], None]:
    """Puts what was published back as it is now, and leaves everything else as it is then."""
    keys = [key for key in admin.scan_iter() if key.startswith((b"signals.", b"rejects.", b"journal."))]
    dumps = {key: admin.dump(key) for key in keys}

    def put_back() -> None:
        for key, dump in dumps.items():
            admin.restore(key, 0, dump, replace=True)

    return put_back


def test_a_checkpoint_that_stands_on_lost_signals_is_not_used_but_the_one_before(host: Server, admin: Any) -> None:
    log_of(host.url(), MADE[:450])
    assert life(host.url()) == ""
    put_back = older(admin)
    log = open_log(host.url())
    pour(log, MADE[450:650])
    assert life(host.url()) == ""
    newest = log.checkpoints(0)
    put_back()
    lost = log.tail(0)
    ends_as_if_nothing_had_happened(host.url())
    assert len(newest) == KEPT
    assert lost < log.tail(0)
    log.close()


def test_where_no_checkpoint_is_vouched_for_nothing_starts_silently(host: Server, admin: Any) -> None:
    log_of(host.url(), MADE[:200])
    assert life(host.url()) == ""
    put_back = older(admin)
    log = open_log(host.url())
    pour(log, MADE[200:])
    assert life(host.url()) == ""
    put_back()
    before = (log.tail(0), log.checkpoints(0), told(host.url()))
    assert life(host.url()) == "checkpoint"
    assert (log.tail(0), log.checkpoints(0), told(host.url())) == before
    log.close()


# ---- a replica that lags, promoted


class Pair:
    """A primary, a replica behind a proxy that can go silent, and a front that leads to whoever is the primary."""

    def __init__(self, executable: str, folder: Path) -> None:
        self.primary = Server(executable, folder / "primary", "--appendonly", "yes")
        self.primary.start()
        self._link = Proxy(self.primary.port)
        self.replica = Server(executable, folder / "replica", "--replicaof", "127.0.0.1", self._link.port)
        self.replica.start()
        self._front = Proxy(self.primary.port)
        self.url = self.primary.url(port=self._front.port)

    def in_step(self) -> None:
        """Wait until the replica has everything."""
        with self.primary.admin() as primary, self.replica.admin() as replica:
            wait_for(lambda: (
                replica.info("replication")["master_link_status"] == "up"
                and replica.info("replication")["slave_repl_offset"] == primary.info("replication")["master_repl_offset"]
            ))

    def lag(self) -> None:
        """From here on the replica hears nothing."""
        self.in_step()
        self._link.swallow(DOWN)

    def promote(self) -> None:
        """The primary is gone; whoever connects reaches the replica."""
        self.primary.kill()
        with self.replica.admin() as admin:
            admin.replicaof("NO", "ONE")
        self._front.to = self.replica.port
        self._front.cut()

    def close(self) -> None:
        for proxy in (self._front, self._link):
            proxy.close()
        for server in (self.primary, self.replica):
            server.kill()


@pytest.fixture
def pair(executable: str, tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(executable, tmp_path)
    yield pair
    pair.close()


@pytest.mark.parametrize("steps", [2, 7])
def test_on_a_promoted_replica_that_lagged_the_rest_is_decided_the_same(pair: Pair, steps: int) -> None:
    log_of(pair.url, MADE[:TWO_THIRDS])
    assert life(pair.url, lambda log: Disturbed(log, steps, pair.lag)) == ""
    before = told(pair.url)[Topic.SIGNALS]
    log = open_log(pair.url)
    pour(log, MADE[TWO_THIRDS:])
    log.close()
    assert life(pair.url, lambda log: Disturbed(log, 3, pair.promote)) in ("unreachable", "rolled_back")
    assert len(told(pair.url)[Topic.SIGNALS]) < len(before)           # something was lost
    ends_as_if_nothing_had_happened(pair.url)


def refused(kind: type[Exception], code: str) -> Any:
    return pytest.raises(kind, match=rf"\[{code}\]")


def writes(log: Log, epoch: int, n: int) -> list[Callable[[], object]]:
    """All that an owner can do."""
    return [
        lambda: (log.publish(0, epoch, [Record(Topic.SIGNALS, Position((n, 1), 0), b"old")], b"old"), log.settle()),
        lambda: log.beat(0, epoch), lambda: log.stage(0, epoch, {"old": b"1"}), lambda: log.unstage(0, epoch, []),
        lambda: log.mark(0, epoch, b"old"), lambda: log.trim(0, epoch, (10**15, 0), 10**6), lambda: log.release(0, epoch),
    ]


def test_two_owners_of_one_epoch_are_told_apart_after_a_promotion(pair: Pair) -> None:
    """The replica never heard of an owner's epoch and grants its number again; only the second may write."""
    log_of(pair.url)
    first, lost, heir = open_log(pair.url), open_log(pair.url), open_log(pair.url)
    assert first.claim(0, "first", first.ownership(0)) == 1
    pair.lag()
    epoch = lost.claim(0, "lost", lost.ownership(0)) or 0
    lost.publish(0, epoch, [Record(Topic.SIGNALS, Position((1, 1), 0), b"lost")], b"lost")
    lost.settle()
    pair.promote()

    assert (heir.ownership(0).owner, heir.tail(0)) == ("first", NOWHERE)
    for write in writes(lost, epoch, 2)[1:]:
        with refused(TransportUnreachable, "rolled_back"):
            write()
    with refused(TransportUnreachable, "unreachable"):    # its own connection was cut with the others
        writes(lost, epoch, 2)[0]()
    with refused(TransportUnreachable, "(rolled_back|broken)"):
        writes(lost, epoch, 2)[0]()

    again = heir.claim(0, "heir", heir.ownership(0)) or 0
    assert again == epoch
    heir.stage(0, again, {"blob": b"heir's"})
    heir.publish(0, again, [Record(Topic.SIGNALS, Position((1, 1), 0), b"heir's")], b"heir's")
    heir.settle()
    owner = heir.ownership(0)
    for zombie in (lost, first):
        for write in writes(zombie, again, 3):
            with refused(OwnershipLost, "fenced"):
                write()
    assert heir.ownership(0) == owner
    assert [record for _, record in heir.published(0, Topic.SIGNALS, NOWHERE, 9)] == [b"heir's"]
    assert (heir.checkpoints(0), heir.staged(0, ["blob"]), heir.marked(0)) == ([b"heir's"], [b"heir's"], b"")
    assert len(heir.read({0: START}, 10**4)[0]) == len(MADE)
    heir.beat(0, again)
    for log in (first, lost, heir):
        log.close()


def test_the_owner_a_replica_remembers_goes_on_if_it_was_the_owner_still(pair: Pair) -> None:
    """Nothing it relied on was lost: no need to claim again."""
    log_of(pair.url)
    owner = open_log(pair.url)
    epoch = owner.claim(0, "a", owner.ownership(0)) or 0
    pair.lag()
    pair.promote()
    owner.beat(0, epoch)
    owner.close()
