"""A flood of what is refused: the good ticks between are decided as if it weren't there, and no write grows beyond bounds."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from engine.features import FeatureSet
from engine.partition.publish import STEP_BYTES, _cuts
from engine.replay import FixedBundle, Replayed, _run
from engine.transports.base import STEP, Record, Topic
from engine.transports.memory import MemoryLog
from engine.types import Kind, Position
from engine.wire.records import canonical, reject_decoder
from engine.wire.ticks import encode_all
from tests.made import made_ticks, speaking_bundle

GOOD = encode_all(made_ticks(3000, symbols=3, rate=0.1, flaws=False))


def decided(payloads: Sequence[bytes], read: int, batch: int) -> Replayed:
    log = MemoryLog(1)
    log.append(0, [b"activate"], Kind.CONTROL)
    log.append(0, payloads)
    return _run(log, FixedBundle(speaking_bundle("tick")), read, batch, FeatureSet.default())


@pytest.mark.parametrize(("read", "batch"), [(1000, 512), (7, 64)])
def test_good_ticks_are_decided_the_same_bytes_with_as_much_junk_between_them(read: int, batch: int) -> None:
    junk = [(tick[:-9], b"no tick", tick.replace(b'"bid":', b'"bid":-'), tick, b"\xff\x00")[k % 5] for k, tick in enumerate(GOOD)]
    alone = decided(GOOD, 1000, 512)
    flooded = decided([record for pair in zip(GOOD, junk, strict=True) for record in pair], read, batch)
    assert len(alone.signals) == len(GOOD)
    assert [canonical(record) for record in flooded.signals] == [canonical(record) for record in alone.signals]
    codes = [reject_decoder.decode(record).code for record in flooded.rejects]
    assert codes == ["malformed", "malformed", "price", "duplicate", "malformed"] * (len(GOOD) // 5)


def test_a_step_is_cut_by_bytes_too_and_never_within_a_position() -> None:
    def record(at: int, size: int) -> Record:
        return Record(Topic.REJECTS, Position((at, 0), 0), bytes(size))

    large = [record(at, STEP_BYTES // 2 + at % 2) for at in range(6)] + [record(6, 3 * STEP_BYTES), record(7, 1)]
    assert _cuts(large) == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert _cuts([record(at, STEP_BYTES // 4) for at in range(8)]) == [0, 4, 8]
    assert _cuts([record(at, 1) for at in range(2 * STEP + 1)]) == [0, STEP, 2 * STEP, 2 * STEP + 1]
    assert _cuts([record(min(at, STEP - 1), 1) for at in range(STEP + 2)]) == [0, STEP + 2]
    assert _cuts([]) == [0, 0]
