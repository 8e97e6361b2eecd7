"""What killing things (tests/chaos) has found, each in its smallest form."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine import housekeeping
from engine.housekeeping import Housekeeper
from engine.instruments import Instruments
from engine.partition.checkpoint import Checkpoints
from engine.partition.state import Partition
from engine.registry import rollout
from engine.registry.activate import Answer, answer_name
from engine.registry.append import copy
from engine.registry.controls import read_controls
from engine.registry.staging import Staging
from engine.transports.memory import MemoryLog
from engine.types import NOWHERE, START
from engine.wire.ticks import decode
from tests.made import speaking_bundle, write

DIGEST = "0" * 64
GOOD = b'{"symbol":"A","ts":%d,"bid":1.1,"ask":1.2}'
BAD = (
    (b'{"symbol":"B","ts":1,"bid":-1,"ask":2}', ["A"]),
    (b'{"symbol":"B","ts":1714953600000000000,"bid":1.2,"ask":1.1}', ["A", "B"]),
)
"""What isn't taken, and the symbols known then: one has a place once a tick of it could be read."""


@pytest.mark.parametrize(("bad", "known"), BAD, ids=["price", "crossed"])
def test_a_symbol_known_from_refused_ticks_only_has_a_place_in_the_checkpoint(bad: bytes, known: list[str]) -> None:
    """The engine met it, died at its next checkpoint, and again after every start."""
    log = MemoryLog(1)
    epoch = log.claim(0, "one", log.ownership(0))
    assert epoch
    part = Partition(0, epoch, Instruments())
    log.append(0, [GOOD % 1_714_953_600_000_000_000, bad])
    entries = log.read({0: START}, 10)[0]
    ticks, _ = decode(entries, part.symbols)
    taken, _ = part.admit(ticks)
    part.features.update(taken)
    part.add(taken, None, [], entries, (1, 1))
    checkpoints = Checkpoints(log, lambda: 0)
    batch = part.cut(keep=True)
    assert batch
    log.publish(0, epoch, [], checkpoints.stage(part, batch, NOWHERE))
    restored = Checkpoints(log, lambda: 0).load(0, NOWHERE)
    assert restored
    assert [symbol.instrument.symbol for symbol in restored.manifest.symbols] == known


@pytest.fixture
def keys() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def housekeeper(log: MemoryLog, keys: Ed25519PrivateKey, parts: dict[int, Any]) -> Housekeeper:
    bundle = speaking_bundle()
    staging = Staging(lambda version, digest: bundle)
    return Housekeeper(log, read_controls(log, keys.public_key()), staging, parts, "one", 10**9, lambda text: None)


def test_an_engine_that_starts_answers_the_prepare_its_forerunner_left(keys: Ed25519PrivateKey) -> None:
    """Else its writer waits for half a minute and gives up, although an engine is there."""
    log = MemoryLog(1)
    k, _ = write(log, keys, rollout.Prepare("1", DIGEST))
    housekeeper(log, keys, {}).work()
    answer = msgspec.json.decode(log.posts(answer_name("main", k))[answer_name("main", k, "one")], type=Answer)
    assert answer.status == "staged"
    k, _ = write(log, keys, rollout.Activate("1", DIGEST))
    for name in log.posts("staged."):
        log.unpost(name)
    housekeeper(log, keys, {}).work()
    assert not log.posts("staged.")                # nobody waits any more


def test_copies_are_completed_while_ticks_flow(keys: Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast they come: an engine that is always a few records behind completes them too."""
    monkeypatch.setattr(housekeeping, "SLOW_NS", 0)
    monkeypatch.setattr(housekeeping, "MISSING_NS", 50_000_000)
    log = MemoryLog(1)
    part = Partition(0, 1, Instruments())
    keeper = housekeeper(log, keys, {0: part})
    _, record = write(log, keys, rollout.Activate("1", DIGEST))
    deadline = time.monotonic() + 5
    stands = partial(lambda: any(entry.payload == record for entry in log.read({0: START}, 10**6)[0]))
    while True:
        log.append(0, [GOOD % 1] * 10)
        part.upto = (0, log.extent(0).last[1] - 5)     # never at the end
        keeper.work()
        if stands():
            break
        assert time.monotonic() < deadline, "no copy, as long as ticks flow"
        time.sleep(0.01)


def test_no_copy_is_made_of_one_that_only_waits_to_be_read(keys: Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "SLOW_NS", 0)
    monkeypatch.setattr(housekeeping, "MISSING_NS", 50_000_000)
    log = MemoryLog(1)
    _, record = write(log, keys, rollout.Activate("1", DIGEST))
    copy(log, record)
    keeper = housekeeper(log, keys, {0: Partition(0, 1, Instruments())})
    for _ in range(4):
        keeper.work()
        time.sleep(0.03)
    assert len(log.read({0: START}, 10)[0]) == 1


@pytest.mark.parametrize("before", range(40))
def test_missing_copies_are_made_in_the_order_they_were_written(
    keys: Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    """Two writers died. In every partition the settings must come where they came in the others."""
    monkeypatch.setattr(housekeeping, "SLOW_NS", 0)
    monkeypatch.setattr(housekeeping, "MISSING_NS", 0)
    log = MemoryLog(2)
    for _ in range(before):
        write(log, keys, rollout.Prepare("1", DIGEST))
    written = [write(log, keys, body)[1] for body in (rollout.Activate("1", DIGEST), rollout.Settings())]
    keeper = housekeeper(log, keys, {number: Partition(number, 1, Instruments()) for number in range(2)})
    keeper.work()
    for number in range(2):
        assert [entry.payload for entry in log.read({number: START}, 10)[number]] == written
