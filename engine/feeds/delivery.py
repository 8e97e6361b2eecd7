"""Delivery: ticks into a log that may be full, away, or still starting. What can't be handed over waits; nothing is left out.

Where the log takes nothing, a delivery tries again until it does, opening it anew where the connection is lost (an embedded
server comes back by that), and only if the same log answers. Without a spool it waits: whoever hands ticks over waits with
it, as a file can. With a spool, which is for feeds that can't wait, ticks go to disk after HOLD_S, and from there to the log in
order, before any newer tick. What became of an append whose answer was lost isn't known: it is sent again, and event time
refuses what is there already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from .. import clock
from ..errors import TocsinError, TransportUnreachable
from ..outage import FIRST_S, passes
from ..transports.base import Log
from ..wire import frame
from .spool import Spool, Spooled

FULL = ("full", "memory", "disk")
"""Refusals of a log that answers; after any other one that passes it is opened anew."""

HOLD_S = 1.0
"""So long ticks are held before they are spooled."""

LONGEST_S = 1.0
"""Between two attempts; each wait is twice the one before."""

AT_ONCE = 512 * 1024
"""bytes, about, sent from the spool in one call."""


class Stopped(Exception):
    """A stop came while the log took nothing; what was being handed over isn't in it."""


class Delivered(NamedTuple):
    """What became of the ticks so far."""

    sent: int
    """The log has them."""
    spooled: int
    """They wait on disk."""
    held_s: float
    """How long ticks had to wait for it."""


class Delivery:
    """Of one producer, into one log, by one thread. `partitions` and `append` are as a log's."""

    def __init__(
        self, reopen: Callable[[], Log], *, spool: Callable[[str], Spool] | None = None, patience_s: float = float("inf"),
        stop: Callable[[], bool] = lambda: False, tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        """reopen: the log, at first and each time it was lost. spool: of a log's identity. patience_s: how long to hold for a
        log that takes nothing before its refusal is raised; with a spool nothing is held for long. tell: hears, in words.

        Raises what these raise.
        """
        self._reopen = reopen
        self._log: Log | None = reopen()
        self.identity, self.partitions, self.url = self._log.identity, self._log.partitions, self._log.url
        self._patience_s = patience_s
        self._stop = stop
        self._tell = tell
        self._since: int | None = None
        """Monotonic ns when the log began to take nothing."""
        self._why, self._told = "", False
        self._held_ns = 0
        self._next_try, self._pause_s = 0, FIRST_S
        self._sent = 0
        self._batch: list[Spooled] = []
        """Read from the spool, and being sent; of it, by partition, what the log hasn't yet:"""
        self._left: dict[int, list[bytes]] = {}
        try:
            self._spool = spool(self.identity) if spool else None
        except BaseException:
            self._leave()
            raise
        if self._spool and self._spool.dropped:
            tell(f"{self._spool.folder}: {self._spool.dropped:,} bytes that aren't whole are left out")
        if self._spool and self._spool.ticks:
            tell(f"{self._spool.ticks:,} ticks wait in {self._spool.folder}: they are sent first")

    # ---- producers

    def append(self, partition: int, payloads: Sequence[bytes]) -> None:
        """Records of one partition, in order: the log or the spool has them when this returns.

        Raises Stopped; TocsinError `spool_full`; the log's refusal when patience is over, or one that doesn't pass by itself
        (`identity`, `auth`, `no_log`, …).
        """
        while not (self._drain() and self._try(partition, payloads)):
            if self._spool and (self._held_s() >= HOLD_S or self._stop()):
                self._spill(self._spool, partition, payloads)
                return
            self._wait()
        self._go_on()                              # not before all that waited is in the log: one partition may have room
        self._sent += sum(map(_ticks, payloads))

    def finish(self) -> None:
        """Wait until nothing is in the spool. Raises Stopped, and what the log refuses for good."""
        if self._spool is None:
            return
        while not self._drain():
            self._wait()
        self._go_on()

    @property
    def delivered(self) -> Delivered:
        return Delivered(self._sent, self._spool.ticks if self._spool else 0, self._held_ns / 1e9 + self._held_s())

    def close(self) -> None:
        """What waits in the spool stays there."""
        if self._spool:
            self._spool.close()
        self._leave()

    # ---- the log

    def _try(self, partition: int, payloads: Sequence[bytes]) -> bool:
        """Whether the log has taken them. Not asked before the next attempt is due."""
        if self._since is not None and clock.monotonic_ns() < self._next_try:
            return False
        try:
            if self._log is None:
                self._log = self._opened()
            self._log.append(partition, payloads)
        except TransportUnreachable as error:
            out_of_patience = self._spool is None and self._held_s() > self._patience_s
            if out_of_patience or not (passes(error) or error.code in FULL):
                raise
            self._hold(error)
            return False
        return True

    def _opened(self) -> Log:
        log = self._reopen()
        if (log.identity, log.partitions) != (self.identity, self.partitions):
            log.close()
            raise TransportUnreachable(
                "identity", f"{self.url} holds another log now than {self.identity}",
                hint="somebody replaced the log: start again, or bring the old one back",
            )
        return log

    def _leave(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            with suppress(TocsinError):            # the server that it would stop is gone
                log.close()

    # ---- meanwhile

    def _hold(self, error: TransportUnreachable) -> None:
        now = clock.monotonic_ns()
        if self._since is None:
            self._since = now
        self._why = f"{error.args[0]} [{error.code}]"
        self._next_try = now + int(self._pause_s * 1e9)
        self._pause_s = min(2 * self._pause_s, LONGEST_S)
        if error.code not in FULL:
            self._leave()

    def _go_on(self) -> None:
        if self._since is None:
            return
        if self._told:
            self._tell(f"the log takes ticks again, after {self._held_s():,.1f} s")
        self._held_ns += clock.monotonic_ns() - self._since
        self._since, self._told, self._pause_s = None, False, FIRST_S

    def _held_s(self) -> float:
        """How long ticks have been waiting."""
        return 0.0 if self._since is None else (clock.monotonic_ns() - self._since) / 1e9

    def _announce(self) -> None:
        if not self._told and self._held_s() >= HOLD_S:
            self._told = True
            where = f"they go to {self._spool.folder}" if self._spool else "they wait"
            self._tell(f"the log takes no ticks, {where}: {self._why}")

    def _wait(self) -> None:
        if self._stop():
            raise Stopped
        self._announce()
        clock.sleep(min(max((self._next_try - clock.monotonic_ns()) / 1e9, 0.0), 0.1))

    def _spill(self, spool: Spool, partition: int, payloads: Sequence[bytes]) -> None:
        self._announce()
        records = [Spooled(partition, _ticks(payload), payload) for payload in payloads]
        stored = spool.add(records)
        if stored < len(records):
            lost = sum(record.ticks for record in records[stored:])
            raise TocsinError(
                "spool_full", f"the log takes nothing, and {spool.folder} holds {spool.ticks:,} ticks and no more: {lost:,} "
                "ticks were taken by neither",
                hint="what is in the spool is sent first when the feed is started again; [feed] spool_mb says how much it holds",
            )

    def _drain(self) -> bool:
        """Send what is spooled, as long as the log takes it; whether nothing is left."""
        while self._spool and (self._batch or self._next_batch(self._spool)):
            while self._left:
                partition, payloads = next(iter(self._left.items()))
                if not self._try(partition, payloads):
                    return False
                del self._left[partition]
            self._spool.sent(self._batch)
            self._sent += sum(record.ticks for record in self._batch)
            self._batch = []
        return True

    def _next_batch(self, spool: Spool) -> bool:
        self._batch = spool.first(AT_ONCE)
        for record in self._batch:
            self._left.setdefault(record.partition, []).append(record.payload)
        return bool(self._batch)


def _ticks(payload: bytes) -> int:
    """How many stand in a record of ours."""
    return frame.rows(payload) if frame.is_frame(payload) else 1
