"""A world whose log is in a Redis server of its own, supervised like all others, each process behind a proxy of its own."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import redis

from engine.errors import TransportUnreachable
from engine.feeds.send import Pace, send
from engine.files import write_ticks
from engine.redis_server import redis_executable
from engine.transports import open_log
from engine.types import TickBatch
from tests.chaos.feeder import Course
from tests.chaos.harness import TOCSIN, Failed, Service, World, wait_for
from tests.proxy import Proxy

ROOT = Path(__file__).parents[2]
MOST = 4
"""Engines at a time."""

COMPILER = shutil.which("cc") if sys.platform == "linux" else None
"""For the few lines that put a clock wrong; without it none jumps."""


class RedisWorld(World):
    """Engines e0, e1, …, a trainer service, a feeder, a server, a proxy for each of them. `log` goes past the proxies."""

    def __init__(self, folder: Path, command: Path = TOCSIN, engine: Sequence[str] = (), **settings: str) -> None:
        """engine: the command of one, `tocsin run engine` unless named."""
        self._port = _free_port()
        self._data = folder / "redis"
        self._data.mkdir(parents=True)
        self.server = Service(
            [shutil.which("redis-server") or redis_executable(), "--port", str(self._port), "--bind", "127.0.0.1",
             "--dir", str(self._data), "--save", "", "--appendonly", "yes", "--appendfsync", "everysec",
             "--maxmemory-policy", "noeviction", "--logfile", str(folder / "redis.log")],
            dict(os.environ), folder / "redis.err",
        )
        self.proxies: dict[str, Proxy] = {}
        try:
            wait_for("the server", self.answers, 20.0)
            super().__init__(folder, command, url=f"redis://127.0.0.1:{self._port}", **settings)
        except BaseException:
            self.server.process.kill()
            raise
        self.supervisor.services.append(self.server)
        self._clock = _compiled(folder)
        self._engine = list(engine) or [str(command), "run", "engine"]
        self.engines: dict[str, Service] = {}
        self.trainer: Service
        self.left: list[Service] = []
        """Asked to stop: they must end, with exit code 0."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        for service in self.left:
            service.process.kill()
            service.process.wait()
        for proxy in self.proxies.values():
            proxy.close()

    # ---- the server

    def admin(self) -> Any:
        """Somebody with redis-cli."""
        return redis.Redis(port=self._port, socket_timeout=1.0)

    def answers(self) -> bool:
        """Whether the server does, and has read its file."""
        try:
            with self.admin() as admin:
                return bool(admin.ping())
        except redis.RedisError:
            return False

    def reopen(self) -> None:
        """`log` anew, once the server answers."""
        wait_for("the server", self.answers, 30.0)
        self.log.close()
        self.log = open_log(self.url)

    def fill_disk(self, full: bool) -> None:
        """Let the server's file grow no more, or again: a limit of this one process, since not everybody may mount."""
        size = max((file.stat().st_size for file in self._data.rglob("*.aof")), default=0) if full else resource.RLIM_INFINITY
        pid = self.server.process.pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]))

    # ---- who runs

    def of(self, name: str) -> dict[str, str]:
        """The environment of a process: its own way to the server, and its name."""
        proxy = self.proxies.setdefault(name, Proxy(self._port))
        return self.environ | {
            "TOCSIN_LOG_TRANSPORT": f"redis://127.0.0.1:{proxy.port}", "TOCSIN_ENGINE_NAME": name, "PYTHONFAULTHANDLER": "1",
        }

    def start(self, name: str, *argv: str) -> Service:
        environ = self.of(name) | ({"PYTHONPATH": str(ROOT)} if argv[0] == sys.executable else {})     # a module of ours
        service = Service(list(argv), environ, self.folder / f"{name}.log")
        self.supervisor.services.append(service)
        return service

    def add_engine(self) -> None:
        leaving = {service.name for service in self.left if service.process.poll() is None}
        name = next(name for n in range(2 * MOST) if (name := f"e{n}") not in self.engines and name not in leaving)
        self.engines[name] = self.start(name, *self._engine)

    def drop_engine(self, name: str) -> None:
        service = self.engines.pop(name)
        service.leave()
        self.left.append(service)

    def holders(self) -> dict[int, str]:
        """Who holds each partition; nothing where the server doesn't answer."""
        for _ in range(2):                         # a connection that was lost long ago shows only when it is used
            with suppress(TransportUnreachable):
                return {p: self.log.ownership(p).owner for p in range(self.log.partitions)}
        return {}

    def restart(self, service: Service, hours: int) -> None:
        """Kill it; started again, its wall clock is so many hours off. Monotonic clocks stay."""
        plain = {name: value for name, value in service.environ.items() if name not in ("LD_PRELOAD", "CHAOS_CLOCK_S")}
        wrong = {"LD_PRELOAD": str(self._clock), "CHAOS_CLOCK_S": str(3600 * hours)} if hours else {}
        service.environ = plain | wrong
        service.kill()

    # ---- ticks

    def feed(self, ticks: TickBatch, first: int, rows: int, rate: int = 2000) -> None:
        self._ticks = ticks
        send(self.log, ticks[:first], Pace(), 4096, lambda: False)
        file = self.folder / "ticks.parquet"
        write_ticks(ticks, file)
        self.feeder = self.start("feeder", sys.executable, "-m", "tests.chaos.feeder", self.of("feeder")["TOCSIN_LOG_TRANSPORT"],
                                 str(file), str(rate), str(rows), str(first), str(time.monotonic()))

    def dry_up(self) -> int:
        """Stop the feeder; how many ticks of its file are in the log, each in its place. Raises Failed if it ran out of them."""
        self.feeder.stop()
        course = Course(self._ticks, self.log.partitions)
        course.look(self.log)
        if not len(course.rest):
            raise Failed("the ticks were all sent before the end")
        return len(self._ticks) - len(course.rest)


def _compiled(folder: Path) -> Path | None:
    if COMPILER is None:
        return None
    library = folder / "clock.so"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-o", library, Path(__file__).with_name("clock.c")], check=True)
    return library


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port: int = door.getsockname()[1]
        return port
