"""Which transport answers for a URL: ours, another package's, none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from engine import transports
from engine.errors import UsageError
from engine.transports import create_log, open_log

TOY = """
from engine.transports.memory import MemoryLog

def open_log(url, deployment, create, rules):
    return MemoryLog(7, deployment)

def create_log(url, partitions, rules):
    return MemoryLog(partitions)
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a package lies that names transports."""
    (tmp_path / "toy_transport.py").write_text(TOY)
    (tmp_path / "toy-1.0.dist-info").mkdir()
    (tmp_path / "toy-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "toy-1.0.dist-info" / "entry_points.txt"


@pytest.mark.parametrize("url", ["kafkaesque://host", "", "here", "redis", "REDIS://host", "://x"])
def test_an_unknown_scheme_is_refused_with_the_known_ones(url: str) -> None:
    with pytest.raises(UsageError, match="transport_unknown") as caught:
        open_log(url)
    for scheme in transports.SCHEMES:
        assert f"{scheme}://" in caught.value.hint


def test_another_package_can_bring_one(installed: Path) -> None:
    installed.write_text("[tocsin.transport]\ntoy = toy_transport\n")
    assert open_log("toy://x", deployment="paper").partitions == 7
    assert open_log("toy://x", deployment="paper").deployment == "paper"
    assert create_log("toy://x", 3).partitions == 3
    with pytest.raises(UsageError, match="toy://"):
        open_log("other://x")


def test_a_name_of_ours_is_refused(installed: Path) -> None:
    installed.write_text("[tocsin.transport]\nredis = toy_transport\n")
    with pytest.raises(UsageError, match="transport_clash"):
        open_log("redis://127.0.0.1:1")


@pytest.mark.parametrize("name", ["", "a b", "a{0}", "x" * 65, "é"])
def test_a_deployments_name_must_fit_a_key(name: str) -> None:
    with pytest.raises(UsageError, match="deployment_name"):
        open_log("memory://", deployment=name, create=1)


def test_partitions_are_one_at_least() -> None:
    for partitions in (0, -1):
        with pytest.raises(UsageError, match="partitions"):
            create_log("memory://none", partitions)
        with pytest.raises(UsageError, match="partitions"):
            open_log("memory://none", create=partitions)


def test_an_embedded_server_needs_a_folder() -> None:
    with pytest.raises(UsageError, match="transport_url"):
        open_log("redis+embedded://", create=1)


def test_no_transport_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys; import engine.transports as t; assert 'redis' not in sys.modules; "
        "t.open_log('memory://', create=1); assert 'redis' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
