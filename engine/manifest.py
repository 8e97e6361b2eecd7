"""What a bundle says of itself: manifest.json, typed. Its JSON Schema is docs/schemas/manifest.json.

A bundle is everything that answers for a stretch of the log: which features, when to ask, which experts, how their
votes become probabilities and probabilities a side, and how prices were counted. The log's position and the
manifest's fields together decide every byte of a signal.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

FORMAT = 1
"""Of the manifest and the files it names; a bundle of another format is refused."""

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Triple = Annotated[list[float], Meta(min_length=3, max_length=3)]


class Features(Struct, frozen=True, forbid_unknown_fields=True):
    """The columns the experts were trained on, in order, and the fingerprint of how they are computed."""

    names: list[str]
    fingerprint: str


BARS = {"bar:1m": 60, "bar:5m": 300, "bar:15m": 900, "bar:1h": 3600}
"""Seconds of a bar; bars are [start, end), counted from midnight UTC."""
KINDS = ("cusum", "tick", *BARS)
"""Of moments."""


class Moments(Struct, frozen=True, forbid_unknown_fields=True):
    """When the ensemble is asked, over which horizon, how wide the barrier is.

    H = clip((kappa · spread / sigma)², h_min_s, h_max_s); width = max(k_vol · sigma · √H, k_spread · spread);
    `cusum`: asked when the mid has moved by c · max(sigma · √H, spread) since the last time, at least `min_gap_s`
    later, with a spread of at most `max_spread` times its mean; `tick`: asked at every tick; `bar:1m`, `bar:5m`,
    `bar:15m`, `bar:1h`: asked at the tick that closes a bar, the first at or past its end. A bar without ticks doesn't ask.
    """

    kind: str = "cusum"
    kappa: float = 4.0
    h_min_s: float = 60.0
    h_max_s: float = 3600.0
    k_vol: float = 0.5
    k_spread: float = 1.0
    c: float = 0.25
    min_gap_s: float = 2.0
    max_spread: float = 3.0


class Calibration(Struct, frozen=True, forbid_unknown_fields=True):
    """From an expert's vote to a probability: p·prior, renormalised, then softmax(matrix · log p + bias).

    `prior` puts back what class weights bent (n_c / n · K per class); matrix and bias are the Dirichlet calibration
    (Kull et al. 2019, arXiv 1910.12656). Order [neutral, buy, sell].
    """

    prior: Triple
    matrix: Annotated[list[Triple], Meta(min_length=3, max_length=3)]
    bias: Triple


class Expert(Struct, frozen=True, forbid_unknown_fields=True):
    """One voter: which runtime answers for it, from which file, with what weight."""

    name: str
    idx: int
    runtime: str
    file: str
    weight: float
    calibration: Calibration
    parity: float
    params: dict[str, Any]


class Policy(Struct, frozen=True, forbid_unknown_fields=True):
    """From probabilities to a side; margin = p_buy − p_sell.

    buy, sell: the margin above which, below which a side is named; sell is negative. hysteresis: a named side is kept
    while the margin stays beyond this part of its threshold. cooldown_s: event time before another side may be named.
    max_spread: no side while the spread is wider than this many times its mean.
    """

    buy: float
    sell: float
    hysteresis: float = 0.5
    cooldown_s: float = 0.0
    max_spread: float = 3.0


class Training(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the bundle was trained on: event stamps (ns UTC), counts, and a digest of the ticks as admitted.

    labels: the file its labels came from, whose rows the digest covers then. Not there: the triple barrier of `moments`,
    over the ticks that it is asked at.
    """

    start: int
    end: int
    symbols: list[str]
    ticks: int
    events: int
    digest: Sha256
    labels: str = ""


class Golden(Struct, frozen=True, forbid_unknown_fields=True):
    """Rows and the probabilities they must give: replayed before a bundle may answer. null is NaN."""

    rows: list[list[float | None]]
    probabilities: list[Triple]


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """manifest.json of a bundle; `manifest.sig` beside it is its Ed25519 signature."""

    format: int
    version: str
    created: str
    classes: list[str]
    features: Features
    moments: Moments
    instruments: dict[str, Any]
    experts: Annotated[list[Expert], Meta(min_length=1)]
    policy: Policy
    training: Training
    metrics: dict[str, Any]
    libraries: dict[str, str]
    golden: Golden
    files: dict[str, Sha256]
