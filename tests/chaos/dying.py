"""A process that activates a bundle and kills itself at its n-th write: `python -m tests.chaos.dying URL HOME V N before|after`.

The writes of an activation, in order: 1 `prepare`, 2 `activate` (both into `models`), then a copy per partition.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from engine.registry import signing
from engine.registry.activate import activate
from engine.registry.store import Registry
from engine.transports import open_log
from engine.transports.base import Log
from engine.types import Cursor, Kind

T = TypeVar("T")

PREPARE, ACTIVATE, FIRST_COPY = 1, 2, 3


class DyingLog:
    """A log whose n-th write is the last thing this process does, or the first thing it doesn't do any more."""

    def __init__(self, log: Log, n: int, after: bool) -> None:
        self._log, self._left, self._after = log, n, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append(self, partition: int, payloads: Sequence[bytes], kind: Kind = Kind.TICKS) -> list[Cursor]:
        return self._write(lambda: self._log.append(partition, payloads, kind))

    def append_control(self, k: int, payload: bytes) -> bool:
        return self._write(lambda: self._log.append_control(k, payload))

    def _write(self, write: Callable[[], T]) -> T:
        self._left -= 1
        if self._left == 0 and not self._after:
            os.kill(os.getpid(), signal.SIGKILL)
        done = write()
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done


def main(url: str, home: str, version: str, n: str, when: str) -> None:
    keys = Path(home, "keys")
    registry = Registry(Path(home, "registry"), keys / "public.pem")
    log: Any = DyingLog(open_log(url), int(n), when == "after")
    activate(log, registry, signing.load_private(keys / "private.pem"), version, "chaos", f"dies {when} write {n}")


if __name__ == "__main__":
    main(*sys.argv[1:])
