"""What is counted of a trainer process: its recorder, its runs, what it keeps. Plain attributes, one writer each."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from .. import clock
from .health import Verdict, Vitals, health, started
from .supervise import Loop

BUCKETS_S = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
"""Upper bounds of a run's duration: a second to two hours."""


class TrainerObserver:
    """Counts of one trainer since its start."""

    def __init__(self, name: str = "", deployment: str = "") -> None:
        self.name = name
        self.deployment = deployment
        self.loops: Sequence[Loop] = ()
        self.last_turn: int | None = None
        self.runs: Counter[str] = Counter()
        """By outcome, as the trainer names them."""
        self.durations = [0] * (len(BUCKETS_S) + 1)
        """Runs that took up to each bound and longer than the one before; the last is above all."""
        self.duration_s = 0.0
        self.in_progress = False
        self.last_success: float | None = None
        """Seconds UTC when a run last made a bundle."""
        self.bundles = 0
        """In the registry."""
        self.recorded: Counter[str] = Counter()
        """Ticks met by the recorder, by verdict."""
        self.recorder_lag_s = 0.0
        """How old the newest recorded record is, where the log holds newer ones; it rises while the recorder is silent."""
        self.lake_bytes = 0

    def turned(self) -> None:
        """The main loop is alive."""
        self.last_turn = clock.monotonic_ns()

    def run_started(self) -> None:
        self.in_progress = True

    def run_ended(self, outcome: str, seconds: float, bundle: bool) -> None:
        """outcome: a word for the counter; bundle: whether the run made one."""
        self.runs[outcome] += 1
        self.durations[bisect_left(BUCKETS_S, seconds)] += 1
        self.duration_s += seconds
        self.in_progress = False
        if bundle:
            self.last_success = clock.wall_ns() / 1e9

    def vitals(self) -> Vitals:
        return Vitals(self.last_turn, tuple(loop.death for loop in self.loops if loop.death))

    def health(self) -> Verdict:
        return health(self.vitals(), clock.monotonic_ns())

    def ready(self) -> Verdict:
        return started(self.vitals(), clock.monotonic_ns())
