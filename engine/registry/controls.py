"""The control records of a log as one reader sees them: read once each, held against the trusted key."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from ..transports.base import Log
from ..types import Entry
from . import rollout, signing

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Controls:
    """`models` of a log, seen by one deployment. Records there never change: each is fetched once."""

    def __init__(self, log: Log, public: Ed25519PublicKey) -> None:
        self._log = log
        self._verify = partial(signing.verify, public)
        self._models = rollout.Models()
        self._holding: list[rollout.Control] = []
        self.last = rollout.FIRST_K - 1
        """The highest place fetched, whoever's record it is."""

    def refresh(self) -> None:
        """Fetch what was appended since. Raises ModelRefused `control_newer`."""
        new = self._log.controls(self.last)
        for k, payload in new:
            self._models.add(k, payload)
        if new:
            self._holding += rollout.holding(
                self._models, self._log.identity, self._log.deployment, self._verify, after=self.last
            )
            self.last = new[-1][0]

    def check(self, entry: Entry, followed: Mapping[str, int]) -> rollout.Control | None:
        """What a copy met in a partition means; raises as `rollout.check` does."""
        self.refresh()                             # a record is in `models` before its first copy
        return rollout.check(
            entry.payload, self._models, self._log.identity, self._log.deployment, self._verify, followed
        )

    def holding(self, after: int = 0) -> list[rollout.Control]:
        """This deployment's records above place `after` that hold, as of the last refresh."""
        return [control for control in self._holding if control.k > after]

    def newest(self) -> dict[str, rollout.Control]:
        """By slot the record of the highest k, as of the last refresh."""
        return {control.slot: control for control in self._holding}

    def due(self) -> list[rollout.Control]:
        """The records that must stand in every partition, in the order of k.

        The newest of each slot, and the settings that the newest activation was decided on.
        """
        newest = {control.slot: control.k for control in self._holding}
        activation = newest.get(rollout.Activate.slot, 0)
        settings = [control.k for control in self._holding if control.slot == rollout.Settings.slot]
        wanted = {newest[slot] for slot in rollout.COPIED if slot in newest}
        wanted.update([k for k in settings if k < activation][-1:])
        return [control for control in self._holding if control.k in wanted]

    def payload(self, k: int) -> bytes:
        """The bytes at k: what every copy holds."""
        return self._models.payloads[k]

    def named_by_others(self) -> set[str]:
        """Versions that other deployments' activations name."""
        found = set()
        for deployment in rollout.deployments(self._models) - {self._log.deployment}:
            for control in rollout.holding(self._models, self._log.identity, deployment, self._verify):
                if isinstance(control.body, rollout.Activate):
                    found.add(control.body.version)
        return found


def read_controls(log: Log, public: Ed25519PublicKey) -> Controls:
    """All there is now."""
    controls = Controls(log, public)
    controls.refresh()
    return controls
