"""When to claim a partition. Pure: what was seen and when comes in, the decision goes out.

The fence makes any claim safe; the rules here only keep live owners from being disturbed: nobody's partition and
one's own (a restart) are claimed at once, another's when its beat has stood still for the lease of our own clock.
"""

from __future__ import annotations

from ..transports.base import Ownership


class Watch:
    """What one claimant has seen of the partitions it doesn't own."""

    def __init__(self, name: str, lease_ns: int) -> None:
        self._name = name
        self._lease_ns = lease_ns
        self._seen: dict[int, tuple[Ownership, int]] = {}

    def should_claim(self, partition: int, now: Ownership, at_ns: int) -> bool:
        """`now`: who holds it, read at `at_ns` of a clock that only rises."""
        if now.epoch == 0 or now.owner == self._name:
            return True
        before, since = self._seen.get(partition, (None, at_ns))
        if before != now:
            self._seen[partition] = (now, at_ns)
            return False
        return at_ns - since >= self._lease_ns
