"""`tocsin run engine`: what stays up."""

from __future__ import annotations

import argparse
import sys

from ..config import Config
from ..errors import UsageError
from ..terminal import answer_json, note

SWITCH_S = 1e-4
"""A thread that has an answer to give waits so long for one that computes (housekeeping, a scrape), not Python's 5 ms."""

EXAMPLE = "tocsin run engine --transport redis+embedded://.tocsin/log --warm yesterday.parquet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--warm", nargs="+", default=[], metavar="FILE",
                        help="ticks that fill the state of partitions without a checkpoint; nothing is published for them")
    parser.add_argument("--accept-gap", action="store_true", help="go on where the log begins behind the newest checkpoint: "
                        "what stood between is gone, windows start anew, and the journal notes it")
    parser.add_argument("--logs", choices=("text", "json"), default="text", help="log lines for people (default) or one JSON "
                        "object each")
    parser.add_argument("--map", metavar="A=B,…", help="columns of those files: bid=Bid,ask=Ask,ts=Time:ms,symbol=Pair")


def run(args: argparse.Namespace, config: Config) -> int:
    """Until SIGTERM or Ctrl-C; the counts at the end under --json."""
    from ..stopping import Stop

    if config.url.startswith("memory://"):
        raise UsageError("transport_memory", f"{config.url} lives in one process, in which nobody else could feed ticks",
                         hint="redis+embedded://DIR needs no server either")
    stop = Stop()                              # before the imports that take time: a stop is heard from the first moment
    from ..app import Engine
    from ..arguments import column_map
    from ..watch.logs import configure

    configure("engine", args.logs == "json")
    sys.setswitchinterval(SWITCH_S)

    engine = Engine(config, args.warm, column_map(args.map), accept_gap=args.accept_gap)
    try:
        summary = engine.run(stop, ready=lambda: note(f"ready: {config.name} on {engine.log.url}"))
    finally:
        engine.close()
    if args.json:
        answer_json(summary)
    return stop.exit
