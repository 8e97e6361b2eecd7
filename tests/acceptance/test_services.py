"""What stays up, as an operator meets it: metrics and readiness over HTTP, trainings on demand, deaths with a last line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.conftest import Tocsin
from tests.children import training, workers

HERE = "redis+embedded://.tocsin/log"
PATIENCE_S = 90.0


def wait_for(what: Callable[[], Any], why: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < deadline, why
        time.sleep(0.1)
    return found


def listen(tocsin: Tocsin, who: str) -> str:
    """A free address, given to the engine or the trainer."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    tocsin.environ[f"TOCSIN_{who.upper()}_LISTEN"] = address
    return address


def get(address: str, path: str) -> tuple[int, str]:
    try:
        with urlopen(f"http://{address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as refused:
        return refused.code, refused.read().decode()


def samples(address: str) -> dict[tuple[str, str], float]:
    """By name and the values of the labels."""
    return {
        (sample.name, " ".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(get(address, "/metrics")[1]) for sample in family.samples
    }


def last_line(tocsin: Tocsin, process: subprocess.Popen[bytes]) -> list[str]:
    """What a process said at its end: the error, and what to do."""
    said = (tocsin.folder / f"run-{tocsin.running.index(process)}.log").read_text().splitlines()
    assert not any("Traceback" in line for line in said), said
    return said[-2:]


def test_an_engine_is_watched_over_http(ours: Tocsin) -> None:
    address = listen(ours, "engine")
    engine = ours.start("run", "engine", "--warm", "first.parquet", "--json")
    ours.wait_until_ready(engine)
    assert json.loads(get(address, "/readyz")[1])["reason"] == "no bundle"
    ours("models", "activate", "champion")
    ours("feed", "files", "second.parquet", "--speed", "max")
    wait_for(lambda: sum(v for (name, _), v in samples(address).items() if name == "tocsin_lag_records") == 0
             and samples(address).get(("tocsin_ticks_total", "taken"), 0) > 10_000, "the ticks aren't taken")
    assert get(address, "/healthz")[0] == 200
    status, said = get(address, "/readyz")
    assert (status, json.loads(said)["reason"]) == (200, "ready")
    seen = samples(address)
    signals = len(ours("signals", "--json").splitlines())
    rejects = sum(v for (name, _), v in seen.items() if name == "tocsin_rejects_total")
    assert signals > 100
    assert sum(v for (name, _), v in seen.items() if name == "tocsin_decisions_total") == signals
    assert seen[("tocsin_tick_to_signal_seconds_count", "")] == signals
    assert sum(v for (name, _), v in seen.items() if name == "tocsin_ticks_total") > 19_000
    assert rejects > 10
    assert {where.split()[-1] for name, where in seen if name == "tocsin_bundle_info"} == {"1"}
    assert sum(v for (name, _), v in seen.items() if name == "tocsin_swaps_total") == 4
    engine.terminate()
    assert engine.wait(30) == 0


DYING = """
import sys
from engine import housekeeping
from engine.cli import main

work, rounds = housekeeping.Housekeeper.work, []

def dying(self):
    rounds.append(work(self))
    if len(rounds) == 5:
        raise ZeroDivisionError("a bug")

housekeeping.Housekeeper.work = dying
sys.exit(main(sys.argv[1:]))
"""


def test_a_loop_that_dies_takes_the_engine_with_it(ours: Tocsin) -> None:
    done = subprocess.run(
        [ours.command.parent / "python", "-c", DYING, "run", "engine"], cwd=ours.folder, env=ours.environ,
        capture_output=True, text=True, timeout=120,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    *_, error, hint = done.stderr.splitlines()
    assert error == "tocsin: the housekeeping loop died: ZeroDivisionError: a bug [loop_died]"
    assert hint.startswith("  → ")


def test_trainings_on_demand_and_what_became_of_them(ours: Tocsin) -> None:
    """A signal, a file; a training that is killed; only `keep` bundles stay."""
    address = listen(ours, "trainer")
    ours.environ |= {"TOCSIN_TRAINER_EVERY": "", "TOCSIN_TRAINER_ACTIVATE": "always", "TOCSIN_REGISTRY_KEEP": "2"}
    trainer = ours.start("run", "trainer", "--logs", "json")
    ours.wait_until_ready(trainer)

    os.kill(trainer.pid, signal.SIGUSR1)                       # before there is a tick
    wait_for(lambda: samples(address).get(("tocsin_training_runs_total", "too_little")), "nobody heard the signal")
    assert [row["version"] for row in ours.json("models", "list")] == ["1"]
    assert "the last training that failed" in told(ours)

    ours("feed", "files", "both.parquet", "--speed", "max", "--frame", 500)
    os.kill(trainer.pid, signal.SIGUSR1)
    second = decided(ours, "2")
    assert (second["activated"], second["trigger"], second["rule"]) == (True, "signal", "always")
    assert set(second["copies"]) == {"0", "1", "2", "3"}
    assert {"prior", "champion"} <= set(second["why"].replace(";", " ").split())

    wait_for(lambda: samples(address).get(("tocsin_training_runs_total", "activated")), "it never ends")
    (ours.folder / ".tocsin/train-now").touch()
    child = wait_for(lambda: training(trainer.pid, ours.folder / ".tocsin"), "no training")
    assert not (ours.folder / ".tocsin/train-now").exists()
    child.kill()
    wait_for(lambda: samples(address).get(("tocsin_training_runs_total", "died")), "its death isn't seen")
    assert "SIGKILL" in told(ours)
    assert trainer.poll() is None

    (ours.folder / ".tocsin/train-now").touch()
    third = wait_for(lambda: newest(ours, after=2), "no training after one that died")
    assert decided(ours, third)["trigger"] == "file"
    wait_for(lambda: {row["version"] for row in ours.json("models", "list")} == {"2", third}, "not what [registry] keep says")
    wait_for(lambda: samples(address).get(("tocsin_bundles", "")) == 2, "the metric says otherwise")
    wait_for(lambda: samples(address)[("tocsin_recorder_lag_seconds", "")] == 0, "the recorder lags behind")
    wait_for(lambda: samples(address)[("tocsin_training_runs_total", "activated")] == 2, "it never ends")
    assert samples(address)[("tocsin_training_in_progress", "")] == 0
    assert json.loads(get(address, "/readyz")[1])["reason"] == "running"

    lines = (ours.folder / f"run-{ours.running.index(trainer)}.log").read_text().splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    assert any("training starts (signal)" in event["event"] for event in events)
    assert any(event["level"] == "error" and "SIGKILL" in event["event"] for event in events)
    trainer.terminate()
    assert trainer.wait(30) == 0


def told(tocsin: Tocsin) -> str:
    """Whatever `models list` says beside its table."""
    tocsin("models", "list")
    return tocsin.stderr


def decided(tocsin: Tocsin, version: str) -> Any:
    """What was decided about a bundle, once it was."""
    def found() -> Any:
        listed = [row["version"] for row in tocsin.json("models", "list")]
        return tocsin.json("models", "show", version)["decision"] if version in listed else None

    return wait_for(found, f"nothing was decided about {version}")


def newest(tocsin: Tocsin, after: int) -> str | None:
    versions = [int(row["version"]) for row in tocsin.json("models", "list")]
    return str(max(versions)) if max(versions) > after else None


def test_a_recorder_that_cant_be_kept_alive_ends_the_trainer(ours: Tocsin) -> None:
    trainer = ours.start("run", "trainer")
    ours.wait_until_ready(trainer)
    killed: set[int] = set()

    def alive() -> psutil.Process | None:
        return next((child for child in workers(trainer.pid) if child.pid not in killed), None)

    for _ in range(4):
        child = wait_for(alive, "no recorder")
        killed.add(child.pid)
        child.kill()
    assert trainer.wait(30) == 1
    error, hint = last_line(ours, trainer)
    assert error == "tocsin: the recorder can't be kept alive: its process was killed by SIGKILL [recorder_died]"
    assert "no tick is trimmed" in hint


@pytest.mark.parametrize(("key", "value"), [("every", "tomorrow"), ("listen", "nowhere")])
def test_a_setting_that_makes_no_sense_is_named_at_once(ours: Tocsin, key: str, value: str) -> None:
    ours("run", "trainer", code=2, environ={f"TOCSIN_TRAINER_{key.upper()}": value})
    assert key in ours.stderr
    assert "→" in ours.stderr
