"""The scanner of JSON lines: what it takes, the judge takes with the same integers; everything else the judge was asked."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.instruments import Instrument, Instruments, SymbolTable
from engine.types import COLUMNS, Code, Entry, Kind, Position, Refused, TickBatch
from engine.wire import scan as scanner
from engine.wire.frame import MAX_ROWS, pack
from engine.wire.scan import Row, scan
from engine.wire.stamps import ns_to_rfc3339
from engine.wire.ticks import MAX_RECORD, decode, judge
from tests.made import made_ticks

RULES = Instruments({
    "COARSE": {"scale": 1, "size_scale": 0}, "FINE": {"scale": 9, "size_scale": 9}, "LAST*": {"scale": 2, "spread": 5},
    "EURUSD": {"scale": 5, "aliases": ["EUR/USD", "EURUSD.in_words_17b"]}, "*": {},
})
NAMES = ("EUR/USD", "EURUSD.in_words_17b", "A", "EURUSD",
         "COARSE", "FINE", "LAST", "LASTEIGHT", "SIXTEEN_BYTES_16", "SEVENTEEN_BYTES17", "ÅÄÖ", "株式", "A'B C")
GOOD = b'{"symbol":"EURUSD","ts":1400000000000000000,"bid":1.23456,"ask":1.23458}'


def known() -> SymbolTable:
    """A table that has met every name."""
    table = SymbolTable(RULES)
    for name in NAMES:
        table.sid(name)
    return table


def entry(payload: bytes, at: int = 0) -> Entry:
    return Entry((1000 + at, at), Kind.TICKS, payload, 10**18 + at)


def scanned(payloads: list[bytes], table: SymbolTable) -> tuple[list[Row | Code], list[bytes]]:
    """What became of each line, and the lines that the judge was asked about."""
    asked: list[bytes] = []

    def judging(line: bytes, table: SymbolTable) -> Row | Code:
        asked.append(line)
        return judge(line, table)

    batch, refused = scan([entry(payload, at) for at, payload in enumerate(payloads)], table, judging)
    told: dict[Position, Row | Code] = {r.position: r.code for r in refused}
    for row in range(len(batch)):
        told[batch.position(row)] = tuple(int(getattr(batch, name)[row]) for name in COLUMNS[:7])  # type: ignore[assignment]
    assert len(told) == len(batch) + len(refused)
    return [told[position] for position in sorted(told)], asked


def by_judge(payloads: list[bytes], table: SymbolTable) -> list[Row | Code]:
    return [judge(line, table) for payload in payloads for line in payload.rstrip(b"\n").split(b"\n")]


ODD_NUMBERS = ("0", "0.0", "00", "01", "1.", ".5", "-1", "-0", "1e5", "1E-3", "NaN", "1.10", "0.00001", "2e308")


def number(chance: random.Random) -> str:
    match chance.randrange(40):
        case 0:
            return str(chance.randrange(10**chance.randrange(1, 20)))
        case 1:
            return repr(chance.random() * 10.0**chance.randrange(-7, 9))
        case 2:
            return chance.choice(ODD_NUMBERS)
        case 3 | 4:
            return f"{chance.randrange(1000)}.{chance.randrange(10**5):0{chance.randrange(1, 12)}d}"
        case _:
            whole = chance.randrange(1, 10**chance.randrange(1, 6))
            return f"{whole}.{chance.randrange(10)}{chance.choice(['', '0', '5', '000', '0000'])}"


def line(chance: random.Random) -> bytes:
    """A tick as some feed might write it; mostly one that is taken."""
    ts = chance.randrange(10**18, 2 * 10**18)
    one_price = chance.random() < 0.2
    name = chance.choice(("LAST", "LASTEIGHT") if one_price and chance.random() < 0.9 else NAMES)
    fields: dict[str, str] = {"symbol": json.dumps(name, ensure_ascii=chance.random() < 0.1)}
    fields["ts"] = str(ts) if chance.random() < 0.6 else f'"{stamp(chance, ts)}"'
    sides = ("price", "size") if one_price else ("bid", "ask", "bid_size", "ask_size")
    for name in sides:
        if "size" not in name or chance.random() < 0.4:
            fields[name] = number(chance)
    if chance.random() < 0.4:
        fields["seq"] = str(chance.randrange(10**chance.randrange(1, 19)))
    items = list(fields.items())
    if chance.random() < 0.3:
        chance.shuffle(items)
    if chance.random() < 0.05:
        items.append(chance.choice(items))
    colon, comma = chance.choice([(":", ","), (": ", ", "), (" : ", " ,\t"), (":\r ", ",")])
    body = comma.join(f'"{name}"{colon}{value}' for name, value in items)
    return chance.choice(["{%s}", "{%s}", "{ %s }", "\t{%s}\r"]).replace("%s", body).encode()


def stamp(chance: random.Random, ts: int) -> str:
    text = ns_to_rfc3339(ts - ts % chance.choice([1, 10, 10**3, 10**6, 10**9]))
    text = text.replace("T", chance.choice("Tt "))
    return text if chance.random() < 0.8 else text[:-1] + chance.choice(["z", "+02:00", "-23:59", "+24:00", "+01:75", ""])


ODD = b'{}[]":,.-+eE0123456789 \t\r\n\x00\x1f\x7f\x80\xc3\xff\\/uabidsTZ'


def mutated(chance: random.Random, good: bytes) -> bytes:
    bad = bytearray(good)
    for _ in range(chance.choice([0, 0, 0, 1, 1, 2, 4])):
        at = chance.randrange(len(bad) + 1)
        match chance.randrange(4):
            case 0:
                bad[at:at + 1] = bytes([chance.choice(ODD)])
            case 1:
                bad[at:at] = bytes([chance.choice(ODD)])
            case 2:
                del bad[at:at + chance.randrange(1, 4)]
            case _:
                other = chance.randrange(len(bad) + 1)
                bad[at:at] = bad[other:other + chance.randrange(1, 12)]
    return bytes(bad) or b" "


def test_scanner_and_judge_agree_on_forty_thousand_lines() -> None:
    chance = random.Random(20)
    table = known()
    taken = spared = 0
    for _ in range(100):
        payloads = [mutated(chance, line(chance)) for _ in range(400)]
        told, asked = scanned(payloads, table)
        right = by_judge(payloads, table)
        assert [pair for pair in zip(told, right, strict=True) if pair[0] != pair[1]] == []
        taken += sum(not isinstance(one, Code) for one in told)
        spared += len(told) - len(asked)
    assert 10_000 < taken < 30_000                 # both kinds of lines were met in plenty
    assert spared > 0.75 * taken


prices = st.one_of(
    st.decimals(0, 10**6, places=5).map(str), st.floats(1e-9, 1e12).map(repr), st.integers(0, 2**64).map(str),
    st.from_regex(r"[0-9]{1,12}(\.[0-9]{1,12})?", fullmatch=True),
)


@given(
    st.sampled_from(NAMES), st.integers(0, 2**64), prices, prices, st.none() | prices, st.none() | st.integers(-1, 2**64),
    st.permutations(range(5)), st.integers(0, 200), st.integers(0, 255), st.booleans(),
)
@settings(max_examples=500, deadline=None)
def test_any_tick_with_any_byte_changed_is_told_as_the_judge_tells_it(
    symbol: str, ts: int, bid: str, ask: str, size: str | None, seq: int | None, order: list[int], at: int, byte: int,
    change: bool,
) -> None:
    fields = [f'"symbol":"{symbol}"', f'"ts":{ts}', f'"bid":{bid}', f'"ask":{ask}']
    fields += [f'"ask_size":{size}'] * (size is not None) + [f'"seq":{seq}'] * (seq is not None)
    text = bytearray(("{" + ",".join([fields[k] for k in order if k < len(fields)] + fields[5:]) + "}").encode())
    if change and at < len(text):
        text[at] = byte
    table = known()
    assert scanned([b"." + bytes(text), bytes(text)], table)[0] == by_judge([b"." + bytes(text), bytes(text)], table)


def test_plain_lines_are_never_judged() -> None:
    ticks = made_ticks(300, symbols=3, flaws=False)
    quotes = [
        {"symbol": ticks.symbol(k), "ts": int(ticks.ts[k]), "bid": ticks.bid[k] / 1e5, "ask": ticks.ask[k] / 1e5,
         "bid_size": 0.12345678, "ask_size": 3, "seq": 7}
        for k in range(300)
    ]
    lasts = [{"symbol": "LAST", "ts": ns_to_rfc3339(1), "price": 10.25}, {"price": 10, "size": 2, "ts": 1, "symbol": "LAST"}]
    table = known()
    for sid in range(3):
        table.sid(f"MADE{sid}")
    for separators in ((",", ":"), (", ", ": ")):
        payload = "\r\n".join(json.dumps(tick, separators=separators) for tick in quotes + lasts).encode()
        told, asked = scanned([payload], table)
        assert asked == []
        assert [one[2:] for one in told[-2:] if not isinstance(one, Code)] == [
            (1023, 1028, 0, 0, -1), (998, 1003, 2000, 2000, -1),
        ]
        assert [one[2] for one in told[:300] if not isinstance(one, Code)] == ticks.bid.tolist()
        assert {one[4:] for one in told[:300] if not isinstance(one, Code)} == {(123, 3000, 7)}


TRAPS: list[tuple[str, Any]] = [
    ('"symbol":"COARSE","ts":1,"bid":1.10,"ask":1.20', (11, 12)),
    ('"symbol":"COARSE","ts":1,"bid":1.11,"ask":1.2', Code.SCALE),
    ('"symbol":"A","ts":1,"bid":0.00001,"ask":0.000010', (1, 1)),
    ('"symbol":"A","ts":1,"bid":0.000001,"ask":1', Code.PRICE),
    ('"symbol":"A","ts":1,"bid":0.000011,"ask":1', Code.SCALE),
    ('"symbol":"A","ts":1,"bid":0,"ask":1', Code.PRICE),
    ('"symbol":"A","ts":1,"bid":1e5,"ask":1E5', (10**10, 10**10)),
    ('"symbol":"A","ts":1,"bid":45035996273.70495,"ask":1', (2**52 - 1, 10**5)),
    ('"symbol":"A","ts":1,"bid":45035996273.70496,"ask":1', Code.PRICE),
    ('"symbol":"A","ts":1,"bid":99999999999999999999,"ask":1', Code.PRICE),
    ('"symbol":"A","ts":1,"bid":NaN,"ask":1', Code.MALFORMED),
    ('"symbol":"A","ts":1,"bid":-1,"ask":1', Code.PRICE),
    ('"symbol":"A","ts":1,"bid":01,"ask":1', Code.MALFORMED),
    ('"symbol":"A","ts":1,"bid":1.,"ask":1', Code.MALFORMED),
    ('"symbol":"A","ts":1,"bid":.5,"ask":1', Code.MALFORMED),
    ('"symbol":"A","ts":1,"bid":"1","ask":1', Code.MALFORMED),
    ('"symbol":"A","ts":1,"bid":null,"ask":1', Code.MALFORMED),
    ('"symbol":"A","ts":1,"bid":1,"ask":1,"bid_size":-1', Code.SIZE),
    ('"symbol":"A","ts":1,"bid":1,"ask":1,"bid_size":1e300', Code.SIZE),
    ('"symbol":"A","ts":0,"bid":1,"ask":1', Code.MALFORMED),
    (f'"symbol":"A","ts":{2**63 - 1},"bid":1,"ask":1', (10**5, 10**5)),
    (f'"symbol":"A","ts":{2**63},"bid":1,"ask":1', Code.MALFORMED),
    (f'"symbol":"A","ts":{2**64 + 1},"bid":1,"ask":1', Code.MALFORMED),
    ('"symbol":"A","ts":01,"bid":1,"ask":1', Code.MALFORMED),
    ('"symbol":"A","ts":"9999-01-01T00:00:00Z","bid":1,"ask":1', Code.MALFORMED),
    ('"symbol":"A","ts":"2023-02-29T00:00:00Z","bid":1,"ask":1', Code.MALFORMED),
    ('"symbol":"A","ts":"2024-02-29T00:00:00Z","bid":1,"ask":1', (10**5, 10**5)),
    ('"symbol":"A","ts":"2024-01-01T00:00:60Z","bid":1,"ask":1', Code.MALFORMED),
    ('"symbol":"A","ts":"2024-01-01T00:00:00","bid":1,"ask":1', Code.MALFORMED),
    ('"symbol":"A","ts":1,"bid":1,"ask":1,"seq":-1', (10**5, 10**5)),
    ('"symbol":"A","ts":1,"bid":1,"ask":1,"seq":-2', Code.MALFORMED),
    ('"symbol":"A","ts":1,"bid":1,"ask":1,"seq":00', Code.MALFORMED),
    (f'"symbol":"A","ts":1,"bid":1,"ask":1,"seq":{2**63}', Code.MALFORMED),
    ('"symbol":"A","ts":1,"bid":1,"ask":2,"bid":3', (3 * 10**5, 2 * 10**5)),
    ('"symbol":"A","ts":1,"bid":1,"ask":1,', Code.MALFORMED),
    ('"symbol":"A","ts":1,"bid":1,"ask":1}}', Code.MALFORMED),
    ('"symbol":"A","ts":1,"bid":1', Code.MALFORMED),
    ('"symbol":"A","bid":1,"ask":1', Code.MALFORMED),
    ('"ts":1,"bid":1,"ask":1', Code.MALFORMED),
    ("", Code.MALFORMED),
    ('"symbol":"B","ts":1,"bid":1,"ask":1', (10**5, 10**5)),
    ('"symbol":"A\x00","ts":1,"bid":1,"ask":1', Code.MALFORMED),
    ('"symbol":"\\u0041","ts":1,"bid":1,"ask":1', (10**5, 10**5)),
    ('"symbol":"株式","ts":1,"bid":1,"ask":1', (10**5, 10**5)),
    ('"symbol":"SIXTEEN_BYTES_16","ts":1,"bid":1,"ask":1', (10**5, 10**5)),
    ('"symbol":"SEVENTEEN_BYTES17","ts":1,"bid":1,"ask":1', (10**5, 10**5)),
    ('"symbol":"A","ts":1,"price":1', Code.SPREAD),
    ('"symbol":"LAST","ts":1,"price":1.00', (98, 103)),
    ('"symbol":"LAST","ts":1,"price":1.001', Code.SCALE),
    ('"symbol":"LAST","ts":1,"price":0.03', (1, 6)),
    ('"symbol":"LAST","ts":1,"price":0.02', Code.PRICE),
    ('"symbol":"LAST","ts":1,"price":0', Code.PRICE),
    ('"symbol":"LAST","ts":1,"price":1,"size":-1', Code.SIZE),
    ('"symbol":"LAST","ts":1,"price":1,"bid":1', Code.MALFORMED),
    ('"symbol":"LAST","ts":1,"price":1,"bid":1,"ask":1', Code.MALFORMED),
    ('"symbol":"LAST","ts":1,"price":1,"bid_size":1', Code.MALFORMED),
    ('"symbol":"LAST","ts":1,"bid":1,"ask":1,"size":1', Code.MALFORMED),
    ('"symbol":"LAST","ts":1,"size":1', Code.MALFORMED),
    ('"symbol":"LAST","ts":1,"bid":1,"ask":1.01', (100, 101)),
]


@pytest.mark.parametrize(("inside", "expected"), TRAPS)
def test_traps(inside: str, expected: Any) -> None:
    payload = ("{" + inside + "}").encode()
    for ending in (b"", b"\r", b"\n", b"\n\n"):
        (told,), _ = scanned([payload + ending], known())
        assert told == judge(payload, known())
        assert (told if isinstance(told, Code) else told[2:4]) == expected


@pytest.mark.parametrize("inside", [
    '"symbol":"A","ts":1,"bid":1,"ask":2,"bid":3', '"symbol":"A","ts":1,"bid":1e0,"ask":1',
    '"symbol":"A","ts":1,"bid":1,"ask":1,"seq":-1',
    '"symbol":"A","ts":1,"bid":1,"ask":1,"bid_size":0.12345678901234567', '"symbol":"\\u0041","ts":1,"bid":1,"ask":1',
    '"symbol":"SEVENTEEN_BYTES17","ts":1,"bid":1,"ask":1', '"\\u0074s":1,"symbol":"A","bid":1,"ask":1',
])
def test_what_the_kernel_does_not_know_is_taken_by_the_judge(inside: str) -> None:
    payload = ("{" + inside + "}").encode()
    (told,), asked = scanned([payload], known())
    assert not isinstance(told, Code)
    assert asked == [payload]


def test_sizes_are_rounded_as_the_judge_rounds_them() -> None:
    table = known()
    halves = [
        f'{{"symbol":"{name}","ts":1,"bid":1,"ask":1,"bid_size":{k}.{d}5,"ask_size":{k}.5}}'.encode()
        for name in ("A", "COARSE") for k in range(0, 4000, 7) for d in ("", "00", "123", "99999")
    ]
    told, asked = scanned(halves, table)
    assert asked == []
    assert told == by_judge(halves, table)


def test_a_year_is_read_as_the_calendar_has_it() -> None:
    table = known()
    days = [f'{{"symbol":"A","ts":"{y}-{m:02d}-{d:02d}T12:00:00Z","bid":1,"ask":1}}'.encode()
            for y in (1970, 1999, 2000, 2023, 2024, 2100, 2261) for m in range(14) for d in range(33)]
    assert scanned(days, table)[0] == by_judge(days, table)


# ---- records


def grouped(lines: list[bytes], sizes: Iterator[int]) -> list[bytes]:
    payloads, at = [], 0
    while at < len(lines):
        size = next(sizes)
        payloads.append(b"\n".join(lines[at:at + size]))
        at += size
    return payloads


def content(batch: TickBatch, refused: list[Refused]) -> tuple[Any, ...]:
    rows = [(batch.symbol(row), *(int(getattr(batch, name)[row]) for name in COLUMNS[1:7])) for row in range(len(batch))]
    return rows, [(r.code, r.payload) for r in refused], batch.symbols


def test_what_is_read_does_not_depend_on_how_lines_are_grouped() -> None:
    chance = random.Random(3)
    for _ in range(40):
        lines = [mutated(chance, line(chance)).replace(b"\n", b"") or b"x" for _ in range(60)]
        alone = [decode([entry(one)], SymbolTable(RULES)) for one in lines]
        whole = content(*decode([entry(one, at) for at, one in enumerate(lines)], SymbolTable(RULES)))
        assert len(whole[0]) == sum(len(batch) for batch, _ in alone)
        for most in (1, 3, 60):
            payloads = grouped(lines, iter(lambda: chance.randint(1, most), 0))  # noqa: B023
            records = [entry(payload, at) for at, payload in enumerate(payloads)]
            together = decode(records, SymbolTable(RULES))
            assert content(*together) == whole
            table = SymbolTable(RULES)
            parts = [decode([record], table) for record in records]
            apart = TickBatch.concat([batch for batch, _ in parts])
            assert all(np.array_equal(getattr(apart, name), getattr(together[0], name)) for name in COLUMNS)
            assert [r for _, refused in parts for r in refused] == together[1]


def test_rows_and_refusals_say_where_they_stood() -> None:
    payloads = [b"", b"\n\n\n", GOOD + b"\n\n" + GOOD + b"\r\nx\n\n", GOOD]
    batch, refused = decode([entry(payload, at) for at, payload in enumerate(payloads)], SymbolTable(Instruments()))
    places = [((1002, 2), 0), ((1002, 2), 2), ((1003, 3), 0)]
    assert [batch.position(row) for row in range(len(batch))] == places
    assert batch.appended.tolist() == [10**18 + 2, 10**18 + 2, 10**18 + 3]
    assert [(r.position, r.code, r.payload) for r in refused] == [
        (((1000, 0), 0), Code.MALFORMED, b""), (((1001, 1), 0), Code.MALFORMED, b""),
        (((1002, 2), 1), Code.MALFORMED, b""), (((1002, 2), 3), Code.MALFORMED, b"x"),
    ]


def test_a_record_has_at_most_so_many_rows_and_bytes() -> None:
    short = b'{"symbol":"A","ts":1,"bid":1,"ask":1}\n'
    full = short * MAX_ROWS
    batch, refused = decode([entry(full), entry(GOOD, 1)], SymbolTable(Instruments()))
    assert (len(batch), refused) == (MAX_ROWS + 1, [])
    for beyond in (b"x", short, b"x\n\ny\n\n"):
        batch, refused = decode([entry(full + beyond), entry(GOOD, 1)], SymbolTable(Instruments()))
        assert len(batch) == MAX_ROWS + 1
        assert refused == [Refused(Position((1000, 0), MAX_ROWS), Code.OVERSIZE, beyond)]
    large = b" " * MAX_RECORD + GOOD
    batch, refused = decode([entry(GOOD), entry(large, 1), entry(GOOD, 2)], SymbolTable(Instruments()))
    assert batch.major.tolist() == [1000, 1002]
    assert refused == [Refused(Position((1001, 1), 0), Code.OVERSIZE, large)]


def test_the_shortest_ticks_have_their_rows() -> None:
    short = b'{"symbol":"A","ts":1,"price":1}\n'
    batch, refused = decode([entry(short * 1000)], SymbolTable(Instruments({"*": {"spread": 2}})))
    assert (len(batch), refused) == (1000, [])


# ---- symbols


def test_symbols_are_numbered_as_they_appear_and_found_again_among_many() -> None:
    table = SymbolTable(Instruments())
    names = [f"SYMBOL{k}" for k in range(500)]
    lines = [GOOD.replace(b"EURUSD", name.encode()) for name in names]
    batch, refused = decode([entry(b"\n".join(lines * 2))], table)
    assert not refused
    assert batch.sid.tolist() == [*range(500), *range(500)]
    assert table.index is not None
    assert scanned(lines, table)[1] == []


def test_a_recounted_table_is_followed() -> None:
    table = SymbolTable(Instruments())
    usd = GOOD.replace(b"EURUSD", b"USDJPY")
    assert decode([entry(GOOD), entry(usd, 1)], table)[0].bid.tolist() == [123456, 123456]
    table.recount(Instruments({"EUR*": {"scale": 6}}, closed=True))
    batch, refused = decode([entry(GOOD), entry(usd, 1)], table)
    assert (batch.sid.tolist(), batch.bid.tolist()) == ([0], [1234560])
    assert [r.code for r in refused] == [Code.SYMBOL]
    table.recount(Instruments({"*": {"scale": 5, "spread": 4}}))
    batch, refused = decode([entry(b'{"symbol":"USDJPY","ts":1,"price":2}'), entry(usd, 1)], table)
    assert (batch.sid.tolist(), batch.bid.tolist(), refused) == ([1, 1], [199998, 123456], [])


def test_a_symbol_that_json_escapes_is_known_but_not_looked_up() -> None:
    table = SymbolTable(Instruments())
    for name in ('A"B', "A\\B", "A\x00", ""):
        table.restore(Instrument(name))
    for text in (rb'A\"B', rb"A\\B", b'A"B', b"A\\B", b"A\x00", b""):
        payload = GOOD.replace(b"EURUSD", text)
        (told,), asked = scanned([payload], table)
        assert (told, asked) == (judge(payload, table), [payload])


# ---- aliases


def test_aliases_are_looked_up_as_their_symbol() -> None:
    table = SymbolTable(RULES)
    lines = [GOOD.replace(b"EURUSD", name) for name in (b"EUR/USD", b"EURUSD", b"EURUSD.in_words_17b", b"EUR/USD")]
    told, asked = scanned(lines, table)
    assert told == [judge(GOOD, SymbolTable(RULES))] * 4
    assert asked == [lines[0], lines[2]], "the first, whose name is new, and the one that is too long for the kernel"
    assert [i.symbol for i in table.instruments] == ["EURUSD"]


def test_a_refused_line_keeps_the_name_it_came_with() -> None:
    bad = GOOD.replace(b"EURUSD", b"EUR/USD").replace(b"1.23456", b"-1")
    assert [r.payload for r in decode([entry(GOOD), entry(bad, 1)], SymbolTable(RULES))[1]] == [bad]


def test_aliases_of_many_symbols_are_found() -> None:
    rules = Instruments({f"S{k}": {"aliases": [f"S/{k}", f"S-{k}"]} for k in range(100)})
    table = SymbolTable(rules)
    lines = [GOOD.replace(b"EURUSD", name.encode()) for k in range(100) for name in (f"S/{k}", f"S{k}", f"S-{k}")]
    batch, refused = decode([entry(b"\n".join(lines))], table)
    assert (batch.sid.tolist(), refused) == ([k for k in range(100) for _ in range(3)], [])
    assert scanned(lines, table)[1] == []


def test_looking_names_up_adds_no_symbol() -> None:
    """What is counted under other rules may be another symbol's name by now, or one's own."""
    table = SymbolTable(Instruments({"A": {"aliases": ["B"]}}))
    assert table.sid("A") == 0
    table.recount(Instruments({"C": {"aliases": ["A"]}, "B": {}}, closed=True))
    assert scanned([GOOD.replace(b"EURUSD", b"X")], table)[0] == [Code.SYMBOL]
    assert [i.symbol for i in table.instruments] == ["A"]
    batch, _ = decode([entry(GOOD.replace(b"EURUSD", name), at) for at, name in enumerate((b"B", b"A", b"C"))], table)
    assert [batch.symbol(row) for row in range(3)] == ["B", "C", "C"]


def test_a_frame_counts_by_its_aliases_too() -> None:
    sent = TickBatch(
        [Instrument("EUR/USD"), Instrument("EURUSD")], sid=np.array([0, 1]), ts=np.array([1, 2]), bid=np.array([5, 6]),
        ask=np.array([7, 8]),
    )
    batch, refused = decode([entry(pack(sent))], SymbolTable(RULES))
    assert (batch.symbols, batch.sid.tolist(), batch.bid.tolist(), refused) == (["EURUSD"], [0, 0], [5, 6], [])


@pytest.mark.parametrize("name", ["MADE{:04}", "{}USD", "BTC-{}", "AAAAAAAA{:08}"])
def test_symbols_of_one_pattern_are_found_at_once(name: str) -> None:
    """They don't crowd into a few long runs of slots, however alike they are."""
    table = SymbolTable(Instruments())
    for k in range(1000):
        table.sid(name.format(k))
    slots = scanner.slots_of(table)
    taken = np.flatnonzero(slots[:, 2])
    runs = np.count_nonzero(np.diff(taken) > 1) + 1
    assert len(taken) == 1000
    assert runs > 500
