"""Packed frames: what the kernel takes and refuses, a plain reading of the format row by row does too; damage is never taken."""

from __future__ import annotations

import json
import random

import pytest

from engine.instruments import Instruments, SymbolTable
from engine.types import Code, Entry, Kind
from engine.wire import frame
from engine.wire.ticks import decode
from tests.frames import (
    LARGEST,
    MEMBERS,
    by_hand,
    digest,
    first,
    met,
    packed,
    padded,
    said,
    second,
    some_table,
    some_wide,
)


@pytest.mark.parametrize("seed", range(20))
def test_frames_are_read_as_by_hand(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(60):
        contents, entries, by_hands = [], [], []
        known, table = met(), met()
        for at in range(chance.randrange(1, 4)):           # records that follow each other are read together
            raw = some_table(chance)
            rows = chance.choice((0, 1, 2, 7, 60))
            most = raw.count(b"],[") + 1
            sids = [chance.randrange(most) for _ in range(rows)]
            if rows and chance.random() < 0.1:
                sids[chance.randrange(rows)] = chance.choice((-1, -(2**31), most, 2**31 - 1, 10**6))
            wide = some_wide(chance, rows)
            contents.append((raw, sids, wide))
            one = chance.random() < 0.3
            payload = first(rows, raw, *packed(sids, wide)) if one else second(rows, padded(raw), *packed(sids, wide))
            entries.append(Entry((1000, at), Kind.TICKS, payload, 77))
            by_hands.append(by_hand(raw, sids, wide, known))
        batch, refused = decode(entries, table)
        found = [
            (tuple(int(getattr(batch, name)[row]) for name in MEMBERS), batch.position(row).cursor) for row in range(len(batch))
        ]
        assert found == [(row, (1000, at)) for at, (taken, _) in enumerate(by_hands) for row in taken]
        assert set(batch.appended.tolist()) <= {77}
        told = [(r.position.cursor, *said(r, entries[r.position.cursor[1]].payload)) for r in refused]
        assert told == [((1000, at), *each) for at, (_, bad) in enumerate(by_hands) for each in bad]
        assert [i.symbol for i in table.instruments] == [i.symbol for i in known.instruments]


GOOD = second(2, padded(b'[["EURUSD",5,3]]'), *packed([0, 0], [[1, 2], [10, 10], [11, 11], [0, 0], [0, 0], [-1, -1]]))


def outcome(payload: bytes, table: SymbolTable) -> Code | int:
    batch, refused = decode([Entry((1, 0), Kind.TICKS, payload)], table)
    assert not refused or (len(batch) == 0 and refused[0].payload == payload)
    return refused[0].code if refused else len(batch)


def test_a_head_that_lies_is_refused() -> None:
    columns = packed([0], [[1], [10], [11], [0], [0], [-1]])
    table = padded(b'[["EURUSD",5,3]]')
    known = met()
    assert outcome(GOOD, known) == 2
    assert outcome(second(1, table, *columns), known) == 1
    for rows in (0, 2, 65_536):
        assert outcome(second(rows, table, *columns), known) is Code.MALFORMED
    for rows in (65_537, 2**31, 2**32 - 1):
        assert outcome(second(rows, table, *columns), known) is Code.OVERSIZE
    for length in (0, 12, len(table) - 8, len(table) + 8, len(table) - 1, 2**31, 2**32 - 4, 2**32 - 1):
        assert outcome(second(1, table, *columns, table_bytes=length), known) is Code.MALFORMED
    for unpadded in (b'[["EURUSD",5,3]]', b'[["EURUSD",5,3]] '):
        assert outcome(second(1, unpadded, *columns), known) is Code.MALFORMED
    assert outcome(second(1, table, *columns, checksum=1), known) is Code.CHECKSUM


def test_cut_or_damaged_frames_are_refused_with_their_codes() -> None:
    for good in (GOOD, first(1, b'[["EURUSD",5,3]]', *packed([0], [[1], [10], [11], [0], [0], [-1]]))):
        assert isinstance(outcome(good, met()), int)
        for cut in range(3, len(good)):
            assert outcome(good[:cut], met()) is Code.MALFORMED
        assert outcome(good + b"\0", met()) is Code.MALFORMED
        for bit in range(8 * 16, 8 * len(good)):
            flipped = bytearray(good)
            flipped[bit // 8] ^= 1 << bit % 8
            assert outcome(bytes(flipped), met()) is Code.CHECKSUM
    for version in (0, 3, 255):
        assert outcome(GOOD[:3] + bytes([version]) + GOOD[4:], met()) is Code.VERSION


def test_a_frame_adds_the_symbols_of_rows_that_are_taken_only() -> None:
    table = SymbolTable(Instruments())
    wide = [[1, 1, 1], [0, 10, 10], [11, 11, 11], [0] * 3, [0] * 3, [-1] * 3]
    names = padded(b'[["BAD",5,3],["B",5,3],["NOWHERE",5,3],["A",5,3]]')
    batch, refused = decode([Entry((1, 0), Kind.TICKS, second(3, names, *packed([0, 3, 1], wide)))], table)
    assert ([batch.symbol(row) for row in range(2)], [r.code for r in refused]) == (["A", "B"], [Code.PRICE])
    assert [i.symbol for i in table.instruments] == ["B", "A"]


def test_a_frame_that_is_refused_whole_adds_no_symbol() -> None:
    table = SymbolTable(Instruments())
    assert outcome(second(2, padded(b'[["NEW",5,3]]'), *packed([0, 1], [[1, 1]] * 6)), table) is Code.MALFORMED
    assert outcome(second(1, padded(b'[["NEW",5,3]]'), *packed([0], [[1]] * 6), checksum=0), table) is Code.CHECKSUM
    assert len(table) == 0


@pytest.mark.parametrize("scales", [b"5,3", b"4,2"], ids=["as ours", "coarser"])
def test_each_column_ends_where_its_range_does(scales: bytes) -> None:
    """Of a frame that is copied, and of one that is weighed."""
    factor = 1 if scales == b"5,3" else 10
    most = (LARGEST - 1) // factor
    ranges = [(1, 2**63 - 1), (1, most), (1, most), (0, most), (0, most), (-1, 2**63 - 1)]
    codes = (Code.MALFORMED, Code.PRICE, Code.PRICE, Code.SIZE, Code.SIZE, Code.MALFORMED)
    table = padded(b'[["EURUSD",%b]]' % scales)
    for column, ((least, most), code) in enumerate(zip(ranges, codes, strict=True)):
        for value in (least - 1, least, most, most + 1):
            if value >= 2**63:
                continue
            wide = [[1]] * column + [[value]] + [[1]] * (5 - column)
            batch, refused = decode([Entry((1, 0), Kind.TICKS, second(1, table, *packed([0], wide)))], met())
            assert [r.code for r in refused] == ([] if least <= value <= most else [code])
            if 0 < column < 5 and not refused:
                assert getattr(batch, frame.WIDE[column]).tolist() == [value * factor]


def test_a_table_that_repeats_a_symbol_may_be_longer_than_what_is_known() -> None:
    table = padded(b"[" + b",".join([b'["EURUSD",5,3]'] * 30_000) + b"]")
    assert outcome(second(2, table, *packed([0, 29_999], [[1, 1]] * 6)), met()) == 2


def test_a_table_ends_where_the_head_says() -> None:
    behind = int.from_bytes(b"5,3]]   ", "little")
    table = SymbolTable(Instruments())
    table.sid("EURUSDX")
    assert outcome(second(1, b'[["EURUSDX",', *packed([0], [[behind]] + [[1]] * 5)), table) is Code.MALFORMED


def test_a_plain_frame_asks_nobody_about_its_symbols(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"MADE{k:04}" for k in range(100)]
    raw = padded(json.dumps([[name, 5, 3] for name in names], separators=(",", ":")).encode())
    payload = second(100, raw, *packed(list(range(100)), [[1] * 100] * 6))
    table = SymbolTable(Instruments())
    assert outcome(payload, table) == 100
    monkeypatch.setattr(frame, "read", None)
    assert outcome(payload, table) == 100


# ---- the checksum


PATTERN = bytes((k * 131 + 7) % 256 for k in range(5000))


@pytest.mark.parametrize(("size", "expected"), [
    (0, 0xEF46DB3751D8E999), (1, 0xA96C7F0CE858BBB7), (3, 0xBED43740EE6332BB), (4, 0xFA212AE44B3BB23D),
    (5, 0xD339DCC9AC8E6776), (7, 0x2744460DD675D2C0), (8, 0x994B676B71CE94DD), (9, 0x572B84C18B983AF8),
    (12, 0xB92F588CE720786E), (15, 0x09E6451ED2FF8B1D), (16, 0x94AD0095E72B24D5), (31, 0x6711D55E306B5D8F),
    (32, 0x07F7B8E3BC5D6E25), (33, 0x09F85EEB4E1CBE9F), (36, 0xE7AC625222F2B655), (40, 0xD25150177BA46490),
    (47, 0x79BD9D6DD8C15570), (63, 0xB7C9968C066CB6A5), (64, 0x50D4159A0411632E), (65, 0xD277176BFF863EFC),
    (100, 0x9DDADA11D3DC2D8F), (1000, 0x0BF0BDBCC82EB373), (4099, 0xC2C15A86D6A1985B),
])
def test_xxh64_is_that_of_the_reference_implementation(size: int, expected: int) -> None:
    assert digest(PATTERN[:size]) == expected


def test_xxh64_of_known_words() -> None:
    assert [digest(word) for word in (b"a", b"abc")] == [0xD24EC4F1A98C6E5B, 0x44BC2CF5AD770999]
