"""`tocsin lake list|import|verify`: what was recorded; ticks of files beside it; whether it is still what was written."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.arguments import column_map
from engine.config import Config
from engine.errors import TocsinError, UsageError
from engine.terminal import answer_json, note, table

if TYPE_CHECKING:
    from ..lake import Gap
    from ..lake_import import Origin

EXAMPLE = "tocsin lake list --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("list", "import", "verify"))
    parser.add_argument("files", nargs="*", metavar="FILE", help="import: Parquet, CSV or NDJSON ticks of days that the lake "
                        "doesn't have, all of them or none; no recorder may run meanwhile")
    parser.add_argument("--map", metavar="A=B,…", help="columns of the files: bid=Bid,ask=Ask,ts=Time:ms,symbol=Pair")


def run(args: argparse.Namespace, config: Config) -> int:
    if bool(args.files) != (args.what == "import") or (args.map and not args.files):
        raise UsageError("lake_files", f"lake {args.what} takes {'files' if args.what == 'import' else 'no files'}",
                         hint="tocsin lake import FILE…")
    return {"list": _list, "import": _import, "verify": _verify}[args.what](args, config)


def _list(args: argparse.Namespace, config: Config) -> int:
    """Symbols, totals, gaps and how far each partition is recorded. Raises InputRefused `lake_format`."""
    from ..lake import Lake, read_commit

    commit = read_commit(config.lake_path)
    if commit is None:
        if args.json:
            answer_json(None)
        else:
            note(f"there is no lake at {config.lake_path} yet: `tocsin run trainer` records one")
        return 0
    lake = Lake(config.lake_path)
    symbols = lake.summary()
    answer: dict[str, Any] = {
        "lake": str(config.lake_path), "identity": commit.identity, "committed": commit.at,
        "rows": sum(symbol["rows"] for symbol in symbols), "bytes": sum(symbol["bytes"] for symbol in symbols),
        "symbols": symbols,
        "refused": lake.refused(),
        "partitions": [{"partition": n, "cursor": part.cursor} for n, part in enumerate(commit.parts)],
        "gaps": [{"partition": gap.partition, "after": gap.after, "before": gap.before} for gap in commit.gaps],
        "removed": commit.removed,
        "imports": [{"files": taken.files, "at": taken.at, "rows": taken.rows} for taken in commit.imports],
    }
    if args.json:
        answer_json(answer)
    else:
        _show(answer, commit.gaps)
    return 0


def _import(args: argparse.Namespace, config: Config) -> int:
    """Raises what `read_ticks` and `take_in` raise, UsageError `settings_differ`."""
    from engine.files import read_ticks
    from engine.skew import doubts

    from ..lake_import import take_in

    source = _origin(config)
    rules = source.rules
    if config.instruments:
        rules = config.rules()                 # zones of files, which don't count otherwise, may differ
        if rules.counting() != source.rules.counting():
            raise UsageError("settings_differ", "[instruments] of this file count prices otherwise than the lake's log does",
                             hint="take [instruments] out of the file, or have the log count so: tocsin settings set")
    ticks = read_ticks(args.files, rules, columns=column_map(args.map))
    for doubt in doubts(ticks):
        note(doubt)
    names = [Path(file).name for file in args.files]
    taken = take_in(config.lake_path, source, ticks, names, config.lake.quota_gb * 1e9, note)
    if args.json:
        answer_json({"lake": str(config.lake_path), **taken._asdict()})
    else:
        note(f"{taken.rows:,} rows of {taken.days:,} days are in {config.lake_path} now, refused {taken.refused}")
    return 0


def _origin(config: Config) -> Origin:
    """Of the lake there is; else of the configured log, whose lake is made."""
    from engine.registry.controls import read_controls
    from engine.registry.settings import counted_now
    from engine.registry.store import Registry
    from engine.transports import open_log

    from ..lake import read_commit
    from ..lake_import import Origin, origin

    commit = read_commit(config.lake_path)
    if commit:
        return origin(commit)
    log = open_log(config.url, deployment=config.log.deployment, create=config.log.partitions, rules=config.rules())
    try:
        rules = log.rules
        if log.controls():
            rules = counted_now(log, read_controls(log, Registry(config.registry_path, config.trust_path).public_key()))
        return Origin(log.identity, log.partitions, rules)
    finally:
        log.close()


def _verify(args: argparse.Namespace, config: Config) -> int:
    """Raises TocsinError `lake_off` where something is, InputRefused `no_lake`, `lake_format`."""
    from ..lake import Lake
    from ..lake_verify import verify

    found = verify(Lake(config.lake_path))
    if args.json:
        answer_json(found._asdict() | {
            "lake": str(config.lake_path), "ok": not found.faults, "faults": [fault._asdict() for fault in found.faults],
            "gaps": [{"partition": gap.partition, "after": gap.after, "before": gap.before} for gap in found.gaps],
        })
    else:
        for fault in found.faults:
            print(f"{fault.file}{'' if fault.row is None else f', row {fault.row:,}'}: {fault.what}")
        _show_gaps(found.gaps)
    note(f"read {found.files:,} files, {found.rows:,} rows" + (
        f"; {found.undigested:,} files are of an older format, without a digest" if found.undigested else ""))
    if found.faults:
        raise TocsinError("lake_off", f"{len(found.faults):,} things are off in {config.lake_path}",
                          hint="bring the files that are named back from a copy; what the log still holds can be recorded anew")
    return 0


def _show_gaps(gaps: Iterable[Gap]) -> None:
    for gap in gaps:
        print(f"gap in partition {gap.partition}: what stood after {_cursor(gap.after)} and before {_cursor(gap.before)} may be "
              "missing, the log no longer held it")


def _show(answer: dict[str, Any], gaps: Iterable[Gap]) -> None:
    title = f"{answer['lake']}, of log {answer['identity']}: {answer['rows']:,} ticks taken, {answer['bytes'] / 1e6:,.1f} MB"
    rows = [
        (s["symbol"], s["days"], s["rows"], _stamp(s["from"]), _stamp(s["to"]), _counts(s["refused"]), f"{s['bytes'] / 1e6:.1f}")
        for s in answer["symbols"]
    ]
    table(title, ("symbol", "days", "rows", "from", "to", "refused", "MB"), rows)
    print("recorded up to " + ", ".join(f"{_cursor(p['cursor'])} (partition {p['partition']})" for p in answer["partitions"]))
    if answer["refused"]:
        print(f"no ticks: {_counts(answer['refused'])}")
    _show_gaps(gaps)
    for taken in answer["imports"]:
        print(f"taken in at {_stamp(taken['at'])}: {taken['rows']:,} rows of {', '.join(taken['files'])}")
    if answer["removed"]:
        print(f"removed for [lake] quota_gb: {', '.join(answer['removed'])}")


def _stamp(ns: int | None) -> str:
    from engine.wire.stamps import ns_to_rfc3339

    return "-" if ns is None else ns_to_rfc3339(ns)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {code}" for code, count in counts.items()) or "-"


def _cursor(cursor: Sequence[int]) -> str:
    return f"{cursor[0]}-{cursor[1]}"
