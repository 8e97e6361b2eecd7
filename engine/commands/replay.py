"""`tocsin replay`: files in, signals out, by the very same pipeline."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..arguments import column_map, stamp
from ..config import Config
from ..errors import UsageError
from ..terminal import answer_json, line_json, note

EXAMPLE = "tocsin replay EURUSD.parquet --bundle champion --canonical --out signals.jsonl"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="Parquet, CSV or NDJSON ticks")
    parser.add_argument("--bundle", default="champion", metavar="V", help="version or alias (default champion)")
    parser.add_argument("--out", metavar="F", help="write the signals here instead of stdout")
    parser.add_argument("--rejects", metavar="F", help="write what was refused here")
    parser.add_argument("--batch", type=int, default=4096, metavar="N",
                        help="ticks handed over at a time; the bytes are equal for every N")
    parser.add_argument("--from", dest="start", metavar="T", 
                        help="ns or RFC 3339: as if the bundle were activated there; earlier ticks only fill the windows")
    parser.add_argument("--to", dest="end", metavar="T", help="ns or RFC 3339: stop before this stamp")
    parser.add_argument("--map", metavar="A=B,…", help="columns of the files: bid=Bid,ask=Ask,ts=Time:ms,symbol=Pair")
    parser.add_argument("--canonical", action="store_true",
                        help="sorted by (ts, symbol, ordinal), without log and timing: comparable with cmp")


def run(args: argparse.Namespace, config: Config) -> int:
    if args.batch < 1:
        raise UsageError("batch", f"--batch {args.batch}: at least 1", hint="leave it out for 4096")
    from ..files import read_ticks
    from ..registry.follow import load_for_files
    from ..registry.store import Registry
    from ..replay import replay
    from ..wire.records import canonical, canonical_order

    rules = config.rules()
    bundle = load_for_files(Registry(config.registry_path, config.trust_path), rules, args.bundle)
    ticks = read_ticks(args.files, rules, columns=column_map(args.map))
    if args.end:
        ticks = ticks[ticks.ts < stamp(args.end)]
    done = replay(ticks, bundle, rules, batch=args.batch, start=stamp(args.start) if args.start else None,
                  deployment=config.log.deployment)
    signals, rejects = done.signals, done.rejects
    if args.canonical:
        signals = canonical_order(signals)
        rejects = [canonical(record) for record in rejects]
    if args.rejects:
        _write(args.rejects, rejects)
    if args.out:
        _write(args.out, signals)
        if args.json:
            answer_json(done.seen.summary() | {"bundle": bundle.version, "out": args.out})
    else:
        for record in signals:
            line_json(record)
        sys.stdout.buffer.flush()
    summary = done.seen.summary()
    note(f"{summary['ticks']:,} ticks, {len(signals):,} signals {summary['signals']}, refused {summary['rejected']}")
    return 0


def _write(path: str, records: list[bytes]) -> None:
    try:
        Path(path).write_bytes(b"".join(record + b"\n" for record in records))
    except OSError as error:
        raise UsageError("out", f"{path} can't be written: {error.strerror or error}", hint="check the folder") from None
