"""docs/configuration.md and docs/metrics.md: up to date with the types and collectors they are made from."""

from __future__ import annotations

import runpy
from pathlib import Path

import msgspec
import pytest

from engine.config import SECTIONS, Config

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["configuration", "metrics", "features"])
def test_up_to_date(name: str) -> None:
    made: str = runpy.run_path(str(ROOT / "deploy" / f"{name}.py"))["document"]()
    assert (ROOT / "docs" / f"{name}.md").read_text() == made, "run `make schemas`"


def test_every_key_of_the_configuration_is_told() -> None:
    """A field without a docstring under it would be left out."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    for section in SECTIONS:
        told = text.partition(f"\n## [{section}]\n")[2].partition("\n## ")[0]
        for field in msgspec.structs.fields(type(getattr(Config(), section))):
            assert f"| `{field.name}` |" in told, f"[{section}] {field.name} has no docstring"
