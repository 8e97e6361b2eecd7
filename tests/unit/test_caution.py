"""What ended every engine: how it is found out, from the epoch trace and what owners announced."""

from __future__ import annotations

import pytest

from engine.partition.caution import ROWS, Act, Caution, fruitless
from engine.transports.base import Tenure
from engine.types import Position

AT = Position((7, 1), 3)


def tenure(epoch: int, tail: int, owner: str = "a", checkpoint: str = "c") -> Tenure:
    return Tenure(epoch, owner, Position((tail, 0), 0), checkpoint, epoch)


def test_owners_that_came_no_further_are_counted_up_to_one_that_did() -> None:
    assert fruitless([]) == fruitless([tenure(1, 5)]) == 0
    assert fruitless([tenure(1, 4), tenure(2, 5), tenure(3, 5), tenure(4, 5)]) == 2
    assert fruitless([tenure(1, 5), tenure(2, 5), tenure(3, 6)]) == 0


def test_a_checkpoint_is_progress_and_who_gave_up_suffered_nothing() -> None:
    assert fruitless([tenure(1, 5), tenure(2, 5, checkpoint="d")]) == 0
    assert fruitless([tenure(1, 5), tenure(1, 5, owner=""), tenure(2, 5)]) == 0


class Life:
    """One owner after the other; what the last one announced stays."""

    marked = b""
    lives = 0
    survived: tuple[str, ...] = ()

    def caution(self, fruitless: int = 1) -> Caution:
        def say(what: bytes) -> None:
            self.marked = what

        self.lives += 1
        trace = [tenure(n, 5) for n in range(fruitless + 1)]
        return Caution(trace, self.marked, (5, 0), say, str(self.lives), lambda life: life in self.survived)


def test_who_dies_in_two_careful_lives_of_the_same_is_guilty() -> None:
    life = Life()
    for lives in range(3):
        caution = life.caution()
        assert caution.guilty(AT) == ("row" if lives == 2 else None), lives
        caution.try_(AT._replace(ordinal=2), "row")
        caution.try_(AT, "row")


@pytest.mark.parametrize(("first", "then"), [
    (AT, AT._replace(ordinal=4)), (AT, AT._replace(cursor=(7, 2))),
])
def test_deaths_in_different_places_prove_nothing(first: Position, then: Position) -> None:
    life = Life()
    for at in (first, then, first, then):
        caution = life.caution()
        assert not caution.guilty(first)
        assert not caution.guilty(then)
        caution.try_(at, "row")


def test_nor_do_deaths_in_different_acts() -> None:
    life = Life()
    acts: list[Act] = ["row", "ask", "row", "ask"]
    for act in acts:
        caution = life.caution()
        assert not caution.guilty(AT)
        caution.try_(AT, act)


def test_a_life_that_ends_before_it_gets_there_changes_nothing() -> None:
    life = Life()
    life.caution().try_(AT, "ask")
    life.caution()
    life.caution().try_(AT, "ask")
    assert life.caution().guilty(AT) == "ask"


def test_care_begins_where_owners_died_without_progress_and_ends_when_the_trouble_is_behind() -> None:
    life = Life()
    assert not life.caution(fruitless=0).on
    caution = life.caution()
    assert caution.at((5, 0))
    assert not caution.at((4, 9)), "decisions behind it were published: it harmed nobody"
    caution.try_(AT, "row")
    caution.passed(ROWS - 1)
    assert caution.on
    caution.passed(1)
    assert not caution.on
    caution.rest()
    assert life.marked == b"", "what was announced didn't end us"


def test_what_an_owner_left_announced_is_enough_to_be_careful() -> None:
    life = Life()
    life.caution().try_(AT, "row")
    caution = life.caution(fruitless=0)
    assert caution.on
    caution.over()
    assert not caution.on
    assert not life.caution(fruitless=0).on


def test_what_another_version_announced_is_nothing() -> None:
    life = Life()
    life.marked = b'{"what": "else"}'
    assert not life.caution(fruitless=0).on


def test_a_life_that_lost_the_log_and_lives_on_died_of_nothing() -> None:
    life = Life()
    life.survived = ("1", "2", "4")
    for _ in range(4):
        caution = life.caution()
        assert not caution.guilty(AT)
        caution.try_(AT, "control")
    assert not life.caution().guilty(AT), "only the third is dead"
