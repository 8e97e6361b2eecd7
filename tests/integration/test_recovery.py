"""Crashes at any call of the log: what is published afterwards is what would have been published without them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import clock, pipeline
from engine.errors import TransportUnreachable
from engine.inbox import Granted, Inbox
from engine.instruments import Instruments
from engine.manifest import Policy
from engine.partition import caution, checkpoint, state
from engine.partition.checkpoint import Checkpoints
from engine.partition.policy import WORDS as POLICY_WORDS
from engine.partition.state import Partition
from engine.partition.takeover import take_over
from engine.registry.bundle import Bundle
from engine.registry.follow import Change
from engine.registry.rollout import Activate, Control, PolicyRules, Settings
from engine.replay import replay
from engine.state import SymbolRows
from engine.transports.base import Record, Topic
from engine.transports.memory import MemoryLog
from engine.types import NOWHERE, Entry, Kind, TickBatch
from engine.watch.observer import Observer
from engine.wire import frame
from engine.wire.records import canonical
from engine.wire.ticks import encode
from engine.workers.inline import InlineWorkers
from tests.made import made_ticks, speaking_bundle

RULES = Instruments()
HOLDS = Policy(0.3, -0.3, hysteresis=0.1)
"""Few entries, long holds: a policy that forgets what it held says something else soon."""


class Crash(Exception):
    """Stands for SIGKILL: nothing after it runs."""


CALMER = Settings(policy=PolicyRules(hysteresis=0.05, cooldown_s=3.0), instruments={
    "closed": False, "rules": {"MADE1": {"scale": 6}},
})
"""Other rules from here on, and one of the symbols counted otherwise."""


BUNDLES = {
    "1": speaking_bundle("tick", "1", 1, HOLDS),
    "2": speaking_bundle("tick", "2", 2, HOLDS, Instruments.from_dict(CALMER.instruments or {})),
}


class Follow:
    """The control record's payload says what holds; its signature is another test's business."""

    def check(self, entry: Entry, followed: Mapping[str, int]) -> Control | None:
        k, says = entry.payload.decode().split(":")
        body = CALMER if says == "calmer" else Activate(says, "0" * 64)
        if int(k) <= followed.get(body.verb, 0):
            return None
        return Control(int(k), "main", body.verb, body, "", "", "", b"")

    def given_up(self, control: Control) -> bool:
        return False

    def change(self, control: Control) -> Change:
        body = control.body
        return Change(control, BUNDLES[body.version] if isinstance(body, Activate) else None)

    def load(self, version: str, digest: str) -> Bundle:
        return BUNDLES[version]


class CrashingLog:
    """Another door to the log; the call number `at` of it crashes, before or after it was done."""

    def __init__(self, log: MemoryLog, at: int, after: bool) -> None:
        self._log, self._left, self._after = log, at, after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._log, name)
        if not callable(found) or name == "format":
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Crash
            answer = found(*args, **kwargs)
            if self._left == 0:
                raise Crash
            return answer

        return call


def run_engine(
    log: Any, every_ticks: int = 300, batch: int = 64, read: int = 3, warm: TickBatch | None = None, careful: bool = False
) -> None:
    """One life of an engine, until the log has nothing more; nothing is ever blamed for its death, care is taken or not."""
    workers, follower = InlineWorkers(), Follow()
    checkpoints = Checkpoints(log, clock.monotonic_ns)
    inbox = Inbox(log, workers, "engine", stop=lambda: False, read=read, live=False)

    def granted(event: Granted) -> Partition:
        part = take_over(event.partition, event.epoch, log, checkpoints, follower.load, lambda number: warm)
        inbox.seek(part.number, part.upto)
        return part

    with every(every_ticks), pytest.MonkeyPatch.context() as patch:
        patch.setattr(caution, "GUILTY", 10**9)
        if not careful:
            patch.setattr(caution, "ROWS", 0)
        pipeline.run(inbox, log, workers, checkpoints, follower, granted, {}, Observer(), batch)  # type: ignore[arg-type]


@contextmanager
def every(ticks: int) -> Iterator[None]:
    before = checkpoint.EVERY_TICKS
    checkpoint.EVERY_TICKS = ticks
    try:
        yield
    finally:
        checkpoint.EVERY_TICKS = before


def filled(ticks: TickBatch, rows: int) -> MemoryLog:
    """A log of one partition: an activation, ticks in records of `rows`, settings at a third, a swap in their middle."""
    log = MemoryLog(1, rules=RULES)
    log.append(0, [b"2:1"], Kind.CONTROL)
    for at in range(0, len(ticks), rows):
        if at <= len(ticks) // 3 < at + rows:
            log.append(0, [b"4:calmer"], Kind.CONTROL)
        if at <= len(ticks) // 2 < at + rows:
            log.append(0, [b"3:2"], Kind.CONTROL)
        piece = ticks[at:at + rows]
        log.append(0, [encode(piece, 0) if rows == 1 else frame.pack(piece)])
    log.append(0, [b"garbage"])
    return log


def published(log: MemoryLog, topic: Topic) -> list[bytes]:
    return [canonical(record) for _, record in log.published(0, topic, NOWHERE, 10**9)]


TICKS = made_ticks(2500, symbols=2, rate=0.1)


def undisturbed(rows: int) -> dict[Topic, list[bytes]]:
    log = filled(TICKS, rows)
    run_engine(log)
    return {topic: published(log, topic) for topic in Topic}


EXPECTED = {rows: undisturbed(rows) for rows in (1, 200)}


def crash_and_recover(rows: int, crashes: list[tuple[int, bool]], **life: Any) -> MemoryLog:
    log = filled(TICKS, rows)
    for at, after in crashes:
        try:
            run_engine(CrashingLog(log, at, after), **life)
        except Crash:
            continue
    run_engine(log, **life)
    return log


@given(st.sampled_from([1, 200]), st.lists(st.tuples(st.integers(1, 400), st.booleans()), max_size=6),
       st.integers(1, 300), st.integers(1, 40), st.booleans())
@settings(max_examples=40, deadline=None)
def test_crashes_anywhere_change_no_byte(
    rows: int, crashes: list[tuple[int, bool]], batch: int, read: int, careful: bool
) -> None:
    log = crash_and_recover(rows, crashes, batch=batch, read=read, careful=careful)
    for topic in Topic:
        assert published(log, topic) == EXPECTED[rows][topic]


def test_the_made_log_means_something() -> None:
    for rows in (1, 200):
        signals, rejects = (EXPECTED[rows][topic] for topic in (Topic.SIGNALS, Topic.REJECTS))
        assert len(signals) > 2000
        assert len(rejects) > 20
        assert {b'"bundle":"1"' in s for s in signals} == {True, False}
        assert all(any(f'"side":"{side}"'.encode() in s for s in signals) for side in ("buy", "sell", "neutral"))
    assert EXPECTED[1][Topic.SIGNALS][:600] == EXPECTED[200][Topic.SIGNALS][:600]     # singles or frames: the same


def test_recovery_uses_checkpoints() -> None:
    log = filled(TICKS, 200)
    run_engine(log)
    assert log.checkpoints(0)
    calls: list[int] = []

    class Counting(MemoryLog):
        def read(self, after: Any, count: int, block_ms: int = 0) -> Any:
            calls.append(after[0][1])
            return super().read(after, count, block_ms)

    run_engine(Counting(records=log._records))
    assert calls[0] > 5


# ---- break it on purpose: these tests must go red when the thing they test is taken away


def differs(broken: Callable[[], None], rows: int, crashes: list[int]) -> bool:
    try:
        broken()
        log = crash_and_recover(rows, [(call, True) for call in crashes], every_ticks=10**9)
    except TransportUnreachable:
        return True
    return any(published(log, topic) != EXPECTED[rows][topic] for topic in Topic)


def test_without_the_read_back_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(self: Partition, asked: state.Asked) -> state.Asked | None:
        silent = state._at_or_below(asked.ticks, self.tail)
        return asked.after(silent) if silent < len(asked.ticks) else None

    lives = list(range(300, 1700, 15))
    assert not differs(lambda: None, 1, lives)
    assert differs(lambda: monkeypatch.setattr(Partition, "_after_tail", forget), 1, lives)


def test_without_the_tails_ordinal_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records hold 200 ticks, steps 100: tails lie inside records."""
    monkeypatch.setattr("engine.partition.publish.STEP", 100)
    whole = state._at_or_below
    lives = list(range(8, 20))
    assert not differs(lambda: None, 200, lives)
    assert differs(lambda: monkeypatch.setattr(
        state, "_at_or_below", lambda ticks, tail: whole(ticks, tail._replace(ordinal=2**32 - 1))
    ), 200, lives)


class CrashingAtCheckpoint(MemoryLog):
    """Another door to a log; the first step that carries a checkpoint is the last thing its engine does."""

    def publish(
        self, partition: int, epoch: int, records: Sequence[Record], checkpoint: bytes | None = None,
        done: Callable[[], None] | None = None,
    ) -> None:
        super().publish(partition, epoch, records, checkpoint, done)
        if checkpoint:
            raise Crash


def test_without_the_policys_row_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing stands after a checkpoint to be read back, a held side is known only from there."""
    def same() -> bool:
        log, lives = filled(TICKS, 1), 0
        while lives < 1000:
            lives += 1
            try:
                run_engine(CrashingAtCheckpoint(records=log._records), every_ticks=50, batch=16)
            except Crash:
                continue
            break
        assert 20 < lives < 1000
        return published(log, Topic.SIGNALS) == EXPECTED[1][Topic.SIGNALS]

    assert same()
    monkeypatch.setattr("engine.state.SymbolRows.restore", spare(SymbolRows.restore, POLICY_WORDS))
    assert not same()


def spare(restore: Callable[[SymbolRows, int, bytes], None], words: int) -> Callable[[SymbolRows, int, bytes], None]:
    """A restore that leaves rows of this width as they are."""
    def broken(rows: SymbolRows, sid: int, blob: bytes) -> None:
        if rows.words != words:
            restore(rows, sid, blob)

    return broken


def test_a_symbol_that_fell_silent_is_in_every_later_checkpoint() -> None:
    """Its blob is not written again, yet stays named and kept, over more checkpoints than are kept, and over restarts."""
    early, late = made_ticks(400, symbols=2, rate=0.1), made_ticks(2500, symbols=1, rate=0.1, seed=8)
    late, back = moved(late, int(early.ts.max())), moved(early, int(early.ts.max()) + int(np.ptp(late.ts)) + 10**9)
    lives: list[list[tuple[int, bool]]] = [[], [(30, True), (31, False), (40, True), (50, False)]]
    outcomes = []
    for crashes in lives:
        log = MemoryLog(1, rules=RULES)
        log.append(0, [b"2:1"], Kind.CONTROL)
        for ticks in (early, late, back):
            log.append(0, [frame.pack(ticks[at:at + 20]) for at in range(0, len(ticks), 20)])
        for at, after in crashes:
            with pytest.raises(Crash):
                run_engine(CrashingLog(log, at, after), every_ticks=100)
        run_engine(log, every_ticks=100)
        outcomes.append(published(log, Topic.SIGNALS))
    assert outcomes[0] == outcomes[1]


def moved(ticks: TickBatch, after_ns: int) -> TickBatch:
    """The same ticks, the first of them one second after a moment."""
    return TickBatch(ticks.instruments, **{**ticks.columns(), "ts": ticks.ts - ticks.ts[0] + after_ns + 10**9})


def test_warm_state_is_a_checkpoint_at_once() -> None:
    warm, live = TICKS[:1500], TICKS[1500:]
    log = filled(live, 1)
    run_engine(log, warm=warm)
    again = filled(live, 1)
    with pytest.raises(Crash):
        run_engine(CrashingLog(again, 12, False), warm=warm)
    assert again.checkpoints(0)
    run_engine(again)                                     # the files are not needed any more
    assert published(again, Topic.SIGNALS) == published(log, Topic.SIGNALS)
    cold = filled(live, 1)
    run_engine(cold)
    assert published(cold, Topic.SIGNALS) != published(log, Topic.SIGNALS)


def test_future_dated_rows_of_a_file_are_refused_again() -> None:
    """A file's `ingest` says when its log stored a row; nobody is told of clocks twice."""
    ticks = made_ticks(400, flaws=False)
    ticks.appended[:] = ticks.ts
    ticks.appended[50] -= 10**13
    for batch in (1, 4096):
        done = replay(ticks, speaking_bundle("tick"), Instruments(), batch=batch)
        assert [json.loads(record)["code"] for record in done.rejects] == ["future"]
