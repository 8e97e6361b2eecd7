"""The password of a log's server is shown nowhere: not on screen, in no file, to no monitor, to nobody who lists processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from engine import cli
from engine.commands import signals
from engine.config import load
from engine.errors import TransportUnreachable
from engine.hidden import hide
from engine.instruments import Instruments
from engine.registry import signing
from engine.transports import create_log, open_log
from tests.servers import Server

PASSWORD = "hunter2 @:/?#é"
WRITTEN = quote(PASSWORD, safe="")
TELLING = "hunter2"


@pytest.fixture
def locked(host: Server) -> Iterator[Server]:
    """A server whose user ann has the password."""
    with host.admin() as admin:
        admin.execute_command("ACL", "SETUSER", "ann", "on", f">{PASSWORD}", "~*", "+@all")
        create_log(host.url(f"ann:{WRITTEN}"), 1, Instruments()).close()
        admin.execute_command("ACL", "SETUSER", "default", "off")
        yield host


def spoken(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said so far; fails if it tells."""
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert TELLING not in text
    return text


RIGHT = (f"redis://ann:{WRITTEN}@127.0.0.1:PORT", f"redis://127.0.0.1:PORT?username=ann&password={WRITTEN}")
WRONG = (
    f"redis://ann:wrong-{WRITTEN}@127.0.0.1:PORT", f"redis://ann:{PASSWORD}@127.0.0.1:PORT",
    f"redis://ann:{WRITTEN}@127.0.0.1:PORT?nonsense=1", f"redis://ann:{WRITTEN}@[::1:PORT",
    f"redis://ann:{WRITTEN}@127.0.0.1:xPORT", f"nonsense://ann:{WRITTEN}@127.0.0.1:PORT",
    f"rediss://ann:{WRITTEN}@127.0.0.1:PORT?ssl_ca_certs=none&ssl_password={WRITTEN}",
)


@pytest.mark.parametrize("url", [*RIGHT, *WRONG])
def test_no_verb_shows_it(
    locked: Server, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given where it should be, right or wrong, well-formed or not."""
    monkeypatch.setenv("TOCSIN_LOG_TRANSPORT", url.replace("PORT", str(locked.port)))
    for verb in ("config show", "config show --json", "doctor", "doctor --json"):
        assert cli.main([*verb.split(), "--home", str(tmp_path)]) == 0
        assert spoken(capsys)
    for verb in ("log info", "signals --json"):
        assert cli.main([*verb.split(), "--home", str(tmp_path)]) in ((0,) if url in RIGHT else (2, 4))
        assert "should not have happened" not in spoken(capsys)


def test_the_shown_url_still_says_where() -> None:
    assert load(None, {}, {"log.transport": f"redis://ann:{WRITTEN}@host:6379/3"}).shown_url == "redis://ann:***@host:6379/3"
    assert hide("redis://:a@b:c/d@host/0?prefix=x.") == "redis://:***@host/0?prefix=x."
    assert hide("at redis://host:6379 and redis://host:6379/0") == "at redis://host:6379 and redis://host:6379/0"
    assert hide("ERR args 'a b'", ["b c", ""]) == "ERR args 'a b'"
    assert hide("ERR args 'b c' 'b%20c' 'b+c'", ["b c"]) == "ERR args '***' '***' '***'"


def test_a_url_in_the_wrong_place_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"redis://ann:{WRITTEN}@host"
    assert cli.main([url]) == 2
    for wrong in (["signals", url], ["feed", "sim", f"--{url}"], ["log", url]):
        with pytest.raises(SystemExit):
            cli.main(wrong)
    assert "***" in spoken(capsys)


def test_a_trace_file_does_not_hold_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even of an error of ours that repeats the URL."""
    def fails(args: object, config: object) -> int:
        raise RuntimeError(f"redis://ann:{WRITTEN}@host went wrong")

    monkeypatch.setattr(signals, "run", fails)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert cli.main(["signals", "--home", str(tmp_path)]) == 1
    assert "went wrong" in spoken(capsys)
    [trace] = tmp_path.glob("tocsin-*.txt")
    assert "fails" in trace.read_text()
    assert TELLING not in trace.read_text()


def test_a_server_that_repeats_what_it_was_sent_is_not_repeated(executable: str, tmp_path: Path) -> None:
    """One without AUTH answers with the arguments of the command it doesn't know."""
    with Server(executable, tmp_path, "--rename-command", "AUTH", "") as server:
        with pytest.raises(TransportUnreachable, match=r"\[auth\]") as caught:
            open_log(f"redis://ann:{WRITTEN}@127.0.0.1:{server.port}")
        assert "***" in str(caught.value)
        shown = caught.value
        assert TELLING not in f"{shown}{shown.__cause__}"
        assert shown.__suppress_context__


@pytest.mark.parametrize("service", ["engine", "trainer"])
def test_no_service_shows_it_to_monitors_logs_or_ps(locked: Server, tmp_path: Path, service: str) -> None:
    """Nor its children; and the log holds it nowhere."""
    signing.generate(tmp_path / "home/keys")
    log = tmp_path / "stderr"
    environ = os.environ | {
        "TOCSIN_LOG_TRANSPORT": f"redis://ann:{WRITTEN}@127.0.0.1:{locked.port}",
        f"TOCSIN_{service.upper()}_LISTEN": "127.0.0.1:0",
    }
    with open(log, "w") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "engine.cli", "run", service, "--home", str(tmp_path / "home"), "--logs", "json"],
            stderr=err, env=environ,
        )
    try:
        until(lambda: "ready: " in log.read_text() or process.poll() is not None)
        first = psutil.Process(process.pid)
        if service == "trainer":
            until(lambda: first.children())  # the recorder is started after "ready"
        family = (first, *first.children(recursive=True))
        commands = [" ".join(one.cmdline()) for one in family]
        listening = (one for one in first.net_connections("inet") if one.status == psutil.CONN_LISTEN)
        ports = {one.laddr.port for one in listening}
        pages = [page(port, name) for port in ports for name in ("healthz", "readyz", "metrics")]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert f"run {service}" in commands[0]
    assert len(commands) > (service == "trainer")
    assert len(pages) == 3
    for text in (log.read_text(), *commands, *pages):
        assert text
        assert TELLING not in text
    with locked.admin(username="ann", password=PASSWORD) as admin:
        assert TELLING.encode() not in b"".join(admin.dump(key) for key in admin.scan_iter())


def page(port: int, name: str) -> str:
    """What a monitor reads there, with whatever status."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}") as answer:
            return str(answer.read())
    except urllib.error.HTTPError as error:
        return str(error.read())


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)
