"""Following control records: from a copy met in a partition to the bundle that answers from there on."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from ..features import FeatureSet
from ..instruments import Instruments
from ..transports.base import Log
from ..types import Entry
from . import rollout, signing
from .bundle import Bundle, check_features, load_bundle
from .store import Registry


class Following(Protocol):
    """Who says what a control record means, and has the bundles."""

    def follow(self, entry: Entry, followed: int) -> tuple[int, Bundle] | None: ...

    def load(self, version: str, digest: str) -> Bundle: ...


class Follower(Following):
    """Loads and keeps the bundles that the log's control records name. One per engine."""

    def __init__(self, log: Log, registry: Registry, rules: Instruments) -> None:
        self._log = log
        self._registry = registry
        self._rules = rules
        self._fingerprint = FeatureSet.default().fingerprint
        self._bundles: dict[str, Bundle] = {}

    def has_something_to_follow(self) -> bool:
        """Whether the log holds a control record of this deployment."""
        verify = partial(signing.verify, self._registry.public_key())
        return rollout.newest(dict(self._log.controls()), self._log.identity, self._log.deployment, verify) is not None

    def follow(self, entry: Entry, followed: int) -> tuple[int, Bundle] | None:
        """(k, the bundle that answers after this record), or None if it changes nothing.

        Raises InputRefused for a copy that doesn't hold, ModelRefused for one that holds and can't be answered.
        """
        control = rollout.check(
            entry.payload, dict(self._log.controls()), self._log.identity, self._log.deployment,
            partial(signing.verify, self._registry.public_key()), followed,
        )
        if control is None:
            return None
        return control.k, self.load(control.body.version, control.body.manifest)

    def load(self, version: str, digest: str) -> Bundle:
        """A verified bundle of this engine's features and instruments. Raises ModelRefused."""
        bundle = self._bundles.get(version)
        if bundle is None or digest != bundle.digest:
            bundle = load_bundle(self._registry, version, digest)
            check_features(bundle.manifest, self._fingerprint, self._rules)
            self._bundles[version] = bundle
        return bundle


def load_for_files(registry: Registry, rules: Instruments, name: str) -> Bundle:
    """A bundle for a run without a log, by version or alias. Raises ModelRefused, UsageError."""
    bundle = load_bundle(registry, name)
    check_features(bundle.manifest, FeatureSet.default().fingerprint, rules)
    return bundle
