"""What must hold when everything has been killed often enough, worked out from the log by the simplest means.

The log's own records are decoded and judged here one read at a time, as a reader of the documents would, and held
against what the lake, the signals and the partitions' control records came to. Every check raises Failed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial

import msgspec
import numpy as np
import polars as pl

from engine.errors import InputRefused
from engine.eventtime import VERDICTS, EventTime
from engine.instruments import Instruments, SymbolTable
from engine.registry import rollout, signing
from engine.transports.base import Log, Topic
from engine.types import NOWHERE, START, Entry, Kind
from engine.wire.records import canonical
from engine.wire.ticks import decode
from tests.chaos.harness import Failed, World
from trainers.lake import Lake, read_commit

COLUMNS = ("major", "minor", "ordinal", "appended", "ts", "bid", "ask", "bid_size", "ask_size", "seq")
WORDS = np.array(["ok" if code is None else code.value for code in VERDICTS])
PAGE = 2000


class _Named(msgspec.Struct):
    id: str
    bundle: str


_named = msgspec.json.Decoder(_Named)


def check_signals(expected: bytes, published: bytes) -> dict[str, int]:
    """Canonical bytes of the replay and of what was published; how many there were, under how many bundles."""
    due = [_named.decode(line) for line in expected.splitlines()]
    got = [_named.decode(line) for line in published.splitlines()]
    ids = {signal.id for signal in got}
    lost = {signal.id for signal in due} - ids
    if len(ids) < len(got) or lost or len(got) != len(due):
        raise Failed(f"{len(due)} signals due, {len(got)} published: {len(lost)} lost, {len(got) - len(ids)} said twice")
    if expected != published:
        different = sum(a != b for a, b in zip(expected.splitlines(), published.splitlines(), strict=True))
        raise Failed(f"{different} of {len(due)} signals differ from the replay")
    return {"signals": len(got), "bundles": len({signal.bundle for signal in got})}


def published(log: Log, topic: Topic) -> dict[int, list[bytes]]:
    """Every record of a topic, by partition, in log order."""
    found: dict[int, list[bytes]] = {partition: [] for partition in range(log.partitions)}
    after = dict.fromkeys(found, NOWHERE)
    while pages := log.follow(topic, after, PAGE):
        for partition, records in pages.items():
            after[partition] = records[-1][0]
            found[partition] += [record for _, record in records]
    return found


def count(log: Log) -> int:
    """How many signals there are."""
    return sum(map(len, published(log, Topic.SIGNALS).values()))


def check_rejects(log: Log, expected: bytes) -> int:
    """expected: the replay's, canonical, partition after partition."""
    got = [canonical(record) for records in published(log, Topic.REJECTS).values() for record in records]
    if got != expected.splitlines():
        raise Failed(f"{len(got)} rejects were published, not the {len(expected.splitlines())} of the replay")
    return len(got)


def entries(log: Log, partition: int) -> Iterator[list[Entry]]:
    """All there is of a partition, a read at a time."""
    after = START
    while found := log.read({partition: after}, PAGE).get(partition):
        after = found[-1].cursor
        yield found


# ---- which bundle each partition ends on


def bundles(log: Log) -> set[str]:
    """Whose decisions were published."""
    return {_named.decode(record).bundle for records in published(log, Topic.SIGNALS).values() for record in records}


def ends(world: World) -> dict[int, str | None]:
    """By partition the bundle after its last control record, as `rollout.check` says."""
    log = world.log
    models = rollout.Models(dict(log.controls()))
    verify = partial(signing.verify, signing.load_public(world.home / "keys/public.pem"))
    answers: dict[int, str | None] = {}
    for partition in range(log.partitions):
        followed: dict[str, int] = {}
        answers[partition] = None
        for page in entries(log, partition):
            for entry in page:
                if entry.kind is not Kind.CONTROL:
                    continue
                try:
                    control = rollout.check(entry.payload, models, log.identity, log.deployment, verify, followed)
                except InputRefused:
                    continue
                if control is not None and isinstance(control.body, rollout.Activate):
                    followed[control.verb] = control.k
                    answers[partition] = control.body.version
    return answers


def newest(world: World) -> str | None:
    """The version that `models` says answers."""
    verify = partial(signing.verify, signing.load_public(world.home / "keys/public.pem"))
    log = world.log
    held = rollout.holding(rollout.Models(dict(log.controls())), log.identity, log.deployment, verify)
    found = {control.verb: control for control in held}
    body = found["activate"].body if "activate" in found else None
    return body.version if isinstance(body, rollout.Activate) else None


def check_ends(world: World) -> str:
    """Every partition ends on the newest activation; its version."""
    version, answers = newest(world), ends(world)
    if version is None or set(answers.values()) != {version}:
        raise Failed(f"`models` says {version}, the partitions end on {answers}")
    return version


# ---- the lake


def recorded(world: World) -> bool:
    """Whether the lake says that it holds the log to its end."""
    commit = read_commit(world.home / "lake")
    return commit is not None and all(
        part.cursor == world.log.extent(number).last for number, part in enumerate(commit.parts)
    )


def check_lake(world: World) -> dict[str, int]:
    """Row by row: every tick with its verdict, every input that was none, every control record; nothing else, nothing twice."""
    ticks, refused, controls = _of_log(world.log)
    lake = Lake(world.home / "lake")
    known = {instrument.symbol for part in lake.commit().parts for instrument in part.instruments}
    if not known >= ticks.keys() or any(lake.rows("ticks", symbol).height for symbol in known - ticks.keys()):
        raise Failed(f"the lake has rows of {sorted(known)}, the log of {sorted(ticks)}")
    for symbol, due in ticks.items():
        got = lake.rows("ticks", symbol)
        got = got.drop("scale", "size_scale").with_columns(pl.col("verdict").cast(pl.String), pl.col("partition").cast(pl.Int64))
        if not got.select(due.columns).equals(due):
            raise Failed(f"{symbol}: the lake has {got.height} rows, the log {due.height}, and they aren't equal")
    taken = {symbol: due.filter(pl.col("verdict") == "ok").height for symbol, due in ticks.items()}
    batch = lake.read()
    counted = {i.symbol: int((batch.sid == sid).sum()) for sid, i in enumerate(batch.instruments)}
    if {symbol: n for symbol, n in counted.items() if n} != taken or (np.diff(batch.ts) < 0).any():
        raise Failed(f"read back: {counted}, taken in the log: {taken}")
    for table, rows in (("refused", refused), ("controls", controls)):
        frame = lake.rows(table)
        got_rows = sorted(frame.select("partition", "major", "minor", "ordinal", "payload").rows()) if frame.height else []
        if got_rows != sorted(rows):
            raise Failed(f"{table}: the lake has {len(got_rows)} rows, the log {len(rows)}")
    return {
        "lake rows": sum(due.height for due in ticks.values()), "not taken": sum(due.height for due in ticks.values())
        - sum(taken.values()), "refused": len(refused), "controls": len(controls), "gaps": len(lake.commit().gaps),
    }


Place = tuple[int, int, int, int, bytes]
"""Partition, cursor, row, and what stood there."""


def _of_log(log: Log) -> tuple[dict[str, pl.DataFrame], list[Place], list[Place]]:
    """What the lake must hold: ticks by symbol in log order, what was no tick, control records."""
    parts: dict[str, list[pl.DataFrame]] = defaultdict(list)
    refused: list[Place] = []
    controls: list[Place] = []
    for partition in range(log.partitions):
        table, judge = SymbolTable(Instruments()), EventTime()
        for page in entries(log, partition):
            controls += [(partition, *e.cursor, 0, e.payload) for e in page if e.kind is Kind.CONTROL]
            batch, bad = decode([entry for entry in page if entry.kind is not Kind.CONTROL], table)
            refused += [(partition, *item.position.cursor, item.position.ordinal, item.payload) for item in bad]
            verdicts = WORDS[judge.admit(batch)]
            for sid in np.unique(batch.sid).tolist():
                rows = batch.sid == sid
                parts[batch.instruments[sid].symbol].append(pl.DataFrame({
                    "partition": np.full(int(rows.sum()), partition, np.int64),
                    **{name: getattr(batch, name)[rows] for name in COLUMNS}, "verdict": verdicts[rows],
                }))
    return {symbol: pl.concat(frames) for symbol, frames in parts.items()}, refused, controls
