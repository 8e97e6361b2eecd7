"""`tocsin signals`: what was published."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..arguments import cursor
from ..config import Config
from ..errors import UsageError
from ..terminal import line_json, table

if TYPE_CHECKING:
    from ..transports.base import Log
    from ..types import Position
    from ..wire.records import Signal

EXAMPLE = "tocsin signals --follow"
PAGE = 1000
SHOWN = 40
"""Rows of the table without --json and --follow: the last ones."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--follow", action="store_true", help="go on as signals are published, until Ctrl-C")
    parser.add_argument("--from", dest="start", metavar="P", help="a cursor (1700000000000-0, or an offset): signals after it")
    parser.add_argument("--canonical", action="store_true",
                        help="sorted by (ts, symbol, ordinal), without log and timing: comparable with cmp")
    parser.add_argument("--side", action="append", choices=("buy", "sell", "neutral"), help="only these sides")


def run(args: argparse.Namespace, config: Config) -> int:
    if args.follow and args.canonical:
        raise UsageError("canonical", "--canonical sorts all there is, --follow has no end", hint="use one of them")
    from ..stopping import Stop
    from ..transports import open_log
    from ..wire.records import canonical_order

    stop = Stop()
    log = open_log(config.url, deployment=config.log.deployment)
    try:
        after = {partition: _position(args.start) for partition in range(log.partitions)}
        if args.canonical:
            for record in canonical_order([record for record, _ in _published(log, after, stop, False)]):
                line_json(record)
        elif args.json:
            for record, signal in _published(log, after, stop, args.follow):
                if not args.side or signal.side in args.side:
                    line_json(record)
                    sys.stdout.buffer.flush()
        else:
            found = (signal for _, signal in _published(log, after, stop, args.follow)
                     if not args.side or signal.side in args.side)
            _show(found, args.follow)
        sys.stdout.buffer.flush()
    finally:
        log.close()
    return stop.exit


def _published(log: Log, after: dict[int, Position], stop: Callable[[], bool], follow: bool) -> Iterator[tuple[bytes, Signal]]:
    from ..transports.base import Topic
    from ..wire.records import signal_decoder

    while not stop():
        found = log.follow(Topic.SIGNALS, after, PAGE, 200 if follow else 0)
        for partition, records in found.items():
            after[partition] = records[-1][0]
            for _, record in records:
                yield record, signal_decoder.decode(record)
        if not found and not follow:
            return


def _position(text: str | None) -> Position:
    from ..types import LAST_ORDINAL, NOWHERE, Position

    return NOWHERE if text is None else Position(cursor(text), LAST_ORDINAL)


def _show(signals: Iterator[Signal], follow: bool) -> None:
    from ..wire.stamps import ns_to_rfc3339

    if follow:
        for s in signals:
            print(f"{ns_to_rfc3339(s.ts):<30} {s.symbol:<10} {s.side:<8} {s.reason:<10} {s.probabilities} "
                  f"{s.bid}/{s.ask} bundle {s.bundle} licence {s.licence}", flush=True)
        return
    rows = [
        (ns_to_rfc3339(s.ts), s.symbol, s.side, s.reason, *(f"{p:.3f}" for p in s.probabilities), s.bid, s.ask, s.bundle,
         s.licence)
        for s in signals
    ]
    head = ("tick", "symbol", "side", "reason", "p neutral", "p buy", "p sell", "bid", "ask", "bundle", "licence")
    table(f"{len(rows):,} signals" + (f", the last {SHOWN}" if len(rows) > SHOWN else ""), head, rows[-SHOWN:])
