"""Servers that integration tests run on: each that is here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.servers import Server, found

SERVERS = found()


@pytest.fixture(params=list(SERVERS) or ["none"])
def executable(request: pytest.FixtureRequest, missing: Callable[[str], NoReturn]) -> str:
    """Of a Redis or Valkey server; a test that asks for it runs on each that is here."""
    if request.param not in SERVERS:
        missing("no Redis or Valkey server is here")
    return SERVERS[request.param]


@pytest.fixture
def host(executable: str, tmp_path: Path) -> Iterator[Server]:
    """A server of one's own, with an append-only file."""
    with Server(executable, tmp_path / "host", "--appendonly", "yes") as server:
        yield server
