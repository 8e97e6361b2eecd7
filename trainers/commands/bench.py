"""`tocsin bench`: how fast it is here, beside what it is held against."""

from __future__ import annotations

import argparse
import signal
import sys
from importlib import import_module

from engine.config import Config
from engine.terminal import answer_json, note, table

WHAT = ("pipeline", "features", "experts")
EXAMPLE = "tocsin bench pipeline --quick"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("--quick", action="store_true", help="fewer ticks and rounds: whether it runs, not how fast it is")


def run(args: argparse.Namespace, config: Config) -> int:
    """Minutes; nothing of the user's settings, log or registry is read or touched."""
    from ..bench.rows import COLUMNS

    bench = import_module(f"trainers.bench.{args.what}")
    signal.signal(signal.SIGTERM, lambda *heard: sys.exit(0))      # so that what was started is ended on the way out
    machine, rows = bench.measure(bench.QUICK if args.quick else bench.FULL, note)
    if args.json:
        answer_json({"machine": machine, "rows": [row.to_dict() for row in rows]})
    else:
        table("", COLUMNS, [row.cells() for row in rows])
        versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        print(f"\n{machine['cpu']}, {machine['cores']} cores, {machine['system']}; {versions}")
    return 0
