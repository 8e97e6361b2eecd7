"""Who should hold which partition. Pure: what was seen and when comes in, what to claim and what to give up goes out.

The fence makes any claim safe; the rules here only keep live owners from being disturbed. Nobody's partition and one's own
(a restart) are claimed at once, another's when its beat has stood still for the lease of our own clock. Of m engines that
live each holds at most ceil(P / m) partitions; whoever holds more gives the highest ones up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..transports.base import Ownership

FORGOTTEN = 10
"""Leases after which an engine that has said nothing more is taken off the board."""


def word_of(life: str, beats: int) -> bytes:
    """What an engine says on the board at a beat; life: of its process, random."""
    return f"{life} {beats}".encode()


def _life_of(word: bytes) -> str:
    return word.partition(b" ")[0].decode(errors="replace")


class Watch:
    """What one engine has seen of the others, over its own rising clock."""

    def __init__(self, name: str, partitions: int, lease_ns: int) -> None:
        self._name = name
        self._partitions = partitions
        self._lease_ns = lease_ns
        self._owners: dict[int, tuple[Ownership, int]] = {}
        self._engines: dict[str, tuple[bytes, int]] = {}
        self._share = partitions
        self._lives: set[str] = set()

    def engines(self, said: Mapping[str, bytes], at_ns: int) -> list[str]:
        """`said`: by name what each engine of the deployment says on the board, `word_of`; it changes while the engine lives.

        Whoever is met for the first time counts as alive until it has stood still for the lease. Returns the names of
        those who said nothing more for so long that they may be taken off the board.
        """
        self._engines = {
            name: seen if (seen := self._engines.get(name, (b"", 0)))[0] == word else (word, at_ns)
            for name, word in said.items() if name != self._name
        }
        still = {name: at_ns - since for name, (_, since) in self._engines.items()}
        living = [name for name, ns in still.items() if ns < self._lease_ns]
        self._lives = {_life_of(self._engines[name][0]) for name in living}
        self._share = -(-self._partitions // (1 + len(living)))
        return [name for name, ns in still.items() if ns >= FORGOTTEN * self._lease_ns]

    def lives(self, life: str) -> bool:
        """Whether the process of this word lives still, as far as was seen."""
        return life in self._lives

    def claims(self, owners: Mapping[int, Ownership], mine: Collection[int], at_ns: int) -> list[int]:
        """Which of the partitions that aren't ours to claim now; `owners`: who holds each, read at `at_ns`."""
        found: list[int] = []
        for partition, now in sorted(owners.items()):
            if now.owner == self._name or (self._is_free(partition, now, at_ns) and len(mine) + len(found) < self._share):
                found.append(partition)
        return found

    def _is_free(self, partition: int, now: Ownership, at_ns: int) -> bool:
        if not now.owner:
            return True
        before, since = self._owners.get(partition, (None, at_ns))
        if before != now:
            self._owners[partition] = (now, at_ns)
            return False
        return at_ns - since >= self._lease_ns

    def surplus(self, mine: Collection[int]) -> list[int]:
        """Which of ours to give up: what is beyond our share."""
        return sorted(mine)[self._share:]

    def wants_more(self, mine: Collection[int]) -> bool:
        """Whether another partition would be claimed if it were free."""
        return len(mine) < min(self._share, self._partitions)
