"""The small parts of a swap: who lives, what is staged, what may go, what was decided, what is read once."""

from __future__ import annotations

import shutil
import threading
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ModelRefused, UsageError
from engine.instruments import Instruments
from engine.partition.checkpoint import oldest_k
from engine.registry import Registry, signing
from engine.registry.append import append, copy
from engine.registry.bundle import Bundle
from engine.registry.controls import read_controls
from engine.registry.decisions import FAILED, FOLDER, Decision, decision, forget, keep
from engine.registry.liveness import ALIVE_NS, Beats
from engine.registry.prune import doomed, needed_by, prune
from engine.registry.rollout import Activate, PolicyRules, Prepare, Settings
from engine.registry.settings import base_instruments, check_file, counted, in_force, overlay
from engine.registry.staging import KEPT, Staging
from engine.transports.base import Log, Ownership
from engine.transports.memory import MemoryLog
from engine.types import START
from tests.engines import publish_speaking
from tests.made import speaking_bundle

DIGEST = "0" * 64
NOBODY = Ownership(0, "", 0)


# ---- who lives

def test_a_beat_that_moves_lives_until_it_stands_still_for_long() -> None:
    beats = Beats()
    beats.see({0: Ownership(1, "one", 5)}, 0)
    assert beats.alive(0) == set(), "seen once: it may be long dead"
    beats.see({0: Ownership(1, "one", 6)}, 100)
    assert beats.alive(100 + ALIVE_NS - 1) == {"one"}
    beats.see({0: Ownership(1, "one", 6)}, ALIVE_NS)
    assert beats.alive(100 + ALIVE_NS) == set()


def test_who_takes_a_partition_over_lives_and_the_one_before_doesnt() -> None:
    beats = Beats()
    beats.see({0: Ownership(1, "one", 5), 1: NOBODY}, 0)
    beats.see({0: Ownership(2, "two", 0), 1: Ownership(1, "three", 0)}, 10)
    assert beats.alive(20) == {"two", "three"}


def test_nothing_is_certain_before_everybody_was_watched_for_long_enough() -> None:
    beats = Beats()
    assert not beats.certain(0)
    beats.see({0: NOBODY, 1: NOBODY}, 7)
    assert beats.certain(7), "nobody ever held them"
    beats.see({0: Ownership(1, "one", 0), 1: Ownership(1, "two", 3)}, 8)
    beats.see({0: Ownership(1, "one", 1), 1: Ownership(1, "two", 3)}, 9)
    assert beats.certain(10), "both came while we looked"
    fresh = Beats()
    fresh.see({0: Ownership(1, "one", 0), 1: Ownership(1, "two", 3)}, 8)
    fresh.see({0: Ownership(1, "one", 1), 1: Ownership(1, "two", 3)}, 9)
    assert not fresh.certain(8 + ALIVE_NS - 1)
    assert fresh.certain(8 + ALIVE_NS)
    assert fresh.alive(10) == {"one"}


# ---- what is staged

class Loads:
    """Counts, and refuses what it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.threads: set[str] = set()
        self.bad: set[str] = set()

    def __call__(self, version: str, digest: str) -> Bundle:
        self.asked.append(version)
        self.threads.add(threading.current_thread().name)
        if version in self.bad:
            raise ModelRefused("altered", f"bundle {version}")
        return speaking_bundle(version=version)


def test_what_the_loop_wants_is_loaded_beside_it_and_once() -> None:
    loads = Loads()
    staging = Staging(loads)
    assert not staging.ready("1", DIGEST)
    assert not staging.ready("1", DIGEST)
    assert loads.asked == []
    beside = threading.Thread(target=staging.work, name="beside")
    beside.start()
    beside.join()
    assert staging.ready("1", DIGEST)
    assert staging.get("1", DIGEST).version == "1"
    staging.work()
    assert (loads.asked, loads.threads) == (["1"], {"beside"})
    assert not staging.ready("1", "1" * 64), "another bundle of that number is another bundle"


def test_what_is_refused_is_refused_again_until_somebody_stages_it_anew() -> None:
    loads = Loads()
    loads.bad = {"1"}
    staging = Staging(loads)
    assert not staging.ready("1", DIGEST)
    staging.work()
    staging.work()                                 # nobody wants it any more
    for ask in (staging.ready, staging.get):
        with pytest.raises(ModelRefused, match="bundle 1"):
            ask("1", DIGEST)
    assert loads.asked == ["1"]
    loads.bad = set()
    assert isinstance(staging.stage("1", DIGEST), Bundle)
    assert staging.ready("1", DIGEST)


def test_the_newest_few_are_kept() -> None:
    loads = Loads()
    staging = Staging(loads)
    for version in range(KEPT):
        staging.stage(str(version), DIGEST)
    staging.stage("0", DIGEST)                     # staged again: as new as any
    staging.stage("9", DIGEST)
    assert [v for v in range(KEPT) if not staging.ready(str(v), DIGEST)] == [1]
    assert loads.asked == [*map(str, range(KEPT)), "9"]
    assert staging.get("1", DIGEST).version == "1", "loaded here and now"


# ---- what may go

@given(st.sets(st.integers(1, 200).map(str)), st.integers(1, 20), st.sets(st.integers(1, 200).map(str)))
def test_only_the_oldest_that_nobody_needs_may_go(versions: set[str], most: int, needed: set[str]) -> None:
    gone = doomed(versions, most, needed)
    assert gone == sorted(gone, key=int)
    stays = versions - set(gone)
    assert needed & versions <= stays
    assert set(sorted(versions, key=int)[-most:]) <= stays
    assert stays <= needed | set(sorted(versions, key=int)[-most:])


@pytest.fixture
def private() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


class Checkpointed(MemoryLog):
    """Whose checkpoints had followed these records."""

    followed: dict[int, list[int]]

    def checkpoints(self, partition: int) -> list[bytes]:
        return [str(k).encode() for k in self.followed.get(partition, [])]


def lowest(manifests: list[bytes]) -> int:
    return min(map(int, manifests), default=0)


def write(log: Log, private: Ed25519PrivateKey, *versions: str) -> list[int]:
    return [append(log, private, Activate(version, DIGEST), "ann", "")[0] for version in versions]


def test_what_a_checkpoint_or_a_partition_without_one_may_still_ask_for_is_needed(private: Ed25519PrivateKey) -> None:
    log = Checkpointed(2)
    ks = write(log, private, "1", "2", "3", "4")
    controls = read_controls(log, private.public_key())
    log.followed = {0: [ks[3], ks[2]], 1: [ks[3], ks[1]]}
    assert needed_by(log, controls, lowest) == {"2", "3", "4"}
    log.followed = {0: [ks[3]]}
    assert needed_by(log, controls, lowest) == {"1", "2", "3", "4"}
    assert needed_by(log, controls, lambda manifests: oldest_k(manifests, Activate.verb)) == {"1", "2", "3", "4"}


def test_another_deployments_bundles_are_needed(private: Ed25519PrivateKey) -> None:
    log = Checkpointed(1)
    ks = write(log, private, "1", "2")
    log.deployment = "paper"
    write(log, private, "7")
    log.deployment = "main"
    log.followed = {0: [ks[1]]}
    assert needed_by(log, read_controls(log, private.public_key()), lowest) == {"2", "7"}


def test_prune_leaves_what_has_an_alias_and_takes_decisions_along(registry: Registry, keys: Ed25519PrivateKey) -> None:
    for seed in range(5):
        publish_speaking(registry, keys, seed)
        keep(registry, decided(str(seed + 1)), keys)
    registry.set_alias("champion", "2")
    assert prune(registry, 1, ["3"]) == ["1", "4"]
    assert registry.versions() == ["2", "3", "5"]
    assert [decision(registry, str(v)) is not None for v in range(1, 6)] == [False, True, True, False, True]


# ---- what was decided

@pytest.fixture
def keys(tmp_path: Path) -> Ed25519PrivateKey:
    return signing.load_private(signing.generate(tmp_path / "keys")[0])


@pytest.fixture
def registry(tmp_path: Path, keys: Ed25519PrivateKey) -> Registry:
    return Registry(tmp_path / "registry", tmp_path / "keys" / "public.pem")


def decided(about: str, why: str = "better") -> Decision:
    return Decision(about, "2026-01-01T00:00:00Z", "main", "schedule", "if-better", True, True, why, 1.5, 4, {"0": "1-0"})


def test_a_decision_is_read_as_it_was_kept(registry: Registry, keys: Ed25519PrivateKey) -> None:
    assert decision(registry, "1") is None
    keep(registry, decided("1"), keys)
    keep(registry, decided(FAILED, "no ticks"), keys)
    assert decision(registry, "1") == decided("1")
    keep(registry, decided("1", "on second thoughts"), keys)
    assert decision(registry, "1") == decided("1", "on second thoughts")
    assert sorted(path.name for path in (registry.folder / FOLDER).iterdir()) == ["1.json", "failed.json"]
    assert registry.versions() == []
    forget(registry, "1")
    forget(registry, "1")
    assert decision(registry, "1") is None


def test_a_decision_that_isnt_the_trusted_keys_is_none(registry: Registry, keys: Ed25519PrivateKey) -> None:
    keep(registry, decided("1"), keys)
    path = registry.folder / FOLDER / "1.json"
    good = path.read_bytes()
    path.write_bytes(good.replace(b"better", b"bitter", 1))
    assert decision(registry, "1") is None
    path.write_bytes(good[:-20])
    assert decision(registry, "1") is None
    keep(registry, decided("1"), Ed25519PrivateKey.generate())
    assert decision(registry, "1") is None
    path.write_bytes(good)
    shutil.copy(path, path.with_name("2.json"))
    assert decision(registry, "2") is None, "signed, but about another bundle"


# ---- what a log's settings make of a bundle

def test_settings_lie_over_the_bundle_and_over_nothing_else() -> None:
    bundle = speaking_bundle()
    assert overlay(bundle, Settings()) is bundle
    calmer = overlay(bundle, Settings(PolicyRules(cooldown_s=30.0)))
    assert calmer.manifest.policy.cooldown_s == 30.0
    assert (calmer.manifest.policy.buy, calmer.manifest.moments) == (bundle.manifest.policy.buy, bundle.manifest.moments)
    assert bundle.manifest.policy.cooldown_s == 0.0
    zero = overlay(bundle, Settings(PolicyRules(hysteresis=0.0, buy=0.0)))
    assert (zero.manifest.policy.hysteresis, zero.manifest.policy.buy) == (0.0, 0.0), "0 overrules as well"


def test_the_newest_settings_are_in_force_whole(private: Ed25519PrivateKey) -> None:
    log = MemoryLog(1)
    assert in_force(read_controls(log, private.public_key())) == Settings()
    append(log, private, Settings(PolicyRules(buy=0.5), {"one": 2.0}), "ann", "")
    append(log, private, Settings(PolicyRules(sell=-0.5)), "ann", "")
    assert in_force(read_controls(log, private.public_key())) == Settings(PolicyRules(sell=-0.5))


def test_prices_are_counted_as_settings_else_the_first_bundle_else_the_file_say(
    registry: Registry, keys: Ed25519PrivateKey
) -> None:
    log, file = MemoryLog(1), Instruments({"FILE": {"scale": 1}})
    controls = read_controls(log, keys.public_key())
    assert base_instruments(controls, registry, file) is file
    for scale in (2, 3):
        version = publish_speaking(registry, keys, rules=Instruments({"A": {"scale": scale}}))
        append(log, keys, Activate(version, registry.read(version).digest), "ann", "")
    base = base_instruments(read_controls(log, keys.public_key()), registry, file)
    assert base.to_dict() == Instruments({"A": {"scale": 2}}).to_dict()
    assert counted(Settings(), base) is base
    other = Instruments({"A": {"scale": 4}}).to_dict()
    assert counted(Settings(instruments=other), base).to_dict() == other


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ({}, None),
        ({"A": {"scale": 2}, "*": {"scale": 3}}, None),
        ({"*": {"scale": 3}, "A": {"scale": 2}}, "order"),
        ({"A": {"scale": 5}, "*": {"scale": 3}}, "'A'"),
        ({"A": {"scale": 2}}, "'*'"),
    ],
)
def test_a_file_that_counts_otherwise_than_the_log_is_refused(
    registry: Registry, private: Ed25519PrivateKey, file: dict[str, dict[str, int]], named: str | None
) -> None:
    log = MemoryLog(1)
    logs = Instruments({"A": {"scale": 2}, "*": {"scale": 3}})
    append(log, private, Settings(instruments=logs.to_dict()), "ann", "")
    check = partial(check_file, Instruments(file), read_controls(log, private.public_key()), registry)
    if named is None:
        check()
        return
    with pytest.raises(UsageError, match="settings_differ") as refused:
        check()
    assert named in str(refused.value.args[0])


# ---- what is read once

class Fetched(MemoryLog):
    """Remembers what was fetched of `models`."""

    def __init__(self, partitions: int) -> None:
        super().__init__(partitions)
        self.after: list[int] = []

    def controls(self, after: int = 1) -> list[tuple[int, bytes]]:
        found = super().controls(after)
        self.after.append(after)
        return found


def test_each_record_is_fetched_once_and_the_newest_of_each_verb_is_due(private: Ed25519PrivateKey) -> None:
    log = Fetched(1)
    first = write(log, private, "1")[0]
    controls = read_controls(log, private.public_key())
    append(log, private, Settings(PolicyRules(buy=0.5)), "ann", "")
    second = write(log, private, "2")[0]
    append(log, private, Prepare("3", DIGEST), "ann", "")
    log.after.clear()
    controls.refresh()
    controls.refresh()
    assert log.after == [first, controls.last]
    assert [c.k for c in controls.holding()] == [first, first + 1, second, second + 1]
    assert [c.k for c in controls.holding(first + 1)] == [second, second + 1]
    assert [(c.k, c.verb) for c in controls.due()] == [(first + 1, "settings"), (second, "activate")]
    assert controls.payload(second) == dict(log.controls())[second]


def test_a_copy_is_held_against_what_was_appended_after_the_reader_came(private: Ed25519PrivateKey) -> None:
    log = MemoryLog(1)
    controls = read_controls(log, private.public_key())
    k, record = append(log, private, Activate("1", DIGEST), "ann", "")
    copy(log, record)
    entry = log.read({0: START}, 1)[0][0]
    found = controls.check(entry, {})
    assert found
    assert found.k == k
    assert controls.check(entry, {Activate.verb: k}) is None


def test_what_others_deployed_is_named_and_forgeries_are_not(private: Ed25519PrivateKey) -> None:
    log = MemoryLog(1)
    write(log, private, "1")
    log.deployment = "paper"
    write(log, private, "2")
    write(log, Ed25519PrivateKey.generate(), "66")
    log.deployment = "main"
    controls = read_controls(log, private.public_key())
    assert controls.named_by_others() == {"2"}
    assert [c.k for c in controls.holding()] == [2]
