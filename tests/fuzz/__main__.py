"""The long form: `python -m tests.fuzz SEED [N]`, a million mutated records or so many; exit code 1 where something doesn't hold.

One seed is one run. What fails is told with the fewest records that still fail, as they can be handed to a test.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.guarded import guarded
from tests.fuzz.inputs import Inputs, Record
from tests.fuzz.world import RULES, World, settings

BATCH, WORLD = 400, 2000
"""Records read at once; records from which on it is another log."""


class Found(Exception):
    """Records that break something: of which world, and what."""

    def __init__(self, what: str, world: int, records: list[Record]) -> None:
        lines = [
            f"{what} {entry.cursor} {entry.kind.name} {entry.appended}: {entry.payload.hex()}" for what, entry in records
        ]
        super().__init__("\n  ".join([f"{what} (rules {world % len(RULES)})", *lines]))


def fuzz(seed: int, total: int) -> Counter[tuple[str, str]]:
    """How many rows of each kind of record came to which end. Raises Found."""
    reached: Counter[tuple[str, str]] = Counter()
    with guarded(), tempfile.TemporaryDirectory(prefix="tocsin-fuzz-") as folder:
        for number in range(-(-total // WORLD)):
            inputs = Inputs(random.Random(f"{seed} {number}"), settings())
            records = [inputs.next() for _ in range(min(WORLD, total - number * WORLD))]
            try:
                reached += _lived(number, records, Path(folder) / str(number))
            except Exception as error:
                least = _fewest(number, records, Path(folder) / f"{number}-")
                raise Found(f"{type(error).__name__}: {error}", number, least) from error
    return reached


def _lived(number: int, records: list[Record], folder: Path) -> Counter[tuple[str, str]]:
    world = World(RULES[number % len(RULES)], folder)
    try:
        for at in range(0, len(records), BATCH):
            world.take(records[at:at + BATCH])
    finally:
        world.close()
    return world.reached


def _fewest(number: int, records: list[Record], folder: Path) -> list[Record]:
    """Pieces of ever smaller size are left out where it fails without them."""
    size = len(records) // 2
    tried = 0
    while size:
        at = 0
        while at < len(records):
            tried += 1
            fewer = records[:at] + records[at + size:]
            if fewer and _fails(number, fewer, folder.with_name(f"{folder.name}{tried}")):
                records = fewer
            else:
                at += size
        size //= 2
    return records


def _fails(number: int, records: list[Record], folder: Path) -> bool:
    try:
        _lived(number, records, folder)
    except Exception:
        return True
    return False


def main(seed: int, total: int) -> int:
    start = time.monotonic()
    try:
        reached = fuzz(seed, total)
    except Found as found:
        print(f"seed {seed}: {found}", flush=True)
        return 1
    took = time.monotonic() - start
    rows = sum(reached.values())
    print(f"seed {seed}: {total:,} records, {rows:,} rows, {took:.0f} s, {rows / took:,.0f} rows/s; all holds")
    for what in dict.fromkeys(kind for kind, _ in sorted(reached)):
        ends = sorted(((count, end) for (kind, end), count in reached.items() if kind == what), reverse=True)
        print(f"  {what:<14}" + ", ".join(f"{end} {count:,}" for count, end in ends), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000))
