"""Mutated records: the short form of `make fuzz`, and that it would notice."""

from __future__ import annotations

import random
import signal
import subprocess
import sys

import pytest

from engine.errors import TocsinError
from engine.partition.checkpoint import Checkpoints, oldest_cursor, oldest_k
from engine.partition.state import Partition
from engine.partition.takeover import take_over
from engine.transports.memory import MemoryLog
from engine.types import Code
from tests.fuzz import world
from tests.fuzz.__main__ import Found, fuzz
from tests.fuzz.inputs import Inputs
from tests.made import made_ticks

BEYOND = """
import ctypes
from tests.fuzz.guarded import ending
found = ending(5000)
assert ctypes.string_at(found.ctypes.data, found.nbytes) == bytes(5000)
ctypes.string_at(found.ctypes.data, found.nbytes + 1)
"""


def test_twenty_thousand_mutated_records_are_taken_or_refused_and_move_nothing_else() -> None:
    reached = fuzz(1, 20_000)
    codes = {end for _, end in reached}
    others = (Code.CONTROL, Code.POISON)
    assert codes >= {code.value for code in Code if code not in others} | {"taken", "followed", "control_unknown"}
    for what in ("line", "lines", "damaged line", "damaged lines", "frame", "damaged frame"):
        assert reached[what, "taken"] > 200


def test_one_seed_is_one_run() -> None:
    def made(seed: int) -> list[bytes]:
        inputs = Inputs(random.Random(seed), world.settings())
        return [inputs.next().entry.payload for _ in range(500)]

    assert made(1) == made(1)
    assert made(1) != made(2)


def test_what_breaks_is_told_with_the_one_record_that_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = world.judge
    monkeypatch.setattr(world, "judge", lambda line, table: Code.SIZE if b"\xff" in line else judge(line, table))
    with pytest.raises(Found) as found:
        fuzz(1, 2000)
    what, *records = str(found.value).split("\n")
    assert "expected (<Code.SIZE" in what
    assert len(records) == 1
    assert b"\xff" in bytes.fromhex(records[0].rpartition(" ")[2])


def test_one_byte_beyond_an_array_kills() -> None:
    assert subprocess.run([sys.executable, "-c", BEYOND], check=False).returncode == -signal.SIGSEGV


# ---- checkpoints


def taken_over(checkpoint: bytes | None, blobs: dict[str, bytes]) -> tuple[Partition, MemoryLog]:
    """A partition of a log that holds nothing but this; filled with made ticks where there is no checkpoint."""
    log = MemoryLog(1, identity="a" * 32)
    epoch = log.claim(0, "me", log.ownership(0))
    assert epoch
    if checkpoint is not None:
        log.stage(0, epoch, blobs)
        log.publish(0, epoch, [], checkpoint)
        oldest_cursor([checkpoint])
        oldest_k(log, "activate")

    def warm(number: int) -> object:
        return made_ticks(500, symbols=3) if checkpoint is None else None

    return take_over(0, epoch, log, Checkpoints(log, lambda: 0), unknown, warm), log  # type: ignore[arg-type]


def unknown(version: str, digest: str) -> object:
    raise TocsinError("unknown", "there is no such bundle")


def state(part: Partition) -> list[object]:
    rows = [part.snapshot(sid) + part.policy.rows.snapshot(sid) for sid in range(len(part.symbols))]
    return [rows, part.symbols.instruments, part.upto, part.records, part.followed, part.settings]


def damaged(chance: random.Random, content: bytes) -> bytes:
    bad = bytearray(content)
    at = chance.randrange(len(bad))
    match chance.randrange(5):
        case 0 | 1:
            bad[at] ^= 1 << chance.randrange(8)
        case 2:
            bad[at] = chance.choice((0xFF, 0xC0, 0x80, 0xDF, 0xCF, 0xD3))
        case 3:
            del bad[at:at + chance.randrange(1, 9)]
        case _:
            bad[at:at] = chance.randbytes(chance.randrange(1, 9))
    return bytes(bad)


def test_a_damaged_checkpoint_is_refused_with_a_code_whatever_is_damaged() -> None:
    part, log = taken_over(None, {})
    (manifest,) = log.checkpoints(0)
    blobs = dict(log._owned[0].blobs)
    assert state(taken_over(manifest, blobs)[0]) == state(part)
    chance = random.Random(1)
    for k in range(2000):
        found, kept = damaged(chance, manifest), dict(blobs)
        if k % 10 == 0:
            name = chance.choice(sorted(blobs))
            found, kept[name] = manifest, damaged(chance, kept[name])
        with pytest.raises(TocsinError) as refused:
            taken_over(found, kept)
        assert refused.value.code == "checkpoint"
