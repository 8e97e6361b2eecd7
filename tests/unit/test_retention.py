"""How much may be forgotten: never what somebody holds, never more than is too much."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.partition.retention import floor, goal, held, hold, quota, rejects_kept, surplus, unless_said
from engine.transports.base import Extent
from engine.transports.memory import MemoryLog


def extent(kept: int, size: int) -> Extent:
    return Extent((1, 0), (9, 0), kept, kept, size)


def test_a_hold_is_read_as_it_was_posted() -> None:
    posts = {"hold.a": hold({0: (5, 1), 1: (7, 0)}), "hold.b": hold({0: (3, 2)})}
    assert held(posts, 0) == {"hold.a": (5, 1), "hold.b": (3, 2)}
    assert held(posts, 1) == {"hold.a": (7, 0)}
    assert held(posts, 2) == {}
    assert floor(held(posts, 0).values()) == (3, 2)


@pytest.mark.parametrize(
    "post", [b"", b"what?", b"[1]", b'{"0":5}', b'{"one":[1,2]}', b'{"0":[1,2,3]}', b'{"0":["\xff",1]}', b"null"]
)
def test_a_hold_that_cant_be_read_holds_everything(post: bytes) -> None:
    assert held({"hold.a": hold({0: (5, 1)}), "hold.b": post}, 0)["hold.b"] == (0, 0)
    assert held({"hold.b": post}, 7) == {"hold.b": (0, 0)}


def test_where_nobody_holds_nothing_may_go() -> None:
    """An engine always holds its own partition: no hold at all means that it hasn't said so yet."""
    assert floor([]) == (0, 0)


def test_what_fits_stays() -> None:
    assert surplus(extent(100, 1000), 1000) == 0
    assert surplus(extent(0, 5000), 1000) == 0
    assert surplus(extent(100, 1001), 1000) == 1


@given(st.integers(1, 10**9), st.integers(1, 10**12), st.integers(1, 10**12))
def test_what_is_left_fits_and_hardly_more_is_taken(kept: int, size: int, keep_bytes: int) -> None:
    taken = surplus(extent(kept, size), keep_bytes)
    each = size / kept
    assert (taken > 0) == (size > keep_bytes)
    assert (kept - taken) * each <= keep_bytes + each * 1e-3
    assert taken <= max((size - keep_bytes) / each, 0) * (1 + 1e-9) + 1


def test_ticks_are_refused_well_above_what_is_trimmed_to() -> None:
    assert quota(512 * 2**20, 4) == 2 * (512 * 2**20 // 4)


def test_a_quota_that_somebody_said_stands() -> None:
    log = MemoryLog(2)
    log.limit(1, 77)
    unless_said(log, 1000)
    assert [log.extent(partition).quota for partition in range(2)] == [1000, 77]


@pytest.mark.parametrize(("size", "full", "to"), [(500, "", 1000), (500, "why", 375), (5000, "why", 1000), (5000, "", 1000)])
def test_a_server_without_room_has_the_log_trimmed_below_its_share(size: int, full: str, to: int) -> None:
    assert goal(extent(100, size)._replace(full=full), 1000) == to


@pytest.mark.parametrize(("size", "rejects", "kept"), [
    (900, 800, None),                              # it all fits: whatever it is, it stays
    (1500, 200, None),                             # ticks are what is too much
    (1500, 500, 50),                               # down to a quarter of the share, 250
    (10_000, 9_750, 2),
])
def test_rejects_go_before_ticks_down_to_a_quarter(size: int, rejects: int, kept: int | None) -> None:
    assert rejects_kept(extent(100, size)._replace(rejects=100, rejects_bytes=rejects), 1000) == kept


def test_the_newest_reject_alone_is_never_too_much() -> None:
    assert rejects_kept(extent(100, 5000)._replace(rejects=1, rejects_bytes=4000), 1000) is None
