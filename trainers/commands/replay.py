"""`tocsin replay`: files, a lake or a log in, signals out, by the very same pipeline; and held against what was published."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from engine.arguments import column_map, stamp
from engine.config import Config
from engine.errors import InputRefused, TocsinError, UsageError
from engine.hidden import hide
from engine.terminal import answer_json, line_json, note

if TYPE_CHECKING:
    from engine.compare import Comparison
    from engine.replay import Replayed
    from engine.transports.base import Log, Topic
    from engine.types import Cursor, TickBatch

EXAMPLE = "tocsin replay EURUSD.parquet --bundle champion --canonical --out signals.jsonl"
LAKE = "lake"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE|lake|URL", help="Parquet, CSV or NDJSON ticks, or a lake (the word "
                        "`lake`: the configured one; or its folder), answered by one bundle; or one log (its URL, or a file that "
                        "`tocsin log export` wrote), answered as its own control records say")
    parser.add_argument("--bundle", metavar="V", help="version or alias (default champion); files and lakes only")
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
    parser.add_argument("--against", metavar="URL|FILE", help="say whether that log, an export of it, or a file of signals holds "
                        "the same: exit 0, or 1 and the first difference")


def run(args: argparse.Namespace, config: Config) -> int:
    if args.batch < 1:
        raise UsageError("batch", f"--batch {args.batch}: at least 1", hint="leave it out for 4096")
    for path in filter(None, (args.out, args.rejects)):
        if not Path(path).parent.is_dir():
            raise UsageError("out", f"{path} can't be written: there is no folder {Path(path).parent}", hint="make it first")
    log = _log(args, config)
    try:
        done, bundle = _of_log(log, args, config) if log else _of_ticks(args, config)
        found = _held_against(done, log, args, config) if args.against else None
    finally:
        if log:
            log.close()
    _give(done, args)
    if found:
        from engine.compare import in_words

        if args.json:
            answer_json(_as_json(found))
        if not found.equal:
            raise TocsinError("different", in_words(found, hide(args.against)),
                              hint='docs/protocols.md, "The same bytes", says what must be the same on both sides')
        if not args.json:
            print(in_words(found, hide(args.against)))
    elif args.out and args.json:
        answer_json(done.seen.summary() | {"bundle": bundle, "out": args.out})
    summary = done.seen.summary()
    note(f"{summary['ticks']:,} ticks, {len(done.signals):,} signals {summary['signals']}, refused {summary['rejected']}")
    return 0


def _give(done: Replayed, args: argparse.Namespace) -> None:
    from engine.wire.records import canonical, canonical_order

    signals, rejects = done.signals, done.rejects
    if args.canonical:
        signals = canonical_order(signals)
        rejects = [canonical(record) for record in rejects]
    if args.rejects:
        _write(args.rejects, rejects)
    if args.out:
        _write(args.out, signals)
    elif not args.against:
        for record in signals:
            line_json(record)
        sys.stdout.buffer.flush()


# ---- what is replayed


def _log(args: argparse.Namespace, config: Config) -> Log | None:
    """The log that is named, or None where ticks are."""
    from engine.export import ExportedLog, is_export
    from engine.transports import open_log

    named = [name for name in args.files if "://" in name or is_export(Path(name))]
    if not named:
        return None
    if len(args.files) > 1 or args.bundle or args.map:
        raise UsageError("replay_log", "a log is replayed alone, under the bundles it names",
                         hint="leave out --bundle, --map and other sources")
    return open_log(named[0], deployment=config.log.deployment) if "://" in named[0] else ExportedLog(Path(named[0]))


def _of_ticks(args: argparse.Namespace, config: Config) -> tuple[Replayed, str]:
    from engine.features import FeatureSet
    from engine.files import read_ticks
    from engine.instruments import Instruments
    from engine.registry.bundle import check_instruments
    from engine.registry.follow import load_for_engine
    from engine.registry.store import CHAMPION, Registry
    from engine.replay import replay

    features = FeatureSet.of(config.features)
    bundle = load_for_engine(Registry(config.registry_path, config.trust_path), features, args.bundle or CHAMPION)
    rules = Instruments.from_dict(bundle.manifest.instruments)
    if config.instruments:                     # what doesn't count otherwise may differ: zones of files, a widest spread
        check_instruments(bundle.manifest, config.rules())
        rules = config.rules()
    ticks: TickBatch | Iterable[TickBatch]
    if folder := _lake(args, config):
        ticks = _of_lake(folder, args)
    else:
        ticks = read_ticks(args.files, rules, columns=column_map(args.map))
        if args.end:
            ticks = ticks[ticks.ts < stamp(args.end)]
    start = stamp(args.start) if args.start else None
    done = replay(ticks, bundle, rules, batch=args.batch, start=start, deployment=config.log.deployment, features=features)
    return done, bundle.version


def _lake(args: argparse.Namespace, config: Config) -> Path | None:
    """The folder of the lake that is named, or None where files are."""
    folders = [config.lake_path if name == LAKE else Path(name) for name in args.files if name == LAKE or Path(name).is_dir()]
    if folders and (len(args.files) > 1 or args.map):
        raise UsageError("replay_lake", "a lake is replayed alone, as it was recorded", hint="leave out --map and other sources")
    return folders[0] if folders else None


def _of_lake(folder: Path, args: argparse.Namespace) -> Iterable[TickBatch]:
    """Day by day, never more than one in memory."""
    from engine.replay import numbered

    from ..lake import FOREVER, Lake

    lake = Lake(folder)
    lake.commit()                              # none there: said at once
    return numbered(lake.batches(end=stamp(args.end) if args.end else FOREVER))


def _of_log(log: Log, args: argparse.Namespace, config: Config) -> tuple[Replayed, None]:
    from engine.features import FeatureSet
    from engine.registry.store import Registry
    from engine.replay import replay_log

    registry = Registry(config.registry_path, config.trust_path)
    done = replay_log(log, registry, FeatureSet.of(config.features), batch=args.batch)
    return done._replace(signals=_stamped(done.signals, args)), None


def _stamped(signals: list[bytes], args: argparse.Namespace) -> list[bytes]:
    """Those between --from and --to."""
    from engine.compare import by_name

    if not (args.start or args.end):
        return signals
    start, end = stamp(args.start) if args.start else 0, stamp(args.end) if args.end else 2**63
    return [record for record in signals if start <= by_name(record)[0][0] < end]


# ---- what it is held against


def _held_against(done: Replayed, source: Log | None, args: argparse.Namespace, config: Config) -> Comparison:
    from engine.compare import by_content, by_name, compare, in_place
    from engine.export import ExportedLog, is_export
    from engine.transports import open_log
    from engine.transports.base import Topic

    path = Path(args.against)
    if "://" not in args.against and not is_export(path):
        return compare(Topic.SIGNALS, done.signals, _stamped(_lines(path), args), by_name)
    log = open_log(args.against, deployment=config.log.deployment) if "://" in args.against else ExportedLog(path)
    try:
        same = source is not None and (source.identity, source.deployment) == (log.identity, log.deployment)
        ends = {p: min(done.ends[p], log.extent(p).last) if same else log.extent(p).last for p in range(log.partitions)}
        signals, rejects = (_published(log, topic, ends) for topic in (Topic.SIGNALS, Topic.REJECTS))
    finally:
        log.close()
    exactly = same and not args.canonical
    ours = _upto(done.signals, ends) if same else done.signals
    found = compare(Topic.SIGNALS, ours, _stamped(signals, args), in_place if exactly else by_name)
    if not same or args.start or args.end:     # what is no tick stands in no file; a reject has no stamp to be chosen by
        return found
    ours = _upto(done.rejects, ends)
    return found.and_then(compare(Topic.REJECTS, ours, rejects, in_place if exactly else by_content))


def _published(log: Log, topic: Topic, ends: dict[int, Cursor]) -> list[bytes]:
    from engine.export import published
    from engine.types import START

    return [record for p in range(log.partitions) for _, record in published(log, p, topic, START, ends[p])]


def _upto(records: list[bytes], ends: dict[int, Cursor]) -> list[bytes]:
    """What was published about records up to the ends."""
    from engine.compare import in_place

    return [record for record in records if (place := in_place(record)[0])[1] <= ends[place[0]]]


def _lines(path: Path) -> list[bytes]:
    """A file's signals. Raises InputRefused `file_missing`, `not_published`."""
    from engine.compare import check

    try:
        lines = [line for line in path.read_bytes().split(b"\n") if line]
    except OSError as error:
        raise InputRefused("file_missing", f"{path} can't be read: {error.strerror or error}", hint="check the path") from None
    check(lines, str(path))
    return lines


def _as_json(found: Comparison) -> dict[str, object]:
    import msgspec

    return found._asdict() | {"first": msgspec.to_builtins(found.first)}


def _write(path: str, records: list[bytes]) -> None:
    try:
        Path(path).write_bytes(b"".join(record + b"\n" for record in records))
    except OSError as error:
        raise UsageError("out", f"{path} can't be written: {error.strerror or error}", hint="check the folder") from None
