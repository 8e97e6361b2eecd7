"""`tocsin models`: the registry of signed bundles."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ..config import Config
from ..errors import TocsinError, UsageError
from ..registry import signing
from ..registry.decisions import FAILED, Decision, decision
from ..registry.store import CHAMPION, Registry
from ..terminal import note, whoever

HELP = "list, show, verify and activate the bundles of a registry; make its key pair"
EXAMPLE = "tocsin models activate 3 --transport redis+embedded://.tocsin/log --comment 'less sure, but calmer'"

"""The alias a new log starts with."""

_WITH_VERSION = ("show", "verify", "activate")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("list", *_WITH_VERSION, "keygen"))
    parser.add_argument("version", nargs="?", help="number or alias (show, verify, activate)")
    parser.add_argument("--comment", default="", help="why, kept in the log (activate)")


def run(args: argparse.Namespace, config: Config) -> int:
    if (args.version is None) == (args.action in _WITH_VERSION):
        raise UsageError(
            "version", f"models {args.action} takes {'a' if args.version is None else 'no'} version",
            hint=f"for example: {EXAMPLE}",
        )
    registry = Registry(config.registry_path, trust=config.trust_path)
    answer: Any
    text: Any
    match args.action:
        case "list":
            answer, text = _list(registry)
        case "show":
            answer, text = _show(registry, args.version)
        case "verify":
            answer, text = _verify(registry, args.version)
        case "activate":
            answer, text = _activate(registry, args.version, args.comment, config)
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
    training = manifest.training
    start, end = (datetime.fromtimestamp(ns // 10**9, UTC).isoformat() for ns in (training.start, training.end))
    rows = [
        ["version", manifest.version],
        ["aliases", ", ".join(a for a, target in registry.aliases().items() if target == manifest.version)],
        ["created", manifest.created],
        ["digest", contents.digest],
        ["features", f"{len(manifest.features.names)}, fingerprint {manifest.features.fingerprint}"],
        ["experts", ", ".join(f"{e.name} ({e.runtime}, weight {e.weight:.3g})" for e in manifest.experts)],
        ["trained on", f"{training.events} events of {training.ticks} ticks, {', '.join(training.symbols)}"],
        ["labels", f"of the file {training.labels}" if training.labels else "triple barrier"],
        ["asked at", manifest.moments.kind],
        ["from, to", f"{start}, {end}"],
        ["policy", f"buy beyond {manifest.policy.buy:.4g}, sell beyond {manifest.policy.sell:.4g}"],
        ["metrics", ", ".join(f"{key} {value}" for key, value in manifest.metrics.items())],
        *_decided(decision(registry, manifest.version)),
        ["files", ", ".join(f"{file} ({len(content)} bytes)" for file, content in contents.files.items())],
    ]
    answer = {"digest": contents.digest, **msgspec.to_builtins(manifest)}
    return answer | {"decision": msgspec.to_builtins(decision(registry, manifest.version))}, _table(["", ""], rows)


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


def _activate(registry: Registry, name: str, comment: str, config: Config) -> tuple[dict[str, Any], str]:
    from ..features import FeatureSet
    from ..registry.activate import activate
    from ..transports import open_log

    if not comment.isprintable():
        raise UsageError("comment", "the comment has characters that can't be printed", hint="one line of plain text")
    private = signing.load_private(config.keys_path / signing.PRIVATE)
    log = open_log(config.url, deployment=config.log.deployment)
    try:
        features = FeatureSet.of(config.features)
        activation = activate(log, registry, private, name, by=whoever(), comment=comment, tell=note, features=features)
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
    from rich.console import Console

    Console(soft_wrap=False).print(text)
