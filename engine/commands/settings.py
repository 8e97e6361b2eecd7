"""`tocsin settings`: the rules that the log lays over whatever bundle answers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from ..arguments import comment as why
from ..config import Config
from ..errors import ModelRefused, UsageError
from ..registry.rollout import Activate, PolicyRules, Settings
from ..terminal import answer_json, note, table, whoever

if TYPE_CHECKING:
    from ..instruments import Instruments
    from ..registry.controls import Controls
    from ..registry.store import Registry

EXAMPLE = "tocsin settings set policy.cooldown_s=30 weights.lightgbm=2 --comment 'too many turns'"

KEYS = [f"policy.{name}" for name in PolicyRules.__struct_fields__]
INSTRUMENTS = "instruments"
FILE = "file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("show", "set"))
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help=f"{', '.join(KEYS)}, weights.EXPERT; "
                        "KEY= goes back to the bundle's; instruments=file takes [instruments] of the configuration")
    parser.add_argument("--comment", default="", help="why, kept in the log")


def run(args: argparse.Namespace, config: Config) -> int:
    from ..registry import signing
    from ..registry.append import change
    from ..registry.controls import read_controls
    from ..registry.settings import in_force
    from ..registry.store import Registry
    from ..transports import open_log
    from ..wire.stamps import ns_to_rfc3339

    if (args.action == "set") != bool(args.changes):
        raise UsageError("settings", f"settings {args.action} takes {'KEY=VALUE' if args.action == 'set' else 'no KEY=VALUE'}",
                         hint=f"for example: {EXAMPLE}")
    comment = why(args.comment)
    registry = Registry(config.registry_path, config.trust_path)
    private = signing.load_private(config.keys_path / signing.PRIVATE) if args.action == "set" else None
    log = open_log(config.url, deployment=config.log.deployment)
    try:
        answer: dict[str, Any] = {}
        when: dict[str, Any] | None = None
        if private is not None:
            def changed(controls: Controls) -> Settings:
                return _changed(in_force(controls), args.changes, config)

            k, copies = change(log, registry, private, changed, whoever(), comment)
            answer = {"k": k, "copies": {str(p): log.format(cursor) for p, cursor in copies.items()}}
            places = ", ".join(f"{p}: {cursor}" for p, cursor in answer["copies"].items())
            note(f"holds in deployment {config.log.deployment} from these places on (control record {k}): {places}" if copies
                 else f"control record {k} was overtaken by a later one, which holds instead")
        controls = read_controls(log, registry.public_key())
        shown = _shown(in_force(controls), log.rules)
        newest = controls.newest().get(Settings.slot)
        if newest is not None:
            at = log.control_stamps().get(newest.k)
            when = {"k": newest.k, "by": newest.by, "at": None if at is None else ns_to_rfc3339(at), "comment": newest.comment}
        for doubt in _doubts(in_force(controls), controls, registry):
            note(doubt)
    finally:
        log.close()
    if args.json:
        answer_json(answer | {"settings": shown, "newest": when})
    else:
        rows = [[f"{part}.{key}", str(value)] for part, keys in shown.items() for key, value in keys.items()]
        title = "" if when is None else f"control record {when['k']}, by {when['by']}, {when['at'] or 'nobody knows when'}" + (
            f": {when['comment']}" if when["comment"] else "")
        table(title, ("overruled", "value"), rows or [["nothing", "the bundle's own rules hold"]])
    return 0


def _shown(settings: Settings, base: Instruments) -> dict[str, dict[str, Any]]:
    """What is overruled, by section. Of instruments only the rules that the log didn't begin with."""
    from ..registry.history import overruled

    shown: dict[str, dict[str, Any]] = {}
    for key, value in overruled(settings).items():
        section, _, name = key.partition(".")
        shown.setdefault(section, {})[name] = value
    if settings.instruments is not None:
        first, now = base.to_dict(), settings.instruments
        rules, ours = first["rules"], now.get("rules", {})
        changed = {name: rule for name, rule in ours.items() if rules.get(name) != rule}
        changed |= dict.fromkeys((name for name in rules if name not in ours), "no such rule any more")
        if now.get("closed", False) != first["closed"]:
            changed["closed"] = now.get("closed", False)
        shown[INSTRUMENTS] = changed or {"order": "the same rules in another order" if list(ours) != list(rules) else "as before"}
    return shown


def _doubts(settings: Settings, controls: Controls, registry: Registry) -> Iterator[str]:
    """What may not be meant, in words."""
    newest = controls.newest().get(Activate.slot)
    if newest is None or not isinstance(newest.body, Activate):
        return
    version = newest.body.version
    try:
        own = {expert.name: expert.weight for expert in registry.manifest(version).experts}
    except ModelRefused:
        return                                     # whoever must answer with it says so
    unknown = sorted(settings.weights.keys() - own.keys())
    if unknown:
        yield f"bundle {version}, which answers now, has no expert {', '.join(unknown)}: that weight changes nothing"
    if sum((own | settings.weights)[name] for name in own) <= 0:
        yield f"no expert of bundle {version} would be left: all of them keep the bundle's weights"


def _changed(settings: Settings, changes: list[str], config: Config) -> Settings:
    """The settings with some keys set or, where the value is empty, gone. Raises UsageError."""
    content: dict[str, Any] = msgspec.to_builtins(settings)
    for text in changes:
        key, equals, value = text.partition("=")
        section, _, name = key.partition(".")
        if not equals or not (key in KEYS or (section == "weights" and name) or key == INSTRUMENTS):
            raise UsageError("settings_key", f"{text!r}: no such setting",
                             hint=f"{', '.join(KEYS)}, weights.EXPERT, instruments=file")
        if key == INSTRUMENTS:
            if value not in ("", FILE):
                raise UsageError("settings_key", f"{text!r}: instruments=file, or instruments= for the log's first ones",
                                 hint="write them into [instruments] of the file, then instruments=file")
            if value and not config.instruments:
                raise UsageError("settings_key", f"{text!r}: this configuration has no [instruments]",
                                 hint="name the file that has them: --config FILE")
            content[INSTRUMENTS] = config.rules().to_dict() if value else None
        elif value:
            content.setdefault(section, {})[name] = _number(key, value)
        else:
            content.get(section, {}).pop(name, None)
    try:
        return msgspec.convert(content, Settings)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        key = where.rstrip("`") or "a value"
        raise UsageError("settings_value", f"{key}: {what[:1].lower()}{what[1:].replace('`', '')}",
                         hint="see `tocsin settings --help`") from None


def _number(key: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not abs(number) < float("inf"):
        raise UsageError("settings_value", f"{key}={value}: a number", hint=f"for example {key}=0.1")
    return number
