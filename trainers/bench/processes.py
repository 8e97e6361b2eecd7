"""Processes beside us: our commands as a user starts them, and their peers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

from engine.errors import TocsinError

from .machine import pin

PATIENCE_S = 60.0
"""So long a process may take to end."""

SETTINGS = {"TOCSIN_ENGINE_LISTEN": "127.0.0.1:0", "TOCSIN_LOG_KEEP_MB": "1000000"}
"""Of the engines: a port that is free, and a log that keeps everything, so that what is in it can be counted."""


class Child:
    """A process on some cores that says `ready:` on stderr."""

    def __init__(self, what: str, argv: Sequence[str], folder: Path, cores: frozenset[int]) -> None:
        self._what = what
        settings = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            argv, cwd=folder, env=settings | SETTINGS, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        pin(self.process.pid, cores)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()

    def ready(self) -> float:
        """Wait; when it said so, by time.monotonic. Raises TocsinError if it ended instead."""
        said = b""
        for line in _pipe(self.process.stderr):
            said += line
            if line.startswith(b"ready:"):
                return time.monotonic()
        self._failed(said)

    def check(self) -> None:
        """Raises TocsinError with the last words of a process that should be running and isn't."""
        if self.process.poll() is not None:
            self._failed(_pipe(self.process.stderr).read())

    def stop(self) -> dict[str, Any]:
        """Have it stop; what it says on stdout then. Raises TocsinError if it failed."""
        self.process.terminate()
        return self.result()

    def result(self) -> dict[str, Any]:
        """Wait until it has ended; what it said on stdout. Raises TocsinError if it failed."""
        if self.process.wait(PATIENCE_S) != 0:                 # what it says fits into its pipes
            self._failed(_pipe(self.process.stderr).read())
        return json.loads(_pipe(self.process.stdout).read())  # type: ignore[no-any-return]

    def _failed(self, said: bytes) -> NoReturn:
        self.process.wait()
        words = " ".join(said.decode(errors="replace").strip().splitlines()[-2:])
        raise TocsinError(
            "bench_process", f"`{self._what}` ended with {self.process.returncode}: {words or 'it said nothing'}",
            hint="try it by itself",
        )


def tocsin(home: Path, cores: frozenset[int], *argv: str) -> Child:
    """`tocsin VERB … --home HOME --json` with default settings, whatever the user's are, and no fixed port."""
    command = [sys.executable, "-P", "-m", "trainers.demo_child", *argv, "--home", str(home), "--json"]
    return Child(f"tocsin {' '.join(argv[:2])}", command, home, cores)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ValueError("the process was started without this pipe")
    return pipe
