"""`tocsin rejects`: what was refused, why, and having it judged again."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ..arguments import cursor
from ..config import Config
from ..errors import InputRefused, UsageError
from ..terminal import answer_json, line_json, note, table

if TYPE_CHECKING:
    from ..instruments import Instruments
    from ..transports.base import Log
    from ..types import Position
    from ..wire.records import Reject

EXAMPLE = "tocsin rejects requeue --code scale --dry-run"

PAGE = 1000
SHOWN = 40
"""Rows of the table: the last ones."""
WIDE = 100
"""Characters of a payload in the table."""
AT_ONCE = 500
"""Records handed to the log in one call at most."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("list", "show", "requeue"))
    parser.add_argument("positions", nargs="*", metavar="POSITION", help="PARTITION:CURSOR:ORDINAL, as `list` prints it")
    parser.add_argument("--code", metavar="C", help="only what was refused by this code (list, requeue)")
    parser.add_argument("--symbol", metavar="S", help="only what names this symbol (list)")
    parser.add_argument("--follow", action="store_true", help="go on as inputs are refused, until Ctrl-C (list)")
    parser.add_argument("--from", dest="start", metavar="P",
                        help="a position, or a cursor in every partition: from there on (requeue --code)")
    parser.add_argument("--to", dest="end", metavar="P", help="up to there, that included (requeue --code)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be put back, and leave it (requeue)")


def run(args: argparse.Namespace, config: Config) -> int:
    _check(args)
    from ..transports import open_log

    log = open_log(config.url, deployment=config.log.deployment)
    try:
        if args.action == "show":
            return _show(log, args.positions[0], args.json)
        if args.action == "requeue":
            return _requeue(log, args, config)
        return _list(log, args)
    finally:
        log.close()


def _check(args: argparse.Namespace) -> None:
    """Raises UsageError `rejects`, `rejects_code`."""
    from ..types import Code

    wrong = ""
    match args.action:
        case "list":
            wrong = "takes no position" if args.positions or args.start or args.end or args.dry_run else ""
        case "show":
            wrong = "takes one position" if len(args.positions) != 1 else ""
        case _:
            if bool(args.positions) == bool(args.code) or (args.positions and (args.start or args.end)):
                wrong = "takes positions, or --code, perhaps with --from and --to"
            elif args.symbol or args.follow:
                wrong = "takes no --symbol and no --follow"
    if wrong:
        raise UsageError("rejects", f"rejects {args.action} {wrong}", hint=f"for example: {EXAMPLE}")
    if args.code and args.code not in set(Code):
        raise UsageError("rejects_code", f"no code {args.code!r}", hint=f"codes are {', '.join(Code)}")


# ---- list


def _list(log: Log, args: argparse.Namespace) -> int:
    from ..stopping import Stop
    from ..types import NOWHERE
    from ..wire.refusals import told

    stop = Stop()
    after = dict.fromkeys(range(log.partitions), NOWHERE)
    found = (
        row for reject in _published(log, after, stop, args.follow)
        if (not args.code or reject.code == args.code) and _wanted(row := told(reject), args.symbol)
    )
    if args.json or args.follow:
        import orjson

        for row in found:
            line_json(orjson.dumps(row) if args.json else "  ".join(_told(row)).encode())
            sys.stdout.buffer.flush()
        return stop.exit
    rows = list(found)
    counts = Counter(row["code"] for row in rows)
    title = f"{len(rows):,} refused" + "".join(f", {code} {count:,}" for code, count in counts.most_common())
    title += f"; the last {SHOWN}" if len(rows) > SHOWN else ""
    table(title, ("position", "code", "symbol", "payload"), [_told(row) for row in rows[-SHOWN:]])
    return stop.exit


def _wanted(row: dict[str, Any], symbol: str | None) -> bool:
    return symbol is None or row["symbol"] == symbol


def _told(row: dict[str, Any]) -> tuple[str, str, str, str]:
    payload = row["payload"] if row["payload"].isprintable() else repr(row["payload"])
    return row["position"], row["code"], row["symbol"] or "-", payload if len(payload) <= WIDE else payload[:WIDE] + "…"


def _published(log: Log, after: dict[int, Position], stop: Any, follow: bool) -> Iterator[Reject]:
    from ..transports.base import Topic
    from ..wire.records import reject_decoder

    while not stop():
        found = log.follow(Topic.REJECTS, after, PAGE, 200 if follow else 0)
        for partition, records in found.items():
            after[partition] = records[-1][0]
            for _, record in records:
                yield reject_decoder.decode(record)
        if not found and not follow:
            return


# ---- show


def _show(log: Log, text: str, as_json: bool) -> int:
    from ..wire.refusals import content, meaning, place, shown, told
    from ..wire.stamps import ns_to_rfc3339

    reject = _at(log, text)
    means = meaning(reject.code)
    stands = place(text)
    entry = log.entry(stands.partition, stands.position.cursor)
    came = ns_to_rfc3339(entry.appended) if entry and entry.appended else None
    if as_json:
        answer_json({**told(reject), "came": came, "wrong": means.wrong, "advice": means.advice})
    else:
        row = told(reject)
        table("", ("", ""), [
            ("position", row["position"]), ("came", came or "-"), ("code", reject.code), ("symbol", row["symbol"] or "-"),
            ("wrong", means.wrong), ("what to do", means.advice), ("payload", shown(content(reject))),
        ])
    return 0


def _at(log: Log, text: str) -> Reject:
    """Raises UsageError `position`, InputRefused `no_reject`."""
    from ..transports.base import Topic
    from ..types import LAST_ORDINAL, Position
    from ..wire.records import reject_decoder
    from ..wire.refusals import place

    partition, position = place(text)
    if partition < log.partitions and position.cursor[1] <= LAST_ORDINAL > position.ordinal:
        found = log.backwards(partition, Topic.REJECTS, Position(position.cursor, position.ordinal + 1), 1)
        if found and found[0][0] == position:
            return reject_decoder.decode(found[0][1])
    raise InputRefused("no_reject", f"nothing was refused at {text}, or it was trimmed since",
                       hint="tocsin rejects list names what there is")


# ---- requeue


class _Back(NamedTuple):
    """A refused input on its way back."""

    position: str
    code: str
    partition: int
    payload: bytes


def _requeue(log: Log, args: argparse.Namespace, config: Config) -> int:
    """Appended as new tick records, in the order in which they were refused, to the partitions of their symbols."""
    from ..registry.controls import read_controls
    from ..registry.settings import counted_now
    from ..registry.store import Registry
    from ..types import Code

    if args.code == Code.CONTROL:
        raise _never()
    rules = counted_now(log, read_controls(log, Registry(config.registry_path, config.trust_path).public_key()))
    if args.positions:
        rejects = [_at(log, text) for text in dict.fromkeys(args.positions)]
        if any(reject.code == Code.CONTROL for reject in rejects):
            raise _never()
    else:
        rejects = [reject for reject in _between(log, args.start, args.end) if reject.code == args.code]
    back = [_back(reject, rules, log.partitions) for reject in rejects]
    if not args.dry_run:
        for partition in sorted({item.partition for item in back}):
            payloads = [item.payload for item in back if item.partition == partition]
            for at in range(0, len(payloads), AT_ONCE):
                log.append(partition, payloads[at:at + AT_ONCE])
    did = "would be put back" if args.dry_run else "put back"
    codes = Counter(item.code for item in back)
    note(f"{len(back):,} {did}" + "".join(f", {code} {count:,}" for code, count in codes.most_common())
         + ("; each is judged anew: where a later tick of its symbol was taken, it is late" if back else ""))
    if args.json:
        answer_json({"requeued": 0 if args.dry_run else len(back), "dry_run": args.dry_run, "records": [
            {"position": item.position, "code": item.code, "partition": item.partition} for item in back
        ]})
    elif back:
        table("", ("refused at", "code", "to partition", "payload"), [
            (item.position, item.code, str(item.partition), repr(item.payload[:WIDE])[2:-1]) for item in back[:SHOWN]
        ])
    return 0


def _never() -> InputRefused:
    return InputRefused(
        "requeue_control", "a refused control record is never put back: it would be refused again, as forged or overtaken",
        hint="if it should hold, write it anew: tocsin models activate, settings set, pause, resume",
    )


def _back(reject: Reject, rules: Instruments, partitions: int) -> _Back:
    """What names a symbol goes to the symbol's partition, as a feed would send it; what names none, to where it stood."""
    from ..partitioner import partition_of
    from ..wire.refusals import content, symbol_of, told_place

    payload = content(reject)
    name = symbol_of(payload)
    if name is None:
        return _Back(told_place(reject), reject.code, reject.log.partition, payload)
    instrument = rules.get(name)
    home = partition_of(instrument.symbol if instrument else name, partitions)
    return _Back(told_place(reject), reject.code, home, payload)


def _between(log: Log, start: str | None, end: str | None) -> Iterator[Reject]:
    """All that was refused from a place up to another, both included."""
    from ..types import NOWHERE
    from ..wire.refusals import Stands, place, told_place

    low, high = (None if text is None else place(text) if ":" in text else cursor(text) for text in (start, end))
    only = {bound.partition for bound in (low, high) if isinstance(bound, Stands)}
    after = {p: NOWHERE for p in range(log.partitions) if only <= {p}}

    def stands(reject: Reject, bound: Any) -> Any:
        """The reject's own place, as exact as the bound is."""
        exact = place(told_place(reject))
        return exact if isinstance(bound, Stands) else exact.position.cursor

    for reject in _published(log, after, lambda: False, False):
        if (low is None or stands(reject, low) >= low) and (high is None or stands(reject, high) <= high):
            yield reject
