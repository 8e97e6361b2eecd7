"""Refused inputs as people meet them: each code has words, each place can be named and found again."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.arguments import cursor
from engine.errors import UsageError
from engine.types import Code, Position
from engine.wire.records import Place, Reject
from engine.wire.refusals import MEANINGS, Stands, content, meaning, place, shown, symbol_of, told, told_place


def reject(payload: bytes, at: int | str = "17-3") -> Reject:
    try:
        return Reject("late", "utf-8", payload.decode(), Place(2, at, 5, 1))
    except UnicodeDecodeError:
        return Reject("late", "base64", base64.b64encode(payload).decode(), Place(2, at, 5, 1))


def test_every_code_says_what_is_wrong_and_what_to_do() -> None:
    assert set(MEANINGS) == set(Code)
    assert all(means.wrong and means.advice for means in MEANINGS.values())
    assert meaning("of tomorrow").wrong


@given(st.integers(0, 999), st.integers(0, 2**63), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_place_is_found_again(partition: int, major: int, minor: int, ordinal: int) -> None:
    for at, where in ((f"{major}-{minor}", (major, minor)), (minor, (0, minor))):
        told_as = told_place(Reject("late", "utf-8", "", Place(partition, at, ordinal, 1)))
        assert place(told_as) == Stands(partition, Position(where, ordinal))


@pytest.mark.parametrize("text", ["", "1", "1:2", "a:1-1:0", "1:1-1:b", "1:x:0", "1:-1:0", "1:1-:0", "1:1-1:0:0", "-1:1-1:0"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="position"):
        place(text)


@pytest.mark.parametrize("text", ["", "x", "1-x", "-", "1-2-3"])
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="position"):
        cursor(text)


@given(st.binary(max_size=60))
def test_a_payload_is_as_it_came_and_can_be_shown(payload: bytes) -> None:
    assert content(reject(payload)) == payload
    text = shown(payload).replace("\n", "").replace("\t", "")
    assert text.isprintable()
    symbol_of(payload)
    assert told(reject(payload))["position"] == "2:17-3:5"


def test_the_symbol_is_read_where_there_is_one() -> None:
    assert symbol_of(b'{"symbol":"EURUSD","bid":"x"}') == "EURUSD"
    assert [symbol_of(raw) for raw in (b"", b"[]", b'{"symbol":5}', b"\xff", b"[" * 10**5, b"FRAME")] == [None] * 6
