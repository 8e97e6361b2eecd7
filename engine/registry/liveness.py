"""Which owners live: those whose beat was seen to move. Pure: what was seen and when comes in."""

from __future__ import annotations

from collections.abc import Mapping

from ..transports.base import Ownership

ALIVE_NS = 3_000_000_000
"""A beat moves every half second: one that stood still for so long belongs to nobody who lives."""


class Beats:
    """The owners of a log's partitions as one onlooker sees them, over its own rising clock."""

    def __init__(self) -> None:
        self._seen: dict[int, Ownership] = {}
        self._moved: dict[int, int] = {}
        self._since: int | None = None

    def see(self, owners: Mapping[int, Ownership], now: int) -> None:
        """owners: by partition, read at `now` (ns)."""
        if self._since is None:
            self._since = now
        for partition, owner in owners.items():
            before = self._seen.get(partition)
            if before is not None and owner != before and owner.owner:
                self._moved[partition] = now
            self._seen[partition] = owner

    def alive(self, now: int) -> set[str]:
        """Names of the owners whose beat moved lately."""
        return {self._seen[p].owner for p, moved in self._moved.items() if now - moved < ALIVE_NS} - {""}

    def certain(self, now: int) -> bool:
        """Whether every partition's owner is known to live, or has been watched for long enough to say that it doesn't."""
        if self._since is None:
            return False
        waiting = [p for p, owner in self._seen.items() if owner.owner and p not in self._moved]
        return not waiting or now - self._since >= ALIVE_NS
