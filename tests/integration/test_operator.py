"""The operator's verbs while engines run: pause and resume, back to the bundle before, what happened, why, what was refused."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import msgspec
import pytest

from engine.cli import main
from engine.features import FeatureSet
from engine.instruments import Instruments
from engine.manifest import Policy
from engine.partition import checkpoint
from engine.partitioner import partition_of
from engine.registry import Registry
from engine.registry.activate import activate
from engine.registry.controls import read_controls
from engine.registry.rollout import PolicyRules, Settings
from engine.replay import replay_log
from engine.transports.base import Topic
from engine.types import NOWHERE, Kind
from engine.why import decisions, margin_of, why
from engine.wire.records import canonical_order
from tests.engines import Running, Site, ticks, wait_for
from trainers.lake import Lake
from trainers.recorder import Recorder

Tocsin = Callable[..., Any]
"""A verb with --json: its answer, or, where another code than 0 is expected, what it says on stderr."""


@pytest.fixture
def site(tmp_path: Path, redis_dir: Path) -> Iterator[Site]:
    site = Site(tmp_path, redis_dir)
    yield site
    site.close()


@pytest.fixture
def tocsin(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Tocsin:
    def call(*argv: str, code: int = 0, lines: bool = False) -> Any:
        capsys.readouterr()
        done = main([*argv, "--home", str(tmp_path), "--transport", site.url, "--json"])
        out, err = capsys.readouterr()
        assert done == code, err
        if code:
            return err
        return [json.loads(line) for line in out.splitlines()] if lines else json.loads(out)

    return call


def assert_replays_equal(site: Site) -> None:
    done = replay_log(site.log, site.registry, FeatureSet.default())
    assert canonical_order(done.signals) == canonical_order(site.published())


def paused_between(site: Site, symbol: str) -> list[bool]:
    """Of the symbol's decisions in log order, which were held back by a pause."""
    found = sorted((key, s) for key, s in site.signals().items() if s.symbol == symbol)
    return [signal.reason == "paused" for _, signal in found]


# ---- pause, resume

def test_a_pause_holds_from_its_place_on_through_restarts_and_in_a_replay(
    site: Site, tocsin: Tocsin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_TICKS", 20)
    activate(site.log, site.registry, site.private, site.publish(1), "ann")
    moving = ticks(1200)
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    with Running(site.config(engine__listen=listen)):
        site.send(moving[:600])
        first = tocsin("pause", "MADE0", "MADE[45]", "--comment", "news")
        assert first["paused"] == ["MADE0", "MADE[45]"]
        site.send(moving[600:800])
        wait_for(lambda: len(site.published()) == 800)
        with urlopen(f"http://{listen}/readyz", timeout=10) as answer:
            told = json.loads(answer.read())
            assert answer.status == 200
        assert {p: (part["paused"], part["paused_symbols"]) for p, part in told["partitions"].items()} == {
            "0": (["MADE0", "MADE[45]"], 1), "1": (["MADE0", "MADE[45]"], 1),
        }
        with urlopen(f"http://{listen}/metrics", timeout=10) as answer:
            metrics = answer.read().decode()
        assert 'tocsin_paused_symbols{partition="1"} 1.0' in metrics
        held = sum(signal.reason == "paused" for signal in site.signals().values())
        assert f'tocsin_decisions_total{{reason="paused",side="neutral"}} {float(held)}' in metrics
    site.send(moving[800:900])
    second = tocsin("resume", "MADE[45]")
    assert second["paused"] == ["MADE0"]
    site.send(moving[900:1000])
    with Running(site.config()):
        wait_for(lambda: len(site.published()) == 1000)
        third = tocsin("resume")
        assert third["paused"] == []
        site.send(moving[1000:])
        wait_for(lambda: len(site.published()) == 1200)

    places = {p: [site.copies(p, k["k"])[0] for k in (first, second, third)] for p in range(site.log.partitions)}
    for (partition, position), signal in site.signals().items():
        begin, middle, end = places[partition]
        paused = begin < position.cursor < (end if signal.symbol == "MADE0" else middle)
        paused &= signal.symbol in ("MADE0", "MADE4")
        assert (signal.reason == "paused") == paused, (partition, position, signal.symbol)
        assert not paused or signal.side == "neutral"
    assert sum(paused_between(site, "MADE0")) > 30
    assert sum(paused_between(site, "MADE4")) > 15
    assert sum(paused_between(site, "MADE1")) == 0
    assert_replays_equal(site)


def test_the_recorder_passes_over_pauses(site: Site, tocsin: Tocsin, tmp_path: Path) -> None:
    site.send(ticks(100))
    tocsin("pause")
    site.send(ticks(200)[100:])
    tocsin("resume")
    recorder = Recorder(site.log, tmp_path / "lake", read_controls(site.log, site.registry.public_key()), 1e12)
    recorder.take(site.log.read(recorder.cursors, 1000))
    recorder.commit()
    assert [part.followed for part in recorder.writer.commit.parts] == [{"pause": 3}] * 2
    recorder.close()
    assert len(Lake(tmp_path / "lake").read()) == 200


def test_what_isnt_paused_cant_be_resumed_and_nothing_is_written(site: Site, tocsin: Tocsin) -> None:
    assert "not_paused" in tocsin("resume", "MADE0", code=2)
    tocsin("pause")
    assert "tocsin resume '*'" in tocsin("resume", "MADE0", code=2)
    assert "can't be printed" in tocsin("pause", "--comment", "\x1b[31m", code=2)
    assert site.verbs() == ["pause"]
    assert len(site.entries(0)) == len(site.entries(1)) == 1


# ---- back again, and what happened

def test_back_to_the_bundle_before_and_one_further_back(site: Site, tocsin: Tocsin) -> None:
    assert "nothing to go back to" in tocsin("models", "rollback", code=5)
    for seed in range(3):
        tocsin("models", "activate", site.publish(seed))
    with Running(site.config()):
        site.send(ticks(100))
        back = tocsin("models", "rollback", "--comment", "3 is too sure")
        assert back["version"] == "2"
        site.send(ticks(200)[100:])
        wait_for(lambda: len(site.published()) == 200)
    for (partition, position), signal in site.signals().items():
        copy = site.copies(partition, back["k"])[0]
        assert signal.bundle == ("2" if position.cursor > copy else "3")
    assert tocsin("models", "rollback")["version"] == "1", "never to the one that was just left"
    assert "bundle 1 is the first" in tocsin("models", "rollback", code=5)
    assert site.registry.aliases()["champion"] == "1"
    history = tocsin("models", "history")
    assert [row["verb"] for row in history] == ["prepare", "activate"] * 5
    assert [row["what"] for row in history if row["verb"] == "activate"] == [f"bundle {v} answers" for v in (1, 2, 3, 2, 1)]
    assert history[7]["comment"] == "3 is too sure"
    assert history[7]["copies"] == back["copies"]
    assert_replays_equal(site)


def test_back_to_a_bundle_that_is_gone_or_another_says_so(site: Site, tocsin: Tocsin) -> None:
    for seed in range(2):
        tocsin("models", "activate", site.publish(seed))
    site.registry.remove("1")
    assert "rollback_gone" in tocsin("models", "rollback", code=5)
    (site.registry.folder / "2").rename(site.registry.folder / "1")
    assert "version_mismatch" in tocsin("models", "rollback", code=5)


def test_history_tells_all_of_it_in_order(site: Site, tocsin: Tocsin) -> None:
    assert tocsin("models", "history") == []
    tocsin("models", "activate", site.publish(1), "--comment", "first")
    tocsin("settings", "set", "policy.cooldown_s=30", "weights.one=2", "--comment", "calmer")
    tocsin("settings", "set", "policy.cooldown_s=", "policy.buy=0.1")
    site.send(ticks(50))
    tocsin("pause", "MADE1")
    tocsin("pause", "MADE2")
    tocsin("resume", "MADE1")
    rows = tocsin("models", "history")
    assert [(row["k"], row["verb"], row["what"]) for row in rows] == [
        (2, "prepare", "have bundle 1 ready"), (3, "activate", "bundle 1 answers"),
        (4, "settings", "policy.cooldown_s = 30.0; weights.one = 2.0"),
        (5, "settings", "policy.buy = 0.1; policy.cooldown_s: the bundle's own again"),
        (6, "pause", "pause MADE1; paused now: MADE1"), (7, "pause", "pause MADE2; paused now: MADE1, MADE2"),
        (8, "resume", "resume MADE1; paused now: MADE2"),
    ]
    assert [row["comment"] for row in rows][:4] == ["first", "first", "calmer", ""]
    assert all(row["at"].startswith("20") and "@" in row["by"] for row in rows)
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
    assert rows[0]["copies"] == {}
    for row in rows[1:]:
        assert row["copies"] == {str(p): site.log.format(site.copies(p, row["k"])[0]) for p in range(2)}


def test_history_of_what_was_trimmed_keeps_who_and_when(site: Site, tocsin: Tocsin) -> None:
    for n in range(3):
        tocsin("pause", f"MADE{n}")
        for partition in range(2):
            site.log.append(partition, [b"x"] * 300)
    epoch = site.log.claim(0, "one", site.log.ownership(0))
    assert epoch
    assert site.log.trim(0, epoch, site.log.extent(0).last, 500).ticks == 500
    rows = tocsin("models", "history")
    assert [sorted(row["copies"]) for row in rows] == [["1"], ["1"], ["0", "1"]]
    assert all(row["at"] for row in rows)


def test_two_bundles_beside_each_other(site: Site, tocsin: Tocsin) -> None:
    one, other = site.publish(1), site.publish(2, Policy(0.3, -0.02, cooldown_s=5.0), Instruments({"MADE0": {"scale": 6}}))
    answer = tocsin("models", "diff", one, other)
    found = {row["what"]: (row["a"], row["b"]) for row in answer["differences"]}
    assert (answer["a"], answer["b"]) == ("1", "2")
    assert found["policy.buy"] == (0.02, 0.3)
    assert found["policy.cooldown_s"] == (0.0, 5.0)
    assert found["instruments.rules.MADE0.scale"] == (None, 6)
    assert not [name for name in found if name.startswith(("golden", "files", "features", "version"))]
    assert tocsin("models", "diff", one, one)["differences"] == []
    assert "takes two versions" in tocsin("models", "diff", one, code=2)
    foreign = site.publish(3, fingerprint="0123456789abcdef")
    told = {row["what"] for row in tocsin("models", "diff", one, foreign)["differences"]}
    assert "features.fingerprint" in told


def test_settings_show_names_what_is_overruled_only(tmp_path: Path, redis_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = {f"S{n}": {"scale": 3} for n in range(50)}
    site = Site(tmp_path, redis_dir, Instruments(rules))
    try:
        here = ["--home", str(tmp_path), "--transport", site.url]
        assert main(["settings", "show", "--json", *here]) == 0
        assert json.loads(capsys.readouterr().out) == {"settings": {}, "newest": None}
        other = {**rules, "S7": {"scale": 5}}
        site.change(Settings(PolicyRules(buy=0.25), instruments=Instruments(other).to_dict()))
        assert main(["settings", "show", "--json", *here]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["settings"]["policy"] == {"buy": 0.25}
        assert list(told["settings"]["instruments"]) == ["S7"]
        assert (told["newest"]["k"], told["newest"]["by"]) == (2, "ann")
        assert main(["settings", "show", *here]) == 0
        said = capsys.readouterr().out
        assert "control record 2, by ann, 20" in said
        assert "S7" in said
        assert "S8" not in said
    finally:
        site.close()


# ---- why

def told_reasons(site: Site, tocsin: Tocsin) -> dict[str, dict[str, Any]]:
    """By reason what `why` says of the newest decision of it."""
    newest = {s.reason: (s.symbol, s.ts) for _, s in sorted(site.signals().items(), key=lambda item: item[1].ts)}
    return {reason: tocsin("why", symbol, "--at", str(ts)) for reason, (symbol, ts) in newest.items()}


def test_why_puts_a_decision_beside_what_held_there(site: Site, tocsin: Tocsin) -> None:
    version = site.publish(1, Policy(0.02, -0.02))
    activate(site.log, site.registry, site.private, version, "ann", "first one")
    moving = ticks(1400)
    with Running(site.config()):
        site.send(moving[:800])
        tocsin("settings", "set", "policy.cooldown_s=7200", "policy.buy=0.03", "policy.max_spread=2", "weights.one=3",
               "--comment", "calmer")
        site.send(moving[800:1300])
        tocsin("pause", "MADE3", "--comment", "news")
        site.send(moving[1300:])
        wait_for(lambda: len(site.published()) == 1400)
        told = told_reasons(site, tocsin)
        quiet = tocsin("why", "MADE3")
    signals = {s.id: s for s in site.signals().values()}
    assert {"decided", "threshold", "cooldown", "warmup", "paused", "spread"} <= told.keys()
    for reason, answer in told.items():
        decision = answer["decision"]
        signal = signals[decision["id"]]
        assert (decision["reason"], decision["side"], decision["bundle"]) == (reason, signal.side, version)
        assert decision["margin"] == margin_of(signal)
        assert set(decision["votes"]) == {"one", "two"}
        assert decision["licence"] == "shut"
        assert decision["licence_because"]
        settled = reason != "warmup"
        assert answer["thresholds"]["buy"] == (0.03 if settled else 0.02)
        assert answer["thresholds"]["cooldown_s"] == (7200 if settled else 0)
        assert [vote["weight"] for vote in decision["votes"].values()] == pytest.approx(
            [3 / 3.5, 0.5 / 3.5] if settled else [0.5, 0.5])
        assert answer["by"]["bundle"] == {"k": 3, "by": "ann", "comment": "first one"}
        assert (answer["by"]["settings"] or {}).get("comment") == ("calmer" if settled else None)
    assert quiet["decision"]["reason"] == "paused"
    assert "control record 5" in quiet["because"]
    assert quiet["because"].endswith(": news")
    assert "between the thresholds -0.02 and +0.03" in told["threshold"]["because"]
    assert told["decided"]["because"].endswith(told["decided"]["decision"]["side"])
    assert "2 times its mean" in told["spread"]["because"]
    assert "minute bars" in told["warmup"]["because"] or "next checkpoint" in told["warmup"]["because"]
    assert_cooldown(site, told["cooldown"])


def assert_cooldown(site: Site, answer: dict[str, Any]) -> None:
    """Until when is what the policy itself counts: from the first of the last run of a side."""
    symbol, ts = answer["symbol"], answer["decision"]["ts"]
    since, held = 0, "neutral"
    for _, signal in sorted(site.signals().items()):
        if signal.symbol == symbol and signal.ts < ts:
            if signal.side != held and signal.side != "neutral":
                since = signal.ts
            held = signal.side
    from engine.wire.stamps import ns_to_rfc3339

    assert f"not before {ns_to_rfc3339(since + 7200 * 10**9)}" in answer["because"]


def test_decisions_are_gone_through_backwards_over_pages(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    import engine.why as whys

    monkeypatch.setattr(whys, "PAGE", 7)
    activate(site.log, site.registry, site.private, site.publish(1), "ann")
    with Running(site.config()):
        site.send(ticks(300))
        wait_for(lambda: len(site.published()) == 300)
    found = [f.signal for f in decisions(site.log, 1, "MADE1", None)]
    expected = [s for (p, _), s in sorted(site.signals().items()) if s.symbol == "MADE1"]
    assert found == expected[::-1]
    at = expected[10].ts
    answer = why(site.log, site.registry, "MADE1", at)
    assert answer["decision"]["ts"] == at
    early = why(site.log, site.registry, "MADE1", expected[0].ts - 1)
    assert early["decision"] is None
    assert "there are later ones" in early["because"]


def test_why_not(site: Site, tocsin: Tocsin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step by step towards a first decision, each missing one is named."""
    monkeypatch.setattr(checkpoint, "EVERY_NS", 0)
    assert "symbol_unknown" in tocsin("why", "MADE0", code=3)
    site.send(ticks(50))
    assert "no engine ever owned" in tocsin("why", "MADE0")["because"]
    with Running(site.config()):
        wait_for(lambda: all(site.log.checkpoints(p) for p in range(2)))
        assert "no bundle answers" in tocsin("why", "MADE0")["because"]
        bad = {"symbol": "MADE0", "ts": 5, "bid": 1.0, "ask": 0.9}
        partition = partition_of("MADE0", 2)
        site.log.append(partition, [json.dumps(bad).encode()] * 2)
        site.log.append(partition, [json.dumps({**bad, "symbol": "NEVER", "bid": -1}).encode()])
        wait_for(lambda: len(site.log.published(partition, Topic.REJECTS, NOWHERE, 10)) == 3)
        answer = tocsin("why", "MADE0")
        assert answer["refused"] == {"crossed": 2}
        never = tocsin("why", "NEVER")
        assert (never["refused"], never["last_refused"]["code"]) == ({"price": 1}, "price")
        assert "all were refused" in never["because"]
        assert "tocsin" in never["last_refused"]["advice"]
    activate(site.log, site.registry, site.private, site.publish(1), "ann")
    assert "isn't alive" in tocsin("why", "MADE0")["because"]
    with Running(site.config()):
        wait_for(lambda: all(_followed(site, p) for p in range(2)))
        assert "its moment to be asked" in tocsin("why", "MADE0")["because"]
    assert "symbol_unknown" in tocsin("why", "NOBODY", code=3)


def _followed(site: Site, partition: int) -> bool:
    newest = site.log.checkpoints(partition)[:1]
    return bool(newest) and "activate" in msgspec.msgpack.decode(newest[0])["followed"]


def test_why_without_key_or_registry_says_what_it_can(site: Site, tmp_path: Path) -> None:
    activate(site.log, site.registry, site.private, site.publish(1), "ann")
    with Running(site.config()):
        site.send(ticks(700))
        wait_for(lambda: len(site.published()) == 700)
    answer = why(site.log, Registry(tmp_path / "none", tmp_path / "no.pem"), "MADE1")
    assert answer["thresholds"] is None
    assert "aren't known here" in answer["because"]
    assert answer["decision"]["margin"] == margin_of(next(decisions(site.log, 1, "MADE1", None)).signal)


@pytest.mark.parametrize("n", [20, 150])
def test_how_much_of_the_windows_is_missing(site: Site, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many minute bars as must still close: a minute without a tick makes none."""
    monkeypatch.setattr(checkpoint, "EVERY_NS", 0)
    activate(site.log, site.registry, site.private, site.publish(1), "ann")
    moving = ticks(n)
    with Running(site.config()):
        site.send(moving)
        wait_for(lambda: len(site.published()) == n and all(
            checkpoint.oldest_cursor(site.log.checkpoints(p)[:1]) == site.log.extent(p).last for p in range(2)))
    mine = moving.ts[moving.sid == moving.symbols.index("MADE1")] // 60_000_000_000
    answer = why(site.log, site.registry, "MADE1")
    assert answer["decision"]["reason"] == "warmup"
    assert f" {52 - len(set(mine.tolist()))} more minute bars" in answer["because"]


# ---- rejects

def refused_ticks(site: Site) -> None:
    """In partition 1: a price too fine, one twice, a broken line, bytes, a forged control record."""
    fine = b'{"symbol":"MADE0","ts":1714953600000000000,"bid":1.1000001,"ask":1.2}'
    site.log.append(1, [fine, fine, b'{"symbol":"MADE0"', b"\xff\x00"])
    site.log.append(1, [b'{"forged":1}'], Kind.CONTROL)


def test_rejects_are_listed_shown_and_put_back(
    site: Site, tocsin: Tocsin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Running(site.config()):
        refused_ticks(site)
        wait_for(lambda: len(site.log.published(1, Topic.REJECTS, NOWHERE, 10)) == 5)
        rows = tocsin("rejects", "list", lines=True)
        assert [(row["code"], row["symbol"]) for row in rows] == [
            ("scale", "MADE0"), ("scale", "MADE0"), ("malformed", None), ("malformed", None), ("control", None),
        ]
        assert rows[3]["encoding"] == "base64"
        assert len(tocsin("rejects", "list", "--code", "scale", lines=True)) == 2
        assert len(tocsin("rejects", "list", "--symbol", "MADE0", "--code", "malformed", lines=True)) == 0
        shown = tocsin("rejects", "show", rows[0]["position"])
        assert (shown["code"], shown["payload"]) == ("scale", rows[0]["payload"])
        assert "finer" in shown["wrong"]
        assert "requeue" in shown["advice"]
        assert shown["came"].startswith("20")
        assert main(["rejects", "show", rows[3]["position"], "--home", str(tmp_path), "--transport", site.url]) == 0
        assert "ff00" in capsys.readouterr().out
        assert "no_reject" in tocsin("rejects", "show", "1:1-1:0", code=3)
        assert "no_reject" in tocsin("rejects", "show", "7:1-1:0", code=3)
        assert "position" in tocsin("rejects", "show", "nonsense", code=2)
        assert "rejects_code" in tocsin("rejects", "list", "--code", "green", code=2)

        appended = site.log.extent(1).appended
        assert "requeue_control" in tocsin("rejects", "requeue", rows[4]["position"], rows[0]["position"], code=3)
        assert "requeue_control" in tocsin("rejects", "requeue", "--code", "control", code=3)
        dry = tocsin("rejects", "requeue", "--code", "scale", "--dry-run")
        assert (dry["requeued"], len(dry["records"])) == (0, 2)
        assert site.log.extent(1).appended == appended, "nothing was put back"

        site.change(Settings(instruments=Instruments({"MADE0": {"scale": 7}}).to_dict()))
        done = tocsin("rejects", "requeue", rows[0]["position"], rows[3]["position"])
        assert done["requeued"] == 2
        assert site.entries(1)[-2].payload.decode() == rows[0]["payload"]
        assert (site.entries(1)[-1].payload, site.entries(1)[-1].kind) == (b"\xff\x00", Kind.TICKS)
        wait_for(lambda: len(site.log.published(1, Topic.REJECTS, NOWHERE, 10)) == 6, "judged anew: one is taken now")
        assert [row["code"] for row in tocsin("rejects", "list", lines=True)].count("malformed") == 3
        again = tocsin("rejects", "requeue", "--code", "scale", "--from", rows[1]["position"])
        assert [record["position"] for record in again["records"]] == [rows[1]["position"]]
        cursor = rows[0]["position"].split(":")[1]
        upto = tocsin("rejects", "requeue", "--code", "scale", "--to", cursor, "--dry-run")
        assert [record["position"] for record in upto["records"]] == [rows[0]["position"]]
        none = tocsin("rejects", "requeue", "--code", "scale", "--to", f"0:{cursor}:0", "--dry-run")
        assert none["records"] == [], "of another partition"


@pytest.mark.parametrize("argv", [
    ["rejects", "list", "1:1-1:0"], ["rejects", "show"], ["rejects", "requeue"],
    ["rejects", "requeue", "1:1-1:0", "--code", "late"],
    ["rejects", "requeue", "1:1-1:0", "--from", "5"], ["rejects", "requeue", "--code", "late", "--follow"],
    ["rejects", "requeue", "--code", "late", "--from", "x"],
])
def test_what_cant_be_meant_is_said(site: Site, tocsin: Tocsin, argv: list[str]) -> None:
    assert "→" in tocsin(*argv, code=2)


def test_what_comes_back_goes_to_its_symbols_partition(site: Site, tocsin: Tocsin) -> None:
    """Sent under a name that wasn't an alias then, to that name's own partition."""
    home, other = partition_of("MADE4", 2), partition_of("MADE0", 2)
    assert home != other
    alias = next(name for name in (f"RAW{n}" for n in range(100)) if partition_of(name, 2) == other)
    with Running(site.config()):
        site.change(Settings(instruments=Instruments({"MADE*": {}}, closed=True).to_dict()))
        sent = json.dumps({"symbol": alias, "ts": 1_714_953_600_000_000_000, "bid": 1.1, "ask": 1.2}).encode()
        site.log.append(other, [sent])
        wait_for(lambda: site.log.published(other, Topic.REJECTS, NOWHERE, 10))
        assert tocsin("rejects", "list", lines=True)[0]["code"] == "symbol"
        rules = Instruments({"MADE4": {"aliases": [alias]}, "MADE*": {}}, closed=True)
        site.change(Settings(instruments=rules.to_dict()))
        assert tocsin("rejects", "requeue", "--code", "symbol")["records"][0]["partition"] == home
        assert site.entries(home)[-1].payload == sent
        assert tocsin("rejects", "list", "--code", "symbol", lines=True) != []
