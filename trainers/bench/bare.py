"""Bare Redis: XADD and XREAD of the same records, without an engine. Runs in processes of its own.

redis-py with hiredis, answers left as they come: a reader does nothing but receive.
"""

from __future__ import annotations

import gc
import math
import re
import time
from collections.abc import Sequence
from typing import Any

import redis

from .machine import pin

PATIENCE_S = 10.0
"""So long a reader waits for records that were promised."""

BLOCK_MS = 200
PIPELINED = 500

LEAD_S = 0.1
"""Before the first record, so that whoever listens does by then."""

_STAMP = re.compile(rb'"ts":(\d+)')


def settle(cores: frozenset[int]) -> None:
    """The first call of a process: on its cores, everything imported."""
    pin(0, cores)


def connect(socket: str) -> Any:
    client = redis.Redis(unix_socket_path=socket, protocol=2)
    client.set_response_callback("XREAD", lambda answer, **options: answer)
    return client


def receive(socket: str, keys: Sequence[str], count: int, at_once: int) -> tuple[float, float]:
    """Read `count` records from the beginnings of streams, so many at once: time.monotonic before the first, after the last.

    Records that don't come within PATIENCE_S of each other are no longer waited for: then the second time is infinite.
    """
    client = connect(socket)
    client.ping()
    at: dict[bytes, bytes] = dict.fromkeys((key.encode() for key in keys), b"0-0")
    records = 0
    gc.disable()
    began = last = time.monotonic()
    while records < count and time.monotonic() < last + PATIENCE_S:
        found = client.execute_command("XREAD", "COUNT", at_once, "BLOCK", BLOCK_MS, "STREAMS", *at, *at.values())
        for key, entries in found or ():
            at[key] = entries[-1][0]
            records += len(entries)
            last = time.monotonic()
    gc.enable()
    return began, last if records == count else math.inf


def flood(socket: str, records: Sequence[tuple[str, bytes]]) -> float:
    """XADD (stream, record) as fast as it goes, PIPELINED commands in one write; time.monotonic before the first."""
    client = connect(socket)
    client.ping()
    gc.disable()
    began = time.monotonic()
    for at in range(0, len(records), PIPELINED):
        pipe = client.pipeline(transaction=False)
        for key, record in records[at:at + PIPELINED]:
            pipe.execute_command("XADD", key, "*", "t", record)
        pipe.execute()
    gc.enable()
    return began


def send(socket: str, records: Sequence[tuple[str, bytes, bytes]], rate: float) -> None:
    """XADD so many records a second, one by one.

    records: (stream, what stands before the stamp, what stands after it); the stamp is the sender's own clock, in ns
    UTC, read immediately before the command is written.
    """
    client = connect(socket)
    client.ping()
    gc.disable()
    start = time.perf_counter() + LEAD_S
    for i, (key, before, after) in enumerate(records):
        wait = start + i / rate - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        client.execute_command("XADD", key, "*", "t", b"%s%d%s" % (before, time.time_ns(), after))
    gc.enable()


def listen(socket: str, keys: Sequence[str], count: int) -> list[int]:
    """Follow streams from their beginnings until `count` records have come: ns from each one's `ts` to its arrival."""
    client = connect(socket)
    at: dict[bytes, bytes] = dict.fromkeys((key.encode() for key in keys), b"0-0")
    heard: list[tuple[int, bytes]] = []
    deadline = time.monotonic() + PATIENCE_S
    gc.disable()
    while len(heard) < count and time.monotonic() < deadline:
        found = client.execute_command("XREAD", "BLOCK", BLOCK_MS, "STREAMS", *at, *at.values())
        now = time.time_ns()
        for key, entries in found or ():
            at[key] = entries[-1][0]
            heard += [(now, fields[1]) for _, fields in entries]
            deadline = time.monotonic() + PATIENCE_S
    gc.enable()
    return [now - int(stamp[1]) for now, record in heard if (stamp := _STAMP.search(record))]
