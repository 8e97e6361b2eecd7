"""The JSON Schemas in docs/schemas, made from the types that encode and decode: `make schemas` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from engine.export import schema as export_schema
from engine.manifest import Manifest
from engine.wire import journal
from engine.wire.records import schemas

FOLDER = Path(__file__).parent.parent / "docs" / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def documents() -> dict[str, str]:
    """File name -> its text."""
    kinds: dict[str, dict[str, Any]] = {
        **schemas(), "journal": journal.schema(), "manifest": msgspec.json.schema(Manifest), "export": export_schema(),
    }
    return {
        f"{name}.json": json.dumps({"$schema": DIALECT, **schema}, indent=2, ensure_ascii=False) + "\n"
        for name, schema in kinds.items()
    }


if __name__ == "__main__":
    for name, text in documents().items():
        (FOLDER / name).write_text(text)
