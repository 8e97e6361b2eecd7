"""`tocsin log create|info`: make a log on a server of yours; what a log is."""

from __future__ import annotations

import argparse

from ..config import Config
from ..terminal import answer_json, table

EXAMPLE = "tocsin log create --transport redis://localhost:6379 --partitions 4"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("create", "info"))
    parser.add_argument("--partitions", type=int, metavar="P", help="of the new log, for good (default [log] partitions: 4)")


def run(args: argparse.Namespace, config: Config) -> int:
    from ..transports import create_log, open_log

    if args.what == "create":
        log = create_log(config.url, config.log.partitions if args.partitions is None else args.partitions)
    else:
        log = open_log(config.url, deployment=config.log.deployment)
    try:
        partitions = []
        for partition in range(log.partitions):
            owner, tail = log.ownership(partition), log.tail(partition)
            published = log.format(tail.cursor) if tail.ordinal >= 0 else None
            partitions.append({
                "partition": partition, "owner": owner.owner or None, "epoch": owner.epoch, "published": published,
                "checkpoints": len(log.checkpoints(partition)),
            })
        info = {
            "url": log.url, "identity": log.identity, "deployment": config.log.deployment,
            "controls": len(log.controls()), "partitions": partitions,
        }
    finally:
        log.close()
    if args.json:
        answer_json(info)
    else:
        title = f"{log.url}, identity {log.identity}, deployment {log.deployment}, {info['controls']} records in models"
        rows = [["-" if value is None else value for value in row.values()] for row in partitions]
        table(title, ("partition", "owner", "epoch", "published up to", "checkpoints"), rows)
    return 0
