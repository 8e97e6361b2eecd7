"""Signals and rejects as JSON records: their schema, and columns to bytes without an object per signal.

The bytes of a signal are canonical as published: keys in the schema's order, no spaces, probabilities and votes as the
shortest decimal that is the same float32, prices as decimals of the instrument's scale, `log` and `timing` last, so
that leaving them out is a cut and two runs can be compared with `cmp`.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
import orjson
from msgspec import Meta, Struct

from ..types import F32, F64, I64, REASONS, SIDES, Cursor, Refused, TickBatch
from .ticks import decimal

Probability = Annotated[float, Meta(ge=0, le=1)]
Triple = Annotated[list[Probability], Meta(min_length=3, max_length=3)]
RedisCursor = Annotated[str, Meta(pattern="^[0-9]+-[0-9]+$")]


def cursor_of(told: int | str) -> Cursor:
    """A cursor as a transport writes it, back: `ms-seq`, or a number. Raises ValueError."""
    if isinstance(told, int):
        return 0, told
    major, dash, minor = told.rpartition("-")
    if not (minor.isdecimal() and (major.isdecimal() or not dash)):
        raise ValueError(f"{told!r} is no cursor")
    return int(major or 0), int(minor)


class Place(Struct, frozen=True):
    """Where in the log: the transport's cursor of the tick's record (a Redis id, an offset, a row), the row within it."""

    partition: int
    cursor: int | RedisCursor
    ordinal: int
    epoch: int


class Timing(Struct, frozen=True):
    """ns UTC by the engine's clock: the tick was read, the side was decided, the step was sent."""

    received: int
    decided: int
    published: int


class Signal(Struct, frozen=True):
    """One decision. Prices are numbers with the instrument's digits; stamps and durations are integer ns."""

    id: str
    deployment: str
    symbol: str
    ts: int
    side: Literal["neutral", "buy", "sell"]
    reason: Literal[
        "decided", "threshold", "cooldown", "hysteresis", "spread", "novelty", "guard", "warmup", "gap", "paused"
    ]
    probabilities: Triple
    confidence: Probability
    disagreement: float
    novelty: float | None
    licence: Literal["open", "shut"]
    horizon: int | None
    barrier: float | None
    expires: int | None
    bid: float
    ask: float
    bundle: str
    features: str
    votes: dict[str, Triple]
    log: Place
    timing: Timing


class Reject(Struct, frozen=True):
    """One input not taken, whole: UTF-8 text as it came (a row of a frame as canonical JSON), else base64."""

    code: str
    encoding: Literal["utf-8", "base64"]
    payload: str
    log: Place


signal_decoder = msgspec.json.Decoder(Signal)
reject_decoder = msgspec.json.Decoder(Reject)
_CUT = b',"log":{'


class Decisions(NamedTuple):
    """What was decided of the n asked rows of one batch, as columns."""

    ticks: TickBatch
    """The asked ticks."""
    horizon: F64
    width: F64
    """Seconds and points, NaN until sigma is known."""
    votes: F32
    """(n, k, 3)."""
    probabilities: F32
    disagreement: F32
    side: I64
    reason: I64
    nth: I64
    """How many decisions of the symbol at this stamp came before."""


class Stamp(NamedTuple):
    """What is the same for all records of one step."""

    deployment: str
    partition: int
    epoch: int
    bundle: str
    features: str
    experts: Sequence[str]
    received: int
    decided: int
    published: int


def encode_signals(d: Decisions, stamp: Stamp, cursors: Sequence[str]) -> list[bytes]:
    """One canonical record per decision; `cursors`: how the transport writes each row's cursor, as JSON."""
    n = len(d.ticks)
    if not n:
        return []
    k = len(stamp.experts)
    names = [orjson.dumps(i.symbol).decode() for i in d.ticks.instruments]
    ids = [name[1:-1] for name in names]
    probabilities = _rows(d.probabilities)
    votes = _rows(d.votes.reshape(n * k, 3))
    confidence = _numbers(d.probabilities.max(axis=1))
    disagreement = _numbers(d.disagreement)
    experts = [orjson.dumps(name).decode() for name in stamp.experts]
    deployment = orjson.dumps(stamp.deployment).decode()
    known = d.width > 0.0
    horizon = np.where(known, np.rint(np.where(known, d.horizon, 0.0) * 1e9), 0).astype(np.int64).tolist()
    width = np.where(known, np.rint(np.where(known, d.width, 0.0)), 0).astype(np.int64).tolist()
    after = f',"bundle":{orjson.dumps(stamp.bundle).decode()},"features":"{stamp.features}","votes":{{'
    log = f'}},"log":{{"partition":{stamp.partition},"cursor":'
    end = (
        f',"epoch":{stamp.epoch}}},"timing":{{"received":{stamp.received},"decided":{stamp.decided},'
        f'"published":{stamp.published}}}}}'
    )
    records = []
    rows = zip(
        d.ticks.sid.tolist(), d.ticks.ts.tolist(), d.ticks.bid.tolist(), d.ticks.ask.tolist(),
        d.ticks.ordinal.tolist(), d.side.tolist(), d.reason.tolist(), d.nth.tolist(), horizon, width,
        probabilities, confidence, disagreement, cursors, strict=True,
    )
    scales = [i.scale for i in d.ticks.instruments]
    for i, (sid, ts, bid, ask, ordinal, side, reason, nth, h, w, p, best, spread, cursor) in enumerate(rows):
        scale = scales[sid]
        bounds = f'{h},"barrier":{decimal(w, scale)},"expires":{ts + h}' if h else 'null,"barrier":null,"expires":null'
        cast = ",".join([f"{name}:[{vote}]" for name, vote in zip(experts, votes[i * k:i * k + k], strict=True)])
        records.append((
            f'{{"id":"{ids[sid]}:{ts}:{nth}","deployment":{deployment},"symbol":{names[sid]},"ts":{ts},'
            f'"side":"{SIDES[side]}","reason":"{REASONS[reason]}","probabilities":[{p}],"confidence":{best},'
            f'"disagreement":{spread},"novelty":null,"licence":"shut","horizon":{bounds},'
            f'"bid":{decimal(bid, scale)},"ask":{decimal(ask, scale)}{after}{cast}{log}{cursor},"ordinal":{ordinal}{end}'
        ).encode())
    return records


def encode_rejects(refused: Sequence[Refused], partition: int, epoch: int, cursors: Sequence[str]) -> list[bytes]:
    """One canonical record per refused input; `cursors`: how the transport writes each one's cursor, as JSON."""
    records = []
    log, end = b',"log":{"partition":%d,"cursor":' % partition, b',"epoch":%d}}' % epoch
    for ((_, ordinal), code, payload), cursor in zip(refused, cursors, strict=True):
        try:
            encoding, held = b"utf-8", orjson.dumps(payload.decode())
        except UnicodeDecodeError:
            encoding, held = b"base64", b'"%b"' % base64.b64encode(payload)
        records.append(b'{"code":"%b","encoding":"%b","payload":%b%b%b,"ordinal":%d%b' % (
            code.encode(), encoding, held, log, cursor.encode(), ordinal, end,
        ))
    return records


def canonical(record: bytes) -> bytes:
    """A signal or reject without `log` and `timing` (quotes inside strings are escaped, so the cut can't be in one)."""
    return record[:record.rindex(_CUT)] + b"}"


def sort_key(signal: Signal) -> tuple[int, str, int]:
    """Canonical order: (ts, symbol, ordinal of the id)."""
    return signal.ts, signal.symbol, int(signal.id.rsplit(":", 1)[1])


def canonical_order(signals: list[bytes]) -> list[bytes]:
    """Canonical bytes, sorted."""
    keyed = sorted((sort_key(signal_decoder.decode(record)), canonical(record)) for record in signals)
    return [record for _, record in keyed]


def _rows(matrix: F32) -> list[str]:
    """Each row of (n, m) as its comma-separated shortest decimals."""
    text = orjson.dumps(np.ascontiguousarray(matrix), option=orjson.OPT_SERIALIZE_NUMPY)
    return text[2:-2].decode().split("],[")


def _numbers(column: F32) -> list[str]:
    return orjson.dumps(np.ascontiguousarray(column), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].decode().split(",")


def schemas() -> dict[str, Any]:
    """The JSON Schemas of signal and reject, as docs/schemas publishes them."""
    return {"signal": msgspec.json.schema(Signal), "reject": msgspec.json.schema(Reject)}
