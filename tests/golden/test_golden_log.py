"""A whole log, exported once: every later version goes through it again, and says what was said then, byte for byte.

    python -m tests.golden.test_golden_log    writes it anew, after a format was raised or the log's story made longer

Made ticks only. `story` is what happened to it: whatever an operator can do, and whatever an engine can suffer, belongs there.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec
import pytest

from engine.compare import compare, in_place
from engine.export import ExportedLog, export
from engine.features import FeatureSet
from engine.feeds.send import Pace, send
from engine.registry.rollout import Pause, PolicyRules, Resume, Settings
from engine.registry.store import Registry
from engine.replay import Replayed, replay_log
from engine.transports.base import Log, Topic
from engine.types import NOWHERE, Kind
from engine.wire.ticks import encode
from tests.deadly import deadly, lives
from tests.engines import ALL, Running, Site, ticks, wait_for

HERE = Path(__file__).parent / "log"
WARM, FIRST, LAST, ALL_OF_THEM = 500, 560, 620, 680
"""Ticks that fill the windows, those before the second owner, those before engines die, all."""
DEADLY = 640
"""Whoever takes this one dies."""


def story(site: Site) -> None:
    """Frames, then single ticks; two bundles, settings, a pause; late ticks, nonsense and a forged control record; owners that
    come and go, and die of a row; a bundle that is gone before anybody could follow it."""
    moving = ticks(ALL_OF_THEM)
    one, two, gone = site.publish(1), site.publish(2), site.publish(3)
    with Running(site.config(engine__name="first")):
        send(site.log, moving[:WARM], Pace(), 100, lambda: False)
        site.change(site.activation(one))
        site.send(moving[WARM:FIRST])
        site.log.append(0, [b"no tick", b"\xff\x00", encode(moving, moving.sid.tolist().index(4))])
        wait_for(lambda: len(published(site.log, Topic.SIGNALS)) == FIRST - WARM and len(published(site.log, Topic.REJECTS)) == 3)
    with Running(site.config(engine__name="second")):
        site.log.append(1, [b"forged"], Kind.CONTROL)
        site.change(Settings(policy=PolicyRules(cooldown_s=300.0)))
        site.send(moving[FIRST:FIRST + 30])
        site.change(site.activation(two))
        site.send(moving[FIRST + 30:LAST])
        wait_for(lambda: len(published(site.log, Topic.SIGNALS)) == LAST - WARM and len(published(site.log, Topic.REJECTS)) == 4)
    site.change(Pause(["MADE1"]))
    site.send(moving[LAST:DEADLY + 5])
    with pytest.MonkeyPatch.context() as patch:
        deadly(patch, int(moving.ts[DEADLY]))
        lives(site)
    site.change(Resume([]))
    site.change(site.activation(gone))
    site.send(moving[DEADLY + 5:DEADLY + 20])
    site.change(site.activation(one))
    site.send(moving[DEADLY + 20:])
    shutil.rmtree(site.folder / "registry" / gone)
    lives(site)


def published(log: Log, topic: Topic) -> list[bytes]:
    return [record for p in range(log.partitions) for _, record in log.published(p, topic, NOWHERE, ALL)]


def lines(log: Log) -> bytes:
    return b"".join(line + b"\n" for line in export(log, range(log.partitions)))


def golden() -> ExportedLog:
    return ExportedLog(HERE / "log.jsonl")


def replayed() -> Replayed:
    return replay_log(golden(), Registry(HERE / "registry", HERE / "public.pem"), FeatureSet.default())


def said(done: Replayed) -> dict[str, bytes]:
    """By file: what a replay says, but for `timing`."""
    signals = [record.partition(b',"timing":')[0] + b"}" for record in done.signals]
    return {
        f"{name}.jsonl": b"".join(record + b"\n" for record in records)
        for name, records in (("signals", signals), ("rejects", done.rejects))
    }


def test_an_export_of_then_is_written_the_same_now() -> None:
    assert lines(golden()) == (HERE / "log.jsonl").read_bytes()


def test_a_log_of_then_is_replayed_as_it_was_then() -> None:
    for name, content in said(replayed()).items():
        assert content == (HERE / name).read_bytes(), name


def test_a_replay_now_says_what_the_owners_of_then_published() -> None:
    done = replayed()
    for topic, records in ((Topic.SIGNALS, done.signals), (Topic.REJECTS, done.rejects)):
        found = compare(topic, records, published(golden(), topic), in_place)
        assert found.equal, found


def test_it_holds_all_that_happens_to_a_log() -> None:
    log = golden()
    signals = [msgspec.json.decode(record) for record in published(log, Topic.SIGNALS)]
    assert {("1", 1), ("1", 2), ("2", 2)} < {(signal["bundle"], signal["log"]["epoch"]) for signal in signals}
    assert max(signal["log"]["epoch"] for signal in signals) > 5
    assert {signal["bundle"] for signal in signals} == {"1", "2"}
    assert {signal["side"] for signal in signals} == {"buy", "neutral", "sell"}
    assert {"cooldown", "paused"} <= {signal["reason"] for signal in signals}
    assert [msgspec.json.decode(record)["verb"] for _, record in log.controls()] == [
        "activate", "settings", "activate", "pause", "resume", "activate", "activate",
    ]
    codes = [msgspec.json.decode(record)["code"] for record in published(log, Topic.REJECTS)]
    assert sorted(codes) == ["control", "late", "malformed", "malformed", "poison"]
    assert {msgspec.json.decode(note)["note"] for note in published(log, Topic.JOURNAL)} == {"runtime", "skip", "void"}


def write() -> None:
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), Path(folder) / "redis")
        try:
            story(site)
            (HERE / "log.jsonl").write_bytes(lines(site.log))
        finally:
            site.close()
        shutil.copytree(site.registry.folder, HERE / "registry")
        shutil.copy(Path(folder) / "keys/public.pem", HERE / "public.pem")     # nobody signs with the private one again
    for name, content in said(replayed()).items():
        (HERE / name).write_bytes(content)


if __name__ == "__main__":
    write()
