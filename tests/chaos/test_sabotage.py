"""Each protection switched off in turn must show: `python -m pytest tests/chaos`, some minutes. Not among `make test`'s."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.sabotage import engine_without
from tests.chaos.storm import SABOTAGE, caught, storm

pytestmark = pytest.mark.sabotage


@pytest.mark.parametrize("way", SABOTAGE)
def test_engines_without_a_protection_are_found_out(tmp_path: Path, way: str) -> None:
    said = caught(way, tmp_path / "world", 1)
    print(said)
    assert said, f"engines without the {way} went through"


def test_late_answers_and_short_steps_change_nothing(tmp_path: Path) -> None:
    """What the copy at the cut and the tail check are for; without these they do, as `cut` and `tail` show."""
    kinds = ("kill engine", "replicas flicker")
    assert storm(tmp_path / "world", 1, 6, kinds, engine=engine_without("late"), pause_s=(4.0, 12.0))["signals"]
