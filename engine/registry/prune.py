"""Which bundles may go: old ones that no alias names and no log may still ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..transports.base import Log
from .controls import Controls
from .decisions import forget
from .rollout import Activate
from .store import Registry


def doomed(versions: Iterable[str], keep: int, needed: Iterable[str]) -> list[str]:
    """All but the newest `keep` and those needed, oldest first. Pure."""
    kept = set(needed)
    return [version for version in sorted(versions, key=int)[:-keep] if version not in kept]


def needed_by(log: Log, controls: Controls, oldest_k: Callable[[list[bytes]], int]) -> set[str]:
    """Versions that the log may still ask for: named at or after the oldest kept checkpoint, or by another deployment.

    oldest_k: the lowest k of an `activate` that one of a partition's checkpoints had followed, 0 where there is none.
    """
    since = min(oldest_k(log.checkpoints(partition)) for partition in range(log.partitions))
    ours = {c.body.version for c in controls.holding() if isinstance(c.body, Activate) and c.k >= since}
    return ours | controls.named_by_others()


def prune(registry: Registry, keep: int, needed: Iterable[str]) -> list[str]:
    """Remove what may go; returns the versions."""
    gone = doomed(registry.versions(), keep, {*needed, *registry.aliases().values()})
    for version in gone:
        registry.remove(version)
        forget(registry, version)
    return gone
