"""`tocsin demo`: everything on one machine in under a minute, and at the end in words what happened."""

from __future__ import annotations

import argparse

from engine.config import Config

EXAMPLE = "tocsin demo --duration 20"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", nargs="+", metavar="FILE", help="tick files, or sim (default: a file in "
                        "$TOCSIN_DATA/ticks with 100,000 to 600,000 rows, else the simulator)")
    parser.add_argument("--duration", type=float, default=30.0, metavar="S", help="seconds the second half takes (default 30)")
    parser.add_argument("--experts", default="lightgbm", metavar="A,B|all", help="who is trained (default lightgbm)")


def run(args: argparse.Namespace, config: Config) -> int:
    from engine.stopping import Stop

    stop = Stop()
    from ..demo import demo

    return demo(args.source, args.duration, args.experts, config, args.json, stop)
