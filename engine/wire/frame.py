"""The packed frame: up to 65,536 ticks as columns, with a checksum.

    0   3 bytes   magic "TKF"
    3   u8        version
    4   u32       rows
    8   u32       bytes of the symbol table
    12  u32       CRC-32 of everything but these four bytes
    16            symbol table: JSON [[symbol, scale, size_scale], …]
        columns   sid int32, then ts, bid, ask, bid_size, ask_size, seq int64; all little-endian

Prices and sizes are points of the scales in the table, so a frame says by itself what its integers mean.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

import msgspec
import numpy as np

from ..types import I64, Code, TickBatch

MAGIC = b"TKF"
FORMAT = 1
MAX_ROWS = 65_536
_HEADER = struct.Struct("<3sBIII")
WIDE = ("ts", "bid", "ask", "bid_size", "ask_size", "seq")
_ROW_BYTES = 4 + 8 * len(WIDE)
_symbols = msgspec.json.Decoder(list[tuple[str, int, int]])


class FrameError(Exception):
    """A frame that can't be taken, with the code it is refused by."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.value)
        self.code = code


class Content(NamedTuple):
    """symbols: (name, scale, size_scale) each; columns: int64 arrays of the frame's own points."""

    symbols: list[tuple[str, int, int]]
    columns: dict[str, I64]


def is_frame(payload: bytes) -> bool:
    return payload[:3] == MAGIC


def pack(ticks: TickBatch) -> bytes:
    """At most MAX_ROWS ticks as one frame; only symbols that occur are in its table."""
    if len(ticks) > MAX_ROWS:
        raise ValueError(f"{len(ticks)} rows in one frame, {MAX_ROWS} are the most")
    used, sid = np.unique(ticks.sid, return_inverse=True)
    symbols = [ticks.instruments[s] for s in used]
    table = msgspec.json.encode([(i.symbol, i.scale, i.size_scale) for i in symbols])
    body = b"".join(
        [table, sid.astype("<i4").tobytes(), *(getattr(ticks, name).astype("<i8").tobytes() for name in WIDE)]
    )
    return _HEADER.pack(MAGIC, FORMAT, len(ticks), len(table), _checksum(len(ticks), len(table), body)) + body


def unpack(payload: bytes) -> Content:
    """The frame's columns, writable and C-contiguous. Raises FrameError."""
    if len(payload) < _HEADER.size:
        raise FrameError(Code.MALFORMED)
    _, version, rows, table_bytes, checksum = _HEADER.unpack_from(payload)
    if version != FORMAT:
        raise FrameError(Code.VERSION)
    if rows > MAX_ROWS:
        raise FrameError(Code.OVERSIZE)
    body = payload[_HEADER.size:]
    if len(body) != table_bytes + rows * _ROW_BYTES:
        raise FrameError(Code.MALFORMED)
    if _checksum(rows, table_bytes, body) != checksum:
        raise FrameError(Code.CHECKSUM)
    try:
        symbols = _symbols.decode(body[:table_bytes])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise FrameError(Code.MALFORMED) from None
    columns = {"sid": np.frombuffer(body, "<i4", rows, table_bytes).astype(np.int64)}
    at = table_bytes + 4 * rows
    for name in WIDE:
        columns[name] = np.frombuffer(body, "<i8", rows, at).astype(np.int64)
        at += 8 * rows
    fit = all(
        0 < len(name) <= 64 and name.isprintable() and {scale, sizes} <= set(range(10)) for name, scale, sizes in symbols
    )
    if not fit or (rows and not (columns["sid"].min() >= 0 and columns["sid"].max() < len(symbols))):
        raise FrameError(Code.MALFORMED)
    return Content(symbols, columns)


def _checksum(rows: int, table_bytes: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(_HEADER.pack(MAGIC, FORMAT, rows, table_bytes, 0)[:12]))
