"""What an operator sees from outside: a running pipeline of 500 symbols, asked over HTTP."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from engine import clock, pipeline
from engine.errors import EXIT_USAGE, TocsinError, UsageError
from engine.feeds.send import Pace, send
from engine.housekeeping import Housekeeper
from engine.inbox import Granted, Inbox
from engine.instruments import Instrument
from engine.partition.checkpoint import Checkpoints
from engine.partition.state import Partition
from engine.partition.takeover import take_over
from engine.registry import signing
from engine.registry.controls import Controls
from engine.registry.staging import Staging
from engine.replay import FixedBundle
from engine.transports.base import Topic
from engine.transports.memory import MemoryLog
from engine.types import NOWHERE, Kind, TickBatch
from engine.watch import http as exporter
from engine.watch.health import Verdict
from engine.watch.metrics import EngineCollector, registry
from engine.watch.observer import Observer
from engine.watch.status import Status
from engine.watch.supervise import Loop
from engine.workers.inline import InlineWorkers
from tests.made import START, speaking_bundle

PARTITIONS, SYMBOLS, WARM = 4, 500, 100
MINUTE = 60_000_000_000


def market() -> TickBatch:
    """500 symbols: the first 100 have ticks for 70 minutes, enough to be warm, the others only at the end."""
    rng = np.random.default_rng(3)
    rounds = [np.arange(WARM)] * 140 + [np.arange(SYMBOLS)] * 2
    sid = np.concatenate(rounds)
    ts = START + np.concatenate([n * MINUTE // 2 + symbols * 1_000_000 for n, symbols in enumerate(rounds)])
    bid = 100_000 + rng.integers(0, 300, sid.size)
    return TickBatch([Instrument(f"S{n:03}") for n in range(SYMBOLS)], sid=sid, ts=ts, bid=bid, ask=bid + 3)


class Engine:
    """The pipeline in a thread of its own and what watches it, as an engine puts them together."""

    def __init__(self, folder: Path) -> None:
        signing.generate(folder)
        self.log = MemoryLog(PARTITIONS)
        self.seen = Observer()
        self.parts: dict[int, Partition] = {}
        self.staged = True
        self.ends = False
        bundle = speaking_bundle("tick", "7")
        workers, checkpoints, follower = InlineWorkers(), Checkpoints(self.log, clock.monotonic_ns), FixedBundle(bundle)
        keeper = Housekeeper(
            self.log, Controls(self.log, signing.load_public(folder / "public.pem")), Staging(lambda *name: bundle),
            self.parts, "me", 10**9, lambda text: None,
        )
        self.housekeeping = Loop("housekeeping", self.keep, 0.02)
        self.keeper = keeper
        inbox = Inbox(self.log, workers, "me", stop=self.stop, staged=lambda partition, entry: self.staged)

        def granted(event: Granted) -> Partition:
            part = take_over(
                event.partition, event.epoch, self.log, checkpoints, follower.load, lambda number: None
            )
            inbox.seek(part.number, part.upto)
            return part

        self.thread = threading.Thread(
            target=pipeline.run, args=(inbox, self.log, workers, checkpoints, follower, granted, self.parts, self.seen, 256)
        )
        self.status = Status("me", self.log, self.seen, self.parts, inbox, keeper, [self.housekeeping])
        metrics = registry(EngineCollector(self.status))
        served = exporter.serve("127.0.0.1:0", "engine", metrics, self.status.health, self.status.ready)
        assert served
        self.served = served
        self.broken = ""

    def keep(self) -> None:
        if self.broken:
            raise OSError(self.broken)
        self.keeper._next_slow = 0
        self.keeper.work()

    def stop(self) -> bool:
        self.seen.turned()
        return self.ends

    def activate(self) -> None:
        payload = json.dumps({"body": {"version": "7"}}).encode()
        for partition in range(PARTITIONS):
            self.log.append(partition, [payload], Kind.CONTROL)

    def start(self) -> None:
        self.thread.start()
        self.housekeeping.start()

    def end(self) -> None:
        self.ends = True
        self.housekeeping.stop()
        if self.thread.is_alive():
            self.thread.join(20)
        self.served.close()
        assert not self.thread.is_alive()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path)
    yield engine
    engine.end()


def get(url: str, **headers: str) -> tuple[int, Any, bytes]:
    try:
        with urlopen(Request(url, headers=headers), timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def asked(engine: Engine, path: str) -> tuple[int, dict[str, Any]]:
    status, headers, body = get(engine.served.url + path)
    assert headers["Content-Type"] == "application/json"
    return status, json.loads(body)


def scrape(engine: Engine) -> list[Any]:
    status, _, body = get(engine.served.url + "/metrics")
    assert status == 200
    return list(text_string_to_metric_families(body.decode()))


def values(families: list[Any], name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in families for sample in family.samples if sample.name == name
    }


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_scrape_while_ticks_flow(engine: Engine) -> None:
    """Counters never fall; at the end everything adds up with what was published."""
    ticks = market()
    engine.start()
    engine.activate()
    before: dict[tuple[str, tuple[str, ...]], float] = {}
    for at in range(0, len(ticks), 3000):
        send(engine.log, ticks[at:at + 3000], Pace(), 100, lambda: False)
        now = {
            (sample.name, tuple(sample.labels.items())): sample.value for family in scrape(engine)
            if family.type in ("counter", "histogram") for sample in family.samples
        }
        assert all(now.get(key, -1.0) >= value for key, value in before.items())
        before = now
    late = ticks[:5]
    send(engine.log, late, Pace(), 100, lambda: False)
    everything = len(ticks) + len(late)
    until(lambda: sum(engine.seen.verdicts().values()) == everything and engine.seen.decisions.sum() == len(ticks))
    until(lambda: all(work.lag_records == 0 for work in engine.status.work()))

    found = scrape(engine)
    assert values(found, "tocsin_ticks_total") == {
        ("taken",): len(ticks), ("late",): 5, ("duplicate",): 0, ("crossed",): 0, ("future",): 0,
    }
    published = sum(len(engine.log.published(p, Topic.SIGNALS, NOWHERE, 10**9)) for p in range(PARTITIONS))
    assert published == len(ticks)
    assert sum(values(found, "tocsin_decisions_total").values()) == published
    assert values(found, "tocsin_decisions_total")["warmup", "neutral"] > 0
    assert values(found, "tocsin_tick_to_signal_seconds_count")[()] == published
    assert values(found, "tocsin_rejects_total")["late",] == 5
    ages = values(found, "tocsin_last_tick_age_seconds")
    assert len(ages) == SYMBOLS
    assert all(0 <= age < 60 for age in ages.values())
    assert values(found, "tocsin_warm_share")[()] == pytest.approx(WARM / SYMBOLS)
    for number in range(PARTITIONS):
        assert values(found, "tocsin_partition_owned")[str(number),] == 1
        assert values(found, "tocsin_swaps_total")[str(number),] == 1
        assert values(found, "tocsin_lag_seconds")[str(number),] == 0
        assert ("1", str(number), "7") in values(found, "tocsin_bundle_info")
        assert values(found, "tocsin_log_bytes")[str(number),] > 0
    assert values(found, "process_resident_memory_bytes")[()] > 10**6
    for family in found:
        if family.type == "histogram":
            assert all("symbol" not in sample.labels for sample in family.samples)
    status, told = asked(engine, "/readyz")
    assert (status, told["ready"], told["warm_share"]) == (200, True, pytest.approx(WARM / SYMBOLS))


def test_why_it_is_not_ready(engine: Engine) -> None:
    """In the order a new deployment meets them."""
    def reason() -> str:
        status, told = asked(engine, "/readyz")
        assert (status == 200) == told["ready"]
        return str(told["reason"])

    ticks = market()
    assert asked(engine, "/healthz") == (200, {"healthy": True, "reason": "starting"})
    assert reason() == "starting"
    engine.start()
    until(lambda: reason() == "no bundle")
    assert asked(engine, "/healthz")[1]["reason"] == "running"
    engine.staged = False
    engine.activate()
    until(lambda: reason() == "paused: partition 0, 1, 2, 3 waits for bundle 7")
    engine.staged = True
    until(lambda: reason() == "ready")
    send(engine.log, ticks[:1000], Pace(), 100, lambda: False)
    until(lambda: reason() == "warming")
    send(engine.log, ticks[1000:], Pace(), 100, lambda: False)
    until(lambda: reason() == "ready")


def test_a_dead_loop_is_seen_from_outside(engine: Engine) -> None:
    engine.activate()
    engine.start()
    until(lambda: asked(engine, "/readyz")[0] == 200)
    engine.broken = "no room"
    until(lambda: asked(engine, "/healthz")[0] == 503)
    told = {"healthy": False, "reason": "a loop died", "loops": ["housekeeping: OSError: no room"]}
    assert asked(engine, "/healthz") == (503, told)
    assert asked(engine, "/readyz")[1]["reason"] == "a loop died"
    with pytest.raises(TocsinError, match="the housekeeping loop died: OSError: no room"):
        engine.housekeeping.check()


# ---- the server itself


def test_formats_and_paths(engine: Engine) -> None:
    url = engine.served.url
    status, headers, body = get(url + "/metrics?anything=1", Accept="application/openmetrics-text; version=1.0.0")
    assert status == 200
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert any(family.name == "tocsin_ticks" for family in openmetrics.text_string_to_metric_families(body.decode()))
    _, headers, body = get(url + "/metrics", **{"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip"
    assert b"tocsin_ticks_total" in gzip.decompress(body)
    assert get(url + "/elsewhere")[::2] == (404, b"/metrics /healthz /readyz\n")
    assert get(url + "/")[0] == 404
    host, port = url.removeprefix("http://").split(":")
    for method, expected in (("HEAD", b"200"), ("POST", b"501"), ("DELETE", b"501")):
        with socket.create_connection((host, int(port)), timeout=10) as connection, connection.makefile("rb") as answer:
            connection.sendall(f"{method} /healthz HTTP/1.0\r\n\r\n".encode())
            head, _, body = answer.read().partition(b"\r\n\r\n")
            assert head.split()[1] == expected
            assert method != "HEAD" or body == b""


def test_clients_that_say_nothing_keep_nobody_out_for_long(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter._Handler, "timeout", 1.0)
    host, port = engine.served.url.removeprefix("http://").split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(exporter.MOST)]
    until(lambda: not answers(engine))
    until(lambda: answers(engine))
    for connection in silent:
        connection.close()


def answers(engine: Engine) -> bool:
    try:
        return get(engine.served.url + "/healthz")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def nothing() -> Verdict:
    return Verdict(True, "", {})


def test_where_it_listens(engine: Engine) -> None:
    metrics = registry(EngineCollector(engine.status))
    assert exporter.serve("", "engine", metrics, nothing, nothing) is None
    taken = engine.served.url.removeprefix("http://")
    for listen in (taken, "9464", "nowhere.invalid:1", "127.0.0.1:99999", "127.0.0.1:x", "::1:80"):
        with pytest.raises(UsageError) as raised:
            exporter.serve(listen, "engine", metrics, nothing, nothing)
        assert (raised.value.code, raised.value.exit) == ("listen", EXIT_USAGE)
        assert "TOCSIN_ENGINE_LISTEN" in raised.value.hint
        assert listen in str(raised.value)


def test_an_engine_that_fails_to_answer_is_not_taken_for_well(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    engine.status.seen = None  # type: ignore[assignment]
    with pytest.raises(http.client.HTTPException):
        urlopen(engine.served.url + "/metrics", timeout=5)
    until(lambda: "an answer failed: AttributeError" in caplog.text)


def test_a_record_with_no_ticks_is_no_trouble(engine: Engine) -> None:
    engine.log.append(0, [b"garbage"])
    engine.start()
    until(lambda: values(scrape(engine), "tocsin_rejects_total")["malformed",] == 1)

