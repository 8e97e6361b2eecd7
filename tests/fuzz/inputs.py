"""Records for a tick log, from what a market sends to what nobody should: made from a seed, quickly, the same each time.

Every kind of record begins as a good one of its kind and is then damaged or not, so that most of the damage lies close to
what is taken. A frame's checksum is made anew after most damage: what is behind it must be met too.
"""

from __future__ import annotations

import json
import random
import re
import struct
import zlib
from typing import NamedTuple

import numpy as np

from engine.types import Entry, Kind
from engine.wire.stamps import ns_to_rfc3339
from engine.wire.xxh64 import xxh64
from tests.frames import EXTREMES, some_table
from tests.made import START


class Record(NamedTuple):
    """A record, and what it was meant to be."""

    what: str
    entry: Entry


NAMES = (
    "A", "EURUSD", "EUR/USD", "COARSE", "FINE", "LAST", "LASTEIGHT", "SIXTEEN_BYTES_16", "SEVENTEEN_BYTES17", "ÅÄÖ", "株式",
    "A'B C", "EURUSD.in_words_17b", "SHUT1",
)
DIGITS = {"COARSE": 1, "FINE": 9, "LAST": 2, "LASTEIGHT": 2}
"""Of a price, where they aren't five."""

_TICK = (
    b'{"symbol":%(s)b,"ts":%(t)b,"bid":%(b)b,"ask":%(a)b}',
    b'{"symbol":%(s)b,"ts":%(t)b,"bid":%(b)b,"ask":%(a)b}',
    b'{"symbol":%(s)b,"ts":%(t)b,"bid":%(b)b,"ask":%(a)b,"seq":%(q)b}',
    b'{"symbol":%(s)b,"ts":%(t)b,"bid":%(b)b,"ask":%(a)b,"bid_size":%(x)b,"ask_size":%(y)b}',
    b'{"symbol": %(s)b, "ts": %(t)b, "bid": %(b)b, "ask": %(a)b, "bid_size": %(x)b}',
    b'\t{ "ask" :%(a)b, "bid":\r%(b)b , "ts": %(t)b,"symbol":%(s)b }\r',
    b'{"symbol":%(s)b,"ts":%(t)b,"bid":%(b)be0,"ask":%(a)bE+0}',
    b'{"\\u0073ymbol":%(s)b,"ts":%(t)b,"bid":%(b)b,"ask":%(a)b}',
    b'{"symbol":%(s)b,"ts":%(t)b,"bid":9,"ask":%(a)b,"bid":%(b)b}',
)
_LAST = (
    b'{"symbol":%(s)b,"ts":%(t)b,"price":%(b)b}',
    b'{"symbol":%(s)b,"ts":%(t)b,"price":%(b)b,"size":%(x)b,"seq":%(q)b}',
)
_SIZES = (b"0", b"0.0", b"1", b"0.5", b"0.0005", b"2.5e3", b"1000000", b"0.12345678901234567", b"1e-320", b"4503599627370495.5")
_NUMBERS = (
    b"0", b"-0", b"-0.0", b"-1", b"1e308", b"1e309", b"-1e308", b"2e-324", b"1E5", b"1e-5", b"NaN", b"Infinity", b"-Infinity",
    b"null", b"true", b'"1"', b"[]", b"{}", b"[1]", b"01", b"1.", b".5", b"1.e1", b"+1", b"0x1", b"1_0", b"1,0", b"", b"1e",
    b"1e+",
    b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808", b"18446744073709551615", b"18446744073709551616",
    b"99999999999999999999", b"9007199254740993", b"4503599627370495", b"4503599627370496", b"45035996273.70495",
    b"45035996273.70496", b"1125899906842624", b"0.00001", b"0.000001", b"1.00000000000000000", b"1.000000000000000001",
    b"0.1e1", b"123456789012345678", b"1" * 400, b"0." + b"3" * 400, b'"' + b"9" * 30 + b'"',
    b'"2024-02-30T00:00:00Z"', b'"2024-05-06T24:00:00Z"', b'"2024-05-06T00:00:60Z"', b'"1969-12-31T23:59:59.999999999Z"',
    b'"2262-04-11T23:47:16.854775807Z"', b'"2262-04-11T23:47:16.854775808Z"', b'"9999-12-31T23:59:59Z"',
    b'"0000-01-01T00:00:00Z"',
    b'"2024-05-06T00:00:00+99:99"', b'"2024-05-06T00:00:00.1234567890Z"', b'"2024-05-06T00:00:00"',
    '"２０２４-05-06T00:00:00Z"'.encode(),
)
_STRINGS = (
    b'""', b'"\\u0000"', b'"\\ud800"', b'"\\ud83d\\ude00"', b'"\xff"', b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"',
    b'"\x00"', b'"\\"',
    b'"A\\"B"', b'"' + b"X" * 64 + b'"', b'"' + b"X" * 65 + b'"', '"é́"'.encode(), '"\u2028"'.encode(), '"\u200b"'.encode(),
    b'"EURUSD\\n"', b'"\\u0045URUSD"', b'"' + b"\\u0041" * 64 + b'"', b"'A'", b'"A', b'A"', b'"UNHEARD-OF"', b'"SHUT*"', b'"[]?"',
)
_ODD = b'{}[]":,.-+eE0123456789 \t\r\n\x00\x1f\x7f\x80\xc3\xff\\/uabidsTZ'
_VALUE = re.compile(rb'(?<=[:\[,] )[^,:{}\[\] ]+|(?<=[:\[,])[^,:{}\[\] ]+')
_FIELD = re.compile(rb'"[a-z_]+"(?= ?:)')
_KEYS = (
    b'"symbol"', b'"ts"', b'"bid"', b'"ask"', b'"bid_size"', b'"ask_size"', b'"seq"', b'"price"', b'"size"',
    b'"bids"', b'"Bid"', b'"b\\u0069d"',
)
_PIECES = (
    b"{", b"}", b"[", b"]", b'"', b"\\", b"\n", b"\r", b"\r\n", b"\xef\xbb\xbf", b"\x00", b",", b"//",
    b'{"symbol":"A","ts":1,"bid":1,"ask":1}',
    b"[" * 200, b"{" * 200, b'{"a":' * 300, b"[" * 3000, b" " * 40, b"9" * 40,
)
_JUNK = (
    b"", b"\n\n", b" ", b"null", b"[]", b"{}", b"true", b"end", b"TKF", b"TKF\x01", b"TKF\x02\x00", b"TKE\x02", b"\x00" * 50,
    b"\xff\xfe{\x00",
    b"<tick/>", b"EURUSD,1.1,1.2", b"[" * 5000, b'{"symbol":' + b"[" * 5000,
    b'{"symbol":"' + b"X" * 5000 + b'","ts":1,"bid":1,"ask":1}',
    b'{"symbol":"A","ts":1,"bid":1,"ask":1}{"symbol":"A","ts":1,"bid":1,"ask":1}',
    b'[{"symbol":"A","ts":1,"bid":1,"ask":1}]',
    b'{"code":"malformed","encoding":"utf-8","payload":"x","log":{"partition":0,"cursor":"1-0","ordinal":0,"epoch":1}}',
    b'{"id":"EURUSD:1:0","deployment":"main","symbol":"EURUSD","ts":1,"side":"buy","reason":"decided","bid":1.1,"ask":1.2}',
    b'{"note":"gap","from":[[1,0],0],"body":{"why":"trimmed"}}',
    b"\x93\x00\xa1x\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00",
)


class Inputs:
    """Records one after the other. `settings`: a control record that holds, and stands in the log now and then."""

    def __init__(self, chance: random.Random, settings: bytes) -> None:
        self._chance = chance
        self._settings = settings
        self._now = START
        self._place = 0
        self._points = dict.fromkeys(NAMES, 110000)
        self._before = [b'{"symbol":"A","ts":1,"bid":1,"ask":1}']
        self._tables = [some_table(chance) for _ in range(40)] + [
            json.dumps([[name, 5, 3] for name in chance.sample(NAMES, k)], separators=(",", ":"), ensure_ascii=False).encode()
            for k in (1, 1, 2, 3, 5, 8) for _ in range(6)
        ]
        lines = [
            ("line", self._line, 30), ("lines", self._lines, 8), ("damaged line", self._damaged_line, 34),
            ("damaged lines", self._damaged_lines, 6), ("junk", self._junk, 5), ("control copy", self._control, 2),
        ]
        frames = [("frame", self._frame, 3), ("damaged frame", self._damaged_frame, 7)]
        self._lots = [[(what, make) for what, make, share in kinds for _ in range(share)] for kinds in (lines, frames)]
        self._lot = 0

    def next(self) -> Record:
        if self._chance.random() < 0.03 + 0.07 * self._lot:                # frames come in a row, as lines do
            self._lot = 1 - self._lot
        kinds = self._lots[self._lot]
        what, make = kinds[int(self._chance.random() * len(kinds))]
        self._now += int(self._chance.random() ** 8 * 20e9)
        if self._chance.random() < 0.0005:
            self._now += self._chance.choice((3600, 86_400, 4 * 86_400)) * 10**9
        self._place += 1
        kind = Kind.CONTROL if what == "control copy" and self._chance.random() < 0.8 else Kind.TICKS
        stored = self._now + 10**6 if self._chance.random() < 0.95 else 0
        return Record(what, Entry((0, self._place), kind, make(), stored))

    # ---- lines

    def _stamp(self) -> int:
        draw = self._chance.random()
        if draw < 0.9:
            return self._now
        if draw < 0.95:
            return self._now - int(self._chance.random() * 3e9)
        return self._now + int(self._chance.random() * 4e9)

    def _line(self) -> bytes:
        random = self._chance.random
        if random() < 0.03:
            return self._before[int(random() * len(self._before))]         # again
        name = NAMES[int(random() ** 1.5 * len(NAMES))]
        points = self._points[name] = max(1, self._points[name] + int(random() * 21) - 10)
        ask = points + int(random() * 20) - 1
        digits = DIGITS.get(name, 5)
        ts = self._stamp()
        forms = _LAST if digits == 2 and random() < 0.9 else _TICK
        line = forms[int(random() ** 1.5 * len(forms))] % {
            b"s": (b'"%b"' % name.encode()) if random() < 0.95 else json.dumps(name).encode(),
            b"t": b"%d" % ts if random() < 0.8 else self._rfc3339(ts),
            b"b": _decimal(points, digits), b"a": _decimal(ask, digits),
            b"x": _SIZES[int(random() ** 2 * len(_SIZES))], b"y": b"%d" % int(random() * 100), b"q": b"%d" % (ts // 10**6),
        }
        self._before.append(line)
        if len(self._before) > 50:
            del self._before[:25]
        return line

    def _rfc3339(self, ts: int) -> bytes:
        chance = self._chance
        text = ns_to_rfc3339(ts - ts % chance.choice((1, 10**3, 10**6, 10**9))).replace("T", chance.choice("TTt "))
        if chance.random() < 0.2:
            text = text[:-1] + chance.choice(("z", "+02:00", "-23:59", "+24:00", ""))
        return b'"%b"' % text.encode()

    def _lines(self) -> bytes:
        count = int(2 + self._chance.random() ** 3 * 14)
        return b"\n".join([self._line() for _ in range(count)]) + self._chance.choice((b"", b"\n", b"\n\n", b"\r\n"))

    def _damaged_line(self) -> bytes:
        line = self._line()
        for _ in range(self._chance.choice((1, 1, 1, 1, 2))):
            line = self._damaged(line)
        return line

    def _damaged_lines(self) -> bytes:
        return self._damaged(self._lines())

    def _damaged(self, text: bytes) -> bytes:
        chance = self._chance
        draw = chance.random()
        if draw < 0.3:                                                     # a value becomes another
            return _one(_VALUE, text, chance.choice(_NUMBERS if chance.random() < 0.8 else _STRINGS), chance)
        if draw < 0.35:
            return text.replace(b'"', b"'") if chance.random() < 0.1 else _one(_FIELD, text, chance.choice(_KEYS), chance)
        if draw < 0.4:
            name = chance.choice(_STRINGS)
            return re.sub(rb'("symbol" ?: ?)"[^"]*"', lambda found: found[1] + name, text, count=1)
        bad = bytearray(text)
        at = int(chance.random() * (len(bad) + 1))
        if draw < 0.55:
            bad[at:at + 1] = bytes((_ODD[int(chance.random() * len(_ODD))],))
        elif draw < 0.65 and at < len(bad):
            bad[at] ^= 1 << int(chance.random() * 8)
        elif draw < 0.72:
            bad[at:at] = bytes((_ODD[int(chance.random() * len(_ODD))],))
        elif draw < 0.79:
            del bad[at:at + 1 + int(chance.random() ** 2 * 9)]
        elif draw < 0.85:                                                  # a part of it again
            other = int(chance.random() * len(bad))
            bad[at:at] = bad[other:other + 1 + int(chance.random() * 20)]
        elif draw < 0.91:                                                  # spliced with another
            other_line = chance.choice(self._before)
            bad[at:] = other_line[int(chance.random() * len(other_line)):]
        elif draw < 0.95:
            del bad[at:]
        else:
            bad[at:at] = chance.choice(_PIECES)
        return bytes(bad)

    def _junk(self) -> bytes:
        if self._chance.random() < 0.5:
            return self._chance.choice(_JUNK)
        return self._chance.randbytes(int(self._chance.random() ** 3 * 300))

    # ---- frames

    def _parts(self) -> tuple[bytes, bytes, bytes, int]:
        """Symbol table, columns, sids, rows: of a market, mostly."""
        chance = self._chance
        table = self._tables[int(chance.random() * len(self._tables))]
        rows = int(chance.random() ** 3 * 12) if chance.random() < 0.98 else 200
        ts = [self._now - 10**6 * (rows - row) for row in range(rows)]
        points = self._points["A"]
        bid = [points + int(chance.random() * 9) for _ in range(rows)]
        wide = struct.pack(
            f"<{6 * rows}q", *ts, *bid, *[value + 5 for value in bid], *[int(chance.random() * 3000) for _ in range(2 * rows)],
            *[-1] * rows,
        )
        most = table.count(b"],[") + 1
        sids = struct.pack(f"<{rows}i", *[int(chance.random() * most) for _ in range(rows)])
        return table, wide, sids, rows

    def _frame(self) -> bytes:
        table, wide, sids, rows = self._parts()
        return _sealed(1 if self._chance.random() < 0.2 else 2, rows, table, wide, sids)

    def _damaged_frame(self) -> bytes:
        chance = self._chance
        table, wide, sids, rows = self._parts()
        version, lie, length = 1 if chance.random() < 0.2 else 2, 0, 0
        draw = chance.random()
        if draw < 0.25 and rows:                                           # a value
            at = 8 * int(chance.random() * 6 * rows)
            value = chance.choice(EXTREMES) if chance.random() < 0.7 else chance.getrandbits(64) - 2**63
            wide = wide[:at] + struct.pack("<q", value) + wide[at + 8:]
        elif draw < 0.35 and rows:
            at = 4 * int(chance.random() * rows)
            value = chance.choice((-1, -(2**31), 2**31 - 1, 9, 10**6, table.count(b"],[") + 1))
            sids = sids[:at] + struct.pack("<i", value) + sids[at + 4:]
        elif draw < 0.6:
            table = self._damaged(table)
        elif draw < 0.7:
            lie = chance.choice((-1, 1, -rows, 65_536, 65_537, 2**32 - 1 - rows, 2**31, 7))
        elif draw < 0.8:
            length = chance.choice((-8, 8, -1, 1, -len(table), 2**31, 2**32 - 1 - len(table) - 8, 4, 16))
        elif draw < 0.85:
            wide, sids = sids, wide
        elif draw < 0.9:
            version = chance.choice((0, 1, 3, 255))
        whole = _sealed(version, rows, table, wide, sids, lie, length)
        if draw >= 0.9:                                                    # damage that the checksum must find
            bad = bytearray(whole)
            at = int(chance.random() * len(bad))
            if chance.random() < 0.5:
                bad[at] ^= 1 << int(chance.random() * 8)
            else:
                del bad[at:at + int(chance.random() ** 2 * len(bad))]
            return bytes(bad)
        return whole

    # ---- control records

    def _control(self) -> bytes:
        if self._chance.random() < 0.1:
            return self._settings
        if self._chance.random() < 0.1:
            return self._junk()
        return self._damaged(self._settings)


def _decimal(points: int, digits: int) -> bytes:
    whole, part = divmod(points, 10**digits)
    return b"%d.%0*d" % (whole, digits, part)


def _one(pattern: re.Pattern[bytes], text: bytes, instead: bytes, chance: random.Random) -> bytes:
    """One of the places replaced."""
    places = [found.span() for found in pattern.finditer(text)]
    if not places:
        return text + instead
    first, last = places[int(chance.random() * len(places))]
    return text[:first] + instead + text[last:]


def _sealed(version: int, rows: int, table: bytes, wide: bytes, sids: bytes, lie: int = 0, length: int = 0) -> bytes:
    """A frame whose checksum fits; `lie` and `length` are added to what its head says of rows and table."""
    if version == 1:
        head = struct.pack("<3sBII", b"TKF", 1, (rows + lie) % 2**32, (len(table) + length) % 2**32)
        return head + struct.pack("<I", zlib.crc32(head + table + sids + wide)) + table + sids + wide
    table += b" " * (-(12 + len(table)) % 8)
    head = struct.pack("<3sBII", b"TKF", version, (rows + lie) % 2**32, (len(table) + length) % 2**32)
    body = head + table + wide + sids
    return body + struct.pack("<Q", int(xxh64(np.frombuffer(body, np.uint8))))
