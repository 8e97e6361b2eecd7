"""Who should hold which partition: pure, time comes in."""

from __future__ import annotations

from engine.partition.ownership import FORGOTTEN, Watch, word_of
from engine.transports.base import Ownership

LEASE = 3_000


def others(**said: int) -> dict[str, bytes]:
    return {name: word_of(f"life of {name}".replace(" ", "_"), word) for name, word in said.items()}


def test_nobodys_and_ones_own_at_once() -> None:
    watch = Watch("me", 4, LEASE)
    assert watch.claims({0: Ownership(0, "", 0), 1: Ownership(4, "me", 17), 2: Ownership(9, "", 3)}, (), 0) == [0, 1, 2]


def test_anothers_when_its_beat_stood_still_for_the_lease() -> None:
    watch = Watch("me", 1, LEASE)
    held = {0: Ownership(1, "other", 5)}
    assert watch.claims(held, (), 0) == []
    assert watch.claims(held, (), LEASE - 1) == []
    assert watch.claims(held, (), LEASE) == [0]


def test_a_beat_or_an_epoch_starts_the_wait_anew() -> None:
    watch = Watch("me", 2, LEASE)
    watch.claims({0: Ownership(1, "other", 5)}, (), 0)
    assert watch.claims({0: Ownership(1, "other", 6)}, (), 2_000) == []
    assert watch.claims({0: Ownership(1, "other", 6)}, (), 4_999) == []
    assert watch.claims({0: Ownership(2, "third", 0)}, (), 5_000) == []
    assert watch.claims({0: Ownership(2, "third", 0)}, (), 8_000) == [0]
    assert watch.claims({1: Ownership(1, "other", 5)}, (), 8_000) == [], "each partition has a wait of its own"


def test_nobody_claims_more_than_a_share_but_what_was_its_own() -> None:
    watch = Watch("me", 5, LEASE)
    watch.engines(others(me=1, a=1), 0)
    free = {p: Ownership(0, "", 0) for p in range(5)}
    assert watch.claims(free, (), 0) == [0, 1, 2], "of two, one has three of five"
    assert watch.claims({3: free[3], 4: free[4]}, {0, 1, 2}, 0) == []
    assert watch.claims(dict.fromkeys(range(5), Ownership(7, "me", 1)), (), 0) == [0, 1, 2, 3, 4], "a restart takes its own back"


def test_what_is_beyond_the_share_is_given_up_the_highest_first() -> None:
    watch = Watch("me", 4, LEASE)
    watch.engines(others(me=1), 0)
    assert watch.surplus({0, 1, 2, 3}) == []
    watch.engines(others(me=2, a=1, b=1, c=1), 1)
    assert watch.surplus({0, 1, 2, 3}) == [1, 2, 3]
    assert not watch.wants_more({0})


def test_an_engine_that_says_nothing_new_for_the_lease_counts_no_more() -> None:
    watch = Watch("me", 4, LEASE)
    watch.engines(others(a=1), 0)
    watch.engines(others(a=2), LEASE - 1)
    watch.engines(others(a=2), 2 * LEASE - 2)
    assert watch.surplus({0, 1, 2, 3}) == [2, 3], "it moved within the lease"
    watch.engines(others(a=2), 2 * LEASE)
    assert watch.surplus({0, 1, 2, 3}) == []
    assert watch.wants_more({0, 1})
    assert watch.engines(others(a=2), FORGOTTEN * LEASE) == []
    assert watch.engines(others(a=2), LEASE - 1 + FORGOTTEN * LEASE) == ["a"]
    watch.engines(others(a=3), 99 * LEASE)
    assert watch.surplus({0, 1, 2, 3}) == [2, 3], "it is back"


def test_a_life_is_known_while_it_says_something_new() -> None:
    watch = Watch("me", 4, LEASE)
    watch.engines(others(a=1), 0)
    assert watch.lives("life_of_a")
    assert not watch.lives("life_of_b")
    watch.engines(others(a=1), LEASE)
    assert not watch.lives("life_of_a")
