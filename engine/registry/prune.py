"""Which bundles may go: old ones that no alias names and no log may still ask for."""

from __future__ import annotations

from collections.abc import Iterable

from .controls import Controls
from .decisions import forget
from .rollout import Activate, Prepare
from .store import Registry


def doomed(versions: Iterable[str], keep: int, needed: Iterable[str]) -> list[str]:
    """All but the newest `keep` and those needed, oldest first. Pure."""
    kept = set(needed)
    return [version for version in sorted(versions, key=int)[:-keep] if version not in kept]


def needed_by(controls: Controls, since: int) -> set[str]:
    """Versions that the log may still ask for: named by a record at or after place `since`, or by another deployment.

    since: the lowest k of an `activate` that a kept checkpoint of any partition had followed, 0 where one has none. A
    `prepare` counts: somebody may be waiting to activate it.
    """
    ours = {c.body.version for c in controls.holding() if isinstance(c.body, Activate | Prepare) and c.k >= since}
    return ours | controls.named_by_others()


def prune(registry: Registry, keep: int, needed: Iterable[str]) -> list[str]:
    """Remove what may go; returns the versions."""
    gone = doomed(registry.versions(), keep, {*needed, *registry.aliases().values()})
    for version in gone:
        registry.remove(version)
        forget(registry, version)
    return gone
