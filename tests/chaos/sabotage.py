"""An engine with one of its protections switched off: `python -m tests.chaos.sabotage WHICH run engine …`.

Whatever holds without a protection shows nothing about it: each of these must make a storm fail. The product has no switch for
any of it; its classes are changed here, before it starts.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Callable, Iterator

from engine import app, cli
from engine.partition import publish
from engine.partition.batch import Asked, MicroBatch
from engine.partition.checkpoint import Checkpoints
from engine.partition.state import Partition
from engine.transports import redis
from engine.types import Position
from engine.workers.inline import InlineWorkers

LATE = 20
"""Events of the inbox: two or three reads of all partitions."""


def fence() -> None:
    """Publish without looking at the epoch."""
    if redis._FENCE not in redis._PUBLISH:
        raise AssertionError("publishing isn't fenced, or otherwise than known here")
    redis._PUBLISH = redis._PUBLISH.replace(redis._FENCE, "")


def readback() -> None:
    """Leave out what is published already, but don't let the policy know of it."""
    def after_tail(part: Partition, asked: Asked) -> Asked | None:
        rows = [row for row in range(len(asked.ticks)) if asked.ticks.position(row) > part.tail]
        return asked.after(rows[0]) if rows else None

    Partition._after_tail = after_tail  # type: ignore[method-assign]


def late() -> None:
    """Workers answer after some more reads, as those in other processes will, and each decision is a publish step of its own, so
    that several are on their way at any time. Nothing may come of either."""
    class Late(InlineWorkers):
        def __init__(self) -> None:
            super().__init__()
            self._asked = 0
            self._waiting: deque[tuple[int, MicroBatch]] = deque()

        def answered(self) -> Iterator[MicroBatch]:
            self._asked += 1
            self._waiting += [(self._asked, batch) for batch in super().answered()]
            while self._waiting and self._waiting[0][0] <= self._asked - LATE:
                yield self._waiting.popleft()[1]

    app.InlineWorkers = Late  # type: ignore[misc]
    publish.STEP = 1


def cut() -> None:
    """A checkpoint holds the rows as they are when it is published, not as they were when its batch was cut."""
    late()
    stage = Checkpoints.stage

    def staged(self: Checkpoints, part: Partition, batch: MicroBatch, last: Position) -> bytes:
        if batch.image:
            now = {sid: part.snapshot(sid) for sid in batch.image.changed}
            batch.image = batch.image._replace(changed=now)
        return stage(self, part, batch, last)

    Checkpoints.stage = staged  # type: ignore[method-assign]


def tail() -> None:
    """Neither a publish step nor a checkpoint is held against what is published."""
    late()
    redis._PUBLISH, checks = re.subn(r"^.*(BROKEN|REPEAT).*$", "", redis._PUBLISH, flags=re.MULTILINE)
    if checks != 2:
        raise AssertionError("publishing doesn't look at the tail, or otherwise than known here")
    usable = Checkpoints._usable
    Checkpoints._usable = (  # type: ignore[method-assign]
        lambda self, partition, encoded, tail: usable(self, partition, encoded, Position((2**63, 0), 0))
    )


WAYS: dict[str, Callable[[], None]] = {"fence": fence, "readback": readback, "late": late, "cut": cut, "tail": tail}


def engine_without(way: str) -> list[str]:
    """The command of such an engine."""
    return [sys.executable, "-m", "tests.chaos.sabotage", way, "run", "engine"]


if __name__ == "__main__":
    WAYS[sys.argv[1]]()
    sys.argv = ["tocsin", *sys.argv[2:]]
    sys.exit(cli.main())
