"""What a row of features costs, beside libraries that compute technical indicators.

All contestants alternate within a round, on one core, and every figure is the median over the rounds. Ticks are simulated;
two feeds: busy, 8 ticks a second and symbol, and quiet, 0.3, where every tick opens a new pane and every twentieth closes
a bar. Before the clock starts a state has seen what comes before the timed ticks.

Ours is always the whole: 64 columns of windows of event time, bars and calendar, as models take them. A peer computes its
12 indicators over ticks, as if each were a bar; ours computes seven of those on closed bars of four lengths. So a ratio
compares what a tick costs whoever decides on it, not one indicator with the same one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from . import lanes
from .lanes import made
from .machine import Cores, describe, pin, split_cores
from .peers import PEERS, OnWindow, Peer, Series, TickByTick
from .peers.base import WINDOW
from .rounds import Contestant, Tell, alternate
from .rows import Row


class Scale(NamedTuple):
    """share: of the ticks of a full run."""

    rounds: int
    share: float


FULL = Scale(rounds=5, share=1.0)
QUICK = Scale(rounds=2, share=0.05)

BUSY, QUIET = 8.0, 0.3
"""Ticks a second and symbol."""
MANY = 1000
HELD = 500
"""Symbols whose memory is measured."""
MICRO, LARGE = 256, 4096

TIMES = {"talipp": 400.0, "NautilusTrader, Cython": 55.0, "NautilusTrader, Rust": 15.0, "TA-Lib, C functions": 1.0}
"""So many times what ours costs, a peer should; the others stand there without a target."""

Ours = tuple[Any, ...]


def measure(scale: Scale, tell: Tell) -> tuple[dict[str, Any], list[Row]]:
    """The machine and the rows. Raises TocsinError `bench_peer` where a peer's values aren't what they should be."""
    cores = split_cores()
    pin(0, cores.engine)                     # before polars asks how many threads it may have
    tell("simulating ticks")
    feeds = Feeds(scale)
    tell("comparing what the peers compute with the reference")
    here = [(peer, peer.check()) for peer in PEERS if peer.version]
    with TemporaryDirectory(prefix="tocsin-bench-") as folder:
        figures = alternate(
            {**_ours(feeds, Path(folder), cores), **_theirs(feeds, scale, [peer for peer, _ in here])}, scale.rounds, tell
        )
    packages = ("numpy", "numba", "msgspec", *dict.fromkeys(peer.package for peer in PEERS))
    rows = Rows(figures, scale.rounds)
    return describe(cores, packages, {}), [*rows.ours(), *rows.beside(dict(here))]


class Feeds:
    """The ticks of all rows."""

    def __init__(self, scale: Scale) -> None:
        def so_many(ticks: int) -> int:
            return round(ticks * scale.share)

        self.busy = {
            1: made(1, so_many(200_000), BUSY, so_many(100_000)),
            100: made(100, so_many(12_000), BUSY, so_many(200_000)),
        }
        self.quiet = {
            1: made(1, so_many(200_000), QUIET, so_many(100_000)),
            100: made(100, so_many(3000), QUIET, so_many(200_000)),
            MANY: made(MANY, max(so_many(1200), 100), QUIET, so_many(200_000)),
        }


def _ours(feeds: Feeds, folder: Path, cores: Cores) -> dict[Ours, Contestant]:
    busy = feeds.busy[1]
    return {
        **{("busy", symbols, size): lanes.batches(feeds.busy[symbols], size) for symbols in (1, 100) for size in (MICRO, LARGE)},
        **{("quiet", symbols, MICRO): lanes.batches(feeds.quiet[symbols], MICRO) for symbols in (1, 100, MANY)},
        ("whole",): lanes.batches(busy, len(busy.timed)),
        ("single",): lanes.singles(busy),
        ("records",): lanes.batches(busy, lanes.RECORD),
        ("frames",): lanes.frames(busy, admit=False),
        ("frames, admitted",): lanes.frames(busy, admit=True),
        ("lines",): lanes.lines(busy),
        ("snapshot",): lanes.snapshots(feeds.quiet[100]),
        ("restore",): lanes.restores(feeds.quiet[100]),
        ("start",): lanes.start(folder, cores.engine),
        ("numba",): lanes.importing_numba(folder, cores.engine),
        ("memory",): lanes.memory(HELD, folder, cores.engine),
    }


def _theirs(feeds: Feeds, scale: Scale, here: list[Peer]) -> dict[tuple[Peer, int], Contestant]:
    """By peer and symbols."""
    found: dict[tuple[Peer, int], Contestant] = {}
    for peer in here:
        ticks = max(5, round(peer.ticks * scale.share))
        for symbols in _symbols(peer):
            before = max(WINDOW, 120 * symbols)
            series = Series.of(feeds.busy[symbols].ticks).last(before + ticks)
            found[peer, symbols] = peer.contestant(series, ticks)
    return found


def _symbols(peer: Peer) -> tuple[int, ...]:
    return (1, 100) if isinstance(peer, TickByTick) else (1,)


class Rows:
    """Figures as rows."""

    def __init__(self, figures: dict[Any, float], rounds: int) -> None:
        self._of = figures
        self._rounds = rounds

    def ours(self) -> Iterator[Row]:
        for symbols in (1, 100):
            for size in (MICRO, LARGE):
                yield self._at_most(f"64 columns, batches of {size:,}, {_named(symbols)}, {BUSY:g} ticks/s each",
                                    ("busy", symbols, size), "ns/tick", 120.0)
        for symbols in (1, 100):
            yield self._at_most(f"64 columns, batches of {MICRO:,}, {_named(symbols)}, {QUIET:g} ticks/s each",
                                ("quiet", symbols, MICRO), "ns/tick", 120.0)
        yield self._against(f"64 columns, batches of {MICRO:,}, {_named(MANY)}, {QUIET:g} ticks/s each", ("quiet", MANY, MICRO),
                            "one symbol", ("quiet", 1, MICRO), 1.2)
        yield self._at_most("64 columns of a single tick, from Python, admission included", ("single",), "ns/tick", 500.0)
        kernel = f"the kernel alone, batches of {lanes.RECORD:,}"
        records = f"packed frames of {lanes.RECORD:,} → rows"
        yield self._against(f"{records}: decoding + kernel", ("frames",), kernel, ("records",), 1.15)
        yield self._against(f"{records}: decoding + admission + kernel", ("frames, admitted",), kernel, ("records",), None)
        yield self._at_most(f"JSON lines, {lanes.RECORD:,} a record → rows: decoding + kernel", ("lines",), "ns/tick", 180.0)
        yield self._at_most("snapshot of a symbol: event time and features", ("snapshot",), "µs", 5.0)
        yield self._at_most("restore of a symbol: event time and features", ("restore",), "µs", 10.0)
        start, numba, bytes_ = self._of["start",], self._of["numba",], lanes.row_bytes()
        yield Row("exec → first row, warm kernel cache", start, "importing numpy and numba", numba, "s", self._rounds,
                  "≤ 0.5 s", start <= 0.5)
        yield Row(f"resident memory of {HELD} symbols' features", self._of["memory",], f"{HELD} × {bytes_:,} bytes of state",
                  HELD * bytes_ / 2**20, "MB", self._rounds)

    def _at_most(self, what: str, key: Ours, unit: str, most: float) -> Row:
        ours = self._of[key]
        return Row(what, ours, "", None, unit, self._rounds, f"≤ {most:g} {unit.partition('/')[0]}", ours <= most)

    def _against(self, what: str, key: Ours, peer: str, other: Ours, most: float | None) -> Row:
        ours, theirs = self._of[key], self._of[other]
        return Row(what, ours, peer, theirs, "ns/tick", self._rounds, f"≤ {most:g}×" if most else "",
                   ours <= most * theirs if most else None)

    def beside(self, here: dict[Peer, tuple[str, ...]]) -> Iterator[Row]:
        """Every peer, here or not. here: the indicators it lacks."""
        for peer in PEERS:
            lacks = here.get(peer, ())
            theirs = f"{12 - len(lacks)} indicators" + (f" (no {', '.join(lacks)})" if lacks else "") + f" {peer.how}"
            if not isinstance(peer, TickByTick | OnWindow):
                yield self._beside(peer, 1, f"64 columns of one large batch beside {theirs}", ("whole",), TIMES.get(peer.name))
                continue
            for symbols in _symbols(peer):
                yield self._beside(peer, symbols, f"64 columns, batches of {MICRO:,}, {_named(symbols)}, beside {theirs}",
                                   ("busy", symbols, MICRO), TIMES.get(peer.name))
            yield self._beside(peer, 1, f"64 columns of a single tick, from Python, beside {theirs}", ("single",), None)

    def _beside(self, peer: Peer, symbols: int, what: str, key: Ours, times: float | None) -> Row:
        ours, theirs = self._of[key], self._of.get((peer, symbols))
        target = f"≥ {times:g}×" if times else ""
        if theirs is None:
            return Row(what, ours, peer.name, None, "ns/tick", self._rounds, target,
                       reason=f"not installed: pip install {peer.package}")
        return Row(what, ours, f"{peer.name} {peer.version}", theirs, "ns/tick", self._rounds, target,
                   theirs >= times * ours if times else None)


def _named(symbols: int) -> str:
    return "1 symbol" if symbols == 1 else f"{symbols:,} symbols"
