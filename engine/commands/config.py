"""`tocsin config show`: each setting and where it came from."""

from __future__ import annotations

import argparse

from ..config import SECTIONS, Config
from ..terminal import answer_json, table

EXAMPLE = "tocsin config show --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("show",))


def run(args: argparse.Namespace, config: Config) -> int:
    rows = [("home", str(config.home_path)), ("data", config.data)]
    for section in SECTIONS:
        part = getattr(config, section)
        rows += [(f"{section}.{key}", getattr(part, key)) for key in part.__struct_fields__]
    effective = {
        "log.transport": config.shown_url, "registry.path": str(config.registry_path),
        "registry.trust": str(config.trust_path), "registry.keys": str(config.keys_path), "engine.name": config.name,
    }
    shown = [(key, effective.get(key, value), config.origins.get(key, "default")) for key, value in rows]
    shown += [(f"instruments.{key}", value, config.origins["instruments"]) for key, value in config.instruments.items()]
    if args.json:
        answer_json([{"key": key, "value": value, "from": origin} for key, value, origin in shown])
    else:
        table("", ("setting", "value", "from"), [(key, str(value), origin) for key, value, origin in shown])
    return 0
