"""`tocsin features list|compute|check`: what the engine knows of a tick, and whether a family of one's own holds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..arguments import column_map
from ..config import Config
from ..errors import EXIT_DONE, EXIT_INPUT, InputRefused, UsageError
from ..terminal import answer_json, note, table

if TYPE_CHECKING:
    from ..features import FeatureSet
    from ..types import TickBatch

EXAMPLE = "tocsin features compute EURUSD.parquet --out features.parquet"
SETS = ("default", "time", "time:tick", "bars:LENGTH")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("list", "compute", "check"))
    parser.add_argument("files", nargs="*", metavar="FILE",
                        help="Parquet, CSV or NDJSON ticks or bars (compute); a family's .py file or module, then ticks to "
                        "try it on, default simulated ones (check)")
    parser.add_argument("--out", metavar="F.parquet", help="the matrix: symbol, ts, row, one column per feature (compute)")
    parser.add_argument("--set", dest="chosen", default="default", metavar="SET",
                        help="default: the scale-free columns, as [features] says; time, time:tick: the nine raw time features "
                        "on 1 min bars or on every tick; bars:1m (or another length): what files of bars tell")
    parser.add_argument("--map", metavar="A=B,…", help="columns of the file: bid=Bid,ask=Ask,ts=Time:ms (compute)")


def run(args: argparse.Namespace, config: Config) -> int:
    if args.what == "check":
        return _check(args, config)
    if args.what == "list":
        return _list(_chosen(args, config), args.json)
    return _compute(args, config)


def _chosen(args: argparse.Namespace, config: Config, quotes: bool = True) -> FeatureSet:
    """quotes: whether bars have bid and ask."""
    from ..features import FeatureSet
    from ..features.featureset import listed

    kind, _, clock = args.chosen.partition(":")
    if kind == "bars" and clock:
        return FeatureSet.for_bars(clock, listed(config.features.timeframes), quotes)
    if kind == "time":
        return FeatureSet.time_features(clock or "1m")
    if args.chosen != "default":
        raise UsageError("set", f"--set {args.chosen}", hint=f"sets are {', '.join(SETS)}")
    return FeatureSet.of(config.features)


def _compute(args: argparse.Namespace, config: Config) -> int:
    from ..eventtime import EventTime, refusals
    from ..skew import doubts

    if not args.files or not args.out:
        raise UsageError("arguments", "compute takes files and --out", hint=EXAMPLE)
    ticks, features = _read(args, config)
    for doubt in doubts(ticks):
        note(doubt)
    refused = refusals(EventTime().admit(ticks))
    frame = features.frame(ticks)
    try:
        frame.write_parquet(Path(args.out))
    except OSError as error:
        raise UsageError("out", f"{args.out} can't be written: {error.strerror or error}", hint="check the folder") from None
    if args.json:
        answer_json({
            "rows": frame.height, "refused": refused, "columns": features.names, "fingerprint": features.fingerprint,
            "out": args.out,
        })
    else:
        note(f"{frame.height:,} rows × {len(features.names)} features ({features.fingerprint}) in {args.out}; refused {refused}")
    return EXIT_DONE


def _read(args: argparse.Namespace, config: Config) -> tuple[TickBatch, FeatureSet]:
    """Raises InputRefused `bars` where bars are given and columns asked for that they can't tell."""
    from ..bars import QUOTED, are_bars, read_bars
    from ..files import read_frame, read_ticks

    renamed = column_map(args.map)
    names = {*read_frame(Path(args.files[0])).columns, *renamed}
    if args.chosen.startswith("bars:"):
        features = _chosen(args, config, quotes=set(QUOTED) <= names)
        return read_bars(args.files, args.chosen.partition(":")[2], config.rules(), columns=renamed), features
    features = _chosen(args, config)
    if are_bars(names) and not {"bid", "ask"} <= names:
        told = set(_chosen(argparse.Namespace(chosen="bars:1m"), config, quotes=set(QUOTED) <= names).names)
        missing = [name for name in features.names if name not in told]
        raise InputRefused("bars", f"{args.files[0]} holds bars, which don't tell {', '.join(missing)}",
                           hint="--set bars:1m (or another length) computes what they tell")
    return read_ticks(args.files, config.rules(), columns=renamed), features


def _check(args: argparse.Namespace, config: Config) -> int:
    """Exit 0 if every promise holds, 3 if one doesn't."""
    from ..eventtime import EventTime
    from ..familycheck import check
    from ..features.own import load
    from ..feeds.market import lively
    from ..files import read_ticks

    if not args.files:
        raise UsageError("arguments", "check takes a family", hint="tocsin features check my_family.py [TICKS.parquet …]")
    ticks = read_ticks(args.files[1:], config.rules(), columns=column_map(args.map)) if args.files[1:] else lively(0.2)
    verdict = check(load(args.files[0]), ticks[EventTime().admit(ticks) == 0])
    if args.json:
        answer_json(verdict.as_dict())
    else:
        table(f"{verdict.family}: {verdict.columns} on {verdict.ticks:,} ticks", ("promise", "holds", "what was seen"),
              [(name, "yes" if found.holds else "NO", found.seen) for name, found in verdict.promises.items()])
        note("it holds" if verdict.holds else "it doesn't hold: see above")
    return EXIT_DONE if verdict.holds else EXIT_INPUT


def _list(features: FeatureSet, as_json: bool) -> int:
    if as_json:
        answer_json({"fingerprint": features.fingerprint, "columns": [column._asdict() for column in features.columns]})
    else:
        table(f"{len(features.names)} features, fingerprint {features.fingerprint}",
              ("name", "formula", "window", "unit", "known after", "computed", "source", "needs"),
              [column[:8] for column in features.columns])
    return EXIT_DONE
