"""Contestants that answer rows: what a call takes, warm and cold, in threads, and beside a thread that is busy.

Rows differ from call to call: a row asked again finds every branch predicted, which flatters whoever walks trees by branches.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from statistics import median
from time import perf_counter_ns

import numpy as np

from engine.types import F32

from .answerers import Predict
from .machine import pin
from .rounds import Contestant

_CACHE = 6 << 20
"""bytes that are touched between cold calls: more than a core's own caches hold."""


def batches(rows: F32, n: int) -> list[F32]:
    """All rows, n at a time; what remains is left out."""
    return [rows[at:at + n] for at in range(0, len(rows) - n + 1, n)]


def p99(took: Sequence[float]) -> float:
    return float(np.percentile(took, 99))


def per_call(
    predict: Predict, rows: F32, n: int, calls: int, of: Callable[[list[float]], float] = median,
    between: Callable[[], None] | None = None,
) -> Contestant:
    """µs of a call with n rows: the median, or what `of` makes of them, of so many calls in a row. between: done before each."""
    turns = cycle(batches(rows, n))

    def once() -> float:
        took: list[float] = []
        for batch in islice(turns, calls):
            if between is not None:
                between()
            began = perf_counter_ns()
            predict(batch)
            took.append((perf_counter_ns() - began) / 1e3)
        return of(took)

    return once


def flusher() -> Callable[[], None]:
    """Pushes what a call has touched out of a core's own caches."""
    touched = np.zeros(_CACHE, np.uint8)

    def flush() -> None:
        np.add(touched, 1, out=touched)

    return flush


def in_threads(predict: Predict, rows: F32, n: int, calls: int, cores: Sequence[int]) -> Contestant:
    """Rows a second of a thread on each of these cores, each with so many calls of n rows."""
    def once() -> float:
        start = threading.Barrier(len(cores) + 1)

        def work(core: int, shift: int) -> None:
            pin(0, frozenset({core}))          # 0: this thread
            own = batches(rows, n)
            mine = list(islice(cycle(own[shift % len(own):] + own[:shift % len(own)]), calls))
            predict(mine[0])
            start.wait()
            for batch in mine:
                predict(batch)

        threads = [threading.Thread(target=work, args=(core, shift)) for shift, core in enumerate(cores)]
        for thread in threads:
            thread.start()
        start.wait()
        began = perf_counter_ns()
        for thread in threads:
            thread.join()
        return len(cores) * calls * n / ((perf_counter_ns() - began) / 1e9)

    return once


def beside_busy(contestant: Contestant, cores: frozenset[int], interval_s: float) -> Contestant:
    """The same while a thread on these cores computes in Python; the interpreter has threads take turns after interval_s."""
    def once() -> float:
        usual = sys.getswitchinterval()
        sys.setswitchinterval(interval_s)
        try:
            with _busy(cores):
                return contestant()
        finally:
            sys.setswitchinterval(usual)

    return once


@contextmanager
def _busy(cores: frozenset[int]) -> Iterator[None]:
    ended, began = threading.Event(), threading.Event()

    def spin() -> None:
        pin(0, cores)
        began.set()
        count = 0
        while not ended.is_set():
            for _ in range(1000):
                count += 1

    thread = threading.Thread(target=spin)
    thread.start()
    began.wait()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def usable_cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
