"""What must hold of any records: one world reads them as the engine does, beside it stand those it is held against.

- Each row of each record is taken or refused, once, with a code, and what is refused is kept whole.
- The compiled scanner says of a line what the judge says, the frame's kernel what a plain reading says, row by row.
- A partition that reads only what was taken, in other records, ends with the same state and rows, bit for bit.
- The recorder judges as the engine does.
- No control record that doesn't hold changes anything; nothing raises.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections import Counter
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine.errors import InputRefused
from engine.eventtime import EventTime
from engine.instruments import Instruments, SymbolTable
from engine.partition.batch import Asked
from engine.partition.state import Partition
from engine.registry import rollout, signing
from engine.registry.bundle import Bundle
from engine.registry.controls import Controls
from engine.registry.follow import Follower
from engine.registry.settings import counted
from engine.registry.staging import Staging
from engine.state import SymbolRows
from engine.transports.memory import MemoryLog
from engine.types import COLUMNS, Code, Cursor, Entry, Kind, Position, Refused, TickBatch
from engine.watch.observer import Observer
from engine.wire import frame
from engine.wire.records import encode_rejects, reject_decoder
from engine.wire.ticks import MAX_RECORD, decode, encode, judge
from tests.frames import by_hand, digest, said
from tests.fuzz.inputs import Record
from tests.made import speaking_bundle
from trainers.recorder import Recorder

_NAMED = {
    "COARSE": {"scale": 1, "size_scale": 0}, "FINE": {"scale": 9, "size_scale": 9}, "LAST*": {"scale": 2, "spread": 5},
    "EURUSD": {"aliases": ["EUR/USD", "EURUSD.in_words_17b"]}, "SHUT*": {"size_scale": 1}, "A*": {}, "SIX*": {"crossed": "keep"},
}
RULES = (
    Instruments({**_NAMED, "*": {}}), Instruments(_NAMED, closed=True),
    Instruments({**_NAMED, "*": {"crossed": "keep", "spread": 2}}),
)
OTHERWISE = Instruments({"A": {"scale": 6}, "LAST": {"scale": 2, "spread": 3}, "EUR/USD": {}, "*": {}})
"""How the settings in the log have prices counted from where they stand."""
_IDENTITY = "f" * 32
_PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@lru_cache(1)
def settings() -> bytes:
    """A control record that holds in every world."""
    body = rollout.Settings(instruments=OTHERWISE.to_dict())
    return rollout.make(2, _IDENTITY, "main", body, "fuzz", "", "5" * 32, lambda content: signing.sign(_PRIVATE, content))


@lru_cache(1)
def _bundle() -> Bundle:
    return speaking_bundle("cusum")


class World:
    """A partition and its counterparts, from the beginning of a log. `close` it; the folder is for a lake."""

    def __init__(self, rules: Instruments, folder: Path) -> None:
        log = MemoryLog(1, identity=_IDENTITY, rules=rules)
        log.append_control(2, settings())
        self._follower = Follower(Controls(log, _PRIVATE.public_key()), Staging(lambda version, digest: _bundle()))
        self._part, self._clean = (Partition(0, 1, rules) for _ in range(2))
        for part in (self._part, self._clean):
            part.active = part.bundle = _bundle()
        self._table = SymbolTable(rules)
        self._recorder = Recorder(log, folder / "lake", Controls(log, _PRIVATE.public_key()), 50e9)
        self._see = Observer()
        self.reached: Counter[tuple[str, str]] = Counter()

    def close(self) -> None:
        self._recorder.close()

    def take(self, records: list[Record]) -> None:
        """Records that follow each other. Raises AssertionError, or whatever else they can make the engine raise."""
        kinds = {record.entry.cursor: record.what for record in records}
        entries = [record.entry for record in records]
        ours: tuple[list[TickBatch], list[Refused]] = ([], [])
        for control, run in groupby(entries, lambda entry: entry.kind is Kind.CONTROL):
            if control:
                for entry in run:
                    self._control(kinds[entry.cursor], entry)
            else:
                taken, refused = self._ticks(kinds, list(run))
                ours[0].append(taken)
                ours[1].extend(refused)
        self._part.cut()
        self._clean.cut()
        self._compare_states()
        self._compare_recorder(entries, *ours)

    # ---- ticks

    def _ticks(self, kinds: dict[Cursor, str], entries: list[Entry]) -> tuple[TickBatch, list[Refused]]:
        part = self._part
        ((ticks, malformed, _, _),) = part.portions(entries)
        taken, untimely = part.admit(ticks)
        rows = part.features.update(taken)
        asked = part.pick(taken, rows)
        part.add(taken, asked, malformed + untimely, entries, (1, 1))
        self._see.ticks(len(taken), malformed + untimely, entries)
        self._check_rows(kinds, entries, ticks, malformed)
        self._check_kept(malformed + untimely)
        for refused in untimely:
            self.reached[kinds[refused.position.cursor], refused.code.value] += 1
        for cursor in zip(taken.major.tolist(), taken.minor.tolist(), strict=True):
            self.reached[kinds[cursor], "taken"] += 1
        assert len(taken) + len(untimely) == len(ticks)

        cleaned = _only(taken, entries)
        if cleaned:
            again, none = decode(cleaned, self._clean.symbols)
            assert not none, f"what was taken is refused alone: {none[0]}"
            admitted, none = self._clean.admit(again)
            assert not none, f"what was taken is refused alone: {none[0]}"
            their_rows = self._clean.features.update(admitted)
            their_asked = self._clean.pick(admitted, their_rows)
            self._clean.add(admitted, their_asked, [], cleaned, (1, 1))
            assert _same(rows.matrix, their_rows.matrix), "other rows without what was refused"
            assert _same_asked(asked, their_asked), "other moments without what was refused"
        return taken, malformed + untimely

    def _check_rows(self, kinds: dict[Cursor, str], entries: list[Entry], ticks: TickBatch, refused: list[Refused]) -> None:
        """Each row once, and as the judge or a plain reading tells it."""
        told: dict[Position, Any] = {item.position: item for item in refused}
        columns = zip(*(getattr(ticks, name).tolist() for name in COLUMNS), strict=True)
        for *values, major, minor, ordinal, _ in columns:
            position = Position((major, minor), ordinal)
            assert position not in told, f"two rows at {position}"
            told[position] = tuple(values)
        for cursor, _, payload, _ in entries:
            if frame.is_frame(payload):
                expected = _frame(payload, self._table)
            elif len(payload) > MAX_RECORD:
                expected = [(0, (Code.OVERSIZE, payload))]
            else:
                expected = [
                    (k, (found, line) if isinstance(found, Code) else found)
                    for k, line in enumerate(payload.rstrip(b"\n").split(b"\n")) for found in (judge(line, self._table),)
                ]
            for ordinal, right in expected:
                found = told.pop(Position(cursor, ordinal), None)
                if isinstance(found, Refused):
                    self.reached[kinds[cursor], found.code.value] += 1
                    found = said(found, payload)[1:] if frame.is_frame(payload) else (found.code, found.payload)
                assert found == right, f"row {ordinal}: {found}, expected {right}"
        assert not told, f"rows of nothing: {told}"
        known = [instrument.symbol for instrument in self._table.instruments]
        assert self._part.symbols.instruments == self._table.instruments, f"other symbols than {known}"

    def _check_kept(self, refused: list[Refused]) -> None:
        """A reject holds its input."""
        encoded = encode_rejects(refused, 0, 1, ['"0-1"'] * len(refused))
        for item, record in zip(refused, encoded, strict=True):
            reject = reject_decoder.decode(record)
            payload = reject.payload.encode() if reject.encoding == "utf-8" else base64.b64decode(reject.payload)
            assert (reject.code, payload, reject.log.ordinal) == (item.code.value, item.payload, item.position.ordinal)

    # ---- control records

    def _control(self, what: str, entry: Entry) -> None:
        outcome = "ignored"
        try:
            control = self._follower.check(entry, self._part.followed)
        except InputRefused as error:
            outcome, control = error.code, None
        if control is not None:
            change = self._follower.change(control)
            assert entry.payload == settings(), "a control record that nobody signed is followed"
            outcome = "followed"
            for part in (self._part, self._clean):
                part.cut()
                part.follow(change)
            assert isinstance(change.control.body, rollout.Settings)
            self._table.recount(counted(change.control.body, self._part.rules))
        self._part.passed(entry.cursor)
        self.reached[what, outcome] += 1

    # ---- held against each other

    def _compare_states(self) -> None:
        """What only came in refused ticks may have a number, but nothing has moved it."""
        ours, theirs = self._part, self._clean
        numbers = {instrument: sid for sid, instrument in enumerate(ours.symbols.instruments)}
        sids = np.array([numbers[instrument] for instrument in theirs.symbols.instruments], np.int64)
        inert = np.setdiff1d(np.arange(len(ours.symbols)), sids)
        pairs: list[tuple[SymbolRows, SymbolRows]] = [
            (ours.event_time.rows, theirs.event_time.rows), (ours.features.rows, theirs.features.rows),
            (ours.moments.rows, theirs.moments.rows),
        ]
        for mine, other in pairs:
            mine.ensure(len(ours.symbols))
            other.ensure(len(theirs.symbols))
            assert np.array_equal(mine.ints[sids], other.ints[:len(sids)]), "another state without what was refused"
            assert not mine.ints[inert].any(), "a symbol moved by what was refused"

    def _compare_recorder(self, entries: list[Entry], taken: list[TickBatch], refused: list[Refused]) -> None:
        recorder, part = self._recorder, self._recorder._parts[0]
        recorder.take({0: entries})
        positions, theirs = [], [item for item, _ in part.refused]
        clocks: EventTime = part.event_time
        for ticks, verdicts in part.judged:
            positions += _positions(ticks[verdicts == 0])
            theirs += [Refused(ticks.position(row), Code.LATE, b"") for row in np.flatnonzero(verdicts).tolist()]
        assert positions == [position for ticks in taken for position in _positions(ticks)], "the recorder takes others"
        same = sorted(item.position for item in theirs) == sorted(item.position for item in refused)
        assert same, "the recorder refuses others"
        assert part.symbols.instruments == self._part.symbols.instruments
        clocks.rows.ensure(len(part.symbols))
        n = len(part.symbols)
        assert np.array_equal(clocks.rows.ints[:n], self._part.event_time.rows.ints[:n]), "the recorder's clocks differ"
        part.clear()


def _positions(ticks: TickBatch) -> list[tuple[int, int]]:
    return list(zip(ticks.minor.tolist(), ticks.ordinal.tolist(), strict=True))


def _same(a: Any, b: Any) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def _same_asked(ours: Asked | None, theirs: Asked | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    return all(_same(getattr(ours, name), getattr(theirs, name)) for name in Asked._fields[1:])


def _only(taken: TickBatch, entries: list[Entry]) -> list[Entry]:
    """The same records without the rows that were refused: lines as they came, a frame's rows as a frame or lines of ours."""
    rows: dict[int, list[int]] = {}
    for row, minor in enumerate(taken.minor.tolist()):
        rows.setdefault(minor, []).append(row)
    found = []
    for entry in entries:
        mine = rows.get(entry.cursor[1])
        if not mine:
            continue
        if not frame.is_frame(entry.payload):
            lines = entry.payload.rstrip(b"\n").split(b"\n")
            payload = b"\n".join([lines[taken.ordinal[row]] for row in mine])
        elif entry.cursor[1] % 2:
            payload = frame.pack(taken[np.array(mine)])
        else:
            payload = b"\n".join([encode(taken, row) for row in mine])
        found.append(entry._replace(payload=payload))
    return found


def _frame(payload: bytes, known: SymbolTable) -> list[tuple[int, Any]]:
    """What must become of a frame, by its format: (ordinal, a row's seven values, or code and what its line says)."""
    read = _head(payload)
    if isinstance(read, Code):
        return [(0, (read, None))]
    table, sids, wide = read
    taken, refused = by_hand(table, list(sids), [list(column) for column in wide], known)
    return [(row[-1], row[:-1]) for row in taken] + [(ordinal, (code, line)) for ordinal, code, line in refused]


def _head(payload: bytes) -> Code | tuple[bytes, tuple[int, ...], list[tuple[int, ...]]]:
    if len(payload) < 12:
        return Code.MALFORMED
    _, version, rows, length = struct.unpack_from("<3sBII", payload)
    at = {1: 16, 2: 12}.get(version)
    if at is None:
        return Code.VERSION
    if len(payload) < at:
        return Code.MALFORMED
    if rows > 65_536:
        return Code.OVERSIZE
    size = at + length + 52 * rows + (0 if version == 1 else 8)
    if len(payload) != size or (version == 2 and (at + length) % 8):
        return Code.MALFORMED
    if version == 1:
        whole = zlib.crc32(payload[:12] + payload[16:]) == struct.unpack_from("<I", payload, 12)[0]
        sids, wide = at + length, at + length + 4 * rows
    else:
        whole = digest(payload[:-8]) == struct.unpack_from("<Q", payload, size - 8)[0]
        sids, wide = at + length + 48 * rows, at + length
    if not whole:
        return Code.CHECKSUM
    cells = struct.unpack_from(f"<{6 * rows}q", payload, wide)
    columns = [cells[k * rows:k * rows + rows] for k in range(6)]
    return payload[at:at + length], struct.unpack_from(f"<{rows}i", payload, sids), columns
