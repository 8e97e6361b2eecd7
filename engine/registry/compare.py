"""How two bundles differ, by their manifests. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from ..manifest import Manifest

_ALWAYS = ("format", "version", "golden", "files")
"""Differ between any two bundles, or follow from what else does."""


class Difference(NamedTuple):
    """One thing that isn't the same; None on the side that hasn't got it."""

    what: str
    a: Any
    b: Any


def differences(a: Manifest, b: Manifest) -> list[Difference]:
    """In the order of the manifest, only what differs."""
    one, other = _told(a), _told(b)
    keys = dict.fromkeys([*one, *other])
    return [Difference(key, one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)]


def _told(manifest: Manifest) -> dict[str, Any]:
    """Every leaf by its path."""
    content = {key: value for key, value in msgspec.to_builtins(manifest).items() if key not in _ALWAYS}
    content["features"]["columns"] = dict.fromkeys(content["features"].pop("names"), "there")
    content["experts"] = {
        expert["name"]: {key: value for key, value in expert.items() if key not in ("name", "file")}
        for expert in content["experts"]
    }
    return dict(_leaves("", content))


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(f"{path}.{key}" if path else key, inner)
    else:
        yield path, value
