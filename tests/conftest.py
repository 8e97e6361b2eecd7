"""What every test may use: folders whose embedded server is gone afterwards, and services that may be missing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import NoReturn

import pytest


@pytest.fixture(scope="session")
def missing() -> Callable[[str], NoReturn]:
    """For a service that isn't here: on somebody's machine the test is skipped, in CI it fails."""

    def without(service: str) -> NoReturn:
        if os.environ.get("CI"):
            pytest.fail(f"{service}: CI must have it")
        pytest.skip(service)

    return without


@pytest.fixture
def redis_dir(tmp_path: Path, missing: Callable[[str], NoReturn]) -> Iterator[Path]:
    """A folder for `redis+embedded://`; fails the test if a server still lives in it afterwards."""
    from engine.errors import DeviceMissing
    from engine.redis_server import redis_executable

    try:
        redis_executable()
    except DeviceMissing as error:
        missing(error.args[0])
    folder = tmp_path / "redis"
    yield folder
    if (folder / "redis.server").exists():
        with open(folder / "redis.server") as server:
            for _ in range(100):
                try:
                    flock(server, LOCK_EX | LOCK_NB)
                    return
                except BlockingIOError:
                    time.sleep(0.01)
        pytest.fail(f"a server or its guard still lives in {folder}")
