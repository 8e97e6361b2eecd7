"""Settings: rules that the log lays over whatever bundle answers. Effective = the bundle's, overlaid by the newest record.

What decides a byte never comes from a file: it is published here, signed, and holds from a position on.
"""

from __future__ import annotations

from msgspec.structs import asdict, replace

from ..errors import ModelRefused, UsageError
from ..instruments import Instruments
from .bundle import Bundle
from .controls import Controls
from .rollout import Activate, Settings
from .store import Registry


def overlay(bundle: Bundle, settings: Settings) -> Bundle:
    """The bundle as it answers under these settings. Pure."""
    overruled = {name: value for name, value in asdict(settings.policy).items() if value is not None}
    if not overruled and not settings.weights:
        return bundle
    return bundle._replace(
        manifest=replace(bundle.manifest, policy=replace(bundle.manifest.policy, **overruled)),
        ensemble=bundle.ensemble.weighted(settings.weights),
    )


def counted(settings: Settings, base: Instruments) -> Instruments:
    """The instruments under these settings; `base`: of the log's first bundle."""
    return base if settings.instruments is None else Instruments.from_dict(settings.instruments)


def base_instruments(controls: Controls, registry: Registry, file: Instruments) -> Instruments:
    """How prices are counted from the log's first tick on: as its first bundle does; as the file says before there is one.

    Raises ModelRefused as `Registry.manifest` does.
    """
    first = next((c.body for c in controls.holding() if isinstance(c.body, Activate)), None)
    return file if first is None else Instruments.from_dict(registry.manifest(first.version).instruments)


def in_force(controls: Controls) -> Settings:
    """The newest settings of the log, empty ones if none were ever published."""
    newest = controls.newest().get(Settings.verb)
    return newest.body if newest and isinstance(newest.body, Settings) else Settings()


def check_file(file: Instruments, controls: Controls, registry: Registry) -> None:
    """An engine's own [instruments] must be the log's, where it names any.

    Raises UsageError `settings_differ` that names the keys and the command.
    """
    newest = controls.newest().get(Activate.verb)
    ours, theirs = file.to_dict(), None
    settings = in_force(controls)
    if settings.instruments is not None:
        theirs = settings.instruments
    elif newest is not None and isinstance(newest.body, Activate):
        try:
            theirs = registry.manifest(newest.body.version).instruments
        except ModelRefused:
            return                                 # it will be refused where it must answer, and says why there
    if theirs is None or ours == Instruments().to_dict():
        return
    if ours == theirs and list(ours["rules"]) == list(theirs["rules"]):        # the first rule that matches a symbol counts
        return
    keys = sorted(
        name for name in ours["rules"].keys() | theirs.get("rules", {}).keys()
        if ours["rules"].get(name) != theirs.get("rules", {}).get(name)
    )
    named = ", ".join(f"[instruments] {key!r}" for key in keys) or "[instruments]: their order, or closed"
    raise UsageError(
        "settings_differ", f"this engine's file differs from the log's settings: {named}",
        hint="take [instruments] out of the file; or have the log count so from here on: tocsin settings set instruments=file "
        "--comment WHY",
    )
