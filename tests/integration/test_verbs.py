"""What verbs say to somebody who means something else: settings, holds, paths, names that look like markup."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.cli import main
from engine.errors import EXIT_DONE, EXIT_FAILED, EXIT_INPUT, EXIT_USAGE
from engine.partition import retention
from engine.registry.activate import activate
from engine.registry.controls import read_controls
from engine.registry.settings import in_force
from engine.terminal import table
from tests.engines import Site


@pytest.fixture
def site(tmp_path: Path, redis_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr("os.environ", {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})
    monkeypatch.chdir(tmp_path)
    site = Site(tmp_path, redis_dir)
    yield site
    site.close()


def tocsin(site: Site, *argv: str) -> int:
    return main([*argv, "--home", str(site.folder), "--transport", site.url])


# ---- settings

@pytest.mark.parametrize(("change", "doubt"), [
    ("weights.foo=1", "has no expert foo"), ("weights.two=0.5", ""), ("policy.buy=0.2", ""),
])
def test_a_weight_of_nobody_is_doubted(site: Site, change: str, doubt: str, capsys: pytest.CaptureFixture[str]) -> None:
    activate(site.log, site.registry, site.private, site.publish(1), "ann")
    assert tocsin(site, "settings", "set", change) == EXIT_DONE
    said = capsys.readouterr().err
    assert doubt in said
    assert ("bundle 1" in said) == bool(doubt)


def test_weights_that_leave_nobody_are_doubted(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    activate(site.log, site.registry, site.private, site.publish(1), "ann")
    assert tocsin(site, "settings", "set", "weights.one=0", "weights.two=0") == EXIT_DONE
    assert "no expert of bundle 1 would be left" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["policy.sell=0.5", "policy.buy=-0.1", "policy.buy=2", "weights.one=-1", "instruments=file"])
def test_what_makes_no_sense_is_refused_and_nothing_written(
    site: Site, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`instruments=file` where the configuration has no [instruments] would take every rule away."""
    assert tocsin(site, "settings", "set", change) == EXIT_USAGE
    said = capsys.readouterr()
    assert "→" in said.err
    assert said.out == ""
    assert site.verbs() == []


def test_settings_add_up(site: Site) -> None:
    for change in ("policy.cooldown_s=30", "policy.max_spread=2", "weights.one=2", "policy.cooldown_s="):
        assert tocsin(site, "settings", "set", change) == EXIT_DONE
    settings = in_force(read_controls(site.log, site.registry.public_key()))
    assert (settings.policy.cooldown_s, settings.policy.max_spread, settings.weights) == (None, 2.0, {"one": 2.0})


# ---- holds

@pytest.mark.parametrize("name", ["recorder.dead", "hold.recorder.dead"])
def test_a_hold_is_released_by_either_name(site: Site, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    site.log.post("hold.recorder.dead", retention.hold({0: (5, 1)}))
    assert tocsin(site, "log", "info", "--json") == EXIT_DONE
    assert json.loads(capsys.readouterr().out)["partitions"][0]["needed_by"] == ["recorder.dead"]
    assert tocsin(site, "log", "release", name) == EXIT_DONE
    assert site.log.posts("hold.") == {}
    assert tocsin(site, "log", "release", name) == EXIT_USAGE


# ---- paths and names

@pytest.mark.parametrize("argv", [["lake", "list"], ["doctor"], ["train"], ["run", "trainer"]])
def test_a_lake_that_is_no_folder_breaks_nothing(
    site: Site, argv: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    site.log.append(0, [b"no tick"])
    (site.folder / "file").write_text("")
    (site.folder / "tocsin.toml").write_text(f'[lake]\npath = "{site.folder / "file"}"\n[trainer]\nlisten = ""\n')
    assert tocsin(site, *argv) in ((EXIT_DONE, EXIT_FAILED) if argv == ["doctor"] else (EXIT_INPUT, EXIT_FAILED))
    said = capsys.readouterr()
    assert "this should not have happened" not in said.err
    assert str(site.folder / "file") in said.err + said.out


def test_a_trainer_of_unknown_experts_doesnt_start(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    (site.folder / "tocsin.toml").write_text('[trainer]\nexperts = "oracle"\n')
    assert tocsin(site, "run", "trainer") == EXIT_USAGE
    assert "expert_unknown" in capsys.readouterr().err

@pytest.mark.parametrize("below", ["", "below"])
def test_a_registry_that_is_no_folder_is_named(site: Site, below: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = site.folder / "file"
    file.write_text("")
    file /= below
    (site.folder / "tocsin.toml").write_text(f'[registry]\npath = "{file}"\n')
    for argv in (["models", "list"], ["settings", "show"], ["models", "activate", "1"]):
        assert tocsin(site, *argv) == EXIT_USAGE
        assert "registry_path" in capsys.readouterr().err


def test_what_looks_like_markup_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    table("[title]", ("[b]", "n"), [["[/b]", 1], ["raise [log] keep_mb", 2]])
    said = capsys.readouterr().out
    assert all(text in said for text in ("[title]", "[b]", "[/b]", "raise [log] keep_mb"))
