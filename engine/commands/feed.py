"""`tocsin feed files|sim`: ticks into the log."""

from __future__ import annotations

import argparse
from contextlib import suppress
from typing import TYPE_CHECKING

from ..arguments import column_map, stamp
from ..config import Config
from ..errors import TransportUnreachable, UsageError
from ..terminal import answer_json, note

if TYPE_CHECKING:
    from ..feeds.base import Feed
    from ..feeds.delivery import Delivery
    from ..feeds.send import Pace
    from ..transports.base import Log

EXAMPLE = "tocsin feed files EURUSD.csv --map bid=Bid,ask=Ask,ts=Time:ms --rate 1000"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", choices=("files", "sim"))
    parser.add_argument("files", nargs="*", metavar="FILE", help="Parquet, CSV or NDJSON ticks (source files)")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--speed", default="1", metavar="N|max", help="times recorded speed (default 1), or as fast as it goes")
    pace.add_argument("--rate", type=float, metavar="R", help="so many ticks per second, evenly")
    pace.add_argument("--duration", type=float, metavar="S", help="all of them evenly over so many seconds")
    parser.add_argument("--map", metavar="A=B,…", help="columns of the file: bid=Bid,ask=Ask,ts=Time:ms,symbol=Pair")
    parser.add_argument("--from", dest="begin", metavar="T", help="ns or RFC 3339: only ticks from this stamp on")
    parser.add_argument("--to", dest="end", metavar="T", help="ns or RFC 3339: only ticks before this stamp")
    parser.add_argument("--frame", type=int, default=1, metavar="N", help="ticks per record: 1 = JSON, more = packed frames")
    parser.add_argument("--days", type=float, default=1.0, help="simulated days (source sim)")
    parser.add_argument("--seed", type=int, default=1, help="of the simulator (source sim)")
    parser.add_argument("--lively", action="store_true", help="with sessions, weekends, regimes, bursts, holes (source sim)")
    parser.add_argument("--start", metavar="T", help="ns or RFC 3339: where --lively starts (default 2024-01-01T22:00:00Z)")


def run(args: argparse.Namespace, config: Config) -> int:
    from ..feeds.delivery import Delivery, Stopped
    from ..feeds.send import send
    from ..feeds.spool import Spool
    from ..partition.retention import unless_said
    from ..skew import doubts
    from ..stopping import Stop
    from ..transports import open_log
    from ..types import TickBatch
    from ..wire.frame import MAX_ROWS

    feed = _feed(args, config)
    if any(pace is not None and not 0 < pace < float("inf") for pace in (args.rate, args.duration)):
        raise UsageError("pace", "--rate and --duration are above 0", hint="--speed max sends as fast as it goes")
    if not 1 <= args.frame <= MAX_ROWS:
        raise UsageError("frame", f"--frame {args.frame}: 1 to {MAX_ROWS}", hint="leave it out for JSON")
    stop = Stop()
    first = [config.log.partitions]                        # only once: a log that went is waited for, never made anew

    def opened() -> Log:
        log = open_log(config.url, deployment=config.log.deployment, create=first.pop() if first else None, rules=config.rules())
        try:
            unless_said(log, config.log.keep_mb * 2**20)
        except TransportUnreachable as error:
            if error.code != "rights":         # a feed that may do no more than feed: whoever made the log has said it
                raise
        return log

    def spool(identity: str) -> Spool:
        return Spool(config.spool_path / _name(args), identity, config.feed.spool_mb * 2**20)

    waits = feed.waits or (args.speed == "max" and not args.rate and not args.duration)    # then the log sets the pace
    delivery = Delivery(opened, spool=None if waits else spool, stop=stop, tell=note)
    try:
        ticks = TickBatch.concat(list(feed.batches()))           # both sources end; one pace for all of it
        for doubt in doubts(ticks) if args.source == "files" else ():
            note(doubt)
        if args.source == "sim":
            start, end = _span(args)
            ticks = ticks[(ticks.ts >= start) & (ticks.ts < end)]
        send(delivery, ticks, _pace(args, len(ticks)), args.frame, stop)
        with suppress(Stopped):
            delivery.finish()
    finally:
        delivery.close()                                     # first: nobody may be there any more to hear what is told
        _tell(args, delivery)
    return stop.exit


def _tell(args: argparse.Namespace, delivery: Delivery) -> None:
    sent, spooled, held_s = delivery.delivered
    if args.json:
        answer_json({"sent": sent, "spooled": spooled, "held_s": round(held_s, 3)})
        return
    note(f"{sent:,} ticks sent to {delivery.url}" + (f"; for {held_s:,.1f} s it took none" if held_s >= 0.1 else ""))
    if spooled:
        note(f"{spooled:,} ticks wait on disk: start the same feed again")


def _name(args: argparse.Namespace) -> str:
    """Of the folder of what couldn't be sent: two feeds that may run beside each other have two."""
    return f"{'lively' if args.lively else args.source}-{args.seed}"


def _feed(args: argparse.Namespace, config: Config) -> Feed:
    if args.source == "sim" and args.files:
        raise UsageError("feed_files", f"feed sim takes no files ({args.files[0]})", hint="feed files FILE …")
    if args.source == "sim":
        return _simulated(args)
    if not args.files:
        raise UsageError("feed_files", "feed files takes one or more files", hint=EXAMPLE)
    from ..feeds.files import FilesFeed

    return FilesFeed(args.files, config.rules(), column_map(args.map), *_span(args))


def _simulated(args: argparse.Namespace) -> Feed:
    if args.lively:
        from ..feeds.made import START
        from ..feeds.market import MarketFeed

        return MarketFeed(args.days, args.seed, stamp(args.start) if args.start else START)
    if args.start:
        raise UsageError("feed_start", "--start is for a lively market", hint="feed sim --lively --start T")
    from ..feeds.sim import SimFeed

    return SimFeed(days=args.days, seed=args.seed)


def _span(args: argparse.Namespace) -> tuple[int, int]:
    """ns UTC: from the first, before the second."""
    return stamp(args.begin) if args.begin else 0, stamp(args.end) if args.end else 2**63 - 1


def _pace(args: argparse.Namespace, ticks: int) -> Pace:
    from ..feeds.send import Pace

    if args.rate:
        return Pace(rate=args.rate)
    if args.duration:
        return Pace(rate=ticks / args.duration)
    if args.speed == "max":
        return Pace()
    try:
        speed = float(args.speed)
    except ValueError:
        speed = 0.0
    if speed <= 0:
        raise UsageError("speed", f"--speed {args.speed}: a number above 0, or max", hint="--speed max")
    return Pace(speed=speed)
