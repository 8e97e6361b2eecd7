"""Packed frames by hand: any content in both versions of the format, and a plain reading of it, row by row."""

from __future__ import annotations

import json
import random
import struct
import zlib
from typing import Any

import numpy as np

from engine.instruments import Instruments, SymbolTable
from engine.types import COLUMNS, Code, Refused
from engine.wire.xxh64 import xxh64

LARGEST = 2**52
RULES = Instruments({
    "COARSE": {"scale": 1, "size_scale": 0}, "FINE": {"scale": 9, "size_scale": 9}, "SHUT*": {}, "A*": {}, "EURUSD": {},
    "SIXTEEN*": {}, "SEVENTEEN*": {}, "ÅÄÖ": {}, '"QUOTED"': {}, "X*": {},
}, closed=True)
NAMES = (
    "A", "EURUSD", "COARSE", "FINE", "SIXTEEN_BYTES_16", "SEVENTEEN_BYTES17", "ÅÄÖ", '"QUOTED"', "X" * 64, "UNKNOWN", "株式",
)
ODD_NAMES = ("", "X" * 65, "A\n", "A\0", "\\", "A\u2028")
EXTREMES = (
    0, 1, -1, -2, 9, 10, -10, LARGEST - 1, LARGEST, LARGEST + 8, -LARGEST, 10 * LARGEST, 2**60, 10**18, -(2**60), 2**63 - 1,
    -(2**63),
)
MEMBERS = [*COLUMNS[:7], "ordinal"]


def digest(body: bytes) -> int:
    return int(xxh64(np.frombuffer(body, np.uint8)))


def second(rows: int, table: bytes, sid: bytes, wide: bytes, *, checksum: int | None = None, table_bytes: int = -1) -> bytes:
    """A frame of version 2 with any content; its checksum fits unless it is said."""
    body = struct.pack("<3sBII", b"TKF", 2, rows, table_bytes if table_bytes >= 0 else len(table)) + table + wide + sid
    return body + struct.pack("<Q", digest(body) if checksum is None else checksum)


def first(rows: int, table: bytes, sid: bytes, wide: bytes) -> bytes:
    """A frame of version 1."""
    head = struct.pack("<3sBII", b"TKF", 1, rows, len(table))
    return head + struct.pack("<I", zlib.crc32(head + table + sid + wide)) + table + sid + wide


def padded(table: bytes) -> bytes:
    return table + b" " * (-(12 + len(table)) % 8)


def by_hand(table: bytes, sids: list[int], wide: list[list[int]], known: SymbolTable) -> tuple[list[Any], list[Any]]:
    """Rows taken, and (ordinal, code, line) of those refused; ordinal 0 and no line for a frame refused whole."""
    whole = [(0, Code.MALFORMED, None)]
    try:
        symbols = json.loads(table.decode())
    except (ValueError, RecursionError):
        return [], whole
    if not (isinstance(symbols, list) and all(isinstance(s, list) and len(s) == 3 for s in symbols)):
        return [], whole
    for name, *scales in symbols:
        if not (isinstance(name, str) and 0 < len(name) <= 64 and name.isprintable()):
            return [], whole
        if not all(type(scale) is int and 0 <= scale <= 9 for scale in scales):
            return [], whole
    if not all(0 <= sid < len(symbols) for sid in sids):
        return [], whole
    counted = [known.find(name)[1] for name, _, _ in symbols]
    taken: list[Any] = []
    refused: list[Any] = []
    for row, (of, ts, *prices, bid_size, ask_size, seq) in enumerate(zip(sids, *wide, strict=True)):
        name, scale, size_scale = symbols[of]
        own = counted[of]
        ours = [points * 10**9 // 10**scale for points in prices]              # of nine digits, exactly
        sizes = [points * 10**9 // 10**size_scale for points in (bid_size, ask_size)]
        code = None
        if own is None:
            code = Code.SYMBOL
        else:
            unit, size_unit = 10 ** (9 - own.scale), 10 ** (9 - own.size_scale)
            if ts <= 0 or seq < -1:
                code = Code.MALFORMED
            elif not all(0 <= size // size_unit < LARGEST for size in sizes):
                code = Code.SIZE
            elif not all(0 < price // unit < LARGEST for price in ours):
                code = Code.PRICE
            elif any(price % unit for price in ours):
                code = Code.SCALE
            else:
                taken.append((
                    of, ts, *(price // unit for price in ours), *(size // size_unit for size in sizes), seq, row,
                ))
        if code:
            said = {"symbol": name, "ts": ts, "bid": decimal(prices[0], scale), "ask": decimal(prices[1], scale)}
            said |= {"bid_size": decimal(bid_size, size_scale)} if bid_size else {}
            said |= {"ask_size": decimal(ask_size, size_scale)} if ask_size else {}
            said |= {"seq": seq} if seq != -1 else {}
            refused.append((row, code, said))
    numbers = {of: known.sid(symbols[of][0]) for of in sorted({row[0] for row in taken})}      # only what is taken has one
    return [(numbers[row[0]], *row[1:]) for row in taken], refused


def decimal(points: int, scale: int) -> str:
    digits = f"{abs(points):0{scale + 1}d}"
    return ("-" if points < 0 else "") + (f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits)


def said(refused: Refused, payload: bytes) -> tuple[int, Code, Any]:
    line = None if refused.payload == payload else json.loads(refused.payload, parse_float=str, parse_int=str)
    numbers = {"ts", "seq"}
    return refused.position.ordinal, refused.code, line and {k: int(v) if k in numbers else v for k, v in line.items()}


def met() -> SymbolTable:
    """A table that has met some of the names."""
    table = SymbolTable(RULES)
    for name in NAMES[:6]:
        table.sid(name)
    return table


# ---- content of all kinds


def some_table(chance: random.Random) -> bytes:
    names = chance.sample(NAMES, chance.randrange(1, 7))
    rows: list[Any] = [[name, chance.choice((5, 5, 5, 1, 9, 0)), chance.choice((3, 3, 0, 9))] for name in names]
    match chance.randrange(12):
        case 0:
            rows.append(list(chance.choice(rows)))
        case 1:
            rows.insert(chance.randrange(len(rows) + 1), [chance.choice(ODD_NAMES), 5, 3])
        case 2:
            chance.choice(rows)[chance.randrange(1, 3)] = chance.choice((-1, 10, 99, 5.0, 0.5, "5", None, True, 10**30))
        case 3:
            chance.choice(rows).append(1)
        case 4:
            rows = [row for row in rows if row[0] == "EURUSD"]
    text = json.dumps(rows, ensure_ascii=chance.random() < 0.3, separators=chance.choice(((",", ":"), (",", ":"), (", ", ": "))))
    raw = text.encode()
    match chance.randrange(16):
        case 0:
            raw = raw[:chance.randrange(len(raw) + 1)]
        case 1:
            at = chance.randrange(len(raw))
            raw = raw[:at] + bytes([chance.randrange(256)]) + raw[at + 1:]
        case 2:
            raw += chance.choice((b"]", b",", b"x", b"\n", b"\0", b"[]"))
    return raw


def some_wide(chance: random.Random, rows: int) -> list[list[int]]:
    """The six columns: of a market, mostly, with a few extremes where `odd`."""
    odd = chance.choice((0.0, 0.0, 0.02, 0.3))
    step = chance.choice((1, 10, 10_000))
    wide = [
        [10**18 + row for row in range(rows)],
        *([110_000 + step * chance.randrange(1000) for _ in range(rows)] for _ in range(2)),
        *([chance.randrange(5000) for _ in range(rows)] for _ in range(2)),
        [chance.choice((-1, row)) for row in range(rows)],
    ]
    for column in wide:
        for row in range(rows):
            if chance.random() < odd:
                column[row] = chance.choice(EXTREMES)
    return wide


def packed(sids: list[int], wide: list[list[int]]) -> tuple[bytes, bytes]:
    return struct.pack(f"<{len(sids)}i", *sids), b"".join(struct.pack(f"<{len(sids)}q", *column) for column in wide)
