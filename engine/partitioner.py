"""Which partition a symbol goes to when we produce: murmur2 of its UTF-8 bytes, as Kafka's default partitioner does.

murmur2: Austin Appleby's MurmurHash2, 32 bit, seed 0x9747b28c (Kafka's choice, org.apache.kafka.common.utils.Utils).
"""

from __future__ import annotations

from functools import lru_cache

_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """The unsigned 32-bit hash."""
    h = (0x9747B28C ^ len(data)) & _MASK
    whole = len(data) // 4 * 4
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at:at + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    rest = data[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


@lru_cache(65_536)
def partition_of(symbol: str, partitions: int) -> int:
    """The partition of a symbol, 0 … partitions − 1."""
    return (murmur2(symbol.encode()) & 0x7FFFFFFF) % partitions
