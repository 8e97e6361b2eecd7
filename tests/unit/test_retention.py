"""How much may be forgotten: never what somebody holds, never more than is too much."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.partition.retention import floor, held, hold, surplus
from engine.transports.base import Extent


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
