"""An image: everything of a partition that must survive it, as one consistent cut at a record's end."""

from __future__ import annotations

from typing import NamedTuple

from ..instruments import Instrument
from ..registry.rollout import Settings
from ..types import Cursor


class Image(NamedTuple):
    """Copied when a batch is cut; the policy's rows join when the batch's answers have been decided."""

    cursor: Cursor
    records: int
    instruments: list[Instrument]
    changed: dict[int, bytes]
    """Event time, features and moments of each symbol that moved since the last image, by its number."""
    followed: dict[str, int]
    """The highest k followed, by slot."""
    bundle: tuple[str, str]
    """Version and digest of the active bundle, empty before the first activation."""
    before: tuple[str, str]
    """Of the one it took over from."""
    proven: bool
    """Whether the active bundle has decided anything here."""
    settings: Settings
    paused: tuple[str, ...] = ()
    """Symbols and patterns."""
