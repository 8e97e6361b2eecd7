"""Contestants that alternate: each once per round, so that a noisy minute of the machine meets all of them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Mapping
from statistics import median
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)
Tell = Callable[[str], None]
Contestant = Callable[[], float]
"""Does its work once; says its own figure, in its own unit."""


def alternate(contestants: Mapping[Name, Contestant], rounds: int, tell: Tell) -> dict[Name, float]:
    """The median of each contestant's figures. A round before the first warms caches and doesn't count.

    The cyclic garbage collector rests, as it does in `timeit`: it would charge one contestant for what another left.
    """
    figures: dict[Name, list[float]] = {name: [] for name in contestants}
    for k in range(rounds + 1):
        tell(f"round {k} of {rounds}" if k else "warming up")
        for name, contestant in contestants.items():
            gc.collect()
            gc.disable()
            try:
                figure = contestant()
            finally:
                gc.enable()
            if k:
                figures[name].append(figure)
    return {name: median(of) for name, of in figures.items()}
