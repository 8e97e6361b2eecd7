"""`tocsin replay`: files or a log in, signals out, by the very same pipeline."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..arguments import column_map, stamp
from ..config import Config
from ..errors import UsageError
from ..terminal import answer_json, line_json, note

if TYPE_CHECKING:
    from ..replay import Replayed

EXAMPLE = "tocsin replay EURUSD.parquet --bundle champion --canonical --out signals.jsonl"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE|URL", help="Parquet, CSV or NDJSON ticks, answered by one bundle; or "
                        "one log, answered as its own control records say")
    parser.add_argument("--bundle", metavar="V", help="version or alias (default champion); files only")
    parser.add_argument("--out", metavar="F", help="write the signals here instead of stdout")
    parser.add_argument("--rejects", metavar="F", help="write what was refused here")
    parser.add_argument("--batch", type=int, default=4096, metavar="N",
                        help="ticks handed over at a time; the bytes are equal for every N")
    parser.add_argument("--from", dest="start", metavar="T",
                        help="ns or RFC 3339: earlier ticks only fill the windows, as if a file's bundle were activated here")
    parser.add_argument("--to", dest="end", metavar="T", help="ns or RFC 3339: stop before this stamp")
    parser.add_argument("--map", metavar="A=B,…", help="columns of the files: bid=Bid,ask=Ask,ts=Time:ms,symbol=Pair")
    parser.add_argument("--canonical", action="store_true",
                        help="sorted by (ts, symbol, ordinal), without log and timing: comparable with cmp")


def run(args: argparse.Namespace, config: Config) -> int:
    if args.batch < 1:
        raise UsageError("batch", f"--batch {args.batch}: at least 1", hint="leave it out for 4096")
    done, bundle = _of_log(args, config) if "://" in args.files[0] else _of_files(args, config)
    signals, rejects = done.signals, done.rejects
    from ..wire.records import canonical, canonical_order

    if args.canonical:
        signals = canonical_order(signals)
        rejects = [canonical(record) for record in rejects]
    if args.rejects:
        _write(args.rejects, rejects)
    if args.out:
        _write(args.out, signals)
        if args.json:
            answer_json(done.seen.summary() | {"bundle": bundle, "out": args.out})
    else:
        for record in signals:
            line_json(record)
        sys.stdout.buffer.flush()
    summary = done.seen.summary()
    note(f"{summary['ticks']:,} ticks, {len(signals):,} signals {summary['signals']}, refused {summary['rejected']}")
    return 0


def _of_files(args: argparse.Namespace, config: Config) -> tuple[Replayed, str]:
    from ..features import FeatureSet
    from ..files import read_ticks
    from ..instruments import Instruments
    from ..registry.bundle import check_instruments
    from ..registry.follow import load_for_engine
    from ..registry.store import CHAMPION, Registry
    from ..replay import replay

    features = FeatureSet.of(config.features)
    bundle = load_for_engine(Registry(config.registry_path, config.trust_path), features, args.bundle or CHAMPION)
    rules = Instruments.from_dict(bundle.manifest.instruments)
    if config.instruments:                     # what doesn't count otherwise may differ: zones of files, a widest spread
        check_instruments(bundle.manifest, config.rules())
        rules = config.rules()
    ticks = read_ticks(args.files, rules, columns=column_map(args.map))
    if args.end:
        ticks = ticks[ticks.ts < stamp(args.end)]
    start = stamp(args.start) if args.start else None
    done = replay(ticks, bundle, rules, batch=args.batch, start=start, deployment=config.log.deployment, features=features)
    return done, bundle.version


def _of_log(args: argparse.Namespace, config: Config) -> tuple[Replayed, None]:
    from ..features import FeatureSet
    from ..registry.store import Registry
    from ..replay import replay_log
    from ..transports import open_log
    from ..wire.records import signal_decoder

    if len(args.files) > 1 or args.bundle or args.map:
        raise UsageError("replay_log", "a log is replayed alone, under the bundles it names",
                         hint="leave out --bundle, --map and other sources")
    log = open_log(args.files[0], deployment=config.log.deployment)
    try:
        registry = Registry(config.registry_path, config.trust_path)
        done = replay_log(log, registry, FeatureSet.of(config.features), batch=args.batch)
    finally:
        log.close()
    start, end = stamp(args.start) if args.start else 0, stamp(args.end) if args.end else 2**63
    if args.start or args.end:
        kept = [record for record in done.signals if start <= signal_decoder.decode(record).ts < end]
        done = done._replace(signals=kept)
    return done, None


def _write(path: str, records: list[bytes]) -> None:
    try:
        Path(path).write_bytes(b"".join(record + b"\n" for record in records))
    except OSError as error:
        raise UsageError("out", f"{path} can't be written: {error.strerror or error}", hint="check the folder") from None
