"""Ticks on the wire: round trips, and that nothing damaged is ever taken or lost."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.instruments import Instruments, SymbolTable
from engine.types import COLUMNS, Code, Entry, Kind, TickBatch
from engine.wire import frame
from engine.wire.stamps import ns_to_rfc3339, rfc3339_to_ns
from engine.wire.ticks import decimal, decode, encode
from tests.made import made_ticks

GOOD = b'{"symbol":"EURUSD","ts":1400000000000000000,"bid":1.23456,"ask":1.23458}'
OURS = ("ts", "bid", "ask", "bid_size", "ask_size", "seq")


def entries(*payloads: bytes) -> list[Entry]:
    return [Entry((1000 + i, i), Kind.TICKS, payload, 10**18 + i) for i, payload in enumerate(payloads)]


def same(a: TickBatch, b: TickBatch) -> bool:
    symbols = [[batch.symbol(row) for row in range(len(batch))] for batch in (a, b)]
    return symbols[0] == symbols[1] and all(np.array_equal(getattr(a, k), getattr(b, k)) for k in OURS)


def test_json_and_frames_give_back_what_was_sent() -> None:
    ticks = made_ticks(500, symbols=3, flaws=False)
    ticks.seq[::2] = np.arange(250)
    by_json, refused = decode(entries(*(encode(ticks, row) for row in range(500))), SymbolTable(Instruments()))
    assert not refused
    assert same(by_json, ticks)
    by_frame, refused = decode(entries(frame.pack(ticks)), SymbolTable(Instruments()))
    assert not refused
    assert same(by_frame, ticks)
    lines = b"\n".join(encode(ticks, row) for row in range(500))
    by_lines, refused = decode(entries(lines), SymbolTable(Instruments()))
    assert not refused
    assert same(by_lines, ticks)
    assert by_lines.ordinal.tolist() == list(range(500))


def test_positions_and_append_stamps_come_from_the_records() -> None:
    ticks = made_ticks(5, flaws=False)
    batch, _ = decode([*entries(GOOD), Entry((7, 9), Kind.TICKS, frame.pack(ticks), 123)], SymbolTable(Instruments()))
    assert [batch.position(row) for row in range(6)] == [((1000, 0), 0)] + [((7, 9), k) for k in range(5)]
    assert batch.appended.tolist() == [10**18] + [123] * 5
    assert all(getattr(batch, name).flags.c_contiguous and getattr(batch, name).flags.writeable for name in COLUMNS)


@pytest.mark.parametrize(("payload", "code"), [
    (b"not json", Code.MALFORMED),
    (b'{"symbol":"EURUSD","ts":1,"bid":1.1}', Code.MALFORMED),
    (b'{"symbol":"EURUSD","ts":-1,"bid":1.1,"ask":1.2}', Code.MALFORMED),
    (b'{"symbol":"EURUSD","ts":"yesterday","bid":1.1,"ask":1.2}', Code.MALFORMED),
    (b'{"symbol":"EURUSD","ts":99999999999999999999,"bid":1.1,"ask":1.2}', Code.MALFORMED),
    (b'{"symbol":"EURUSD","ts":1,"bid":1.1,"ask":1.2,"seq":-7}', Code.MALFORMED),
    (b'{"symbol":"","ts":1,"bid":1.1,"ask":1.2}', Code.OVERSIZE),
    (b'{"symbol":"' + b"X" * 65 + b'","ts":1,"bid":1.1,"ask":1.2}', Code.OVERSIZE),
    (b'{"symbol":"EURUSD","ts":1,"bid":0,"ask":1.2}', Code.PRICE),
    (b'{"symbol":"EURUSD","ts":1,"bid":-1.1,"ask":1.2}', Code.PRICE),
    (b'{"symbol":"EURUSD","ts":1,"bid":1e300,"ask":1.2}', Code.PRICE),
    (b'{"symbol":"EURUSD","ts":1,"bid":1.123456,"ask":1.2}', Code.SCALE),
    (b'{"symbol":"EURUSD","ts":1,"bid":1.1,"ask":1.2,"bid_size":-1}', Code.SIZE),
    (b'{"symbol":"EURUSD","ts":1,"bid":1.1,"ask":1.2,"bidsize":1}', Code.MALFORMED),
    (b'{"symbol":"\xff","ts":1,"bid":1.1,"ask":1.2}', Code.MALFORMED),
    (b'{"symbol":"EURUSD","x":' + b"[" * 5000, Code.MALFORMED),
    (b'{"symbol":' + b"[" * 5000, Code.MALFORMED),
    (b'{"symbol":"EUR\\u0000\\n","ts":1,"bid":1.1,"ask":1.2}', Code.MALFORMED),
    (b"TKF", Code.MALFORMED),
    (b"", Code.MALFORMED),
])
def test_a_bad_record_is_refused_whole_and_its_neighbours_are_taken(payload: bytes, code: Code) -> None:
    batch, refused = decode(entries(GOOD, payload, GOOD), SymbolTable(Instruments()))
    assert len(batch) == 2
    assert [(r.code, r.payload, r.position) for r in refused] == [(code, payload, ((1001, 1), 0))]


def test_a_closed_list_knows_only_its_symbols() -> None:
    table = SymbolTable(Instruments({"USD*": {}}, closed=True))
    batch, refused = decode(entries(GOOD, GOOD.replace(b"EURUSD", b"USDJPY")), table)
    assert [batch.symbol(row) for row in range(len(batch))] == ["USDJPY"]
    assert refused[0].code is Code.SYMBOL
    ticks = made_ticks(3, flaws=False)
    batch, refused = decode(entries(frame.pack(ticks)), table)
    assert len(batch) == 0
    assert [json.loads(r.payload)["symbol"] for r in refused] == ["MADE0"] * 3


def test_a_frame_in_other_points_is_counted_in_ours_or_refused_row_by_row() -> None:
    ticks = made_ticks(4, flaws=False)
    ticks.bid[:], ticks.ask[:] = [110_000, 110_010, 110_011, 110_020], [110_100] * 4
    fine, refused = decode(entries(frame.pack(ticks)), SymbolTable(Instruments({"*": {"scale": 7}})))
    assert not refused
    assert fine.bid.tolist() == [11_000_000, 11_001_000, 11_001_100, 11_002_000]
    coarse, refused = decode(entries(frame.pack(ticks)), SymbolTable(Instruments({"*": {"scale": 4}})))
    assert coarse.bid.tolist() == [11_000, 11_001, 11_002]
    assert [(r.code, r.position.ordinal) for r in refused] == [(Code.SCALE, 2)]
    assert json.loads(refused[0].payload)["bid"] == 1.10011


def test_frames_of_a_later_version_or_with_flipped_bits_are_refused() -> None:
    packed = frame.pack(made_ticks(20, flaws=False))
    _, refused = decode(entries(packed[:3] + bytes([9]) + packed[4:]), SymbolTable(Instruments()))
    assert refused[0].code is Code.VERSION
    for at in range(len(packed)):
        damaged = packed[:at] + bytes([packed[at] ^ 0x10]) + packed[at + 1:]
        batch, refused = decode(entries(damaged), SymbolTable(Instruments()))
        assert len(batch) == 0
        assert [r.payload for r in refused] == [damaged]


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_a_truncated_frame_is_refused(cut: int) -> None:
    packed = frame.pack(made_ticks(20, flaws=False))
    damaged = packed[:cut % len(packed)]
    batch, refused = decode(entries(damaged), SymbolTable(Instruments()))
    assert len(batch) == 0
    assert len(refused) == 1


@given(st.lists(st.binary(max_size=200), max_size=8))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_either_ticks_or_refused(payloads: list[bytes]) -> None:
    batch, refused = decode(entries(*payloads), SymbolTable(Instruments()))
    lines = sum(1 if frame.is_frame(p) else p.rstrip(b"\n").count(b"\n") + 1 for p in payloads)
    assert len(batch) + len(refused) == lines


@given(st.integers(1, 2**40), st.integers(0, 9))
def test_a_price_survives_text(points: int, scale: int) -> None:
    text = decimal(points, scale)
    payload = f'{{"symbol":"A","ts":1,"bid":{text},"ask":{text}}}'.encode()
    batch, refused = decode(entries(payload), SymbolTable(Instruments({"A": {"scale": scale}})))
    assert not refused
    assert batch.bid.tolist() == [points]


@given(st.integers(1, 2**62))
def test_stamps_survive_text(ns: int) -> None:
    assert rfc3339_to_ns(ns_to_rfc3339(ns)) == ns


@pytest.mark.parametrize(("text", "ns"), [
    ("1970-01-01T00:00:01Z", 10**9), ("1970-01-01T02:00:00.5+02:00", 500_000_000), ("1970-01-01T00:00:00", -1),
    ("2024-02-30T00:00:00Z", -1), ("", -1), ("1970-01-01 00:00:00.000000001Z", 1),
])
def test_rfc3339(text: str, ns: int) -> None:
    assert rfc3339_to_ns(text) == ns


@pytest.mark.parametrize("bad", [
    b'"bid":-1,"ask":1', b'"bid":1.123456,"ask":2', b'"bid":1,"ask":2,"bid_size":-1', b'"price":1', b'"bid":1,"ask":2,"seq":-2',
])
def test_a_symbol_whose_ticks_are_all_refused_has_no_number(bad: bytes) -> None:
    table = SymbolTable(Instruments())
    _, refused = decode(entries(b'{"symbol":"JUNK","ts":1,%b}' % bad, GOOD), table)
    assert len(refused) == 1
    assert [i.symbol for i in table.instruments] == ["EURUSD"]
