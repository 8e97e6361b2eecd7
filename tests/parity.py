"""The same bits however ticks come: any batches, symbols in any order, restored at any tick, one by one, elsewhere.

    python -m tests.parity 5000000          the long form: so many real ticks of $TOCSIN_DATA, in pieces of 250,000
    python -m tests.parity PIECE.npz        the digest of one piece, as another process finds it
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from engine.eventtime import EventTime
from engine.features import FeatureSet
from engine.files import read_ticks
from engine.instruments import Instrument, Instruments
from engine.types import F32, I64, TickBatch

PIECE = 250_000
SYMBOLS = 50
"""In a piece, each a stretch of its own."""
COLUMNS = ("sid", "ts", "bid", "ask", "bid_size", "ask_size")


class Found(NamedTuple):
    """A way of computing, and whether it gave the reference's bits."""

    way: str
    same: bool


def pieces(ticks: Iterator[TickBatch], total: int) -> Iterator[TickBatch]:
    """So many ticks in all, in pieces of SYMBOLS stretches interleaved at random as if they came at once."""
    rng = np.random.default_rng(5)
    length = min(PIECE, total) // SYMBOLS
    stretches: list[TickBatch] = []
    for batch in ticks:
        for first in range(0, len(batch) - length + 1, length):
            stretches.append(batch[first:first + length])
            if len(stretches) == SYMBOLS:
                yield interleaved(stretches, rng)
                stretches = []
                total -= SYMBOLS * length
                if total <= 0:
                    return


def interleaved(stretches: list[TickBatch], rng: np.random.Generator) -> TickBatch:
    """Stretches of one symbol each, as that many symbols in random turns."""
    instruments = [
        msgspec.structs.replace(part.instruments[int(part.sid[0])], symbol=f"S{k}") for k, part in enumerate(stretches)
    ]
    turn = rng.permutation(np.repeat(np.arange(len(stretches)), [len(part) for part in stretches]))
    place = np.argsort(np.argsort(turn, kind="stable"), kind="stable")
    joined = {name: np.concatenate([getattr(part, name) for part in stretches])[place] for name in COLUMNS}
    return TickBatch(instruments, **{**joined, "sid": turn})


def real_ticks(folder: Path) -> Iterator[TickBatch]:
    """File after file, one symbol each; crossed quotes are taken, so that nothing is left out."""
    rules = Instruments({"*": {"crossed": "keep", "scale": 6}})
    for file in sorted(folder.glob("ticks/*.parquet")):
        ticks = read_ticks(file, rules)
        yield ticks[EventTime().admit(ticks) == 0]


def digest(matrix: F32) -> str:
    return hashlib.sha256(np.ascontiguousarray(matrix).tobytes()).hexdigest()


def whole(ticks: TickBatch) -> F32:
    return FeatureSet.default().state().update(ticks).matrix


def ways(ticks: TickBatch, seed: int, singles: int = 20_000) -> Iterator[Found]:
    """ticks: admitted. singles: so many of them also one by one."""
    rng = np.random.default_rng(seed)
    n, reference = len(ticks), whole(ticks)
    for size in (7, 256, 4096):
        yield Found(f"batches of {size}", same(in_batches(ticks, np.arange(size, n, size)), reference))
    cuts = np.unique(rng.integers(1, n, n // 300))
    yield Found("random batches", same(in_batches(ticks, cuts), reference))
    yield Found("restored again and again", same(in_batches(ticks, np.unique(rng.integers(1, n, 40)), restore=True), reference))
    yield Found("single ticks in batches of one", same(in_batches(ticks[:2000], np.arange(1, 2000)), reference[:2000]))
    yield Found("single ticks by the C call", same(one_by_one(ticks[:singles]), reference[:singles]))
    order = rng.permutation(np.repeat(np.arange(len(ticks.instruments)), np.bincount(ticks.sid)))
    shuffled = np.argsort(ticks.sid, kind="stable")[np.argsort(np.argsort(order, kind="stable"), kind="stable")]
    yield Found("other turns of the symbols", same(whole(ticks[shuffled]), reference[shuffled]))
    rows = np.flatnonzero(ticks.sid == int(rng.integers(len(ticks.instruments))))
    yield Found("a symbol alone", same(whole(ticks[rows]), reference[rows]))
    stream = FeatureSet.default().stream()
    yield Found("compute and stream", same(stream.update(ticks), FeatureSet.default().compute(ticks)))


def same(found: F32, reference: F32) -> bool:
    return bool(np.array_equal(found.view(np.int32), reference.view(np.int32)))


def in_batches(ticks: TickBatch, cuts: I64, restore: bool = False) -> F32:
    features = FeatureSet.default()
    state, parts = features.state(), []
    for first, last in zip([0, *cuts.tolist()], [*cuts.tolist(), len(ticks)], strict=True):
        parts.append(state.update(ticks[first:last]).matrix)
        if restore:
            fresh = features.state()
            for sid in range(len(ticks.instruments)):
                fresh.rows.restore(sid, state.rows.snapshot(sid))
            state = fresh
    return np.concatenate(parts)


def one_by_one(ticks: TickBatch) -> F32:
    stream = FeatureSet.default().stream()
    sids = [stream.adopt(instrument) for instrument in ticks.instruments]
    rows = []
    for sid, *rest in zip(*(getattr(ticks, name).tolist() for name in COLUMNS), strict=True):
        assert stream.tick(sids[sid], *rest) == 0
        rows.append(stream.row.copy())
    return np.stack(rows)


def elsewhere(ticks: TickBatch, folder: Path, **environment: str) -> str:
    """The digest of another process."""
    piece = folder / "piece.npz"
    np.savez(piece, symbols=len(ticks.instruments), **{name: getattr(ticks, name) for name in COLUMNS})
    argv = [sys.executable, "-m", "tests.parity", str(piece)]
    done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    return done.stdout.strip() or done.stderr


PLAIN_CPU = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": ""}
"""The oldest processor of the kind: no AVX, no FMA."""


def main(argument: str) -> int:
    if argument.endswith(".npz"):
        content = np.load(argument)
        instruments = [Instrument(f"S{k}") for k in range(int(content["symbols"]))]
        print(digest(whole(TickBatch(instruments, **{name: content[name] for name in COLUMNS}))))
        return 0
    data, total, done, bad = os.environ.get("TOCSIN_DATA"), int(argument), 0, 0
    if not data:
        print("the long form needs real ticks: TOCSIN_DATA is not set", file=sys.stderr)
        return 2
    start = time.monotonic()
    for k, ticks in enumerate(pieces(real_ticks(Path(data)), total)):
        found = list(ways(ticks, k))
        with tempfile.TemporaryDirectory() as folder:
            expected = digest(whole(ticks))
            found.append(Found("another process", elsewhere(ticks, Path(folder)) == expected))
            found.append(Found("a plain processor", elsewhere(ticks, Path(folder), **PLAIN_CPU) == expected))
        done += len(ticks)
        bad += sum(not way.same for way in found)
        differs = ", ".join(way.way for way in found if not way.same) or "none"
        print(f"{done:>10,} ticks, {time.monotonic() - start:.0f} s: {len(found)} ways, differing: {differs}", flush=True)
    print(f"{done:,} ticks of {SYMBOLS} symbols at a time: {'every way the same bits' if not bad else f'{bad} ways differed'}")
    return int(bad > 0 or done < total)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
