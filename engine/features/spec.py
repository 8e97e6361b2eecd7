"""What a feature column is, in words a person can check: name, formula, window, unit, warm-up, source."""

from __future__ import annotations

from typing import NamedTuple


class Column(NamedTuple):
    """One column of the matrix."""

    name: str
    formula: str
    window: str
    unit: str
    warmup: str
    source: str


class Family(NamedTuple):
    """A file of `families/`: the words of state it needs per symbol, its columns, and its version.

    version: raised with every change of a formula; part of the fingerprint, so that a bundle trained on the old
    formula is refused.
    """

    name: str
    version: int
    words: int
    columns: tuple[Column, ...]
