"""The runtime of all forests of a bundle: vector tables for those that can be laid out so, portable ones for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ...cpu import AVX512, PORTABLE, way
from ...errors import ModelRefused
from ...types import CLASSES, F32, F64
from ..base import Runtime
from .explain import attributions
from .scalar import Scalars
from .tables import plan
from .vector import Vectors

if TYPE_CHECKING:
    from .layout import Forest


class ForestRuntime(Runtime):
    """Answers for all forests of a bundle in one call; made once, never changes, any number of threads may ask.

    Forests are answered as `Forest.exact` says: their sums are exact, so that all ways agree bit for bit. What can't be rounded
    so is summed in the order of its trees by the portable kernel, on every way. Raises ModelRefused
    (`forest_features`) where the forests don't read the same number of columns, UsageError (`forest_way`).
    """

    def __init__(self, forests: Mapping[str, Forest]) -> None:
        self.experts = tuple(forests)
        widths = {forest.n_features for forest in forests.values()}
        if len(widths) != 1:
            raise ModelRefused(
                "forest_features", f"forests over {sorted(widths)} features can't answer together",
                hint="every expert of a bundle is trained on the same columns",
            )
        self.n_features = widths.pop()
        self._forests = [forest.exact() for forest in forests.values()]
        self._answering: list[Scalars | Vectors] = []
        left = list(range(len(self._forests)))
        chosen = way()
        if chosen != PORTABLE:
            planned = plan(self._forests)
            left = planned.left
            if planned.sections:
                self._answering.append(Vectors(planned, self._forests, chosen == AVX512))
        if left:
            self._answering.append(Scalars({place: self._forests[place] for place in left}))

    def __reduce__(self) -> tuple[Any, ...]:
        """Tables hold addresses: a copy is made anew."""
        return ForestRuntime, (dict(zip(self.experts, self._forests, strict=True)),)

    def votes(self, rows: F32) -> F32:
        """(n, F) float32 -> (n, k, 3) float32; ±inf counts as NaN. Raises ModelRefused (`forest_features`)."""
        rows = self._checked(rows)
        out = np.empty((len(rows), len(self.experts), len(CLASSES)), np.float32)
        for some in self._answering:
            some.answer(rows, out)
        return out

    def _checked(self, rows: F32) -> F32:
        if rows.ndim != 2 or rows.shape[1] != self.n_features:
            raise ModelRefused(
                "forest_features", f"rows of shape {rows.shape}, the forests read (n, {self.n_features})",
                hint="the rows must be the bundle's features, in its order",
            )
        if rows.dtype != np.float32 or not (rows.flags.c_contiguous and rows.flags.writeable):
            rows = np.array(rows, np.float32, order="C")
        return rows

    def attributions(self, rows: F32) -> F64:
        """(n, F) float32 -> (n, k, F + 1, 3) float64: what each feature added to each class's margin, and last what was expected
        before any was known. Their sum is the margin; softmax of the margins are the votes. Takes its time."""
        rows = self._checked(rows)
        return np.stack([attributions(forest, rows) for forest in self._forests], 1)

    @property
    def nbytes(self) -> int:
        """bytes of its tables."""
        return sum(some.nbytes for some in self._answering)
