"""Experts' votes → one probability per class, and how much the experts disagree.

Each expert is calibrated as the manifest says, then all are averaged with the manifest's weights, in its order. One
kernel does both, so that the same votes give the same bits everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from copy import copy

import numpy as np

from ..errors import ModelRefused
from ..features.detmath import det_exp, det_log
from ..jit import kernel
from ..manifest import Expert, Manifest
from ..types import CLASSES, F32, F64
from .base import Explains, Runtime

K = len(CLASSES)

FLOOR = 1e-7
"""No probability is below it when its logarithm is taken."""

_MODERATE = 1e100
_GOOD = -1
_BUY, _SELL = 1, 2


@kernel
def _blend(
    votes: F32, prior: F64, matrix: F64, bias: F64, weight: F64, probabilities: F32, disagreement: F32
) -> int:
    """(n, k, 3) votes -> (n, 3) and (n,). Returns the first expert whose vote is not a distribution, or _GOOD."""
    n, experts = votes.shape[:2]
    p, log_p, mean, margin = np.empty(K), np.empty(K), np.empty(K), np.empty(experts)
    for i in range(n):
        mean[:] = 0.0
        for e in range(experts):
            total = 0.0
            for c in range(K):
                p[c] = votes[i, e, c] * prior[e, c]
                total += p[c]
            if not 0.0 < total < np.inf:
                return e
            for c in range(K):
                log_p[c] = det_log(max(p[c] / total, FLOOR))
            for c in range(K):
                p[c] = matrix[e, c, 0] * log_p[0] + matrix[e, c, 1] * log_p[1] + matrix[e, c, 2] * log_p[2] + bias[e, c]
            highest = max(p[0], p[1], p[2])
            total = 0.0
            for c in range(K):
                p[c] = det_exp(p[c] - highest)
                total += p[c]
            for c in range(K):
                p[c] /= total
                mean[c] += weight[e] * p[c]
            margin[e] = p[_BUY] - p[_SELL]
        centre, variance = 0.0, 0.0
        for e in range(experts):
            centre += weight[e] * margin[e]
        for e in range(experts):
            variance += weight[e] * (margin[e] - centre) * (margin[e] - centre)
        for c in range(K):
            probabilities[i, c] = mean[c]
        disagreement[i] = np.sqrt(variance)
    return _GOOD


class Ensemble:
    """All experts of a bundle: made once, never changes, any number of threads may ask.

    Raises ModelRefused where a runtime and the manifest name different experts (`expert_missing`), or the weights or
    a calibration are no numbers to count with (`calibration`).
    """

    def __init__(
        self, runtimes: Iterable[Runtime], experts: Sequence[Expert], *, manifest: Manifest | None = None
    ) -> None:
        self.experts = tuple(expert.name for expert in experts)
        self.manifest = manifest
        self.version = manifest.version if manifest else ""
        self._runtimes = [(runtime, self._places(runtime)) for runtime in runtimes]
        answered = sorted(place for _, places in self._runtimes for place in places)
        if answered != list(range(len(experts))):
            raise ModelRefused(
                "expert_missing", f"{len(experts)} experts in the manifest, {len(answered)} in the runtimes",
                hint="each expert of the manifest is answered by exactly one runtime",
            )
        calibrations = [expert.calibration for expert in experts]
        self._prior = np.array([calibration.prior for calibration in calibrations], np.float64)
        self._matrix = np.array([calibration.matrix for calibration in calibrations], np.float64)
        self._bias = np.array([calibration.bias for calibration in calibrations], np.float64)
        total = math.fsum(expert.weight for expert in experts)
        self._check(experts, total)
        self._weight = np.array([expert.weight / total for expert in experts], np.float64)

    def weighted(self, weights: Mapping[str, float]) -> Ensemble:
        """The same experts under other weights, relative to each other; those not named keep theirs.

        Where all would be 0 the weights stay as they are.
        """
        wanted = [weights.get(name, own) for name, own in zip(self.experts, self._weight.tolist(), strict=True)]
        total = math.fsum(wanted)
        if not weights or total <= 0.0:
            return self
        other = copy(self)
        other._weight = np.array([weight / total for weight in wanted], np.float64)
        return other

    def raw(self, X: F32) -> F32:
        """(n, F) float32 -> (n, k, 3) float32: every expert's own probabilities, in the manifest's order."""
        if len(self._runtimes) == 1 and self._runtimes[0][0].experts == self.experts:
            return self._runtimes[0][0].votes(X)
        out = np.empty((len(X), len(self.experts), K), np.float32)
        for runtime, places in self._runtimes:
            out[:, places] = runtime.votes(X)
        return out

    def votes(self, X: F32) -> dict[str, F32]:
        """(n, F) float32 -> {expert: (n, 3)}, as `raw`."""
        raw = self.raw(X)
        return {name: raw[:, e] for e, name in enumerate(self.experts)}

    def attributions(self, X: F32) -> dict[str, F64]:
        """(n, F) float32 -> {expert: (n, F + 1, 3) float64}, what each feature added to the margins of each class, last what was
        expected before any feature was known; of the experts whose runtime can say it. An expert's votes are the softmax of
        the sum over its features, before calibration. For a question now and then: it takes milliseconds."""
        return {
            name: parts[:, e] for runtime, _ in self._runtimes if isinstance(runtime, Explains)
            for parts in [runtime.attributions(X)] for e, name in enumerate(runtime.experts)
        }

    def blend(self, votes: F32) -> tuple[F32, F32]:
        """(n, k, 3) float32 as `raw` gives them -> probabilities (n, 3) and disagreement (n,), both float32.

        Disagreement is the weighted standard deviation of p_buy - p_sell over the calibrated experts (0 for one).
        Raises ModelRefused (`vote`) where an expert's vote is not a distribution: NaN, infinite, or all zero.
        """
        if votes.ndim != 3 or votes.shape[1:] != (len(self.experts), K):
            raise ModelRefused(
                "vote", f"votes of shape {votes.shape} for {len(self.experts)} experts",
                hint="the votes come from `raw` of the same bundle",
            )
        if votes.dtype != np.float32 or not (votes.flags.c_contiguous and votes.flags.writeable):
            votes = np.array(votes, np.float32, order="C")
        probabilities = np.empty((len(votes), K), np.float32)
        disagreement = np.empty(len(votes), np.float32)
        bad = _blend(votes, self._prior, self._matrix, self._bias, self._weight, probabilities, disagreement)
        if bad != _GOOD:
            raise ModelRefused(
                "vote", f"expert {self.experts[bad]} answered no distribution", hint="activate another bundle",
            )
        return probabilities, disagreement

    def predict_proba(self, X: F32) -> F32:
        """(n, F) float32 -> (n, 3) float32 [neutral, buy, sell]."""
        return self.blend(self.raw(X))[0]

    def _places(self, runtime: Runtime) -> list[int]:
        unknown = [name for name in runtime.experts if name not in self.experts]
        if unknown:
            raise ModelRefused(
                "expert_missing", f"a runtime answers for {', '.join(unknown)}, which the manifest doesn't name",
                hint="each expert of the manifest is answered by exactly one runtime",
            )
        return [self.experts.index(name) for name in runtime.experts]

    def _check(self, experts: Sequence[Expert], total: float) -> None:
        weights = all(expert.weight >= 0.0 for expert in experts) and 0.0 < total < math.inf
        priors = bool(np.all(self._prior >= 0.0) and np.all(self._prior.sum(1) > 0.0))
        numbers = all(np.all(np.abs(table) <= _MODERATE) for table in (self._prior, self._matrix, self._bias))
        if not (weights and priors and numbers):
            raise ModelRefused(
                "calibration", "the manifest's weights or calibrations are not numbers to count with",
                hint="weights and priors are at least 0 and not all 0; no number is NaN or beyond 1e100",
            )
