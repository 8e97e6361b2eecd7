"""What every transport promises (engine/transports/base.py), asked of each of them, real servers behind.

`door()` opens the test's log once more: another process's view of it. `log` is the first such door.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engine.errors import InputRefused, OwnershipLost, TocsinError, TransportUnreachable
from engine.transports import create_log, open_log
from engine.transports.base import EVERY, KEPT, Extent, Log, Ownership, Record, Topic
from engine.transports.memory import MemoryLog
from engine.types import LAST_ORDINAL, NOWHERE, START, Cursor, Kind, Position

Door = Callable[..., Log]
SIGNALS, REJECTS, JOURNAL = Topic.SIGNALS, Topic.REJECTS, Topic.JOURNAL

one_server = settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
fresh = itertools.count()

BLOCK = 100
"""Records that a storage may keep together: up to so many fewer than asked are forgotten."""


def at(major: int, minor: int = 1, ordinal: int = 0) -> Position:
    return Position((major, minor), ordinal)


def signal(position: Position, payload: bytes = b"s") -> Record:
    return Record(SIGNALS, position, payload)


def reject(position: Position, payload: bytes = b"r") -> Record:
    return Record(REJECTS, position, payload)


def owned(log: Log, partition: int = 0, owner: str = "a") -> int:
    """Claim, whoever holds it: it stands still here."""
    epoch = log.claim(partition, owner, log.ownership(partition))
    assert epoch
    return epoch


def publish(
    log: Log, epoch: int, records: Iterable[Record] = (), checkpoint: bytes | None = None, partition: int = 0
) -> None:
    log.publish(partition, epoch, list(records), checkpoint)
    log.settle()


def stored(log: Log, partition: int = 0) -> list[Cursor]:
    """The cursors of all ticks there are, as read from the start."""
    return [entry.cursor for entry in log.read({partition: START}, 100_000).get(partition, [])]


def forget(log: Log, epoch: int, before: Cursor, partition: int = 0) -> int:
    """Trim until nothing goes any more."""
    total = 0
    while any(gone := log.trim(partition, epoch, before, 10_000)):
        total += gone.ticks
    return total


def visible(log: Log, partition: int = 0) -> dict[str, Any]:
    """Everything a reader can see of what was published."""
    return {topic: log.published(partition, topic, NOWHERE, 1000) for topic in Topic} | {
        "tail": log.tail(partition), "checkpoints": log.checkpoints(partition),
    }


def refused(code: str) -> Any:
    return pytest.raises(OwnershipLost if code == "fenced" else TransportUnreachable, match=rf"\[{code}\]")


# ---- one log, many doors


def test_every_door_shows_the_same_log(url: str, door: Door) -> None:
    logs = [door(), door("paper")]
    assert {(log.identity, log.partitions) for log in logs} == {(logs[0].identity, 3)}
    assert len(logs[0].identity) == 32
    assert int(logs[0].identity, 16)
    assert [log.deployment for log in logs] == ["main", "paper"]


def test_where_nobody_made_a_log_there_is_none(url: str) -> None:
    with refused("no_log"):
        open_log(url)


def test_a_log_is_made_once(url: str, log: Log) -> None:
    with refused("log_exists"):
        create_log(url, 2)
    again = open_log(url, create=7)
    assert (again.identity, again.partitions) == (log.identity, 3)
    again.close()


# ---- ticks


def test_records_are_read_in_append_order_with_their_bytes(log: Log) -> None:
    payloads = [b"", b"\x00\r\n$-1\r\n\xff", b"x" * 2_000_000, *(b"%d" % n for n in range(700))]
    cursors = log.append(1, payloads)
    assert cursors == sorted(set(cursors))
    assert cursors[0] > START
    entries = log.read({1: START}, 1000)[1]
    assert [(entry.cursor, entry.payload) for entry in entries] == list(zip(cursors, payloads, strict=True))
    assert {entry.kind for entry in entries} == {Kind.TICKS}


def test_appends_of_several_doors_meet_in_one_order(door: Door) -> None:
    logs = [door(), door("paper"), door()]

    def feed(log: Log, n: int) -> None:
        for i in range(50):
            log.append(0, [b"%d %d" % (n, i)])

    threads = [threading.Thread(target=feed, args=(log, n)) for n, log in enumerate(logs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = [[(entry.cursor, entry.payload) for entry in log.read({0: START}, 1000)[0]] for log in logs]
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0]) == 150
    for n in range(3):
        mine = [payload for _, payload in seen[0] if payload.startswith(b"%d " % n)]
        assert mine == [b"%d %d" % (n, i) for i in range(50)]


def test_control_copies_stand_among_the_ticks(log: Log) -> None:
    log.append(0, [b"t1"])
    log.append(0, [b"c"], Kind.CONTROL)
    log.append(0, [b"t2"])
    kinds = [(entry.kind, entry.payload) for entry in log.read({0: START}, 10)[0]]
    assert kinds == [(Kind.TICKS, b"t1"), (Kind.CONTROL, b"c"), (Kind.TICKS, b"t2")]


@one_server
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8), counts=st.lists(st.integers(1, 7), min_size=1))
def test_reading_on_never_skips_and_never_repeats(log: Log, sizes: list[int], counts: list[int]) -> None:
    before = log.read({2: START}, 10_000).get(2, [])
    after = before[-1].cursor if before else START
    wrote = [cursor for size in sizes for cursor in log.append(2, [b"x"] * size)]
    read: list[Cursor] = []
    for count in itertools.cycle(counts):
        entries = log.read({2: after}, count).get(2, [])
        assert len(entries) <= count
        read += [entry.cursor for entry in entries]
        if len(entries) < count:       # the promise: nothing more was at hand
            break
        after = entries[-1].cursor
    assert read == wrote


def test_read_seeks_anywhere(log: Log) -> None:
    cursors = log.append(0, [b"%d" % n for n in range(20)])
    for n, cursor in enumerate(cursors):
        entries = log.read({0: cursor}, 100).get(0, [])
        assert [entry.payload for entry in entries] == [b"%d" % i for i in range(n + 1, 20)]
        entry = log.entry(0, cursor)
        assert entry
        assert (entry.cursor, entry.payload, entry.kind) == (cursor, b"%d" % n, Kind.TICKS)
    major, minor = cursors[-1]
    assert log.entry(0, (major, minor + 1)) is None
    assert log.entry(0, (major + 1, 0)) is None
    assert log.entry(1, cursors[0]) is None
    assert log.read({0: (major + 5, 0)}, 100) == {}


def test_read_answers_for_the_partitions_that_have_something(log: Log) -> None:
    first = log.append(0, [b"a", b"b", b"c"])
    log.append(2, [b"d"])
    assert log.read({0: START, 1: START}, 2).keys() == {0}
    found = log.read({0: first[0], 1: START, 2: START}, 2)
    assert {p: [entry.payload for entry in entries] for p, entries in found.items()} == {0: [b"b", b"c"], 2: [b"d"]}
    assert log.read({0: first[2], 1: START}, 2) == {}
    assert log.read({}, 2) == {}


def test_the_time_of_storing_never_falls(log: Log) -> None:
    before = time.time_ns()
    log.append(0, [b"a"])
    log.append(0, [b"b"])
    stamps = [entry.appended for entry in log.read({0: START}, 2)[0]]
    if any(stamps):                    # a transport that doesn't say has 0
        assert stamps == sorted(stamps)
        assert abs(stamps[0] - before) < 5_000_000_000


def test_a_wait_for_ticks_ends_when_one_comes_or_time_is_over(door: Door) -> None:
    log, feed = door(), door()
    assert log.read({0: START, 1: START}, 10) == {}       # the connection is there
    began, busy = time.monotonic(), time.thread_time()
    assert log.read({0: START, 1: START}, 10, block_ms=100) == {}
    assert 0.095 < time.monotonic() - began < 1
    assert time.thread_time() - busy < 0.02               # it slept

    later = threading.Timer(0.05, lambda: feed.append(1, [b"x"]))
    later.start()
    began = time.monotonic()
    found = log.read({0: START, 1: START}, 10, block_ms=10_000)
    assert time.monotonic() - began < 2
    assert [entry.payload for entry in found[1]] == [b"x"]
    later.join()

    began = time.monotonic()
    assert log.read({1: START}, 10, block_ms=10_000)
    assert time.monotonic() - began < 1


def test_cursors_are_written_each_in_its_own_way(log: Log) -> None:
    cursors = log.append(0, [b"x"] * 5)
    written = [log.format(cursor) for cursor in cursors]
    assert len(set(written)) == 5
    assert {type(text) for text in written} in ({int}, {str})


# ---- control records


def test_control_records_are_numbered_without_holes(log: Log) -> None:
    assert log.controls() == []
    assert log.append_control(1, b"no: the log itself") is False
    assert log.append_control(2, b"two") is True
    assert log.append_control(2, b"another two") is False
    with pytest.raises(InputRefused, match="control_order"):
        log.append_control(4, b"a hole")
    assert log.append_control(3, b"three") is True
    assert log.controls() == [(2, b"two"), (3, b"three")]


def test_control_records_are_read_on_from_a_place(door: Door) -> None:
    log, reader = door(), door("paper")
    records = [(k, b"%d" % k) for k in range(2, 14)]
    for k, payload in records:
        assert log.append_control(k, payload)
    for after in range(14):
        assert reader.controls(after) == [record for record in records if record[0] > after]


# ---- the board


def test_what_is_posted_is_seen_by_all_until_it_is_taken_back(door: Door) -> None:
    log, other = door(), door("paper")
    assert other.posts() == {}
    log.post("hold.a", b"1")
    log.post("hold.é*", b"\x00\r\n")
    log.post("staged.main.a", b"")
    other.post("hold.a", b"2")
    for each in (log, other):
        assert each.posts() == {"hold.a": b"2", "hold.é*": b"\x00\r\n", "staged.main.a": b""}
        assert each.posts("hold.") == {"hold.a": b"2", "hold.é*": b"\x00\r\n"}
        assert each.posts("hold.*") == each.posts("old") == {}
    other.unpost("hold.é*")
    other.unpost("hold.é*")
    other.unpost("hold")
    assert log.posts() == {"hold.a": b"2", "staged.main.a": b""}


def test_a_number_raced_for_is_won_once(door: Door) -> None:
    def write(log: Log, name: bytes, won: list[tuple[int, bytes]]) -> None:
        for i in range(25):
            k = 2 + len(log.controls())
            while not log.append_control(k, b"%b %d" % (name, i)):
                k += 1
            won.append((k, b"%b %d" % (name, i)))

    wins: list[list[tuple[int, bytes]]] = [[], [], []]
    writers = [
        threading.Thread(target=write, args=(door(deployment), name, won))
        for deployment, name, won in zip(("main", "main", "paper"), (b"a", b"b", b"c"), wins, strict=True)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert door().controls() == sorted(itertools.chain(*wins))
    assert [k for k, _ in door().controls()] == list(range(2, 77))


# ---- ownership


def test_nobody_holds_a_new_partition_and_anyone_may(log: Log) -> None:
    assert log.ownership(0) == Ownership(0, "", 0)
    assert log.claim(0, "a", Ownership(9, "whoever", 9)) == 1
    assert log.ownership(0)[:2] == (1, "a")
    assert log.ownership(1).epoch == 0


def test_an_owner_of_the_same_name_comes_back_at_once(log: Log) -> None:
    epoch = owned(log)
    log.beat(0, epoch)
    assert log.claim(0, "a", Ownership(0, "", 0)) == epoch + 1


def test_another_name_must_have_seen_the_owner_stand_still(door: Door) -> None:
    a, b = door(), door()
    epoch = owned(a, owner="a")
    seen = b.ownership(0)
    a.beat(0, epoch)
    assert b.claim(0, "b", seen) is None
    assert b.ownership(0) == Ownership(epoch, "a", seen.beat + 1)
    assert b.claim(0, "b", b.ownership(0)._replace(epoch=epoch - 1)) is None
    assert b.claim(0, "b", b.ownership(0)) == epoch + 1
    assert a.ownership(0).owner == "b"


def test_what_is_given_up_goes_to_whoever_comes_first(door: Door) -> None:
    a, b, c = door(), door(), door()
    epoch = owned(a)
    publish(a, epoch, [signal(at(1, 0, 0))])
    a.release(0, epoch)
    seen = b.ownership(0)
    assert (seen.epoch, seen.owner) == (epoch, "")
    assert b.claim(0, "b", seen) == epoch + 1
    assert c.claim(0, "c", seen) is None
    with refused("fenced"):
        publish(a, epoch, [signal(at(2, 0, 0))])
    with refused("fenced"):
        a.release(0, epoch)
    with refused("fenced"):
        a.mark(0, epoch, b"x")


def test_the_trace_tells_who_held_it_and_how_far_it_had_come(door: Door) -> None:
    log = door()
    assert log.epochs(0) == []
    first = owned(log)
    log.publish(0, first, [signal(at(1, 0, 3))], b"one")
    log.settle()
    second = owned(log)
    log.release(0, second)
    trace = log.epochs(0)
    assert [(entry.epoch, entry.owner, entry.tail) for entry in trace] == [
        (first, "a", NOWHERE), (second, "a", at(1, 0, 3)), (second, "", at(1, 0, 3)),
    ]
    assert trace[0].checkpoint == ""
    assert trace[1].checkpoint == trace[2].checkpoint != ""
    assert 0 < trace[0].at <= trace[1].at <= trace[2].at
    log.publish(0, owned(log), [], b"two")
    log.settle()
    owned(log)
    assert log.epochs(0)[-1].checkpoint not in ("", trace[1].checkpoint)


def test_a_mark_stays_for_whoever_comes_next(door: Door) -> None:
    log = door()
    epoch = owned(log)
    assert log.marked(0) == b""
    log.mark(0, epoch, b"this row")
    assert door().marked(0) == b"this row"
    epoch = owned(log)
    assert log.marked(0) == b"this row"
    log.mark(0, epoch, b"")
    assert log.marked(0) == b""


def test_one_position_may_have_a_record_in_each_topic(door: Door) -> None:
    log = door()
    epoch = owned(log)
    note = Record(JOURNAL, at(1, 0, 1), b"why")
    publish(log, epoch, [signal(at(1, 0, 0)), reject(at(1, 0, 1)), note, signal(at(1, 0, 2))])
    assert log.published(0, JOURNAL, NOWHERE, 10) == [(at(1, 0, 1), b"why")]
    for repeated in ([signal(at(2, 0, 0)), signal(at(2, 0, 0))], [note], [signal(at(2, 0, 1)), reject(at(2, 0, 0))]):
        with refused("repeat"):
            publish(log, epoch, repeated)


def test_of_many_claimants_one_wins(door: Door) -> None:
    logs = [door() for _ in range(4)]
    owned(logs[0], owner="gone")
    seen = logs[0].ownership(0)
    won: list[int | None] = []

    def claim(log: Log, name: str) -> None:
        won.append(log.claim(0, name, seen))

    claimants = [threading.Thread(target=claim, args=(log, f"c{n}")) for n, log in enumerate(logs)]
    for claimant in claimants:
        claimant.start()
    for claimant in claimants:
        claimant.join()
    assert sorted(epoch or 0 for epoch in won) == [0, 0, 0, 2]


def test_beats_rise(log: Log) -> None:
    epoch = owned(log)
    beats = [log.ownership(0).beat]
    for _ in range(3):
        log.beat(0, epoch)
        beats.append(log.ownership(0).beat)
    assert beats == sorted(set(beats))


def test_a_zombie_can_write_nothing(door: Door) -> None:
    zombie, heir = door(), door()
    old = owned(zombie, owner="z")
    publish(zombie, old, [signal(at(1))], b"ck1")
    zombie.stage(0, old, {"blob": b"1"})
    new = owned(heir, owner="h")
    before = visible(heir) | {"owner": heir.ownership(0)}

    called: list[str] = []
    with refused("fenced"):
        zombie.publish(0, old, [signal(at(2)), reject(at(3))], b"ck2", lambda: called.append("first"))
        zombie.publish(0, old, [signal(at(4))], None, lambda: called.append("second"))
        zombie.settle()
    writes: list[Callable[[], None]] = [
        lambda: zombie.beat(0, old),
        lambda: zombie.stage(0, old, {"blob": b"2", "more": b"3"}),
        lambda: zombie.unstage(0, old, []),
        lambda: zombie.trim(0, old, (9, 9), 1000),
        lambda: publish(zombie, old, [signal(at(2))]),
        lambda: publish(zombie, old, [], b"ck2"),
    ]
    for write in writes:
        with refused("fenced"):
            write()
    zombie.settle()                    # nothing is left on its way

    assert called == []
    assert visible(heir) | {"owner": heir.ownership(0)} == before
    assert heir.staged(0, ["blob", "more"]) == [b"1", None]
    publish(heir, new, [signal(at(2), b"heir's")])
    assert zombie.published(0, SIGNALS, at(1), 10) == [(at(2), b"heir's")]


def test_only_who_was_granted_an_epoch_can_write_under_it(door: Door) -> None:
    """Neither under one the log knows nothing of (it may have lost its end), nor under somebody else's, nor after giving up."""
    log, other = door(), door()
    epoch = owned(log)
    for who, under, code in ((log, epoch + 1, "rolled_back"), (other, epoch, "fenced"), (log, 0, "fenced")):
        for write in (
            lambda who=who, under=under: publish(who, under, [signal(at(1))], b"ck"),
            lambda who=who, under=under: who.beat(0, under), lambda who=who, under=under: who.stage(0, under, {"b": b""}),
            lambda who=who, under=under: who.unstage(0, under, []), lambda who=who, under=under: who.trim(0, under, (9, 9), 9),
            lambda who=who, under=under: who.mark(0, under, b"x"), lambda who=who, under=under: who.release(0, under),
        ):
            with refused(code):
                write()
    assert (log.ownership(0), log.tail(0), log.checkpoints(0), log.marked(0)) == (Ownership(epoch, "a", 0), NOWHERE, [], b"")
    log.release(0, epoch)
    with refused("fenced"):
        publish(log, epoch, [signal(at(1))])


def test_an_owner_that_comes_back_goes_on_where_the_other_stopped(door: Door) -> None:
    a, b = door(), door()
    publish(a, owned(a, owner="a"), [signal(at(1))])
    publish(b, owned(b, owner="b"), [signal(at(2))])
    publish(a, owned(a, owner="a"), [signal(at(3))])
    assert [position for position, _ in b.published(0, SIGNALS, NOWHERE, 9)] == [at(1), at(2), at(3)]


# ---- publish steps


def test_nothing_was_ever_published(log: Log) -> None:
    assert visible(log) == {SIGNALS: [], REJECTS: [], JOURNAL: [], "tail": NOWHERE, "checkpoints": []}


def test_a_step_appears_whole(door: Door) -> None:
    log, reader = door(), door()
    epoch = owned(log)
    step = [signal(at(1), b"1"), reject(at(1, 1, 7), b"\x00\r\n"), signal(at(2), b""), signal(at(2, 5), b"4")]
    publish(log, epoch, step, b"ck")
    assert visible(reader) == {
        SIGNALS: [(at(1), b"1"), (at(2), b""), (at(2, 5), b"4")],
        REJECTS: [(at(1, 1, 7), b"\x00\r\n")], JOURNAL: [],
        "tail": at(2, 5), "checkpoints": [b"ck"],
    }
    assert visible(reader, 1)["tail"] == NOWHERE


def test_positions_rise_over_all_topics(log: Log) -> None:
    epoch = owned(log)
    publish(log, epoch, [signal(at(5)), reject(at(6))])
    before = visible(log)
    for step in (
        [signal(at(6))],                                  # above the signals' last, not above the rejects'
        [signal(at(5, 1, 1))],
        [reject(at(6))],
        [signal(at(6)), reject(at(7))],                   # its first record repeats
        [reject(at(6)), signal(at(7))],
        [signal(at(8)), signal(at(7))],                   # falls within the step
        [signal(at(8)), reject(at(8))],                   # stands still within the step
        [signal(at(7)), signal(at(8)), reject(at(6))],
    ):
        with refused("repeat"):
            publish(log, epoch, step, b"ck")
        assert visible(log) == before
    publish(log, epoch, [signal(at(6, 1, 1))])
    assert log.tail(0) == at(6, 1, 1)


def test_a_repeated_step_writes_nothing_whatever_is_new_in_it(log: Log) -> None:
    epoch = owned(log)
    step = [signal(at(n), b"%d" % n) for n in range(1, 5)]
    publish(log, epoch, step[:2], b"ck1")
    before = visible(log)
    called: list[int] = []
    with refused("repeat"):
        log.publish(0, epoch, step, b"ck2", lambda: called.append(1))
        log.settle()
    assert visible(log) == before
    assert called == []
    publish(log, epoch, step[2:], b"ck2")
    assert [payload for _, payload in log.published(0, SIGNALS, NOWHERE, 10)] == [b"1", b"2", b"3", b"4"]


def test_a_step_behind_a_refused_one_is_refused_too(log: Log) -> None:
    epoch = owned(log)
    publish(log, epoch, [signal(at(9))])
    before = visible(log)
    with refused("repeat"):
        log.publish(0, epoch, [signal(at(9)), signal(at(10))], b"ck1")
        log.publish(0, epoch, [signal(at(11))], b"ck2")   # would leave a hole where position 10 was
        log.settle()
    assert visible(log) == before
    publish(log, epoch, [signal(at(10))])                 # the owner may go on from what the log holds


def test_partitions_are_published_side_by_side(log: Log) -> None:
    epochs = [owned(log, p) for p in range(3)]
    done: list[tuple[int, int]] = []
    for n in range(1, 6):
        for p in range(3):
            log.publish(p, epochs[p], [signal(at(n), b"%d" % p)], None, partial(done.append, (n, p)))
    log.settle()
    assert done == [(n, p) for n in range(1, 6) for p in range(3)]
    assert [log.tail(p) for p in range(3)] == [at(5)] * 3
    assert {payload for _, payload in log.published(2, SIGNALS, NOWHERE, 10)} == {b"2"}


def test_another_partitions_refusal_takes_nothing_along(log: Log) -> None:
    first, second = owned(log, 0), owned(log, 1)
    owned(log, 0, owner="b")
    done: list[int] = []
    with refused("fenced"):
        log.publish(0, first, [signal(at(1))], None, lambda: done.append(0))
        log.publish(1, second, [signal(at(1))], None, lambda: done.append(1))
        log.settle()
    if done != [1]:                    # refused at once: then the second step wasn't sent
        log.publish(1, second, [signal(at(1))])
    log.publish(1, second, [signal(at(2))])
    log.settle()
    assert (log.tail(0), log.tail(1)) == (NOWHERE, at(2))


def test_a_full_step_of_large_records(log: Log) -> None:
    epoch = owned(log)
    step = [(signal, reject)[n % 7 == 0](at(3, n, n), b"%d" % n * 200) for n in range(512)]
    publish(log, epoch, step, b"ck" * 5000)
    for topic in Topic:
        assert log.published(0, topic, NOWHERE, 1000) == [(r.position, r.payload) for r in step if r.topic is topic]
    assert log.checkpoints(0) == [b"ck" * 5000]


numbers = st.one_of(
    st.integers(0, 20), st.sampled_from([99, 100, 2**21, 2**21 + 1, 2**31, LAST_ORDINAL - 1, LAST_ORDINAL]),
    st.integers(0, LAST_ORDINAL),
)
positions = st.builds(
    Position, st.tuples(st.one_of(st.integers(1, 20), st.integers(1, 2**62), st.just(2**53 + 1)), numbers), numbers
)


@one_server
@example(steps=[at(1, 9), at(1, 10)])                                       # as text, 9 is above 10
@example(steps=[at(9), at(10)])
@example(steps=[at(1, 2**21, 1), at(1, 2**21, 2), at(1, 2**21, 3)])         # one double-precision number, all three
@example(steps=[at(2**53), at(2**53 + 1)])
@example(steps=[at(1, LAST_ORDINAL, LAST_ORDINAL - 1), at(1, LAST_ORDINAL, LAST_ORDINAL), at(2, 0, 0)])
@given(steps=st.lists(positions, min_size=2, max_size=6, unique=True).map(sorted))
def test_positions_are_compared_to_the_last_bit(door: Door, steps: list[Position]) -> None:
    log = door(f"d{next(fresh)}")
    epoch = owned(log)
    for n, position in enumerate(steps):
        publish(log, epoch, [(signal, reject)[n % 2](position)])
        assert log.tail(0) == position
        for earlier in steps[:n + 1]:
            with refused("repeat"):
                publish(log, epoch, [signal(earlier)])
    assert [p for p, _ in log.published(0, SIGNALS, NOWHERE, 100)] == steps[::2]
    for n, position in enumerate(steps):
        assert [p for p, _ in log.published(0, SIGNALS, position, 100)] == [p for p in steps[::2] if p > position]
        assert [p for p, _ in log.published(0, REJECTS, position, 1)] == [p for p in steps[1::2] if p > position][:1], n
    log.close()


def test_the_tail_may_lie_inside_a_record(log: Log) -> None:
    epoch = owned(log)
    publish(log, epoch, [signal(at(1, 1, n)) for n in range(5)])
    assert log.tail(0) == at(1, 1, 4)
    publish(log, epoch, [reject(at(1, 1, 5)), signal(at(1, 1, 9))])
    assert log.tail(0) == at(1, 1, 9)
    assert [p.ordinal for p, _ in log.published(0, SIGNALS, at(1, 1, 3), 10)] == [4, 9]
    assert log.published(0, SIGNALS, Position((1, 1), LAST_ORDINAL), 10) == []


def test_published_comes_in_pages(log: Log) -> None:
    epoch = owned(log)
    step = [(signal, reject)[n % 3 == 0](at(n // 4 + 1, 1, n % 4), b"%d" % n) for n in range(50)]
    for first in range(0, 50, 10):
        publish(log, epoch, step[first:first + 10])
    for topic, count in itertools.product(Topic, (1, 3, 7, 100)):
        pages: list[tuple[Position, bytes]] = []
        after = NOWHERE
        while page := log.published(0, topic, after, count):
            assert len(page) <= count
            pages += page
            after = page[-1][0]
        whole = [(r.position, r.payload) for r in step if r.topic is topic]
        assert pages == whole
        back: list[tuple[Position, bytes]] = []
        while page := log.backwards(0, topic, back[-1][0] if back else None, count):
            assert len(page) <= count
            back += page
        assert back == whole[::-1]


def test_a_stamp_says_where_to_read_on_and_when_a_change_was_decided(log: Log) -> None:
    """Where the transport keeps stamps; else one reads from the start, and nobody knows when."""
    before = time.time_ns() - 1_000_000
    log.append_control(2, b"a")
    cursors = log.append(0, [b"1", b"2"])
    assert log.since(before) < cursors[0]
    stamps = log.control_stamps()
    assert stamps.keys() <= {2}
    entry = log.entry(0, cursors[1])
    assert entry
    if entry.appended:
        assert before <= stamps[2] <= time.time_ns() + 1_000_000
        assert log.since(entry.appended + 1_000_000) >= cursors[1]


def test_a_wait_for_signals_ends_when_one_comes_or_time_is_over(door: Door) -> None:
    log, reader = door(), door()
    epoch = owned(log)
    assert reader.published(0, SIGNALS, NOWHERE, 10) == []
    began, busy = time.monotonic(), time.thread_time()
    assert reader.follow(SIGNALS, {0: NOWHERE, 1: NOWHERE}, 10, block_ms=100) == {}
    assert 0.095 < time.monotonic() - began < 1
    assert time.thread_time() - busy < 0.02               # it slept
    later = threading.Timer(0.05, lambda: publish(log, epoch, [signal(at(1))]))
    later.start()
    began = time.monotonic()
    assert reader.follow(SIGNALS, {0: NOWHERE, 1: NOWHERE}, 10, block_ms=10_000) == {0: [(at(1), b"s")]}
    assert time.monotonic() - began < 2
    later.join()


# ---- checkpoints


def test_checkpoints_are_kept_so_deep_newest_first(log: Log) -> None:
    epoch = owned(log)
    for n in range(1, KEPT + 3):
        publish(log, epoch, [signal(at(n))] if n % 2 else [], b"ck%d" % n)
    assert log.checkpoints(0) == [b"ck%d" % n for n in range(KEPT + 2, 2, -1)]
    assert log.checkpoints(1) == []


def test_blobs_are_kept_by_name_until_nobody_names_them(door: Door) -> None:
    log, reader = door(), door()
    epoch = owned(log)
    blobs = {f"{epoch}/é {n}": bytes([n]) * n * 40_000 for n in range(20)}
    log.stage(0, epoch, blobs)
    assert reader.staged(0, [*blobs, "none"]) == [*blobs.values(), None]
    assert reader.staged(1, blobs) == [None] * 20
    log.stage(0, epoch, {f"{epoch}/é 3": b"three"})
    log.unstage(0, epoch, [f"{epoch}/é {n}" for n in (3, 4)])
    assert reader.staged(0, blobs) == [None] * 3 + [b"three", bytes([4]) * 160_000] + [None] * 15
    log.unstage(0, epoch, [])
    assert not any(reader.staged(0, blobs))
    assert reader.staged(0, []) == []


# ---- how much there is, and trimming


def test_of_an_empty_partition_there_is_nothing(log: Log) -> None:
    assert log.extent(0) == Extent(START, START, 0, 0, 0)
    assert log.trim(0, owned(log), (9, 9), 1000) == (0, 0)
    assert log.extent(0)[:4] == (START, START, 0, 0)


def test_the_oldest_are_forgotten_about_as_many_as_asked(log: Log) -> None:
    cursors = log.append(0, [b"%d" % n for n in range(1000)])
    log.append(1, [b"x"] * 500)
    epoch = owned(log)
    for most in (0, 300, 450):
        there = stored(log)
        gone = log.trim(0, epoch, cursors[-1], most).ticks
        assert max(most - BLOCK, -1) < gone <= most
        assert stored(log) == there[gone:]
    first = stored(log)[0]
    assert log.entry(0, cursors[0]) is None
    assert log.entry(0, first)
    for after in (cursors[0], START):                     # somebody who stands before the first record kept
        assert log.read({0: after}, 1)[0][0].cursor == first
    assert len(stored(log, 1)) == 500


def test_nothing_is_forgotten_that_is_held(log: Log) -> None:
    epoch = owned(log)
    cursors = log.append(0, [b"x"] * 1000)
    for n in (0, 1, 450, 451, 999):
        forget(log, epoch, cursors[n])
        assert cursors[max(n - BLOCK, 0)] <= stored(log)[0] <= cursors[n]


@one_server
@given(steps=st.lists(st.tuples(st.integers(1, 400), st.floats(0, 1), st.integers(0, 500)), min_size=1, max_size=5))
def test_the_extent_is_what_was_appended_and_what_is_read(log: Log, steps: list[tuple[int, float, int]]) -> None:
    epoch = owned(log, 1)
    for count, part, most in steps:
        last = log.append(1, [b"x" * 50] * count)[-1]
        before = log.extent(1)
        there = stored(log, 1)
        assert before[:4] == (there[0], last, before.appended, len(there))
        held = there[int(part * (len(there) - 1))]
        gone = log.trim(1, epoch, held, most).ticks
        assert 0 <= gone <= most
        assert stored(log, 1) == there[gone:]
        assert there[gone] <= held
        assert log.extent(1)[:4] == (there[gone], last, before.appended, before.kept - gone)
        assert log.append(1, [b"y"])[0] > last
        assert log.extent(1).appended == before.appended + 1


def test_bytes_follow_what_is_stored(door: Door) -> None:
    log, paper = door(), door("paper")
    epoch = owned(log)
    cursors = log.append(0, [b"x" * 1000] * 1000)
    ticks = log.extent(0).bytes
    assert 1_000_000 < ticks < 1_500_000
    for topic, part in ((SIGNALS, cursors[:400]), (REJECTS, cursors[400:800])):
        before = log.extent(0).bytes
        publish(log, epoch, [Record(topic, Position(cursor, 0), b"s" * 1000) for cursor in part])
        assert 400_000 < log.extent(0).bytes - before < 600_000
    assert paper.extent(0).bytes == ticks
    forget(log, epoch, cursors[-1])
    assert log.extent(0).bytes < 200_000


def test_what_was_published_goes_with_its_ticks(log: Log) -> None:
    cursors = log.append(0, [b"x"] * 1000)
    epoch = owned(log)
    step = [(signal, reject)[n % 4 == 0](Position(cursor, n % 3)) for n, cursor in enumerate(cursors)]
    for n in range(0, 1000, 500):
        publish(log, epoch, step[n:n + 500], b"ck%d" % n)
    before = visible(log)
    while any(log.trim(0, epoch, cursors[600], 150)):
        first = stored(log)[0]
        for topic in Topic:
            left = log.published(0, topic, NOWHERE, 2000)
            assert left == before[topic][-len(left):]
            needed = [record for record in before[topic] if record[0].cursor >= first]
            assert len(needed) <= len(left) < len(needed) + BLOCK
    assert cursors[600 - 2 * BLOCK] < first
    assert (log.tail(0), log.checkpoints(0)) == (before["tail"], before["checkpoints"])


def test_the_newest_of_each_topic_stays_when_all_ticks_are_forgotten(log: Log) -> None:
    cursors = log.append(0, [b"x"] * 600)
    epoch = owned(log)
    step = [(signal, reject)[n < 300](Position(cursor, 0), b"%d" % n) for n, cursor in enumerate(cursors[:599])]
    publish(log, epoch, step[:400])
    publish(log, epoch, step[400:])
    major, minor = cursors[-1]
    assert forget(log, epoch, (major, minor + 1)) == 600
    assert log.extent(0)[:4] == (START, cursors[-1], 600, 0)
    assert log.read({0: START}, 9) == {}
    assert log.tail(0) == Position(cursors[598], 0)
    for topic, newest in ((SIGNALS, 598), (REJECTS, 299)):
        left = log.published(0, topic, NOWHERE, 1000)
        assert left[-1] == (Position(cursors[newest], 0), b"%d" % newest)
        assert len(left) <= BLOCK

    with refused("repeat"):
        publish(log, epoch, [signal(Position(cursors[598], 0))])
    [cursor] = log.append(0, [b"y"])
    assert cursor > cursors[-1]
    assert [entry.payload for entry in log.read({0: START}, 9)[0]] == [b"y"]
    assert log.read({0: cursors[-1]}, 9)[0][0].cursor == cursor
    assert log.extent(0)[:4] == (cursor, cursor, 601, 1)
    publish(log, epoch, [reject(Position(cursor, 0))])
    assert log.tail(0) == Position(cursor, 0)


def test_who_has_been_succeeded_trims_nothing(door: Door) -> None:
    zombie, heir = door(), door()
    cursors = zombie.append(0, [b"x"] * 500)
    old = owned(zombie, owner="z")
    publish(zombie, old, [signal(Position(cursor, 0)) for cursor in cursors])
    new = owned(heir, owner="h")
    before = visible(heir) | {"extent": heir.extent(0)}
    with refused("fenced"):
        zombie.trim(0, old, cursors[-1], 1000)
    assert visible(heir) | {"extent": heir.extent(0)} == before
    assert all(heir.trim(0, new, cursors[-1], 1000))


def test_a_deployment_trims_shared_ticks_and_its_own_signals(door: Door) -> None:
    live, paper = door(), door("paper")
    cursors = live.append(0, [b"x"] * 500)
    epochs = [owned(log) for log in (live, paper)]
    for log, epoch in zip((live, paper), epochs, strict=True):
        publish(log, epoch, [signal(Position(cursor, 0)) for cursor in cursors])
    forget(live, epochs[0], cursors[-1])
    assert live.extent(0)[:4] == paper.extent(0)[:4]
    assert len(live.published(0, SIGNALS, NOWHERE, 1000)) <= BLOCK
    assert len(paper.published(0, SIGNALS, NOWHERE, 1000)) == 500
    ticks, published = paper.trim(0, epochs[1], cursors[-1], 1000)         # the ticks are gone; its own signals go now
    assert ticks == 0
    assert len(paper.published(0, SIGNALS, NOWHERE, 1000)) == 500 - published <= BLOCK


# ---- deployments, the end


def test_deployments_share_ticks_and_controls_and_nothing_else(door: Door) -> None:
    live, paper = door(), door("paper")
    cursors = live.append(0, [b"tick"])
    paper.append_control(2, b"two")
    assert [entry.cursor for entry in paper.read({0: START}, 9)[0]] == cursors
    assert live.controls() == [(2, b"two")]

    epoch = owned(live)
    publish(live, epoch, [signal(at(5))], b"live")
    live.stage(0, epoch, {"blob": b"live"})
    assert visible(paper) == {SIGNALS: [], REJECTS: [], JOURNAL: [], "tail": NOWHERE, "checkpoints": []}
    assert paper.ownership(0) == Ownership(0, "", 0)
    assert paper.staged(0, ["blob"]) == [None]
    publish(paper, owned(paper, owner="p"), [signal(at(1))])
    assert (live.tail(0), paper.tail(0)) == (at(5), at(1))


def test_a_closed_log_answers_nothing(door: Door) -> None:
    log, other = door(), door()
    epoch = owned(log)
    log.append(0, [b"x"])
    log.close()
    log.close()
    calls: list[Callable[[], Any]] = [
        lambda: log.append(0, [b"y"]), lambda: log.controls(), lambda: log.append_control(2, b""),
        lambda: log.ownership(0), lambda: log.claim(0, "a", Ownership(0, "", 0)), lambda: log.beat(0, epoch),
        lambda: log.publish(0, epoch, [signal(at(1))]), lambda: log.stage(0, epoch, {"b": b""}),
        lambda: log.staged(0, ["b"]), lambda: log.unstage(0, epoch, []), lambda: log.read({0: START}, 1),
        lambda: log.entry(0, (1, 1)), lambda: log.tail(0), lambda: log.published(0, SIGNALS, NOWHERE, 1),
        lambda: log.checkpoints(0), lambda: log.post("a", b""), lambda: log.posts(), lambda: log.unpost("a"),
        lambda: log.extent(0), lambda: log.trim(0, epoch, (9, 9), 1),
    ]
    for call in calls:
        with refused("closed"):
            call()
    assert [entry.payload for entry in other.read({0: START}, 9)[0]] == [b"x"]
    assert other.tail(0) == NOWHERE


# ---- all of it against the twin in memory

small = st.builds(at, st.integers(1, 4), st.just(1), st.integers(0, 3))
operations = st.lists(
    st.one_of(
        st.tuples(st.just("claim"), st.sampled_from("ab"), st.booleans()),
        st.tuples(st.just("beat"), st.integers(0, 3)),
        st.tuples(st.just("publish"), st.integers(0, 3), st.sets(small, max_size=4), st.booleans(), st.booleans()),
        st.tuples(st.just("stage"), st.integers(0, 3), st.sampled_from("xyz")),
        st.tuples(st.just("unstage"), st.integers(0, 3), st.sampled_from("xyz")),
    ),
    max_size=25,
)


def perform(log: Log, operation: tuple[Any, ...], seen: Ownership) -> object:
    """What an operation answers: its value, or the code it is refused with."""
    try:
        match operation:
            case "claim", owner, stale:
                return log.claim(0, owner, seen if stale else log.ownership(0))
            case "beat", epoch:
                log.beat(0, epoch)
            case "publish", epoch, places, swap, checkpoint:
                step = [(signal, reject)[(n + swap) % 2](p, b"%d" % n) for n, p in enumerate(sorted(places))]
                publish(log, epoch, step, b"%d" % len(places) if checkpoint else None)
            case "stage", epoch, name:
                log.stage(0, epoch, {name: name.encode(), "w": b"w"})
            case "unstage", epoch, name:
                log.unstage(0, epoch, [name])
            case _:
                raise AssertionError(operation)
    except TocsinError as error:
        return error.code
    return None


@one_server
@given(operations=operations)
def test_every_history_ends_as_in_memory(door: Door, operations: list[tuple[Any, ...]]) -> None:
    log, twin = door(f"d{next(fresh)}"), MemoryLog()
    seen = Ownership(0, "", 0)
    for operation in operations:
        assert perform(log, operation, seen) == perform(twin, operation, seen), operation
        assert log.ownership(0) == twin.ownership(0)
        seen = twin.ownership(0) if operation[0] == "claim" else seen
    assert visible(log) == visible(twin)
    assert log.staged(0, "wxyz") == twin.staged(0, "wxyz")
    log.close()


# ---- a full log


def filled(log: Log, payload: bytes = b"x" * 1000, most: int = 100_000) -> list[Cursor]:
    """Ticks appended to partition 0 until it takes no more; at most so many."""
    cursors: list[Cursor] = []
    with refused("full"):
        for _ in range(most):
            cursors += log.append(0, [payload] * 10)
    return cursors


def test_ticks_beyond_the_quota_are_refused_whole(door: Door) -> None:
    log, other = door(), door("paper")
    log.limit(0, 1_000_000)
    assert log.extent(0)[-2:] == (1_000_000, "")
    cursors = filled(log)
    assert 1_000_000 - 300_000 < 1000 * len(cursors) < 1_000_000 + 2 * EVERY
    for each in (log, other):
        with refused("full"):
            each.append(0, [b"t"] * 7)
    assert log.extent(0).full
    assert stored(log) == cursors
    other.append(1, [b"a partition has room for itself"])


def test_a_full_log_has_room_for_its_owner_and_takes_ticks_again_once_trimmed(log: Log) -> None:
    epoch = owned(log)
    log.limit(0, 500_000)
    cursors = filled(log)
    publish(log, epoch, [signal(Position(cursors[3], 0)), reject(Position(cursors[4], 0))], b"checkpoint")
    log.stage(0, epoch, {"blob": b"b"})
    control = log.append(0, [b"c"], Kind.CONTROL)
    assert stored(log) == cursors + control
    assert forget(log, epoch, cursors[-50]) > 0
    assert log.extent(0).full == ""
    assert log.append(0, [b"t"])
    log.limit(0, 1)
    assert log.extent(0).full
    log.limit(0, 10_000_000)
    assert log.append(0, [b"t"])


def test_rejects_are_forgotten_oldest_first_and_never_the_newest(log: Log) -> None:
    epoch = owned(log)
    rejects = [reject(at(n), b"r" * 50) for n in range(1, 501)]
    publish(log, epoch, [*rejects, signal(at(501))])
    before = log.extent(0)
    assert before.rejects == 500
    assert 500 * 50 < before.rejects_bytes < before.bytes
    gone = log.trim_rejects(0, epoch, 300)
    assert 200 - BLOCK <= gone <= 200
    left = log.published(0, REJECTS, NOWHERE, 1000)
    assert [position for position, _ in left] == [record.position for record in rejects[gone:]]
    assert log.extent(0).rejects == 500 - gone
    assert log.published(0, SIGNALS, NOWHERE, 10) == [(at(501), b"s")]
    while log.trim_rejects(0, epoch, 0):
        pass
    assert log.published(0, REJECTS, NOWHERE, 1000)[-1][0] == at(500)
    assert log.trim_rejects(1, owned(log, 1), 1) == 0
    with refused("fenced"):
        log.trim_rejects(0, epoch - 1, 0)
