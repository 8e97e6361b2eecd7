"""Configuration: what overrides what, and that nothing unknown slips through."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine.config import load
from engine.errors import UsageError


def write(folder: Path, text: str) -> str:
    file = folder / "tocsin.toml"
    file.write_text(text)
    return str(file)


def test_flags_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = write(tmp_path, '[log]\ndeployment = "file"\npartitions = 2\n[engine]\nbatch = 7\n')
    config = load(file, {"TOCSIN_LOG_DEPLOYMENT": "env", "TOCSIN_ENGINE_BATCH": "9"}, {"engine.batch": 11, "home": None})
    assert (config.log.partitions, config.log.deployment, config.engine.batch, config.engine.lease_s) == (2, "env", 11, 3.0)
    assert config.origins == {"log.partitions": file, "log.deployment": "TOCSIN_LOG_DEPLOYMENT", "engine.batch": "flag"}


def test_paths_follow_home(tmp_path: Path) -> None:
    config = load(None, {"TOCSIN_HOME": str(tmp_path)}, {})
    assert config.registry_path == tmp_path / "registry"
    assert config.trust_path == tmp_path / "keys/public.pem"
    assert config.url == f"redis+embedded://{tmp_path / 'log'}"


@pytest.mark.parametrize(("text", "near"), [
    ("[log]\ntransprot = 'x'\n", "transport"), ("[logs]\ntransport = 'x'\n", "log"), ("[engine]\nlease = 1\n", "lease_s"),
])
def test_an_unknown_key_is_refused_with_the_nearest(tmp_path: Path, text: str, near: str) -> None:
    with pytest.raises(UsageError) as found:
        load(write(tmp_path, text), {}, {})
    assert found.value.code == "config_unknown"
    assert near in found.value.hint


def test_an_unknown_variable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as found:
        load(None, {"TOCSIN_ENGINE_BACTH": "1"}, {})
    assert "ENGINE_BATCH" in found.value.hint


def test_every_variable_without_a_section_is_known() -> None:
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    variables = re.findall(r"^\| `(TOCSIN_\w+)` \|", page, re.MULTILINE)
    assert "TOCSIN_FOREST" in variables
    load(None, dict.fromkeys(variables, "x"), {})


def test_a_verb_runs_with_the_way_of_forests_chosen(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "engine.cli", "features", "list"], env=os.environ | {"TOCSIN_FOREST": "portable"},
        capture_output=True, text=True, timeout=60, check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", [
    "[engine]\nbatch = 0\n", "[engine]\nbatch = 'many'\n", "[log]\npartitions = 0\n", "[log]\ndeployment = 'a b'\n",
    "not toml", "[instruments]\nEURUSD = {scale = 99}\n", "[instruments]\nEURUSD = {scael = 5}\n",
    "[instruments]\nEURUSD = {crossed = 'maybe'}\n", "[instruments]\nEURUSD = 5\n",
])
def test_values_that_can_not_be_meant_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError):
        load(write(tmp_path, text), {}, {})


def test_a_missing_file_is_refused_only_if_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    load(None, {}, {})
    with pytest.raises(UsageError):
        load("other.toml", {}, {})


def test_passwords_are_not_shown() -> None:
    config = load(None, {}, {"log.transport": "redis://me:s3cr%40t@host:6379/0"})
    assert config.shown_url == "redis://me:***@host:6379/0"
    assert "s3cr" not in config.shown_url


def test_instruments_come_from_the_file(tmp_path: Path) -> None:
    rules = load(write(tmp_path, '[instruments]\nclosed = true\n"*JPY" = {scale = 3}\nEURUSD = {}\n'), {}, {}).rules()
    jpy, eur = rules.get("USDJPY"), rules.get("EURUSD")
    assert jpy
    assert eur
    assert (jpy.scale, eur.scale, rules.get("GBPUSD")) == (3, 5, None)
