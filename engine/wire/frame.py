"""The packed frame: up to 65,536 ticks as columns, with a checksum. All little-endian.

    0   3 bytes   magic "TKF"
    3   u8        version, 2
    4   u32       rows
    8   u32       bytes of the symbol table and the blanks behind it
    12            symbol table: JSON [[symbol, scale, size_scale], …]; blanks, so that the columns begin at a multiple of 8
        columns   ts, bid, ask, bid_size, ask_size, seq int64, then sid int32
        u64       XXH64 of everything before

Prices and sizes are points of the scales in the table, so a frame says by itself what its integers mean.

Version 1 is read, never written: a u32 behind the table's bytes, the CRC-32 of everything but itself; no blanks; sid before
the other columns.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..types import I64, Code, TickBatch

MAGIC = b"TKF"
FORMAT = 2
MAX_ROWS = 65_536
_HEAD = struct.Struct("<3sBII")
TABLE = _HEAD.size
"""Where the symbol table begins."""
_CRC, _XXH = struct.Struct("<I"), struct.Struct("<Q")
WIDE = ("ts", "bid", "ask", "bid_size", "ask_size", "seq")
ROW_BYTES = 4 + 8 * len(WIDE)
Symbol = tuple[str, int, int]
"""Name, scale, size_scale."""
_SCALES = set(range(10))
_symbols = msgspec.json.Decoder(list[Symbol])


class FrameError(Exception):
    """A frame that can't be taken, with the code it is refused by."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.value)
        self.code = code


class Content(NamedTuple):
    """symbols: (name, scale, size_scale) each; wide: (6, rows), the columns WIDE in the frame's own points; sid: (rows,)."""

    symbols: list[Symbol]
    wide: I64
    sid: NDArray[np.int32]


def is_frame(payload: bytes) -> bool:
    return payload[:3] == MAGIC


def rows(payload: bytes) -> int:
    """Of a frame of ours; whatever else begins like one may say anything."""
    return int.from_bytes(payload[4:8], "little")


def pack(ticks: TickBatch) -> bytes:
    """At most MAX_ROWS ticks as one frame; only symbols that occur are in its table."""
    if len(ticks) > MAX_ROWS:
        raise ValueError(f"{len(ticks)} rows in one frame, {MAX_ROWS} are the most")
    used, sid = np.unique(ticks.sid, return_inverse=True)
    symbols = [ticks.instruments[s] for s in used]
    body = _laid_out(
        len(ticks), msgspec.json.encode([(i.symbol, i.scale, i.size_scale) for i in symbols]),
        *(getattr(ticks, name).astype("<i8", copy=False).data for name in WIDE), sid.astype("<i4").data,
    )
    return _sealed(body)


def read(payload: bytes) -> Content:
    """What a frame of this version holds that is whole. Raises FrameError where it can't be."""
    _, _, rows, table_bytes = _HEAD.unpack_from(payload)
    try:
        symbols = _symbols.decode(payload[TABLE:TABLE + table_bytes])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise FrameError(Code.MALFORMED) from None
    fit = all(0 < len(name) <= 64 and name.isprintable() and {scale, sizes} <= _SCALES for name, scale, sizes in symbols)
    wide = np.frombuffer(payload, "<i8", len(WIDE) * rows, TABLE + table_bytes).reshape(len(WIDE), rows)
    sid = np.frombuffer(payload, "<i4", rows, TABLE + table_bytes + wide.nbytes)
    if not fit or (rows and not (sid.min() >= 0 and sid.max() < len(symbols))):
        raise FrameError(Code.MALFORMED)
    return Content(symbols, wide, sid)


def is_first_version(payload: bytes) -> bool:
    return payload[3:4] == b"\1"


def renewed(payload: bytes) -> bytes:
    """A frame of version 1 as one of this version. Raises FrameError."""
    table = _HEAD.size + _CRC.size
    if len(payload) < table:
        raise FrameError(Code.MALFORMED)
    _, _, rows, table_bytes = _HEAD.unpack_from(payload)
    if rows > MAX_ROWS:
        raise FrameError(Code.OVERSIZE)
    sid = table + table_bytes
    wide = sid + 4 * rows
    if len(payload) != sid + ROW_BYTES * rows:
        raise FrameError(Code.MALFORMED)
    if zlib.crc32(payload[table:], zlib.crc32(payload[:_HEAD.size])) != _CRC.unpack_from(payload, _HEAD.size)[0]:
        raise FrameError(Code.CHECKSUM)
    return _sealed(_laid_out(rows, payload[table:sid], payload[wide:], payload[sid:wide]))


def _laid_out(rows: int, table: bytes, *columns: bytes | memoryview) -> bytes:
    """All of a frame but its checksum."""
    table += b" " * (-(TABLE + len(table)) % 8)
    return b"".join([_HEAD.pack(MAGIC, FORMAT, rows, len(table)), table, *columns])


def _sealed(body: bytes) -> bytes:
    return body + _XXH.pack(_xxh64()(np.frombuffer(body, np.uint8)))


@cache
def _xxh64() -> Callable[[Any], int]:
    from .xxh64 import xxh64  # numba: who only writes lines shouldn't wait for it

    return xxh64
