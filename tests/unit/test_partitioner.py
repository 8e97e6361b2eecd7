"""murmur2 as Kafka's default partitioner has it (values of Kafka's own UtilsTest)."""

from __future__ import annotations

import pytest

from engine.partitioner import murmur2, partition_of


@pytest.mark.parametrize(("data", "signed"), [
    (b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536),
    (b"a-little-bit-longer-string", -1486304829), (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    (b"abc", 479470107),
])
def test_murmur2(data: bytes, signed: int) -> None:
    assert murmur2(data) == signed % 2**32


def test_partitions_are_in_range_and_spread() -> None:
    found = [partition_of(f"SYM{i}", 4) for i in range(400)]
    assert set(found) == {0, 1, 2, 3}
    assert all(60 < found.count(p) < 140 for p in range(4))
