"""`tocsin features list|compute`: what the engine knows of a tick."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..arguments import column_map
from ..config import Config
from ..errors import UsageError
from ..terminal import answer_json, note, table

if TYPE_CHECKING:
    from ..features import FeatureSet

EXAMPLE = "tocsin features compute EURUSD.parquet --out features.parquet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("list", "compute"))
    parser.add_argument("files", nargs="*", metavar="FILE", help="Parquet, CSV or NDJSON ticks (compute)")
    parser.add_argument("--out", metavar="F.parquet", help="the matrix: symbol, ts, row, one column per feature (compute)")
    parser.add_argument("--set", dest="chosen", choices=("default", "time", "time:tick"), default="default",
                        help="the scale-free columns, or the nine raw time features on 1 min bars or on every tick")
    parser.add_argument("--map", metavar="A=B,…", help="columns of the file: bid=Bid,ask=Ask,ts=Time:ms (compute)")


def run(args: argparse.Namespace, config: Config) -> int:
    from ..eventtime import EventTime, refusals
    from ..features import FeatureSet
    from ..files import read_ticks
    from ..skew import doubts

    kind, _, clock = args.chosen.partition(":")
    features = FeatureSet.default() if kind == "default" else FeatureSet.time_features(clock or "1m")
    if args.what == "list":
        return _list(features, args.json)
    if not args.files or not args.out:
        raise UsageError("arguments", "compute takes files and --out", hint=EXAMPLE)
    ticks = read_ticks(args.files, config.rules(), columns=column_map(args.map))
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
    return 0


def _list(features: FeatureSet, as_json: bool) -> int:
    if as_json:
        answer_json({"fingerprint": features.fingerprint, "columns": [column._asdict() for column in features.columns]})
    else:
        table(f"{len(features.names)} features, fingerprint {features.fingerprint}",
              ("name", "formula", "window", "unit", "known after", "source"), features.columns)
    return 0
