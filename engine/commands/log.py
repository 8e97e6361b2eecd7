"""`tocsin log create|info|release|export`: make a log on a server of yours; what it is, who needs it; all of it as a file."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments import cursor
from ..config import Config
from ..errors import UsageError
from ..terminal import answer_json, note, table

if TYPE_CHECKING:
    from ..transports.base import Log, Tenure

EXAMPLE = "tocsin log create --transport redis://localhost:6379 --partitions 4"

NEWEST = 20
"""Of owners and notes: so many are shown under --json."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("create", "info", "release", "export"))
    parser.add_argument("hold", nargs="?", help="release: whose hold on the log to end, as `log info` names it, because nobody "
                        "will come back for it; a process that lives takes it again")
    parser.add_argument("--partitions", type=int, metavar="P", help="of the new log, for good (default [log] partitions: 4)")
    parser.add_argument("--out", metavar="FILE|-", default="-", help="export: where to, as JSON lines that `tocsin replay` reads "
                        "as a log (default stdout)")
    parser.add_argument("--partition", type=int, metavar="P", help="export: this one only (default all)")
    parser.add_argument("--from", dest="start", metavar="CURSOR", help="export: records after this one (default from the first)")
    parser.add_argument("--to", dest="end", metavar="CURSOR", help="export: up to and with this one (default the newest)")


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
        if args.what == "export":
            return _export(log, args)
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
                "owners": [_tenure(log, entry) for entry in log.epochs(partition)[-NEWEST:]], "journal": _journal(log, partition),
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
            [", ".join(value) or "-" if isinstance(value, list) else "-" if value is None else value
             for key, value in row.items() if key not in ("owners", "journal")]
            for row in partitions
        ]
        table(title, ("partition", "owner", "epoch", "published up to", "checkpoints", "records", "needed by"), rows)
    return 0


def _tenure(log: Log, entry: Tenure) -> dict[str, Any]:
    """Of the epoch trace: who held the partition from when on, and how far it had come."""
    published = log.format(entry.tail.cursor) if entry.tail.ordinal >= 0 else None
    at = datetime.fromtimestamp(entry.at / 1000, UTC).isoformat(timespec="milliseconds")
    return {"epoch": entry.epoch, "owner": entry.owner or None, "from": at, "published": published}


def _journal(log: Log, partition: int) -> list[Any]:
    """Its newest notes, oldest first."""
    from ..transports.base import Topic

    return [json.loads(record) for _, record in reversed(log.backwards(partition, Topic.JOURNAL, None, NEWEST))]


def _export(log: Log, args: argparse.Namespace) -> int:
    """Everything the log holds, or a stretch of it, as JSON lines. Raises UsageError `partition`, `out`."""
    from ..export import export
    from ..types import START

    if args.partition is not None and not 0 <= args.partition < log.partitions:
        raise UsageError("partition", f"{log.url} has no partition {args.partition}", hint=f"there are 0 to {log.partitions - 1}")
    partitions = range(log.partitions) if args.partition is None else [args.partition]
    lines = export(log, partitions, cursor(args.start) if args.start else START, cursor(args.end) if args.end else None)
    if args.out == "-":
        for line in lines:
            sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()
        return 0
    count = _whole(Path(args.out), lines)
    if args.json:
        answer_json({"out": args.out, "records": count})
    else:
        note(f"{count:,} records in {args.out}; `tocsin replay {args.out}` goes through them, with the bundles they name in the "
             "registry")
    return 0


def _whole(path: Path, lines: Iterable[bytes]) -> int:
    """The whole file or none of it; how many records it holds."""
    temp = path.with_name(f".{path.name}.tmp")
    count = -2                                 # the first and the last line are none
    try:
        with open(temp, "wb") as file:
            for line in lines:
                file.write(line + b"\n")
                count += 1
        os.replace(temp, path)
    except OSError as error:
        raise UsageError("out", f"{path} can't be written: {error.strerror or error}", hint="check the folder") from None
    finally:
        temp.unlink(missing_ok=True)
    return count
