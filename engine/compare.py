"""Two sets of published records held against each other: equal, or where they first aren't. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from .errors import InputRefused
from .transports.base import Topic
from .wire.records import Place, canonical, cursor_of
from .wire.stamps import ns_to_rfc3339

_CUT = b',"log":{'
_EPOCH = b',"epoch":'


class _Placed(msgspec.Struct):
    log: Place


class _Named(msgspec.Struct):
    id: Annotated[str, Meta(pattern=":[0-9]+$")]
    symbol: str
    ts: int


_placed = msgspec.json.Decoder(_Placed)
_named = msgspec.json.Decoder(_Named)

Seen = tuple[Any, bytes]
"""A record as it is compared: what tells which other record it is held against, and the bytes that must be equal."""
View = Callable[[bytes], Seen]


def in_place(record: bytes) -> Seen:
    """Of the very same log: by position, byte for byte but for the epoch and `timing`."""
    place = _placed.decode(record).log
    return (place.partition, cursor_of(place.cursor), place.ordinal), record[:record.rindex(_EPOCH)]


def by_name(record: bytes) -> Seen:
    """A signal wherever it was decided: by (ts, symbol, which decision at that stamp), without `log` and `timing`."""
    signal = _named.decode(record)
    return (signal.ts, signal.symbol, int(signal.id.rsplit(":", 1)[1])), bare(record)


def by_content(record: bytes) -> Seen:
    """A reject wherever it was refused."""
    kept = bare(record)
    return (kept,), kept


def check(records: Iterable[bytes], name: str) -> None:
    """Signals of a file that anybody may have written. Raises InputRefused `not_published`."""
    for number, record in enumerate(records, 1):
        try:
            by_name(record)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputRefused("not_published", f"{name}, line {number}: no signal ({error})",
                               hint="name a log, an export of one, or a file of signals, one JSON object a line") from None


def bare(record: bytes) -> bytes:
    """Without `log` and `timing`, also where it has none."""
    return canonical(record) if _CUT in record else record


class Difference(msgspec.Struct, frozen=True):
    """Where two sets first differ. A record that only one of them has has no `key`, and no value in the other."""

    topic: str
    partition: int | None
    cursor: int | str | None
    ordinal: int | None
    symbol: str | None
    ts: int | None
    key: str | None
    """`side`, `log.cursor`, `votes.lightgbm`, …"""
    replayed: Any
    published: Any


class Comparison(NamedTuple):
    """compared: records that both have; missing: only the replay has them; extra: only the other has them."""

    equal: bool
    compared: int
    first: Difference | None
    missing: int
    extra: int

    def and_then(self, other: Comparison) -> Comparison:
        """Both together; the first difference is the first one's, if it has one."""
        return Comparison(
            self.equal and other.equal, self.compared + other.compared, self.first or other.first,
            self.missing + other.missing, self.extra + other.extra,
        )


def compare(topic: Topic, replayed: Iterable[bytes], published: Iterable[bytes], view: View) -> Comparison:
    """view: how a record of either side is seen."""
    ours, theirs = _seen(replayed, view), _seen(published, view)
    different = sorted(key for key in ours.keys() | theirs.keys() if key not in ours or key not in theirs
                       or ours[key][0] != theirs[key][0])
    first = None
    if different:
        (_, mine), (_, other) = ours.get(different[0], (b"", b"")), theirs.get(different[0], (b"", b""))
        first = _difference(topic, mine, other)
    both = len(ours.keys() & theirs.keys())
    return Comparison(not different, both, first, len(ours) - both, len(theirs) - both)


def _seen(records: Iterable[bytes], view: View) -> dict[Any, tuple[bytes, bytes]]:
    """By key, what counts and the whole record; one that is there twice has a key for each time."""
    times: Counter[Any] = Counter()
    found = {}
    for record in records:
        key, kept = view(record)
        found[key, times[key]] = kept, record
        times[key] += 1
    return found


# ---- in words


def _difference(topic: Topic, replayed: bytes, published: bytes) -> Difference:
    ours, theirs = (json.loads(record) if record else None for record in (replayed, published))
    some = ours or theirs or {}
    place = some.get("log", {})
    about = (topic.value, place.get("partition"), place.get("cursor"), place.get("ordinal"), some.get("symbol"), some.get("ts"))
    if ours is None or theirs is None:
        return Difference(*about, None, ours, theirs)
    return Difference(*about, *_first_key(ours, theirs))


def _first_key(ours: dict[str, Any], theirs: dict[str, Any], inside: str = "") -> tuple[str, Any, Any]:
    for key in [*ours, *(key for key in theirs if key not in ours)]:
        mine, other = ours.get(key), theirs.get(key)
        if key in ("timing", "epoch") or mine == other:
            continue
        if isinstance(mine, dict) and isinstance(other, dict):
            return _first_key(mine, other, f"{inside}{key}.")
        return f"{inside}{key}", mine, other
    return "its bytes", "equal values", "written otherwise"


def in_words(found: Comparison, other: str) -> str:
    """One or two sentences. other: the name of what the replay is held against."""
    if found.first is None:
        return f"equal: {found.compared:,} records of the replay are those of {other}"
    d = found.first
    name = "a signal" if d.topic == Topic.SIGNALS else f"a record of {d.topic}"
    where = [f"of {d.symbol} at {ns_to_rfc3339(d.ts)}"] if d.symbol is not None and d.ts is not None else []
    if d.cursor is not None:
        where.append(f"partition {d.partition}, cursor {d.cursor}, row {d.ordinal}")
    name = " ".join([name, ", ".join(where)]).rstrip()
    if d.key is not None:
        said = f"{name}: {d.key} is {_told(d.replayed)} in the replay, {_told(d.published)} in {other}"
    elif d.published is None:
        said = f"{name} is in the replay only"
    else:
        said = f"{name} is in {other} only"
    return f"first difference: {said}. {found.compared:,} records in both, {found.missing:,} in the replay only, " \
           f"{found.extra:,} in {other} only"


def _told(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
