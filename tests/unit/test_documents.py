"""Pages and pictures of docs/ that are made: up to date with the types, collectors and columns they are made from."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import msgspec
import pytest

from engine.config import SECTIONS, Config
from engine.features import FeatureSet

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["configuration", "metrics", "features", "experts"])
def test_up_to_date(name: str) -> None:
    made: str = runpy.run_path(str(ROOT / "deploy" / f"{name}.py"))["document"]()
    assert (ROOT / "docs" / f"{name}.md").read_text() == made, "run `make schemas`"


def test_pictures_are_up_to_date() -> None:
    made: dict[str, str] = runpy.run_path(str(ROOT / "deploy" / "pictures.py"))["documents"]()
    there = {file.name: file.read_text() for file in (ROOT / "docs" / "features").iterdir()}
    assert not {name for name in made | there if made.get(name) != there.get(name)}, "run `make schemas`; is one left over?"


def test_every_column_is_pictured_once_on_its_page() -> None:
    page = (ROOT / "docs" / "features.md").read_text()
    shown = [ROOT / "docs" / link for link in re.findall(r"!\[\w+\]\((\S+\.svg)\)", page)]
    names = [name for file in shown for name in re.findall(r'<text class="name"[^>]*>(\w+)<', file.read_text()) if name != "mid"]
    assert sorted(names) == sorted(FeatureSet.default().names)


def test_every_key_of_the_configuration_is_told() -> None:
    """A field without a docstring under it would be left out."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    for section in SECTIONS:
        told = text.partition(f"\n## [{section}]\n")[2].partition("\n## ")[0]
        for field in msgspec.structs.fields(type(getattr(Config(), section))):
            assert f"| `{field.name}` |" in told, f"[{section}] {field.name} has no docstring"
