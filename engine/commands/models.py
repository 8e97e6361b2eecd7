"""`tocsin models`: the registry of signed bundles, and which of them answers, answered, and answers again."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ..arguments import comment as why
from ..config import Config
from ..errors import TocsinError, UsageError
from ..manifest import Manifest
from ..registry import signing
from ..registry.decisions import FAILED, Decision, decision
from ..registry.store import CHAMPION, Registry
from ..terminal import console, note, whoever

EXAMPLE = "tocsin models activate 3 --transport redis+embedded://.tocsin/log --comment 'less sure, but calmer'"

_TAKES = {"list": 0, "show": 1, "verify": 1, "activate": 1, "rollback": 0, "history": 0, "diff": 2, "keygen": 0, "export": 1}
"""So many versions."""


_SHOWN = ("", " 3", " 2 3")
"""Versions of an example, by how many are taken."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=tuple(_TAKES), help="a model of your own: tocsin models import --help")
    parser.add_argument("version", nargs="*", help="number or alias (show, verify, export, activate: one; diff: two)")
    parser.add_argument("--to", metavar="DIR", help="export: the folder to write into (default bundle-VERSION)")
    parser.add_argument("--comment", default="", help="why, kept in the log (activate, rollback)")


def run(args: argparse.Namespace, config: Config) -> int:
    if len(args.version) != _TAKES[args.action]:
        taken = ("no version", "a version", "two versions")[_TAKES[args.action]]
        raise UsageError("version", f"models {args.action} takes {taken}",
                         hint=f"for example: tocsin models {args.action}{_SHOWN[_TAKES[args.action]]}")
    registry = Registry(config.registry_path, trust=config.trust_path)
    answer: Any
    text: Any
    match args.action:
        case "list":
            answer, text = _list(registry)
        case "show":
            answer, text = _show(registry, *args.version)
        case "verify":
            answer, text = _verify(registry, *args.version)
        case "activate":
            answer, text = _activate(registry, args.version[0], args.comment, config)
        case "rollback":
            answer, text = _activate(registry, None, args.comment, config)
        case "history":
            answer, text = _history(registry, config)
        case "diff":
            answer, text = _diff(registry, *args.version)
        case "export":
            answer, text = _export(registry, args.version[0], args.to)
        case _:
            answer, text = _keygen(config.keys_path)
    if args.json:
        print(msgspec.json.encode(answer).decode())
    else:
        _print(text)
    return 0


def _list(registry: Registry) -> tuple[list[dict[str, Any]], Any]:
    """One object per version. What a refused bundle says of itself isn't repeated."""
    aliases = registry.aliases()
    rows = []
    latest = ""
    for version in registry.versions():
        row: dict[str, Any] = {
            "version": version, "aliases": [name for name, target in aliases.items() if target == version],
            "experts": [], "created": None, "status": "ok", "decision": None,
        }
        try:
            manifest = registry.verify(version)
            decided = decision(registry, version)
            latest = max(latest, decided.at if decided else "")
            row |= {
                "experts": [expert.name for expert in manifest.experts], "created": manifest.created,
                "decision": None if decided is None else "activated" if decided.activated else "kept",
            }
        except TocsinError as error:
            row["status"] = error.code
        rows.append(row)
    failed = decision(registry, FAILED)
    if failed is not None and failed.at >= latest:
        note(f"the last training that failed: {failed.at}: {failed.why}")
    if not rows:
        return rows, f"{registry.folder} holds no bundle yet: `tocsin train` makes the first"
    return rows, _table(
        ["version", "aliases", "experts", "created", "status", "decision"],
        [
            [row["version"], ", ".join(row["aliases"]), ", ".join(row["experts"]), row["created"] or "", row["status"],
             row["decision"] or ""]
            for row in rows
        ],
    )


def _show(registry: Registry, name: str) -> tuple[dict[str, Any], Any]:
    contents = registry.read(name)
    manifest = contents.manifest
    rows = [
        ["version", manifest.version],
        ["aliases", ", ".join(a for a, target in registry.aliases().items() if target == manifest.version)],
        ["created", manifest.created],
        ["digest", contents.digest],
        ["features", f"{len(manifest.features.names)}, fingerprint {manifest.features.fingerprint}"],
        ["experts", ", ".join(f"{e.name} ({e.runtime}, weight {e.weight:.3g})" for e in manifest.experts)],
        *_trained(manifest),
        ["asked at", manifest.moments.kind],
        ["policy", f"buy beyond {manifest.policy.buy:.4g}, sell beyond {manifest.policy.sell:.4g}"],
        ["metrics", ", ".join(f"{key} {value}" for key, value in manifest.metrics.items())],
        *_decided(decision(registry, manifest.version)),
        ["files", ", ".join(f"{file} ({len(content)} bytes)" for file, content in contents.files.items())],
    ]
    answer = {"digest": contents.digest, **msgspec.to_builtins(manifest)}
    return answer | {"decision": msgspec.to_builtins(decision(registry, manifest.version))}, _table(["", ""], rows)


def _trained(manifest: Manifest) -> list[list[str]]:
    """What it learned from; of an imported model only what set its thresholds is known."""
    training, imported = manifest.training, manifest.metrics.get("imported")
    ticks = f"{training.events} events of {training.ticks} ticks, {', '.join(training.symbols)}"
    start, end = (datetime.fromtimestamp(ns // 10**9, UTC).isoformat() for ns in (training.start, training.end))
    if imported:
        rows = [["trained", f"elsewhere; imported from {imported['file']}"]]
        return [*rows, ["thresholds of", ticks], ["from, to", f"{start}, {end}"]] if training.events else rows
    return [
        ["trained on", ticks],
        ["labels", f"of the file {training.labels}" if training.labels else "triple barrier"],
        ["from, to", f"{start}, {end}"],
    ]


def _decided(made: Decision | None) -> list[list[str]]:
    """What the trainer did with it, and why."""
    if made is None:
        return []
    did = f"activated as control record {made.k}" if made.k else "made champion" if made.activated else "not activated"
    return [
        ["decided", f"{did} ({made.rule}, asked by {made.trigger}, {made.at}, {made.seconds:.1f} s)"],
        ["because", made.why],
    ]


def _verify(registry: Registry, name: str) -> tuple[dict[str, Any], str]:
    from ..registry.bundle import load_bundle

    bundle = load_bundle(registry, name)
    text = f"bundle {bundle.version}: signature, {len(bundle.manifest.files)} files and golden rows hold"
    return {"version": bundle.version, "digest": bundle.digest, "status": "ok"}, text


def _activate(registry: Registry, name: str | None, comment: str, config: Config) -> tuple[dict[str, Any], str]:
    """name: None for the bundle that answered before the present one."""
    from ..features import FeatureSet
    from ..registry.activate import activate, rollback
    from ..transports import open_log

    comment = why(comment)
    private = signing.load_private(config.keys_path / signing.PRIVATE)
    log = open_log(config.url, deployment=config.log.deployment)
    try:
        features = FeatureSet.of(config.features)
        by = whoever()
        if name is None:
            activation = rollback(log, registry, private, by, comment, note, features=features)
        else:
            activation = activate(log, registry, private, name, by, comment, note, features=features)
        copies = {str(partition): log.format(cursor) for partition, cursor in activation.copies.items()}
    finally:
        log.close()
    text = f"control record {activation.k} was overtaken by a later one, which holds instead" if not copies else (
        f"bundle {activation.version} answers in deployment {config.log.deployment} from these places on"
        f" (control record {activation.k}):\n"
        + "\n".join(f"  partition {partition}: {cursor}" for partition, cursor in copies.items())
        + f"\nalias {CHAMPION}: {registry.aliases().get(CHAMPION, 'none')}"
    )
    return {"k": activation.k, "version": activation.version, "copies": copies}, text


def _history(registry: Registry, config: Config) -> tuple[list[dict[str, Any]], Any]:
    from ..registry.controls import read_controls
    from ..registry.history import history
    from ..transports import open_log
    from ..wire.stamps import ns_to_rfc3339

    log = open_log(config.url, deployment=config.log.deployment)
    try:
        events = history(log, read_controls(log, registry.public_key()))
        answer: list[dict[str, Any]] = [
            {
                "k": event.control.k, "verb": event.control.verb, "what": event.words, "by": event.control.by,
                "comment": event.control.comment, "at": None if event.at is None else ns_to_rfc3339(event.at),
                "copies": {str(partition): log.format(cursor) for partition, cursor in sorted(event.copies.items())},
            }
            for event in events
        ]
    finally:
        log.close()
    if not answer:
        return answer, f"nothing was ever changed in deployment {config.log.deployment}: no bundle, no settings"
    rows = [
        [str(row["k"]), row["at"] or "-", row["verb"], row["what"], row["by"], row["comment"],
         "\n".join(f"{partition}: {cursor}" for partition, cursor in row["copies"].items()) or "-"]
        for row in answer
    ]
    return answer, _table(["k", "when", "verb", "what", "by", "comment", "from these places on"], rows)


def _diff(registry: Registry, a: str, b: str) -> tuple[dict[str, Any], Any]:
    from ..registry.compare import differences

    one, other = registry.verify(a), registry.verify(b)
    found = differences(one, other)
    answer = {"a": one.version, "b": other.version, "differences": [difference._asdict() for difference in found]}
    if not found:
        return answer, f"bundles {one.version} and {other.version} say the same of themselves"
    rows = [[what, *("-" if value is None else str(value) for value in values)] for what, *values in found]
    return answer, _table(["", one.version, other.version], rows)


def _export(registry: Registry, name: str, to: str | None) -> tuple[dict[str, Any], Any]:
    """Each expert's files as they were signed: what serves, and the library's own that it was made of."""
    contents = registry.read(name)
    manifest = contents.manifest
    folder = Path(to or f"bundle-{manifest.version}")
    own = {Path(file).stem: file for file in contents.files if all(file != expert.file for expert in manifest.experts)}
    experts = [(expert.name, own.get(expert.name), expert.file) for expert in manifest.experts]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in contents.files.items():
            with (folder / file).open("xb") as target:
                target.write(content)
    except FileExistsError as error:
        raise UsageError("export_exists", f"{error.filename} is there already", hint="name a new folder: --to DIR") from None
    except OSError as error:
        raise UsageError(
            "export_folder", f"can't write {error.filename}: {error.strerror}", hint="name a folder: --to DIR"
        ) from None
    rows = [[name, str(folder / library) if library else "-", str(folder / serves)] for name, library, serves in experts]
    answer = {
        "version": manifest.version, "folder": str(folder),
        "experts": [{"name": name, "library": library, "serves": serves} for name, library, serves in experts],
    }
    return answer, _table(["expert", "as its library trained it", "as it serves"], rows)


def _keygen(folder: Path) -> tuple[dict[str, str], str]:
    private, public = signing.generate(folder)
    text = f"{private}  signs; keep it where bundles are made\n{public}  is all an engine needs ([registry] trust)"
    return {"private": str(private), "public": str(public)}, text


def _table(head: list[str], rows: list[list[str]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(*head, box=None, show_header=any(head), pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _print(text: Any) -> None:
    """On stdout: it is the answer."""
    if isinstance(text, str):
        print(text)
        return
    console().print(text)
