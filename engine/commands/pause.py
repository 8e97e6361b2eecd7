"""`tocsin pause`: name no side for some symbols, or for all, until they are resumed."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ..arguments import comment
from ..config import Config
from ..terminal import answer_json, note, whoever

if TYPE_CHECKING:
    from ..instruments import Instruments
    from ..registry.controls import Controls
    from ..registry.rollout import Pause, Resume

EXAMPLE = "tocsin pause EURUSD '*JPY' --comment 'news at half past two'"

After = Callable[[Sequence[str], Sequence[str], "Instruments"], "Pause | Resume"]
"""What is paused after it, from: what is now, what is asked for, how the log counts."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("symbols", nargs="*", metavar="SYMBOL|PATTERN", help="none: all. A paused symbol is asked as ever, and "
                        "its decisions are neutral, with the reason `paused`")
    parser.add_argument("--comment", default="", help="why, kept in the log")


def run(args: argparse.Namespace, config: Config) -> int:
    from ..registry.pausing import after_pause

    return change_paused(after_pause, args, config)


def change_paused(after: After, args: argparse.Namespace, config: Config) -> int:
    """Write the control record, its copies, and say what is paused now."""
    from ..partition.checkpoint import symbols
    from ..registry import signing
    from ..registry.append import change
    from ..registry.controls import read_controls
    from ..registry.pausing import paused_now
    from ..registry.settings import counted_now
    from ..registry.store import Registry
    from ..transports import open_log

    why = comment(args.comment)
    registry = Registry(config.registry_path, config.trust_path)
    private = signing.load_private(config.keys_path / signing.PRIVATE)
    log = open_log(config.url, deployment=config.log.deployment)
    try:
        def decide(seen: Controls) -> Pause | Resume:
            return after(paused_now(seen), args.symbols, counted_now(log, seen))

        k, copies = change(log, registry, private, decide, whoever(), why)
        known = symbols(log)
        paused = paused_now(read_controls(log, registry.public_key()))
        places = {str(partition): log.format(cursor) for partition, cursor in copies.items()}
    finally:
        log.close()
    note(f"holds in deployment {config.log.deployment} from these places on (control record {k}): "
         + ", ".join(f"{partition}: {cursor}" for partition, cursor in places.items()) if places
         else f"control record {k} was overtaken by a later one, which holds instead")
    for name in paused if known else ():
        if not any(fnmatchcase(symbol, name) for symbol in known):
            note(f"no symbol that this log knows is called {name!r}: it knows {', '.join(sorted(known)[:20])}")
    if args.json:
        answer_json({"k": k, "copies": places, "paused": paused})
    else:
        print(f"paused now: {', '.join(paused) or 'nothing'}")
    return 0
