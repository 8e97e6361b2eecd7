"""docs/schemas: up to date with the types, valid JSON Schema, and true of what we publish."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from engine.instruments import Instrument
from engine.types import REASONS, SIDES, Code, Position, Refused, TickBatch
from engine.wire.records import Decisions, Stamp, encode_rejects, encode_signals

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "schemas"
DOCUMENTS: dict[str, str] = runpy.run_path(str(ROOT / "deploy" / "schemas.py"))["documents"]()


def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / name).read_text())
    return loaded


def valid(name: str, record: Any) -> None:
    jsonschema.Draft202012Validator(schema(name)).validate(record)


def signals() -> list[dict[str, Any]]:
    """Two published signals: an ordinary one, and one before sigma is known."""
    ticks = TickBatch(
        [Instrument("EUR/USD", scale=5)], sid=np.zeros(2, np.int64), ts=np.array([1, 2]) * 10**18,
        bid=np.array([110_001, 110_002]), ask=np.array([110_003, 110_004]),
    )
    p = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]], np.float32)
    decisions = Decisions(
        ticks, horizon=np.array([60.0, np.nan]), width=np.array([12.0, np.nan]), votes=p[:, None, :].copy(),
        probabilities=p, disagreement=np.zeros(2, np.float32), side=np.array([0, 2]), reason=np.array([1, 0]),
        nth=np.array([0, 0]),
    )
    stamp = Stamp("main", 0, 1, "1", "f", ["lightgbm"], received=1, decided=2, published=3)
    return [json.loads(record) for record in encode_signals(decisions, stamp, ['"5-0"', "7"])]


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_up_to_date(name: str) -> None:
    assert (FOLDER / name).read_text() == DOCUMENTS[name], "run `make schemas`"


def test_nothing_else_is_published() -> None:
    assert {file.name for file in FOLDER.iterdir()} == set(DOCUMENTS)


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_is_a_schema(name: str) -> None:
    document = schema(name)
    jsonschema.Draft202012Validator.check_schema(document)
    assert "$id" not in document, "an address would be a promise to keep the file there"


def test_signals_hold() -> None:
    for signal in signals():
        valid("signal.json", signal)


@pytest.mark.parametrize(
    ("key", "value"),
    [("side", "hold"), ("reason", "because"), ("probabilities", [0.5, 0.5]), ("licence", True), ("ts", "now")],
)
def test_other_signals_do_not(key: str, value: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        valid("signal.json", {**signals()[0], key: value})


def test_every_field_of_a_signal_is_required() -> None:
    whole = signals()[0]
    for key in whole:
        with pytest.raises(jsonschema.ValidationError):
            valid("signal.json", {k: v for k, v in whole.items() if k != key})


def test_the_schema_knows_every_side_and_reason() -> None:
    properties = schema("signal.json")["$defs"]["Signal"]["properties"]
    assert set(properties["side"]["enum"]) == set(SIDES)
    assert set(properties["reason"]["enum"]) == set(REASONS)


@pytest.mark.parametrize("payload", [b'{"symbol": 1}', b"\xff\x00"])
def test_rejects_hold(payload: bytes) -> None:
    refused = Refused(Position((5, 0), 0), Code.MALFORMED, payload)
    valid("reject.json", json.loads(encode_rejects([refused], 0, 1, ['"5-0"'])[0]))
