"""`tocsin lake list`: what was recorded."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from engine.config import Config
from engine.terminal import answer_json, note, table

EXAMPLE = "tocsin lake list --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("list",))


def run(args: argparse.Namespace, config: Config) -> int:
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
    }
    if args.json:
        answer_json(answer)
    else:
        _show(answer)
    return 0


def _show(answer: dict[str, Any]) -> None:
    title = f"{answer['lake']}, of log {answer['identity']}: {answer['rows']:,} ticks taken, {answer['bytes'] / 1e6:,.1f} MB"
    rows = [
        (s["symbol"], s["days"], s["rows"], _stamp(s["from"]), _stamp(s["to"]), _counts(s["refused"]), f"{s['bytes'] / 1e6:.1f}")
        for s in answer["symbols"]
    ]
    table(title, ("symbol", "days", "rows", "from", "to", "refused", "MB"), rows)
    print("recorded up to " + ", ".join(f"{_cursor(p['cursor'])} (partition {p['partition']})" for p in answer["partitions"]))
    if answer["refused"]:
        print(f"no ticks: {_counts(answer['refused'])}")
    for gap in answer["gaps"]:
        print(f"gap in partition {gap['partition']}: what stood after {_cursor(gap['after'])} and before "
              f"{_cursor(gap['before'])} may be missing, the log no longer held it")
    if answer["removed"]:
        print(f"removed for [lake] quota_gb: {', '.join(answer['removed'])}")


def _stamp(ns: int | None) -> str:
    from engine.wire.stamps import ns_to_rfc3339

    return "-" if ns is None else ns_to_rfc3339(ns)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {code}" for code, count in counts.items()) or "-"


def _cursor(cursor: Sequence[int]) -> str:
    return f"{cursor[0]}-{cursor[1]}"
