"""When to claim a partition: pure, time comes in."""

from __future__ import annotations

from engine.partition.ownership import Watch
from engine.transports.base import Ownership

LEASE = 3_000


def test_nobodys_and_ones_own_at_once() -> None:
    watch = Watch("me", LEASE)
    assert watch.should_claim(0, Ownership(0, "", 0), 0)
    assert watch.should_claim(0, Ownership(4, "me", 17), 0)


def test_anothers_when_its_beat_stood_still_for_the_lease() -> None:
    watch = Watch("me", LEASE)
    assert not watch.should_claim(0, Ownership(1, "other", 5), 0)
    assert not watch.should_claim(0, Ownership(1, "other", 5), LEASE - 1)
    assert watch.should_claim(0, Ownership(1, "other", 5), LEASE)


def test_a_beat_or_an_epoch_starts_the_wait_anew() -> None:
    watch = Watch("me", LEASE)
    watch.should_claim(0, Ownership(1, "other", 5), 0)
    assert not watch.should_claim(0, Ownership(1, "other", 6), 2_000)
    assert not watch.should_claim(0, Ownership(1, "other", 6), 4_999)
    assert not watch.should_claim(0, Ownership(2, "third", 0), 5_000)
    assert watch.should_claim(0, Ownership(2, "third", 0), 8_000)
    assert not watch.should_claim(1, Ownership(1, "other", 5), 8_000), "each partition has a wait of its own"
