"""Services that are kept alive by nothing but a service manager, and ways to kill them at chosen moments.

`Supervisor` starts a command and starts it again a short delay after it ended, as systemd would; it does nothing else.
`World` is one home with a log, ticks that flow into it, an engine and a trainer service. Nothing in the product knows
of any of this: a moment to kill at is found by watching the log, as anybody could.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import msgspec
import psutil

from engine.errors import EXIT_OWNERSHIP
from engine.feeds.send import Pace, send
from engine.feeds.sim import simulate
from engine.files import write_ticks
from engine.instruments import Instruments
from engine.partitioner import partition_of
from engine.transports import create_log, open_log
from engine.types import Cursor, Kind, TickBatch
from tests.children import command

RESTART_S = 0.3
"""So long a service stays down (systemd's own default is 0.1 s)."""
NOT_AT_ONCE_S = 5.0
"""After exit code 7, which asks for it."""

PARTITIONS = 4
RATE = 20_000
"""Ticks per second."""

TOCSIN = Path(sys.executable).with_name("tocsin")

SETTINGS = {
    "TOCSIN_ENGINE_LISTEN": "", "TOCSIN_TRAINER_LISTEN": "", "TOCSIN_LOG_KEEP_MB": "1000000",
    "TOCSIN_TRAINER_EVERY": "1s", "TOCSIN_TRAINER_ACTIVATE": "always", "TOCSIN_TRAINER_DAYS": "1",
    "TOCSIN_TRAINER_THREADS": "1", "TOCSIN_REGISTRY_KEEP": "1000", "TOCSIN_ENGINE_NAME": "engine",
}
"""No ports, nothing trimmed or pruned, one training after another, each bundle activated."""

NONSENSE = (b"no tick\n", b"{}", b'{"symbol":"SIM","ts":1,"bid":-1,"ask":2}', b"\xff\x00", b"TKF\x01 torn")


class Failed(Exception):
    """What the proof was about doesn't hold."""


def symbols_of(partitions: tuple[int, ...]) -> list[str]:
    """Made names, one for each of these partitions in turn."""
    names: list[str] = []
    for wanted in partitions:
        number = next(n for n in range(1000) if partition_of(f"SIM{n}", PARTITIONS) == wanted and f"SIM{n}" not in names)
        names.append(f"SIM{number}")
    return names


def wait_for(what: str, true: Callable[[], object], within_s: float, every_s: float = 0.02) -> float:
    """Until it is true; how long that took in seconds. Raises Failed."""
    start = time.monotonic()
    while not true():
        if time.monotonic() - start > within_s:
            raise Failed(f"{what}: not within {within_s:g} s")
        time.sleep(every_s)
    return time.monotonic() - start


class Service:
    """A command that is kept alive. Its stderr is kept in a file, one start after another."""

    def __init__(self, argv: list[str], environ: dict[str, str], said: Path) -> None:
        self._argv, self.environ, self.said = argv, environ, said
        """environ: of the next start."""
        self._lock = threading.Lock()
        self._wanted = True
        self._killed = False
        self._not_before = 0.0
        self.unasked: list[str] = []
        """Ends that nobody asked for: the exit code and the last words."""
        self.name = said.stem
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.said.open("ab") as said:
            self._began = said.tell()
            return subprocess.Popen(
                self._argv, env=self.environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said,
                restore_signals=False,         # SIGXFSZ stays ignored: a file that may not grow is an error like a full disk's
            )

    def look(self) -> None:
        """What a service manager does, a few times a second."""
        with self._lock:
            if not self._wanted or self.process.poll() is None:
                return
            now = time.monotonic()
            if not self._not_before:
                code = self.process.returncode
                if not self._killed:
                    self.unasked.append(f"exit {code}: {self.words()[-400:]}")
                self._killed = False
                self._not_before = now + (NOT_AT_ONCE_S if code == EXIT_OWNERSHIP else RESTART_S)
            elif now >= self._not_before:
                self._not_before = 0.0
                self.process = self._start()

    @property
    def lives(self) -> bool:
        """Whether it runs and is wanted."""
        return self._wanted and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL, now."""
        with self._lock:
            self._killed = self.process.poll() is None
            self.process.kill()

    def stop(self, within_s: float = 30.0) -> None:
        """SIGTERM as soon as it is up, and not started again; it must end by itself, with exit code 0. Raises Failed."""
        wait_for(f"{self._argv[1:3]} up", lambda: self.ready, 60.0)
        self.leave()
        self.gone(within_s)

    def leave(self) -> None:
        """SIGTERM, and not started again."""
        with self._lock:
            self._wanted = False
        self.process.terminate()

    def gone(self, within_s: float = 30.0) -> None:
        """Wait until it has ended with exit code 0. Raises Failed."""
        try:
            code = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failed(f"{self._argv[1:3]} didn't stop within {within_s:g} s of SIGTERM") from None
        if code != 0:
            raise Failed(f"{self._argv[1:3]} ended with {code} after SIGTERM: {self.words()[-400:]}")

    def words(self) -> str:
        return self.said.read_text(errors="replace")

    @property
    def ready(self) -> bool:
        """Whether it said so since it was last started."""
        with self._lock:
            return self.process.poll() is None and b"ready:" in self.said.read_bytes()[self._began:]


class Supervisor:
    """Keeps services alive, from a thread of its own."""

    def __init__(self) -> None:
        self.services: list[Service] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(0.02):
            for service in list(self.services):
                service.look()

    def close(self) -> None:
        """No more restarts; whatever still runs is killed, with its children."""
        self._end.set()
        self._thread.join()
        for service in self.services:
            family = family_of(service.process.pid)
            service.process.kill()
            service.process.wait()
            for member in family:
                if member.is_running():
                    member.kill()
            psutil.wait_procs(family, 5)           # the log's server goes with its last user


def family_of(pid: int) -> list[psutil.Process]:
    """A process's children, and theirs; the log's server, which belongs to all of its users, is none of them."""
    try:
        found = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [member for member in found if "redis" not in command(member)]


class World:
    """One home; a log of PARTITIONS partitions in it; ticks that flow, and the services. Close it, whatever happened."""

    def __init__(
        self, folder: Path, command: Path = TOCSIN, partitions: int = PARTITIONS, url: str = "", **settings: str
    ) -> None:
        """url: of a server of one's own, with no log in it yet; else an embedded one."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._command = folder, command
        self.home = folder / "home"
        self.url = url or f"redis+embedded://{self.home / 'log'}"
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")} | SETTINGS
        self.environ |= {"TOCSIN_HOME": str(self.home), "TOCSIN_LOG_TRANSPORT": self.url} | settings
        self.kills: Counter[str] = Counter()
        self.supervisor = Supervisor()
        self.log = create_log(url, partitions, Instruments()) if url else open_log(self.url, create=partitions)
        self._feeder: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> World:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._feeder:
            self._feeder.kill()
            self._feeder.wait()
        self.supervisor.close()
        self.log.close()

    # ---- commands

    def run(self, *argv: object) -> bytes:
        """A tocsin command to its end; its stdout. Raises Failed."""
        done = subprocess.run([str(self._command), *map(str, argv)], env=self.environ, capture_output=True, check=False)
        if done.returncode:
            raise Failed(f"tocsin {argv[0]} ended with {done.returncode}: {done.stderr.decode(errors='replace')[-600:]}")
        return done.stdout

    def keep(self, *argv: str, **settings: str) -> Service:
        """Start a tocsin command and keep it alive."""
        service = Service([str(self._command), *argv], self.environ | settings, self.folder / f"{'-'.join(argv)}.log")
        self.supervisor.services.append(service)
        return service

    # ---- ticks

    def feed(self, ticks: TickBatch, first: int, rows: int, rate: int = RATE) -> None:
        """The first of the ticks at once, the others from a feeder: `rows` per record, `rate` per second."""
        send(self.log, ticks[:first], Pace(), 4096, lambda: False)
        write_ticks(ticks[first:], self.folder / "ticks.parquet")
        with (self.folder / "feed.log").open("wb") as said:
            self._feeder = subprocess.Popen(
                [str(self._command), "feed", "files", str(self.folder / "ticks.parquet"), "--rate", str(rate),
                 "--frame", str(rows), "--json"],
                env=self.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said,
            )

    @property
    def flowing(self) -> bool:
        return self._feeder is not None and self._feeder.poll() is None

    def dry_up(self) -> int:
        """Stop the feeder; how many ticks it sent. Raises Failed if it had ended before."""
        feeder, self._feeder = self._feeder, None
        if feeder is None or feeder.stdout is None:
            raise Failed("nobody fed ticks")
        early = feeder.poll() is not None
        feeder.terminate()
        said, _ = feeder.communicate(timeout=30)
        if early or feeder.returncode:
            raise Failed(f"the feeder ended by itself, with {feeder.returncode}: {(self.folder / 'feed.log').read_text()}")
        return int(msgspec.json.decode(said)["sent"])


class Spy:
    """Follows a log's control records and their copies from where it stands now, as closely as polling can."""

    def __init__(self, world: World) -> None:
        self._log = world.log
        self._k = max((k for k, _ in self._log.controls()), default=1)
        self._after = self._ends()
        self.copies: dict[int, int] = dict.fromkeys(range(self._log.partitions), 0)
        """The highest k copied into each partition since."""

    def _ends(self) -> dict[int, Cursor]:
        return {partition: self._log.extent(partition).last for partition in range(self._log.partitions)}

    def next(self, verb: str, within_s: float = 60.0) -> int:
        """Wait for the next record of a verb; its k."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            for k, payload in self._log.controls(self._k):
                self._k = k
                if _verb(payload) == verb:
                    return k
                self._after = self._ends()         # copies come after what they copy
            time.sleep(0.0002)
        raise Failed(f"no `{verb}` within {within_s:g} s")

    def look(self, partitions: Iterator[int] | None = None) -> None:
        """Read what came into the partitions (default: all)."""
        wanted = self._after if partitions is None else {p: self._after[p] for p in partitions}
        for partition, entries in self._log.read(wanted, 5000).items():
            self._after[partition] = entries[-1].cursor
            for entry in entries:
                if entry.kind is Kind.CONTROL:
                    self.copies[partition] = max(self.copies[partition], _k(entry.payload))

    def copied(self, k: int, partition: int | None = None) -> bool:
        """Whether record k, or one after it, has a copy in the partition (default: in every one)."""
        self.look()
        return all(self.copies[p] >= k for p in (self.copies if partition is None else (partition,)))


class _Head(msgspec.Struct):
    k: int
    verb: str


def _verb(payload: bytes) -> str:
    return msgspec.json.decode(payload, type=_Head).verb


def _k(payload: bytes) -> int:
    try:
        return msgspec.json.decode(payload, type=_Head).k
    except msgspec.DecodeError:
        return 0


def sim(days: float, seed: int, partitions: tuple[int, ...] = (0, 1, 2, 2)) -> TickBatch:
    """Simulated ticks of symbols that go to these partitions; the others hold control records only."""
    return simulate(days, seed, symbols=symbols_of(partitions))


