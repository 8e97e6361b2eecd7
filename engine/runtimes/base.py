"""The seam of serving: one runtime answers for all experts of its kind at once.

A runtime is made once per bundle, while the bundle is loaded; from then on `votes` is called by the worker, any
number of times, possibly from several threads. It never changes. A row's bits don't depend on the batch it is in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol, runtime_checkable

from ..types import F32, F64


class Runtime(ABC):
    """Answers for k experts."""

    experts: tuple[str, ...]

    @abstractmethod
    def votes(self, rows: F32) -> F32:
        """(n, F) float32 feature rows -> (n, k, 3) float32, [neutral, buy, sell] per expert, each summing to 1."""


@runtime_checkable
class Explains(Protocol):
    """A runtime that can say what each feature added."""

    experts: tuple[str, ...]

    def attributions(self, rows: F32) -> F64:
        """(n, F) float32 -> (n, k, F + 1, 3) float64: by feature and, last, what was expected before any was known."""
