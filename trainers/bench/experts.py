"""What the answer of six tree experts costs, beside the libraries that fitted them and others that take their models over.

All contestants alternate within a round, on one core with one thread each, on rows that vary, and every figure is the median
over the rounds. The six answer in one pass, as the engine asks them (`ForestRuntime.votes`). Held against:

- the libraries, one after the other, each in its quickest way from Python;
- the same with DART's weights folded into its leaves, which the library isn't asked for and would profit from;
- the best mix: of each expert and number of rows whoever was quickest beforehand, of those who are installed.

Who answers something else than the libraries isn't timed (`bench_peer`), and what we answer ourselves is a row.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.cpu import way
from engine.runtimes.forest.layout import Forest
from engine.runtimes.forest.runtime import ForestRuntime
from engine.types import F32

from ..export.forest import parity
from ..export.probe import probing_rows
from . import calls, six
from .answerers import OTHERS, Predict, library
from .machine import Cores, describe, pin, split_cores
from .rounds import Contestant, Tell, alternate
from .rows import Row
from .serving import Processes
from .six import LIBRARIES, SIX


class Scale(NamedTuple):
    """share: of the trees and the calls of a full run. rows: that are asked about."""

    rounds: int
    share: float
    rows: int


FULL = Scale(rounds=5, share=1.0, rows=8192)
QUICK = Scale(rounds=2, share=0.1, rows=4096)

SIZES = (1, 8, 64, 512, 4096)
ALONE = (1, 64, 4096)
"""Rows of a call, of which each expert alone is asked about."""
CALLS = {1: 100, 8: 40, 64: 10, 512: 3, 4096: 1}
COLD_CALLS, P99_CALLS = 40, 400
THREADED, THREADED_CALLS = 512, 40
"""Rows and calls of each thread: short calls keep the interpreter's lock and can't run side by side."""

TIMES = {
    (1, "libraries"): 50.0, (1, "mix"): 4.0, (64, "libraries"): 20.0, (64, "mix"): 10.0, (4096, "folded"): 20.0,
    (4096, "mix"): 10.0,
}
"""So many times what the six in one pass take, the others should."""
ALONE_TIMES = {1: 10.0, 64: 6.0, 4096: 6.0}
COLD_US, ROW_US = 60.0, 7.0
WITHIN = 1e-6
SPLITS = (1, 7, 24, 25, 64, 129, 512)
"""Rows of the batches whose bits are compared with those of one large batch."""
INTERVALS_S = (5e-3, 1e-4)
"""Python's usual one, and the engine's."""
PACED, HURRIED = "as ticks come", "one call after the other"
"""Whoever asks without a pause shares the interpreter with the busy thread, so that every so many calls wait for its turn."""
PAUSE_S = 5e-4

DART = "xgboost_dart"


def measure(scale: Scale, tell: Tell) -> tuple[dict[str, Any], list[Row]]:
    """The machine and the rows. Raises TocsinError (`bench_peer`, `bench_process`), DeviceMissing (`library_missing`)."""
    cores = split_cores()
    usable = calls.usable_cores()
    with TemporaryDirectory(prefix="tocsin-bench-") as folder:
        paths = six.fit_all(Path(folder), scale.share, tell)
        pin(0, cores.engine)                   # before a library asks how many threads it may have
        tell("making forests of the models, and converting them for the others")
        trees = Trees(paths, scale)
        gc.freeze()                            # the converters leave so much that each collection would take 0.1 s
        contestants = _contestants(trees, scale, cores, usable, tell) | _processes(Path(folder), trees, cores)
        rows = Rows(alternate(contestants, scale.rounds, tell), scale.rounds, trees)
        found = [*rows.together(), *rows.alone(), *rows.exactness(), *rows.threads(), *rows.serving(), *rows.missing()]
    packages = ("numpy", "numba", *LIBRARIES, "xgboost-cpu", *(other.package for other in OTHERS), "onnxmltools")
    return describe(cores, packages, {"forests answered by": way()}), found


class Trees:
    """The six in all ways to ask them."""

    def __init__(self, paths: Mapping[str, Path], scale: Scale) -> None:
        self.forests = {name: six.forest(name, path) for name, path in paths.items()}
        self.rows, _ = six.made(scale.rows, seed=1)
        self.together: Predict = ForestRuntime(self.forests).votes
        self.ours: dict[str, Predict] = {name: ForestRuntime({name: forest}).votes for name, forest in self.forests.items()}
        self.libraries = {name: library(name, path) for name, path in paths.items()}
        self.folded = self.libraries | {DART: library(DART, paths[DART], fold=True)}
        probes = self.rows[:1000]
        expected = {name: np.asarray(predict(probes)) for name, predict in self.libraries.items()}
        self.others = {other: other.answering(paths, expected, probes) for other in OTHERS if other.version}
        self.mix: dict[int, dict[str, tuple[str, Predict]]] = {}
        """Who answers best for each expert, by rows: name and way."""

    def choose(self, scale: Scale, tell: Tell) -> None:
        """Find out whose answers the best mix takes."""
        ways = {
            (name, SIX[name].library): predict for name, predict in self.folded.items()
        } | {(name, other.name): predict for other, known in self.others.items() for name, predict in known.items()}
        contestants: dict[tuple[str, str, int], Contestant] = {
            (*key, n): calls.per_call(predict, self.rows, n, _share(CALLS[n], scale))
            for key, predict in ways.items() for n in SIZES
        }
        took = alternate(contestants, scale.rounds, lambda line: tell(f"choosing the best mix: {line}"))
        self.mix = {n: quickest({key[:2]: us for key, us in took.items() if key[2] == n}, ways) for n in SIZES}


def quickest(
    took: Mapping[tuple[str, str], float], ways: Mapping[tuple[str, str], Predict]
) -> dict[str, tuple[str, Predict]]:
    """Of each expert who took least, and its way. took, ways: by expert and who."""
    found = {}
    for name in dict.fromkeys(name for name, _ in took):
        who = min((who for other, who in took if other == name), key=lambda who: took[name, who])
        found[name] = who, ways[name, who]
    return found


def one_after_the_other(all_of_them: Mapping[str, Predict]) -> Predict:
    """Their answers side by side, as ours are: (n, k, 3)."""
    asked = list(all_of_them.values())

    def predict(rows: F32) -> NDArray[Any]:
        out = np.empty((len(rows), len(asked), 3), np.float32)
        for place, one in enumerate(asked):
            out[:, place] = one(rows)
        return out

    return predict


def _share(full: int, scale: Scale) -> int:
    return max(1, round(full * scale.share))


def _contestants(trees: Trees, scale: Scale, cores: Cores, usable: list[int], tell: Tell) -> dict[Any, Contestant]:
    trees.choose(scale, tell)
    libraries, folded = one_after_the_other(trees.libraries), one_after_the_other(trees.folded)
    mixes = {n: one_after_the_other({name: way for name, (_, way) in mix.items()}) for n, mix in trees.mix.items()}
    found: dict[Any, Contestant] = {}
    for n in SIZES:
        per_call = partial(calls.per_call, rows=trees.rows, n=n, calls=_share(CALLS[n], scale))
        for who, predict in (("ours", trees.together), ("libraries", libraries), ("folded", folded), ("mix", mixes[n])):
            found[who, n] = per_call(predict)
        if n in ALONE:
            for name in SIX:
                found["ours", name, n], found["library", name, n] = per_call(trees.ours[name]), per_call(trees.libraries[name])
            found["folded", DART, n] = per_call(trees.folded[DART])
    one = partial(calls.per_call, rows=trees.rows, n=1)
    for who, predict in (("ours", trees.together), ("libraries", libraries), ("mix", mixes[1])):
        found["cold", who] = one(predict, calls=_share(COLD_CALLS, scale), between=calls.flusher())
        found["p99", who] = one(predict, calls=_share(P99_CALLS, scale), of=calls.p99)
    hurried = one(trees.together, calls=_share(10 * P99_CALLS, scale), of=calls.p99)
    paced = one(trees.together, calls=_share(P99_CALLS, scale), of=calls.p99, between=partial(time.sleep, PAUSE_S))
    for pace, alone in ((PACED, paced), (HURRIED, hurried)):
        found["p99 alone", pace] = alone
        if len(usable) > 1:
            for interval in INTERVALS_S:
                found["p99 beside", pace, interval] = calls.beside_busy(alone, cores.others, interval)
    if len(usable) > 1:
        for threads in (1, 2):
            found["threads", threads] = calls.in_threads(
                trees.together, trees.rows, THREADED, _share(THREADED_CALLS, scale), usable[-threads:]
            )
    return found


def _processes(folder: Path, trees: Trees, cores: Cores) -> dict[Any, Contestant]:
    processes = Processes(folder, trees.forests, trees.rows, cores.engine)
    return {
        **{("start", which): processes.start(which) for which in ("ours", "libraries")},
        **{("memory", which): processes.memory(which) for which in ("ours", "libraries", "bare")},
    }


class Rows:
    """Figures as rows."""

    def __init__(self, figures: dict[Any, float], rounds: int, trees: Trees) -> None:
        self._of, self._rounds, self._trees = figures, rounds, trees

    def together(self) -> Iterator[Row]:
        peers = {"libraries": "the libraries, one after the other", "folded": "the same, DART folded"}
        for n in SIZES:
            mix = {n: f"the best mix: {_mixed(self._trees.mix[n])}"}
            for who in ("libraries", "folded", "mix"):
                yield self._times(f"six in one pass, {_rows(n)}", ("ours", n), peers.get(who) or mix[n], (who, n),
                                  TIMES.get((n, who)), self._counts())
        yield self._at_most("six in one pass, 4,096 rows, each of them", self._of["ours", 4096] / 4096, ROW_US)
        yield self._at_most("six in one pass, one row, cold caches", self._of["cold", "ours"], COLD_US)
        for kind, what in (("cold", "one row, cold caches"), ("p99", "one row, p99")):
            for who in ("libraries", "mix"):
                yield self._times(f"six in one pass, {what}", (kind, "ours"), peers.get(who) or "the best mix", (kind, who), None)

    def alone(self) -> Iterator[Row]:
        for name, kind in SIX.items():
            for n in ALONE:
                yield self._times(f"{name} alone, {_rows(n)}", ("ours", name, n), kind.library, ("library", name, n),
                                  ALONE_TIMES[n], {"trees": self._trees.forests[name].root.size})
        for n in ALONE:
            yield self._times(f"{DART} alone, {_rows(n)}", ("ours", DART, n), "xgboost, folded", ("folded", DART, n), None)

    def exactness(self) -> Iterator[Row]:
        whole = np.nan_to_num(self._trees.rows)
        for name, forest in self._trees.forests.items():
            odd = probing_rows(forest, len(whole))
            for rows, which in ((whole, "without NaN"), (odd, "on and beside thresholds, half of them with NaN")):
                off = difference(forest, self._trees.libraries[name], rows)
                yield Row(f"{name}: largest difference, rows {which}", off, f"{SIX[name].library}'s probabilities", None, "",
                          1, f"≤ {WITHIN:g}", off <= WITHIN, {"rows": len(rows)})
        differ = rows_that_differ(self._trees.together, self._trees.rows)
        yield Row(f"rows whose bits depend on their batch ({', '.join(map(str, SPLITS))} or all at once): "
                  + ("differ" if differ else "equal"), differ, "", None, "rows", 1, "none", differ == 0)

    def threads(self) -> Iterator[Row]:
        if ("threads", 2) not in self._of:
            yield Row("six in one pass, one row, p99 beside a busy thread", self._of["p99 alone", PACED], "alone", None, "µs",
                      self._rounds, reason="there is only one core")
            return
        one, two = self._of["threads", 1], self._of["threads", 2]
        yield Row(f"six in one pass, two threads on two cores, {THREADED} rows a call", two, "one thread", one, "rows/s",
                  self._rounds, "≥ 1.9×", two >= 1.9 * one)
        for pace in (PACED, HURRIED):
            alone = self._of["p99 alone", pace]
            for interval in INTERVALS_S:
                beside = self._of["p99 beside", pace, interval]
                what = f"six in one pass, one row, p99 beside a busy Python thread, {pace}, switch interval {1e3 * interval:g} ms"
                yield Row(what, beside, "alone", alone, "µs", self._rounds,
                          *(("≤ 2×", beside <= 2.0 * alone) if pace == PACED else ()))

    def serving(self) -> Iterator[Row]:
        ours, theirs = self._of["start", "ours"], self._of["start", "libraries"]
        what = "a process with the six libraries' files"
        yield Row("exec → first answer of the six, warm kernel cache", ours, what, theirs, "s", self._rounds, "≤ 0.5 s",
                  ours <= 0.5)
        ours, theirs, bare = (self._of["memory", which] for which in ("ours", "libraries", "bare"))
        yield Row("resident memory of a process that serves the six", ours, what, theirs, "MB", self._rounds, "≤ 50 %",
                  ours <= 0.5 * theirs)
        yield Row("the same, above a bare Python with NumPy", ours - bare, what, theirs - bare, "MB", self._rounds)

    def missing(self) -> Iterator[Row]:
        """A row for each that isn't here and so isn't part of the mix."""
        for other in OTHERS:
            if not other.version:
                yield Row("six in one pass, one row", self._of["ours", 1], other.name, None, "µs", self._rounds,
                          reason=f"not installed: {other.install}")

    def _counts(self) -> dict[str, int]:
        return {name: forest.root.size for name, forest in self._trees.forests.items()}

    def _times(
        self, what: str, ours: Any, peer: str, theirs: Any, times: float | None, counts: dict[str, int] | None = None
    ) -> Row:
        mine, other = self._of[ours], self._of[theirs]
        return Row(what, mine, peer, other, "µs", self._rounds, f"≥ {times:g}×" if times else "",
                   other >= times * mine if times else None, counts or {})

    def _at_most(self, what: str, us: float, most: float) -> Row:
        return Row(what, us, "", None, "µs", self._rounds, f"≤ {most:g} µs", us <= most)


def difference(forest: Forest, predict: Predict, rows: F32) -> float:
    """The largest between what is served and the library's probabilities."""
    return parity(forest, np.asarray(predict(rows), np.float64), rows)


def rows_that_differ(votes: Predict, rows: F32) -> int:
    """Rows of which some batch size gives other bits than all rows at once."""
    bits = votes(rows).view(np.uint32).reshape(len(rows), -1)
    other = np.zeros(len(rows), np.bool_)
    for size in SPLITS:
        parts = np.concatenate([votes(rows[at:at + size]) for at in range(0, len(rows), size)])
        other |= (parts.view(np.uint32).reshape(len(rows), -1) != bits).any(1)
    return int(other.sum())


def _mixed(mix: Mapping[str, tuple[str, Predict]]) -> str:
    """Who answers for which."""
    by_who: dict[str, list[str]] = {}
    for name, (who, _) in mix.items():
        by_who.setdefault(who, []).append(name)
    return "; ".join(f"{who} ({', '.join(names)})" for who, names in by_who.items())


def _rows(n: int) -> str:
    return "one row" if n == 1 else f"{n:,} rows"
