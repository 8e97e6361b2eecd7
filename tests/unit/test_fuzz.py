"""Mutated records: the short form of `make fuzz`, and that it would notice."""

from __future__ import annotations

import random
import signal
import subprocess
import sys

import pytest

from engine.types import Code
from tests.fuzz import world
from tests.fuzz.__main__ import Found, fuzz
from tests.fuzz.inputs import Inputs

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
    assert codes >= {code.value for code in Code if code is not Code.CONTROL} | {"taken", "followed", "control_unknown"}
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
