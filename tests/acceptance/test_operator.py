"""The operator's verbs as a user drives them: each once, on a log with an engine at work, as words and as JSON."""

from __future__ import annotations

import json
import time

from tests.acceptance.conftest import Tocsin


def test_an_operators_day(ours: Tocsin) -> None:
    engine = ours.start("run", "engine", "--warm", "first.parquet")
    ours.wait_until_ready(engine)
    ours("models", "activate", "champion", "--comment", "the morning's")
    ours("feed", "files", "second.parquet", "--speed", "max", "--to", _middle(ours))

    # pause and resume
    paused = ours.json("pause", "MADE0", "--comment", "news at half past two")
    assert paused["paused"] == ["MADE0"]
    assert "paused now: MADE0, MADE1" in ours("pause", "MADE1")
    assert "control record" in ours.stderr
    assert ours("resume", "MADE2", code=2) == ""
    assert "[not_paused]" in ours.stderr
    assert ours.json("resume", "MADE1")["paused"] == ["MADE0"]
    ours("feed", "files", "second.parquet", "--speed", "max", "--from", _middle(ours))
    answer = _eventually(ours, "why", "MADE0", wanted="paused")
    assert answer["because"].endswith("news at half past two")
    assert ours("resume") == "paused now: nothing\n"

    # why
    said = ours("why", "MADE0")
    for words in ("neutral (paused)", "news at half past two", "thresholds", "vote of lightgbm", "weight 1", "licence"):
        assert words in said, said
    earlier = ours.json("why", "MADE0", "--at", answer["decision"]["ts"] - 10**12)
    assert earlier["decision"]["ts"] < answer["decision"]["ts"]
    assert ours("why", "NOBODY", code=3) == ""
    assert "[symbol_unknown]" in ours.stderr

    # rejects: the made ticks have flaws
    rows = [json.loads(line) for line in ours("rejects", "list", "--json").splitlines()]
    codes = {row["code"] for row in rows}
    assert {"late", "crossed", "duplicate"} <= codes
    assert "late" in ours("rejects", "list", "--code", "late")
    crossed = next(row for row in rows if row["code"] == "crossed")
    assert "its bid is above its ask" in ours("rejects", "show", crossed["position"])
    assert ours.json("rejects", "requeue", crossed["position"], "--dry-run")["requeued"] == 0
    assert "put back" in _said(ours, "rejects", "requeue", crossed["position"])
    assert ours("rejects", "requeue", "--code", "control", code=3) == ""

    # models: back, history, diff
    assert ours("models", "rollback", code=5) == ""
    assert "[no_rollback]" in ours.stderr
    ours("train", "--ticks", "both.parquet", "--activate", "always", "--transport", "redis+embedded://.tocsin/log")
    back = ours.json("models", "rollback", "--comment", "the first was calmer")
    assert back["version"] == "1"
    history = ours.json("models", "history")
    assert [row["verb"] for row in history] == [
        "prepare", "activate", "pause", "pause", "resume", "resume", "prepare", "activate", "prepare", "activate",
    ]
    assert history[-1]["comment"] == "the first was calmer"
    assert "the first was calmer" in ours("models", "history")
    told = ours.json("models", "diff", "1", "2")
    assert "training.ticks" in {row["what"] for row in told["differences"]}
    assert "training.ticks" in ours("models", "diff", "1", "2")
    ours("settings", "set", "policy.cooldown_s=30", "--comment", "too many turns")
    assert "too many turns" in ours("settings", "show")
    engine.terminate()
    assert engine.wait(30) == 0


def _middle(ours: Tocsin) -> str:
    return str(int((ours.folder / "start").read_text()) + 3600 * 10**9)


def _said(ours: Tocsin, *argv: str) -> str:
    ours(*argv)
    return ours.stderr


def _eventually(ours: Tocsin, *argv: str, wanted: str) -> dict:                # type: ignore[type-arg]
    deadline = time.monotonic() + 60
    while True:
        answer = ours.json(*argv)
        if answer["decision"] and answer["decision"]["reason"] == wanted:
            return dict(answer)
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)
