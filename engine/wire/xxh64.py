"""XXH64, the checksum of a packed frame: 64 bits, at some ten bytes a nanosecond; against damage, not against forgery.

As specified by Yann Collet, "xxHash fast digest algorithm" (doc/xxhash_spec.md of xxHash), with the seed 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..jit import kernel, subkernel

_P1, _P2, _P3, _P4, _P5 = (np.uint64(prime) for prime in (
    0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5,
))
_SUM, _NEGATED = np.uint64((int(_P1) + int(_P2)) % 2**64), np.uint64(2**64 - int(_P1))
_64, _29, _32, _33 = (np.uint64(k) for k in (64, 29, 32, 33))
_ROL_1, _ROL_7, _ROL_11, _ROL_12, _ROL_18, _ROL_23, _ROL_27, _ROL_31 = (
    np.uint64(k) for k in (1, 7, 11, 12, 18, 23, 27, 31)
)


@subkernel
def _turn(x: Any, by: Any) -> Any:
    return (x << by) | (x >> (_64 - by))


@subkernel
def _round(lane: Any, word: Any) -> Any:
    return _turn(lane + word * _P2, _ROL_31) * _P1


@subkernel
def _merge(whole: Any, lane: Any) -> Any:
    return (whole ^ _round(np.uint64(0), lane)) * _P1 + _P4


@kernel
def xxh64(data: Any) -> Any:
    """Of all bytes of a read-only uint8 array."""
    return digest(data, data.size)


@subkernel
def digest(data: Any, size: int) -> Any:
    """Of the first `size` bytes of a uint8 array."""
    words = data[:size - size % 8].view(np.uint64)
    at = 0
    if size >= 32:
        one, two, three, four = _SUM, _P2, np.uint64(0), _NEGATED
        while at + 4 <= words.size:
            one = _round(one, words[at])
            two = _round(two, words[at + 1])
            three = _round(three, words[at + 2])
            four = _round(four, words[at + 3])
            at += 4
        whole = _turn(one, _ROL_1) + _turn(two, _ROL_7) + _turn(three, _ROL_12) + _turn(four, _ROL_18)
        whole = _merge(_merge(_merge(_merge(whole, one), two), three), four)
    else:
        whole = _P5
    whole += np.uint64(size)

    while at < words.size:
        whole = _turn(whole ^ _round(np.uint64(0), words[at]), _ROL_27) * _P1 + _P4
        at += 1
    at *= 8
    if size - at >= 4:
        half = np.uint64(data[at:at + 4].view(np.uint32)[0])
        whole = _turn(whole ^ half * _P1, _ROL_23) * _P2 + _P3
        at += 4
    while at < size:
        whole = _turn(whole ^ np.uint64(data[at]) * _P5, _ROL_11) * _P1
        at += 1

    whole = (whole ^ (whole >> _33)) * _P2
    whole = (whole ^ (whole >> _29)) * _P3
    return whole ^ (whole >> _32)
