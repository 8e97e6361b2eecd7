"""Following control records: from a copy met in a partition to what holds from there on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple, Protocol

from ..errors import InputRefused
from ..features import FeatureSet
from ..types import Entry
from .bundle import Bundle, check_features, load_bundle
from .controls import Controls
from .rollout import Activate, Control, Pause, Resume
from .staging import Staging
from .store import Registry


class Change(NamedTuple):
    """A control record to follow; `bundle` is the one an `activate` names."""

    control: Control
    bundle: Bundle | None

    @property
    def version(self) -> str | None:
        """The bundle that answers from here on; None if that stays as it was."""
        return self.bundle.version if self.bundle else None

    @property
    def words(self) -> str:
        """What holds after it."""
        match self.control.body:
            case Activate(version=version):
                return f"bundle {version} answers"
            case Pause(symbols=symbols) | Resume(symbols=symbols):
                return f"paused: {', '.join(symbols) or 'nothing'}"
            case _:
                return "other settings"


class Following(Protocol):
    """Who says what a control record means, and has the bundles."""

    def check(self, entry: Entry, followed: Mapping[str, int]) -> Control | None: ...

    def given_up(self, control: Control) -> bool: ...

    def change(self, control: Control) -> Change: ...

    def load(self, version: str, digest: str) -> Bundle: ...


class Follower(Following):
    """Follows a log's control records; bundles come from staging."""

    def __init__(self, controls: Controls, staging: Staging) -> None:
        self._controls = controls
        self._staging = staging

    def staged(self, entry: Entry, followed: Mapping[str, int]) -> bool:
        """Whether a copy can be followed without waiting for a bundle. Raises ModelRefused if it never can."""
        try:
            control = self._controls.check(entry, followed)
        except InputRefused:
            return True
        if control is None or not isinstance(control.body, Activate) or self.given_up(control):
            return True
        return self._staging.ready(control.body.version, control.body.manifest)

    def given_up(self, control: Control) -> bool:
        """Whether a bundle can't be followed, and another one has been activated behind it: somebody knows."""
        body = control.body
        if not isinstance(body, Activate) or self._controls.newest()[body.verb].k == control.k:
            return False
        return self._staging.refused(body.version, body.manifest)

    def check(self, entry: Entry, followed: Mapping[str, int]) -> Control | None:
        """What a copy says, or None if it changes nothing. Raises InputRefused for one that doesn't hold."""
        return self._controls.check(entry, followed)

    def change(self, control: Control) -> Change:
        """What holds after it. Raises ModelRefused for a bundle that can't answer."""
        body = control.body
        return Change(control, self.load(body.version, body.manifest) if isinstance(body, Activate) else None)

    def load(self, version: str, digest: str) -> Bundle:
        """The bundle, staged before or loaded now. Raises ModelRefused."""
        return self._staging.get(version, digest)


def staging_of(registry: Registry, features: FeatureSet) -> Staging:
    """Bundles of a registry that an engine with these features can answer with."""
    return Staging(partial(load_for_engine, registry, features))


def load_for_engine(registry: Registry, features: FeatureSet, name: str, digest: str | None = None) -> Bundle:
    """A bundle by version or alias, tried, and of the features that are computed here.

    Raises ModelRefused as `load_bundle` and `check_features` do.
    """
    bundle = load_bundle(registry, name, digest)
    check_features(bundle.manifest, features.names, features.fingerprint)
    return bundle
