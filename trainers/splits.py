"""Train, validation and test in order of time, by one calendar for all symbols, without a label that reaches across.

Symbols move together: a label of one symbol tells of the same day's labels of another, so the boundaries are stamps,
not row numbers. Rows of an earlier part whose label ends less than the embargo before the next part begins are purged
(López de Prado 2018, ch. 7.4).
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from engine.errors import InputRefused
from engine.types import I64

EMBARGO_NS = 3_600_000_000_000


class Split(NamedTuple):
    """Row indices of each part, in order of time; purged rows are in none."""

    train: I64
    validation: I64
    test: I64


def purged_split(
    event_ts: I64, end_ts: I64, *, test: float = 0.2, validation: float = 0.15, embargo_ns: int = EMBARGO_NS
) -> Split:
    """The last `test` of all events, the `validation` share before them, and what lies before both, purged.

    event_ts, end_ts: (n,) ns UTC, in any order of rows: when each was asked and when its outcome was certain. Events
    of one stamp are never parted. Raises InputRefused (split_columns; too_few_events where a part would be empty).
    """
    if event_ts.size != end_ts.size or (end_ts < event_ts).any():
        raise InputRefused(
            "split_columns", "every event needs an end that isn't before it",
            hint="pass event_ts and end_ts of the same labels, row by row",
        )
    order = np.argsort(event_ts, kind="stable")
    ts = event_ts[order]
    starts = [ts[int(ts.size * share)] for share in (1.0 - test - validation, 1.0 - test) if ts.size]
    edges = [0, *np.searchsorted(ts, starts), ts.size]
    parts = [order[a:b] for a, b in pairwise(edges)]
    for k, start in enumerate(starts):
        parts[k] = parts[k][end_ts[parts[k]] + embargo_ns < start]
    if len(parts) < 3 or not all(part.size for part in parts):
        raise InputRefused(
            "too_few_events", f"{ts.size} events leave {[part.size for part in parts]} after purge and embargo",
            hint="train on a longer stretch of ticks: hours, better days, beyond the embargo",
        )
    return Split(*parts)


def audit(split: Split, event_ts: I64, end_ts: I64, embargo_ns: int = EMBARGO_NS) -> None:
    """Raise InputRefused where a split leaks, whoever made it.

    `shuffled`: a part holds events at or after the start of a later one (shuffled folds, or a row in two parts).
    `unpurged`: a label ends less than the embargo before a later part begins. `too_few_events`: a part is empty.
    """
    for name, part, later in (("train", split.train, split.validation), ("validation", split.validation, split.test)):
        if not (part.size and later.size):
            raise InputRefused(
                "too_few_events", f"the {name} part or the one after it is empty",
                hint="train on a longer stretch of ticks",
            )
        start = event_ts[later].min()
        if event_ts[part].max() >= start:
            raise InputRefused(
                "shuffled", f"events of the {name} part lie among those of a later part",
                hint="split by time (purged_split), never at random: neighbouring events share their outcome",
            )
        if end_ts[part].max() + embargo_ns >= start:
            raise InputRefused(
                "unpurged", f"labels of the {name} part end less than {embargo_ns / 1e9:.0f} s before the next begins",
                hint="purge by the end of the label and keep the embargo (purged_split does both)",
            )
