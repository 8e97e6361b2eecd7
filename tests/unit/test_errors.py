"""The tree of errors: every class has its exit, every code one class, every raise says what to do."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import engine
import trainers
from engine import errors, types
from engine.errors import EXITS, InputRefused, TocsinError

SOURCES = [file for package in (engine, trainers) for folder in package.__path__ for file in Path(folder).rglob("*.py")]


def tree(root: type[TocsinError] = TocsinError) -> Iterator[type[TocsinError]]:
    yield root
    for branch in root.__subclasses__():
        yield from tree(branch)


CLASSES = [c for c in tree() if c.__module__ == errors.__name__]
NAMES = {c.__name__ for c in CLASSES}


def raised() -> Iterator[tuple[str, ast.Call]]:
    """(file:line, call) of every place that makes one of these errors."""
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text(), str(file))):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in NAMES:
                    yield f"{file}:{node.lineno}", node


def test_each_class_has_an_exit_of_its_own_and_each_exit_a_meaning() -> None:
    exits = [c.exit for c in CLASSES]
    assert len(set(exits)) == len(exits)
    assert set(exits) | {errors.EXIT_DONE, errors.EXIT_INTERRUPTED} == set(EXITS)
    assert {value for name, value in vars(errors).items() if name.startswith("EXIT_")} == set(EXITS)
    assert all(EXITS.values())
    assert len(set(EXITS.values())) == len(EXITS)


def test_the_drawing_is_the_tree() -> None:
    drawn = dict(re.findall(r"(\w+)\s+exit (\d+)", errors.__doc__ or ""))
    assert drawn == {c.__name__: str(c.exit) for c in CLASSES}


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_says_what_is_wrong_and_what_to_do(kind: type[TocsinError]) -> None:
    error = kind("some_code", "the tick is late", hint="sort the file")
    assert error.code == "some_code"
    assert str(error) == "the tick is late [some_code]\n  → sort the file"
    assert str(kind("some_code", "the tick is late")) == "the tick is late [some_code]"
    assert isinstance(error, TocsinError)


def test_refused_input_is_a_value_error() -> None:
    """For whoever expects what sklearn and numpy raise."""
    assert {c.__name__ for c in CLASSES if issubclass(c, ValueError)} == {InputRefused.__name__}


def test_every_code_is_a_word_and_belongs_to_one_class() -> None:
    classes = defaultdict(set)
    for place, call in raised():
        code = call.args[0]
        if isinstance(code, ast.Constant):
            assert re.fullmatch(r"[a-z][a-z0-9_]*", str(code.value)), place
            classes[code.value].add(ast.unparse(call.func))
    assert len(classes) > 10
    assert {code: kinds for code, kinds in classes.items() if len(kinds) > 1} == {}


def test_every_error_has_a_hint() -> None:
    assert [place for place, call in raised() if "hint" not in [keyword.arg for keyword in call.keywords]] == []


def test_refusal_codes_are_unique_words() -> None:
    values = [str(code) for code in types.Code.__members__.values()]
    assert len(values) == len(set(values)) == len(types.Code)
    assert all(re.fullmatch(r"[a-z]+", value) for value in values)
