"""The small parts of a swap: who lives, what is staged, what may go, what was decided, what is read once."""

from __future__ import annotations

import shutil
import threading
from functools import partial
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ModelRefused, UsageError
from engine.instruments import Instruments
from engine.partition import checkpoint
from engine.registry import Registry, signing
from engine.registry.append import append, complete, copy
from engine.registry.bundle import Bundle
from engine.registry.controls import Controls, read_controls
from engine.registry.decisions import FAILED, FOLDER, Decision, decision, forget, keep
from engine.registry.liveness import ALIVE_NS, Beats
from engine.registry.prune import doomed, needed_by, prune
from engine.registry.rollout import Activate, PolicyRules, Prepare, Settings
from engine.registry.settings import check_file, counted, counted_now, in_force, overlay
from engine.registry.staging import KEPT, Staging
from engine.transports.base import Log, Ownership
from engine.transports.memory import MemoryLog
from engine.types import START
from tests.engines import publish_speaking
from tests.made import speaking_bundle, write

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
    answers = ""

    def checkpoints(self, partition: int) -> list[bytes]:
        return [
            msgspec.msgpack.encode({"cursor": (1, 0), "followed": {"activate": k}, "bundle": (self.answers, DIGEST)})
            for k in self.followed.get(partition, [])
        ]


def activated(log: Log, private: Ed25519PrivateKey, *versions: str) -> list[int]:
    return [write(log, private, Activate(version, DIGEST))[0] for version in versions]


def needed(log: Log, private: Ed25519PrivateKey) -> set[str]:
    return needed_by(read_controls(log, private.public_key()), checkpoint.oldest_k(log, Activate.verb))


def test_what_a_checkpoint_or_a_partition_without_one_may_still_ask_for_is_needed(private: Ed25519PrivateKey) -> None:
    log = Checkpointed(2)
    ks = activated(log, private, "1", "2", "3", "4")
    log.followed = {0: [ks[3], ks[2]], 1: [ks[3], ks[1]]}
    assert needed(log, private) == {"2", "3", "4"}
    assert checkpoint.oldest_k(log, Activate.verb, newest=1) == ks[3]
    log.followed = {0: [ks[3]]}
    assert needed(log, private) == {"1", "2", "3", "4"}


def test_what_somebody_waits_to_activate_is_needed(private: Ed25519PrivateKey) -> None:
    log = Checkpointed(1)
    write(log, private, Prepare("1", DIGEST))
    k = activated(log, private, "2")[0]
    log.followed = {0: [k]}
    write(log, private, Prepare("3", DIGEST))
    assert needed(log, private) == {"2", "3"}


def test_what_answers_is_needed_though_a_void_activation_came_later(private: Ed25519PrivateKey) -> None:
    log = Checkpointed(1)
    ks = activated(log, private, "1", "2")
    log.followed = {0: [ks[1]]}
    assert checkpoint.bundles(log) == set()
    log.answers = "1"
    assert checkpoint.bundles(log) == {"1"}


def test_the_settings_that_an_activation_was_decided_on_are_due_with_it(private: Ed25519PrivateKey) -> None:
    log = MemoryLog(1)
    for buy in (0.1, 0.2):
        write(log, private, Settings(PolicyRules(buy=buy)))
    activated(log, private, "1")
    assert [c.k for c in read_controls(log, private.public_key()).due()] == [3, 4]
    write(log, private, Settings(PolicyRules(buy=0.3)))
    assert [c.k for c in read_controls(log, private.public_key()).due()] == [3, 4, 5]
    activated(log, private, "2")
    assert [c.k for c in read_controls(log, private.public_key()).due()] == [5, 6]


def test_another_deployments_bundles_are_needed(private: Ed25519PrivateKey) -> None:
    log = Checkpointed(1)
    ks = activated(log, private, "1", "2")
    log.deployment = "paper"
    activated(log, private, "7")
    log.deployment = "main"
    log.followed = {0: [ks[1]]}
    assert needed(log, private) == {"2", "7"}


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
    write(log, private, Settings(PolicyRules(buy=0.5), {"one": 2.0}))
    write(log, private, Settings(PolicyRules(sell=-0.5)))
    assert in_force(read_controls(log, private.public_key())) == Settings(PolicyRules(sell=-0.5))


def test_prices_are_counted_as_settings_else_the_log_say(private: Ed25519PrivateKey) -> None:
    log = MemoryLog(1, rules=Instruments({"A": {"scale": 2}}))
    assert counted_now(log, read_controls(log, private.public_key())) is log.rules
    other = Instruments({"A": {"scale": 4}}).to_dict()
    write(log, private, Settings(instruments=other))
    assert counted_now(log, read_controls(log, private.public_key())).to_dict() == other
    write(log, private, Settings())
    assert counted_now(log, read_controls(log, private.public_key())) is log.rules
    assert counted(Settings(instruments=other), log.rules).to_dict() == other


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
@pytest.mark.parametrize("settled", [False, True], ids=["as created", "by settings"])
def test_a_file_that_counts_otherwise_than_the_log_is_refused(
    private: Ed25519PrivateKey, settled: bool, file: dict[str, dict[str, int]], named: str | None
) -> None:
    rules = Instruments({"A": {"scale": 2}, "*": {"scale": 3}})
    log = MemoryLog(1, rules=Instruments() if settled else rules)
    if settled:
        write(log, private, Settings(instruments=rules.to_dict()))
    check = partial(check_file, Instruments(file), log, read_controls(log, private.public_key()))
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
    first = activated(log, private, "1")[0]
    controls = read_controls(log, private.public_key())
    write(log, private, Settings(PolicyRules(buy=0.5)))
    second = activated(log, private, "2")[0]
    write(log, private, Prepare("3", DIGEST))
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
    k, record = write(log, private, Activate("1", DIGEST))
    copy(log, record)
    entry = log.read({0: START}, 1)[0][0]
    found = controls.check(entry, {})
    assert found
    assert found.k == k
    assert controls.check(entry, {Activate.verb: k}) is None


def test_what_others_deployed_is_named_and_forgeries_are_not(private: Ed25519PrivateKey) -> None:
    log = MemoryLog(1)
    activated(log, private, "1")
    log.deployment = "paper"
    activated(log, private, "2")
    activated(log, Ed25519PrivateKey.generate(), "66")
    log.deployment = "main"
    controls = read_controls(log, private.public_key())
    assert controls.named_by_others() == {"2"}
    assert [c.k for c in controls.holding()] == [2]


def test_what_is_written_follows_from_all_that_was_written_before(private: Ed25519PrivateKey) -> None:
    """Two who change settings at once: the second starts from what the first has left."""
    log = MemoryLog(1)
    asked: list[Settings] = []

    def calmer(seen: Controls) -> Settings:
        asked.append(in_force(seen))
        if len(asked) == 1:
            write(log, private, Settings(PolicyRules(max_spread=3.0)))         # between our reading and our writing
        return Settings(msgspec.structs.replace(in_force(seen).policy, cooldown_s=30.0))

    controls = read_controls(log, private.public_key())
    assert append(log, controls, private, calmer, "ann", "") == 3
    assert len(asked) == 2
    assert in_force(read_controls(log, private.public_key())).policy == PolicyRules(max_spread=3.0, cooldown_s=30.0)


def test_completing_copies_what_is_due_in_the_order_it_was_written(private: Ed25519PrivateKey) -> None:
    log = MemoryLog(2)
    settings, _ = write(log, private, Settings(PolicyRules(buy=0.5)))
    activated(log, private, "1")
    newest = activated(log, private, "2")[0]
    made = complete(log, read_controls(log, private.public_key()))
    assert list(made) == [settings, newest]
    for p in range(2):
        assert [e.cursor for e in log.read({p: START}, 10)[p]] == [made[settings][p], made[newest][p]]
