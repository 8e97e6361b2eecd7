"""A bundle or a rule is changed while engines run: from one position on, everywhere, and never halfway."""

from __future__ import annotations

import json
import shlex
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread, current_thread
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import msgspec
import pytest

from engine import app, housekeeping
from engine import replay as replaying
from engine.cli import main
from engine.errors import ModelRefused, TocsinError, UsageError
from engine.features import FeatureSet
from engine.files import write_ticks
from engine.housekeeping import Housekeeper
from engine.instruments import Instruments
from engine.manifest import Policy
from engine.partition import checkpoint, retention
from engine.partition.batch import MicroBatch
from engine.registry import Registry, follow, liveness, rollout
from engine.registry import activate as activating
from engine.registry.activate import activate
from engine.registry.bundle import Bundle, load_bundle
from engine.registry.controls import read_controls
from engine.registry.rollout import PolicyRules, Settings
from engine.registry.staging import Staging
from engine.replay import replay_log
from engine.transports import open_log
from engine.transports import redis as redis_transport
from engine.transports.base import Record, Topic
from engine.transports.redis import RedisLog
from engine.types import NOWHERE, Cursor, Kind, Position
from engine.wire.records import Signal, canonical_order
from engine.workers.inline import InlineWorkers
from tests.engines import Running, Site, ticks, wait_for
from tests.made import write

WARM = 500
"""So many made ticks warm every symbol up."""


@pytest.fixture
def site(tmp_path: Path, redis_dir: Path) -> Iterator[Site]:
    site = Site(tmp_path, redis_dir)
    yield site
    site.close()


def assert_replays_equal(site: Site) -> None:
    done = replay_log(site.log, site.registry, FeatureSet.default())
    assert canonical_order(done.signals) == canonical_order(site.published())


def assert_bundles_change_at(site: Site, changes: list[tuple[str, dict[int, Cursor]]]) -> None:
    """Every tick is answered by the bundle of the last copy before it."""
    for (partition, position), signal in site.signals().items():
        due = [version for version, copies in changes if copies[partition] < position.cursor]
        assert signal.bundle == due[-1], f"partition {partition}, {position}"


# ---- (a) a swap

def test_a_swap_under_way_changes_nothing_but_the_bundle(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[tuple[int, str, Cursor, Cursor]] = []
    submit = InlineWorkers.submit

    def spied(self: InlineWorkers, batch: MicroBatch | None) -> None:
        if batch and batch.asked and batch.bundle:
            asked = batch.asked.ticks
            batches.append((batch.partition, batch.bundle.version, asked.position(0).cursor, asked.position(-1).cursor))
        submit(self, batch)

    one, two = site.publish(1), site.publish(2)
    moving = ticks(1000)
    first = activate(site.log, site.registry, site.private, one, "ann")
    with monkeypatch.context() as patch, Running(site.config()):
        patch.setattr(InlineWorkers, "submit", spied)
        feed = Thread(target=site.send, args=(moving[:600], 300.0))
        feed.start()
        wait_for(lambda: len(site.published()) > 50)
        second = activate(site.log, site.registry, site.private, two, "ann")
        assert second.staged_by == ["one"]
        feed.join()
        wait_for(lambda: len(site.published()) == 600)
    assert not site.log.posts("staged."), "nobody waits for the answers any more"
    site.send(moving[600:800])
    third = activate(site.log, site.registry, site.private, one, "ann")        # nobody is there: met on the way
    site.send(moving[800:])
    with monkeypatch.context() as patch, Running(site.config()):
        patch.setattr(InlineWorkers, "submit", spied)
        wait_for(lambda: len(site.published()) == 1000)

    changes = [(one, first.copies), (two, second.copies), (one, third.copies)]
    assert third.staged_by == []
    assert {signal.bundle for signal in site.signals().values()} == {one, two}
    assert_bundles_change_at(site, changes)
    assert len(batches) > 4
    for partition, version, start, end in batches:
        due = [v for v, copies in changes if copies[partition] < start]
        assert version == due[-1]
        assert not any(start < copies[partition] < end for _, copies in changes), "a batch of two bundles"
    assert_replays_equal(site)


# ---- (b) refusals

@pytest.mark.parametrize(
    ("code", "why", "what", "verbs"),
    [("features_differ", "another deployment", {"fingerprint": "0123456789abcdef"}, []),
     ("instruments_differ", "no such rule here", {"rules": Instruments({"MADE*": {"scale": 4}})}, [])],
)
def test_what_an_engine_cant_answer_with_is_not_activated(
    site: Site, code: str, why: str, what: dict[str, Any], verbs: list[str]
) -> None:
    good, bad = site.publish(1), site.publish(2, **what)
    moving = ticks(200)
    activate(site.log, site.registry, site.private, good, "ann")
    with Running(site.config()):
        site.send(moving[:100])
        with pytest.raises(ModelRefused, match=why) as refused:
            activate(site.log, site.registry, site.private, bad, "ann")
        assert (refused.value.code, refused.value.exit) == (code, 5)
        site.send(moving[100:])
        wait_for(lambda: len(site.published()) == 200)
    assert site.verbs() == ["prepare", "activate", *verbs]
    assert {signal.bundle for signal in site.signals().values()} == {good}
    assert not site.log.posts("staged.")


def test_a_first_bundle_that_an_engine_cant_answer_with_is_not_activated(site: Site) -> None:
    with Running(site.config()):
        with pytest.raises(ModelRefused, match="features_differ") as refused:
            activate(site.log, site.registry, site.private, site.publish(1, fingerprint="0123456789abcdef"), "ann")
        assert refused.value.code == "engine_refused"
    assert site.verbs() == ["prepare"]
    assert not site.log.posts("staged.")


@pytest.mark.parametrize("what", [{"fingerprint": "0123456789abcdef"}, {"rules": Instruments({"MADE*": {"scale": 4}})}])
def test_where_nobody_lives_whoever_activates_tries_it(site: Site, what: dict[str, Any]) -> None:
    with pytest.raises(ModelRefused, match="differ"):
        activate(site.log, site.registry, site.private, site.publish(1, **what), "ann")
    assert "activate" not in site.verbs()


def test_a_bundle_that_settings_overtook_is_void_for_everybody(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was staged; then prices were counted otherwise; then its activation came. No engine may die of it, now or later."""
    monkeypatch.setattr(housekeeping, "SLOW_NS", 50_000_000)
    monkeypatch.setattr(housekeeping, "MISSING_NS", 200_000_000)
    other = Instruments({"MADE*": {"scale": 6}})
    one, two, three = site.publish(1), site.publish(2), site.publish(3, rules=other)
    moving = ticks(600)
    with Running(site.config()):
        activate(site.log, site.registry, site.private, one, "ann")
        site.send(moving[:200])
        site.change(Settings(instruments=other.to_dict()))
        copies = site.change(site.activation(two))
        site.send(moving[200:400])
        wait_for(lambda: len(site.published()) == 400)
        time.sleep(0.5)                        # nobody may take its copies for missing
    with Running(site.config()):
        wait_for(lambda: all(site.log.ownership(p).epoch == 2 for p in range(site.log.partitions)))
        activate(site.log, site.registry, site.private, three, "ann")
        site.send(moving[400:])
        wait_for(lambda: len(site.published()) == 600)
    assert {signal.bundle for signal in site.signals().values()} == {one, three}
    refused = [msgspec.json.decode(r) for p in (0, 1) for _, r in site.log.published(p, Topic.REJECTS, NOWHERE, 100)]
    assert [reject["code"] for reject in refused] == ["control"] * len(copies)
    assert_replays_equal(site)


def test_settings_before_the_first_bundle_are_replayed_as_they_were(tmp_path: Path, redis_dir: Path) -> None:
    first, then = Instruments({"MADE0": {"scale": 6}}), Instruments({"MADE*": {"scale": 5}})
    site = Site(tmp_path, redis_dir, rules=first)
    moving = ticks(500)
    try:
        with Running(site.config()):
            site.send(moving[:200])
            site.change(Settings(instruments=then.to_dict()))
            activate(site.log, site.registry, site.private, site.publish(1, rules=then), "ann")
            site.send(moving[200:])
            wait_for(lambda: len(site.published()) == 300)
        assert "decided" in {signal.reason for signal in site.signals().values()}
        assert_replays_equal(site)
    finally:
        site.close()


# ---- (c), (d) silence and nobody

def test_an_engine_that_lives_and_says_nothing_stops_the_change(site: Site) -> None:
    version = site.publish(1)
    other = open_log(site.url)
    epoch = other.claim(0, "mute", other.ownership(0))
    assert epoch
    stop = Event()

    def live() -> None:
        while not stop.wait(0.05):
            other.beat(0, epoch)

    mute = Thread(target=live)
    mute.start()
    try:
        with pytest.raises(TocsinError, match="mute") as silent:
            activate(site.log, site.registry, site.private, version, "ann", patience_s=1.0)
    finally:
        stop.set()
        mute.join()
        other.close()
    assert (silent.value.code, silent.value.exit) == ("engine_silent", 1)
    assert site.verbs() == ["prepare"]
    assert not any(site.entries(p) for p in range(site.log.partitions))


@pytest.mark.parametrize("dead", [False, True], ids=["nobody ever", "died"])
def test_where_nobody_lives_it_is_activated_at_once(site: Site, dead: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "ALIVE_NS", 300_000_000)
    version = site.publish(1)
    if dead:
        assert site.log.claim(0, "dead", site.log.ownership(0))
    said: list[str] = []
    started = time.monotonic()
    done = activate(site.log, site.registry, site.private, version, "ann", tell=said.append, patience_s=20.0)
    assert (time.monotonic() - started >= 0.3) == dead, "who stands still is watched for a while, nobody isn't"
    assert done.staged_by == []
    assert ["no engine" in text for text in said] == [True]
    assert all(site.copies(p, done.k) == [done.copies[p]] for p in range(site.log.partitions))


# ---- (e) met before it is staged

class Slow:
    """Stages every bundle at once but one, which waits."""

    def __init__(self, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = Event()
        plain = follow.staging_of

        def slow(registry: Registry, features: FeatureSet) -> Staging:
            staging = plain(registry, features)
            load = staging._load

            def waiting(name: str, digest: str) -> Bundle:
                if name == version:
                    assert self.free.wait(60)
                return load(name, digest)

            return Staging(waiting)

        monkeypatch.setattr(app, "staging_of", slow)


def test_a_partition_waits_in_front_of_a_bundle_that_isnt_staged(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = site.publish(1), site.publish(2)
    moving = ticks(400)
    first = activate(site.log, site.registry, site.private, one, "ann")
    slow = Slow(two, monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    with Running(site.config(engine__listen=listen)):
        site.send(moving[:200])
        wait_for(lambda: len(site.published()) == 200)
        k, record = write(site.log, site.private, site.activation(two))
        met = site.log.append(1, [record], Kind.CONTROL)[0]                    # in partition 1 only
        site.send(moving[200:])
        others = sum(1 for n in range(200, 400) if moving.symbols[moving.sid[n]] == "MADE4")
        wait_for(lambda: len(site.published()) == 200 + others, "partition 0 goes on")
        time.sleep(0.2)
        assert len(site.published()) == 200 + others
        assert max(position.cursor for p, position in site.signals() if p == 1) < met
        said = ready(listen)
        assert (said[0], said[1]["reason"]) == (503, f"paused: partition 1 waits for bundle {two}")
        slow.free.set()
        wait_for(lambda: len(site.published()) == 400)
        wait_for(lambda: "paused" not in ready(listen)[1]["reason"])
        wait_for(lambda: site.copies(0, k))                                    # the engine copies it where it is missing
    second = {0: site.copies(0, k)[0], 1: met}
    assert_bundles_change_at(site, [(one, first.copies), (two, second)])
    assert any(s.bundle == two for (p, _), s in site.signals().items() if p == 1)
    assert_replays_equal(site)


def ready(listen: str) -> tuple[int, dict[str, Any]]:
    try:
        with urlopen(f"http://{listen}/readyz", timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except HTTPError as refused:
        return refused.code, json.loads(refused.read())


def test_a_bundle_that_must_answer_and_cant_be_loaded_ends_the_engine(site: Site, tmp_path: Path) -> None:
    one = site.publish(1)
    activate(site.log, site.registry, site.private, one, "ann")
    shutil.copytree(tmp_path / "registry", tmp_path / "copy")                  # without the next bundle
    two = site.publish(2)
    moving = ticks(200)
    with Running(site.config(registry__path=str(tmp_path / "copy"))) as engine:
        site.send(moving[:100])
        wait_for(lambda: len(site.published()) == 100)
        site.change(site.activation(two))      # whoever wrote it didn't wait
        site.send(moving[100:])
        died = engine.died()
    assert isinstance(died, ModelRefused)
    assert (died.code, died.exit) == ("not_found", 5)
    assert len(site.published()) == 100, "nothing behind the copy was answered by the old bundle"


# ---- (f) the writer died

@pytest.mark.parametrize("copied", [[], [0]], ids=["none", "one of two"])
def test_copies_that_are_missing_are_made_by_the_engine(
    site: Site, copied: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "SLOW_NS", 50_000_000)
    monkeypatch.setattr(housekeeping, "MISSING_NS", 200_000_000)
    one, two = site.publish(1), site.publish(2)
    moving = ticks(200)
    activate(site.log, site.registry, site.private, one, "ann")
    with Running(site.config()):
        site.send(moving[:100])
        k, record = write(site.log, site.private, site.activation(two))
        for p in copied:
            site.log.append(p, [record], Kind.CONTROL)
        wait_for(lambda: all(site.copies(p, k) for p in range(site.log.partitions)), "never completed")
        time.sleep(0.5)
        site.send(moving[100:])
        wait_for(lambda: len(site.published()) == 200)
    assert [len(site.copies(p, k)) for p in range(site.log.partitions)] == [1, 1]
    assert {p: s.bundle for (p, _), s in site.signals().items()} == {0: two, 1: two}, "the last of each partition"
    assert_replays_equal(site)


# ---- (g) staged before it is claimed

def test_what_the_partitions_will_meet_is_loaded_before_they_are_claimed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_TICKS", 10)
    one, two = site.publish(1), site.publish(2)
    moving = ticks(300)
    activate(site.log, site.registry, site.private, one, "ann")
    with Running(site.config()):
        site.send(moving[:100])
        wait_for(lambda: all(site.log.checkpoints(p) for p in range(site.log.partitions)))
        wait_for(lambda: len(site.published()) == 100)
    site.send(moving[100:200])
    site.change(site.activation(two))
    site.send(moving[200:])
    happened: list[tuple[str, str]] = []
    claim = RedisLog.claim

    def spied_load(registry: Registry, name: str, digest: str | None = None) -> Bundle:
        happened.append((current_thread().name, f"load {name}"))
        return load_bundle(registry, name, digest)

    def spied_claim(self: RedisLog, *args: Any) -> int | None:
        happened.append((current_thread().name, "claim"))
        return claim(self, *args)

    monkeypatch.setattr(follow, "load_bundle", spied_load)
    monkeypatch.setattr(RedisLog, "claim", spied_claim)
    with Running(site.config(engine__name="one")):
        wait_for(lambda: len(site.published()) == 300)
    loop = [what for thread, what in happened if thread == "one"]
    assert loop == [f"load {one}", f"load {two}", "claim", "claim"]
    assert_replays_equal(site)


# ---- (h) settings

def restarted_in_the_middle(site: Site, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> dict[int, Cursor]:
    """700 warm ticks, the settings, 150, a restart, 150; where the settings' copies stand."""
    monkeypatch.setattr(checkpoint, "EVERY_TICKS", 20)
    moving = ticks(1000)
    with Running(site.config()):
        site.send(moving[:700])
        copies = site.change(settings)
        site.send(moving[700:850])
        wait_for(lambda: len(site.published()) == 850)
    for p, copy in copies.items():
        assert checkpoint.oldest_k(site.log, Settings.verb, newest=1), "a restart reads the settings from its checkpoint"
        assert checkpoint.oldest_cursor(site.log.checkpoints(p)[:1]) > copy
    site.send(moving[850:])
    with Running(site.config()):
        wait_for(lambda: len(site.published()) == 1000)
    assert_replays_equal(site)
    return copies


def split(site: Site, copies: dict[int, Cursor]) -> tuple[list[Signal], list[Signal]]:
    """Before and after the copies, in the order of their stamps."""
    found = sorted(site.signals().items(), key=lambda item: item[1].ts)
    after = {key: key[1].cursor > copies[key[0]] for key, _ in found}
    return [s for key, s in found if not after[key]], [s for key, s in found if after[key]]


def test_policy_and_weights_hold_from_a_position_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    activate(site.log, site.registry, site.private, site.publish(1, Policy(0.02, -0.02)), "ann")
    settings = Settings(PolicyRules(cooldown_s=1e9), {"two": 0.0})
    before, after = split(site, restarted_in_the_middle(site, settings, monkeypatch))
    assert (len(before), len(after)) == (700, 300)
    asked = [s for s in before if s.reason != "warmup"]
    assert len(asked) > 100
    assert all(s.probabilities != pytest.approx(s.votes["one"], abs=1e-6) for s in asked if s.votes["one"] != s.votes["two"])
    assert all(s.probabilities == pytest.approx(s.votes["one"], abs=1e-6) for s in after)
    assert {s.reason for s in before}.isdisjoint({"cooldown"})
    assert any(s.reason == "cooldown" for s in after[:150])
    assert any(s.reason == "cooldown" for s in after[150:]), "after the restart too"
    told = {s.symbol: s.side for s in asked if s.side != "neutral"}
    assert all(s.side in ("neutral", told[s.symbol]) for s in after), "nobody may turn for thirty years"


def test_a_symbol_that_is_counted_otherwise_starts_anew(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    activate(site.log, site.registry, site.private, site.publish(1), "ann")
    settings = Settings(instruments=Instruments({"MADE1": {"scale": 6}}).to_dict())
    before, after = split(site, restarted_in_the_middle(site, settings, monkeypatch))
    of = {symbol: [s.reason for s in after if s.symbol == symbol] for symbol in ("MADE0", "MADE1", "MADE4")}
    assert "warmup" not in [s.reason for s in before[-50:]]
    assert of["MADE1"][:20] == ["warmup"] * 20
    assert "warmup" not in of["MADE0"] + of["MADE4"]


def test_a_widest_spread_holds_from_a_position_on_and_nothing_starts_anew(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    activate(site.log, site.registry, site.private, site.publish(1), "ann")
    settings = Settings(instruments=Instruments({"MADE1": {"max_spread": 4}, "MADE2": {}}).to_dict())
    before, after = split(site, restarted_in_the_middle(site, settings, monkeypatch))
    assert {s.reason for s in before}.isdisjoint({"spread"})
    wide = {key: round((s.ask - s.bid) * 1e5) > 4 and s.symbol == "MADE1" for key, s in enumerate(after)}
    assert [s.reason == "spread" for s in after] == list(wide.values())
    for part in (after[:150], after[150:]):                # before the restart and behind it
        assert {s.reason for s in part if s.symbol == "MADE1"} > {"spread"}
    assert "warmup" not in {s.reason for s in after}


def test_aliases_hold_from_a_position_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """MADE4's ticks are MADE0's from here on, where both come in one partition; else a MADE0 of that partition's own."""
    activate(site.log, site.registry, site.private, site.publish(1), "ann")
    settings = Settings(instruments=Instruments({"MADE0": {"aliases": ["MADE4"]}}).to_dict())
    before, after = split(site, restarted_in_the_middle(site, settings, monkeypatch))
    assert "MADE4" in {s.symbol for s in before}
    assert "MADE4" not in {s.symbol for s in after}
    assert len([s for s in after if s.symbol == "MADE0"]) > 1.5 * len([s for s in after if s.symbol == "MADE1"])
    assert "warmup" not in {s.reason for s in after if s.symbol != "MADE0"}


def test_an_engine_whose_file_counts_otherwise_names_the_key_and_a_command(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    activate(site.log, site.registry, site.private, site.publish(1), "ann")
    file = tmp_path / "other.toml"
    file.write_text("[instruments]\n\"MADE0\" = {scale = 6}\n")
    here = ["--config", str(file), "--home", str(tmp_path), "--transport", site.url]
    refused = Running(site.config(str(file)))
    with refused:
        error = refused.died()
    assert isinstance(error, UsageError)
    assert (error.code, error.exit) == ("settings_differ", 2)
    assert "[instruments] 'MADE0'" in str(error)
    assert all(site.log.ownership(p).epoch == 0 for p in range(site.log.partitions)), "nothing was claimed"
    command = shlex.split(error.hint[error.hint.index("tocsin "):])
    assert main([*command[1:], *here]) == 0, capsys.readouterr().err
    with Running(site.config(str(file))):
        pass
    assert site.verbs() == ["prepare", "activate", rollout.Settings.verb]


def test_warm_ticks_are_counted_as_the_log_counts(tmp_path: Path, redis_dir: Path) -> None:
    """Whatever the file of this engine names: nothing, here."""
    rules = Instruments({"MADE*": {"scale": 6}})
    site = Site(tmp_path, redis_dir, rules=rules)
    moving = ticks(600)
    write_ticks(moving[:500], tmp_path / "warm.parquet")
    try:
        with Running(site.config(), [tmp_path / "warm.parquet"]):
            activate(site.log, site.registry, site.private, site.publish(1, rules=rules), "ann")
            site.send(moving[500:])
            wait_for(lambda: len(site.published()) == 100)
        assert "decided" in {signal.reason for signal in site.signals().values()}, "twenty ticks of a symbol warm nothing"
    finally:
        site.close()


def test_the_order_of_the_rules_counts(tmp_path: Path, redis_dir: Path) -> None:
    """The first pattern that matches a symbol is its rule."""
    site = Site(tmp_path, redis_dir, rules=Instruments({"MADE0": {"scale": 4}, "MADE*": {"scale": 5}}))
    file = tmp_path / "other.toml"
    file.write_text("[instruments]\n\"MADE*\" = {scale = 5}\n\"MADE0\" = {scale = 4}\n")
    refused = Running(site.config(str(file)))
    with refused:
        error = refused.died()
    site.close()
    assert getattr(error, "code", "") == "settings_differ"


# ---- (i) what stays behind

def test_a_partition_without_ticks_has_a_checkpoint_of_what_it_followed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every bundle ever activated would be needed for ever."""
    monkeypatch.setattr(checkpoint, "EVERY_NS", 0)
    with Running(site.config()):
        for version in (site.publish(1), site.publish(2)):
            last = activate(site.log, site.registry, site.private, version, "ann")
        wait_for(lambda: checkpoint.oldest_k(site.log, "activate", newest=1) == last.k)


def test_answers_that_came_too_late_are_forgotten_in_the_end(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activating, "LONG_AGO", 2)
    version = site.publish(1)
    names = [activating.answer_name(deployment, 2, "late.one") for deployment in ("main", "main.b")]
    for name in names:
        site.log.post(name, b"no answer that we know")
    activate(site.log, site.registry, site.private, version, "ann")
    assert sorted(site.log.posts("staged.")) == names[1:], "this deployment's, at the place of our own `prepare`"
    site.log.post(names[0], b"{}")
    activate(site.log, site.registry, site.private, version, "ann")
    assert len(site.log.posts("staged.")) == 2, "somebody may wait for it"
    activate(site.log, site.registry, site.private, version, "ann")
    assert sorted(site.log.posts("staged.")) == names[1:]


def test_a_log_that_is_trimmed_while_it_is_replayed_is_no_proof(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    activate(site.log, site.registry, site.private, site.publish(1), "ann")
    site.send(ticks(500))
    epoch = site.log.claim(0, "one", site.log.ownership(0))
    assert epoch
    step = app.run

    def trimming(*args: Any) -> None:
        step(*args)
        site.log.trim(0, epoch, site.log.extent(0).last, 10**6)

    monkeypatch.setattr(replaying, "run", trimming)
    with pytest.raises(TocsinError, match="trimmed"):
        replay_log(site.log, site.registry, FeatureSet.default())


# ---- (j) room in the log

def filled_log(site: Site, n: int) -> tuple[int, list[Cursor]]:
    """n records in partition 1 that its owner has done with; the owner's epoch, and where they stand."""
    epoch = site.log.claim(1, "one", site.log.ownership(1))
    assert epoch
    cursors = site.log.append(1, [b"x" * 100] * n)
    site.log.publish(1, epoch, [], msgspec.msgpack.encode({"cursor": cursors[-1]}))
    site.log.settle()
    return epoch, cursors


def keeping(site: Site, epoch: int, keep_bytes: int, said: list[str]) -> Housekeeper:
    controls = read_controls(site.log, site.registry.public_key())
    parts: Any = {1: SimpleNamespace(epoch=epoch, followed={}, upto=(0, 0))}
    return Housekeeper(site.log, controls, Staging(lambda *name: None), parts, "one", 2 * keep_bytes, said.append)


@pytest.mark.parametrize("at", [0, 550])
def test_who_keeps_the_log_from_being_trimmed_is_named(site: Site, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "SLOW_NS", 0)
    epoch, cursors = filled_log(site, 1000)
    site.log.post("hold.recorder.dead", retention.hold({1: cursors[at] if at else (0, 0)}))
    said: list[str] = []
    keeper = keeping(site, epoch, 20_000, said)
    for _ in range(5):
        keeper.work()
    assert keeper.over == {1: "hold.recorder.dead"}
    assert len(said) == 1
    assert "can't be trimmed: hold.recorder.dead" in said[0]
    assert max(at - 100, 0) <= 1000 - site.log.extent(1).kept <= at
    for name in site.log.posts("hold."):
        site.log.unpost(name)
    keeper.work()
    assert list(site.log.posts("hold.")) == ["hold.engine.main.1"], "who lives takes its own again"
    assert keeper.over == {}
    assert site.log.extent(1).bytes < 30_000


def test_no_tick_goes_for_signals_that_should(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """More was published about forgotten ticks than goes at once: it counts until it is gone, so it goes first."""
    monkeypatch.setattr(redis_transport, "SWEEP", 200)
    epoch, cursors = filled_log(site, 1000)
    for n in range(0, 1000, 100):
        about = [Position(cursor, ordinal) for cursor in cursors[n:n + 100] for ordinal in range(5)]
        site.log.publish(1, epoch, [Record(Topic.SIGNALS, position, b"s" * 100) for position in about])
    site.log.settle()
    keep = int(site.log.extent(1).bytes * 0.7)
    keeper = keeping(site, epoch, keep, [])
    for _ in range(30):                                        # without waiting: there is more to do each time
        keeper.work()
    assert site.log.extent(1).bytes < 1.05 * keep
    assert site.log.extent(1).kept > 650, "seven tenths of it fit"


def test_a_flood_of_rejects_pushes_no_tick_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    epoch, cursors = filled_log(site, 1000)
    whole = site.log.extent(1).bytes
    for n in range(0, 1000, 100):
        about = [Position(cursor, ordinal) for cursor in cursors[n:n + 100] for ordinal in range(5)]
        site.log.publish(1, epoch, [Record(Topic.REJECTS, position, b"r" * 200) for position in about])
    site.log.settle()
    assert site.log.extent(1).rejects_bytes > 2 * whole
    said: list[str] = []
    keeper = keeping(site, epoch, int(1.4 * whole), said)
    for _ in range(30):
        keeper.work()
    assert site.log.extent(1).kept == 1000
    assert site.log.extent(1).bytes < 1.45 * whole
    assert keeper.rejects_trimmed[1] == 5000 - site.log.extent(1).rejects
    assert len(said) == 1
    assert "the oldest are forgotten" in said[0]
    assert site.log.published(1, Topic.REJECTS, NOWHERE, 10**6)[-1][0] == Position(cursors[-1], 4)


def test_feeds_are_told_the_owners_quota(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "SLOW_NS", 0)
    epoch, _ = filled_log(site, 1000)
    keeper = keeping(site, epoch, 20_000, [])
    keeper.work()
    assert site.log.extent(1).quota == 40_000
    site.log.limit(1, 90_000)                                  # another deployment keeps more
    keeper.work()
    assert site.log.extent(1).quota == 90_000
    site.log.limit(1, 9)
    keeper.work()
    assert keeper.refused(1), "as it was found"
    assert site.log.extent(1).quota == 40_000
    keeper.work()
    assert not keeper.refused(1)
