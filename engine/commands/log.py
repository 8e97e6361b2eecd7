"""`tocsin log create|info|release`: make a log on a server of yours; what a log is, and who still needs it."""

from __future__ import annotations

import argparse

from ..config import Config
from ..errors import UsageError
from ..terminal import answer_json, table

EXAMPLE = "tocsin log create --transport redis://localhost:6379 --partitions 4"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("create", "info", "release"))
    parser.add_argument("hold", nargs="?", help="release: whose hold on the log to end, as `log info` names it, because nobody "
                        "will come back for it; a process that lives takes it again")
    parser.add_argument("--partitions", type=int, metavar="P", help="of the new log, for good (default [log] partitions: 4)")


def run(args: argparse.Namespace, config: Config) -> int:
    from ..partition.retention import HOLDS, held, unless_said
    from ..transports import create_log, open_log

    if (args.what == "release") != (args.hold is not None):
        raise UsageError("log_release", f"log {args.what} takes {'a hold' if args.what == 'release' else 'no hold'}",
                         hint="tocsin log info names the holds")
    if args.what == "create":
        partitions = config.log.partitions if args.partitions is None else args.partitions
        log = create_log(config.url, partitions, config.rules())
        unless_said(log, config.log.keep_mb * 2**20)
    else:
        log = open_log(config.url, deployment=config.log.deployment)
    try:
        if args.what == "release":
            name = f"{HOLDS}{args.hold.removeprefix(HOLDS)}"
            if name not in log.posts(HOLDS):
                raise UsageError("log_release", f"nobody holds {log.url} under the name {args.hold!r}",
                                 hint="tocsin log info names the holds")
            log.unpost(name)
        posts = log.posts(HOLDS)
        partitions = []
        for partition in range(log.partitions):
            owner, tail = log.ownership(partition), log.tail(partition)
            published = log.format(tail.cursor) if tail.ordinal >= 0 else None
            partitions.append({
                "partition": partition, "owner": owner.owner or None, "epoch": owner.epoch, "published": published,
                "checkpoints": len(log.checkpoints(partition)), "kept": log.extent(partition).kept,
                "needed_by": sorted(name.removeprefix(HOLDS) for name in held(posts, partition)),
            })
        info = {
            "url": log.url, "identity": log.identity, "deployment": config.log.deployment,
            "controls": len(log.controls()), "rules": log.rules.to_dict(), "partitions": partitions,
        }
    finally:
        log.close()
    if args.json:
        answer_json(info)
    else:
        title = f"{log.url}, identity {log.identity}, deployment {log.deployment}, {info['controls']} records in models"
        rows = [
            [", ".join(value) or "-" if isinstance(value, list) else "-" if value is None else value for value in row.values()]
            for row in partitions
        ]
        table(title, ("partition", "owner", "epoch", "published up to", "checkpoints", "records", "needed by"), rows)
    return 0
