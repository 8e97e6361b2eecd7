"""Settings: rules that the log lays over whatever bundle answers. Effective = the bundle's, overlaid by the newest record.

What decides a byte never comes from a file: it is published here, signed, and holds from a position on.
"""

from __future__ import annotations

from msgspec.structs import asdict, replace

from ..errors import UsageError
from ..instruments import Instruments
from ..manifest import Policy
from ..transports.base import Log
from .bundle import Bundle
from .controls import Controls
from .rollout import Settings


def overlay(bundle: Bundle, settings: Settings) -> Bundle:
    """The bundle as it answers under these settings. Pure."""
    policy = ruled(bundle.manifest.policy, settings)
    if policy == bundle.manifest.policy and not settings.weights:
        return bundle
    return bundle._replace(
        manifest=replace(bundle.manifest, policy=policy), ensemble=bundle.ensemble.weighted(settings.weights),
    )


def ruled(policy: Policy, settings: Settings) -> Policy:
    """A bundle's policy as it is under these settings."""
    return replace(policy, **{name: value for name, value in asdict(settings.policy).items() if value is not None})


def counted(settings: Settings, base: Instruments) -> Instruments:
    """The instruments under these settings; `base`: as the log was created with."""
    return base if settings.instruments is None else Instruments.from_dict(settings.instruments)


def in_force(controls: Controls) -> Settings:
    """The newest settings of the log, empty ones if none were ever published."""
    newest = controls.newest().get(Settings.slot)
    return newest.body if newest and isinstance(newest.body, Settings) else Settings()


def counted_now(log: Log, controls: Controls) -> Instruments:
    """The instruments under the log's newest settings."""
    return counted(in_force(controls), log.rules)


def check_file(file: Instruments, log: Log, controls: Controls) -> None:
    """[instruments] of whoever works on a log must be the log's, where it names any.

    Raises UsageError `settings_differ` that names the keys and the command.
    """
    ours, theirs = file.to_dict(), counted_now(log, controls).to_dict()
    if ours == Instruments().to_dict():
        return
    if ours == theirs and list(ours["rules"]) == list(theirs["rules"]):        # the first rule that matches a symbol counts
        return
    keys = sorted(
        name for name in ours["rules"].keys() | theirs["rules"].keys()
        if ours["rules"].get(name) != theirs["rules"].get(name)
    )
    named = ", ".join(f"[instruments] {key!r}" for key in keys) or "[instruments]: their order, or closed"
    raise UsageError(
        "settings_differ", f"this file differs from the log's settings: {named}",
        hint="take [instruments] out of the file; or have the log count so from here on, with the same configuration: "
        "tocsin settings set instruments=file --comment WHY",
    )
