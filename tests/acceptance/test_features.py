"""Features chosen in the configuration, bars and families of one's own, as a user drives them."""

from __future__ import annotations

import json
import shutil

import polars as pl
import pytest

from tests.acceptance.conftest import ROOT, Tocsin
from tests.unit.test_bars import walk

OWN = ROOT / "tests" / "families"
CHOSEN = '[features]\ntimeframes = "1m,5m"\nfamilies = "bid_moves.py, slow_bid_moves.py"\n'
URL = "redis+embedded://.tocsin/log"


@pytest.fixture
def choosing(ours: Tocsin) -> Tocsin:
    """A folder whose configuration names other features than its first bundle was trained on."""
    for file in OWN.glob("*.py"):
        shutil.copy(file, ours.folder)
    (ours.folder / "tocsin.toml").write_text(CHOSEN)
    return ours


def test_a_bundle_of_other_features_is_refused_until_one_is_trained_on_them(choosing: Tocsin) -> None:
    start = (choosing.folder / "start").read_text()
    choosing("replay", "both.parquet", "--from", start, code=5)
    assert "features_differ" in choosing.stderr
    assert choosing.json("train", "--ticks", "first.parquet", "--activate", "always")["version"] == "2"
    assert len(choosing.json("features", "list")["columns"]) == 36 + 14 + 2
    assert {column["name"] for column in choosing.json("features", "list")["columns"]} >= {"rsi_5m", "bid_move", "slow_bid_move"}


def test_live_equals_replayed_with_features_of_ones_own(choosing: Tocsin) -> None:
    """JSON ticks through an engine that is killed once; canonical bytes of the log's replay and of the file's."""
    choosing("train", "--ticks", "first.parquet", "--activate", "always")
    engine = choosing.start("run", "engine", "--warm", "first.parquet")
    choosing.wait_until_ready(engine)
    choosing("models", "activate", "champion")
    choosing("feed", "files", "second.parquet", "--speed", "max", "--frame", "100", "--to", _stamp(choosing, 0.5))
    engine.kill()
    engine.wait()
    engine = choosing.start("run", "engine")
    choosing.wait_until_ready(engine)
    choosing("feed", "files", "second.parquet", "--speed", "max", "--from", _stamp(choosing, 0.5), "--to", _stamp(choosing, 0.6))
    start, end = (choosing.folder / "start").read_text(), _stamp(choosing, 0.6)
    expected = choosing("replay", "both.parquet", "--from", start, "--to", end, "--canonical")
    assert expected.count("\n") > 100
    for _ in range(50):
        live = choosing("signals", "--canonical")
        if live.count("\n") >= expected.count("\n"):
            break
    assert live == expected


def _stamp(tocsin: Tocsin, part: float) -> str:
    """ns of the tick that so much of the second file lies before."""
    ts = pl.read_parquet(tocsin.folder / "second.parquet")["ts"].to_physical()
    return str(ts[int(part * len(ts))])


@pytest.mark.parametrize("name", ["bid_moves", "slow_bid_moves"])
def test_a_family_is_checked(choosing: Tocsin, name: str) -> None:
    verdict = choosing.json("features", "check", f"{name}.py")
    assert verdict["holds"]
    assert all(promise["holds"] for promise in verdict["promises"].values())
    assert "yes" in choosing("features", "check", f"{name}.py", "second.parquet")


def test_a_family_that_does_not_hold_ends_with_3(tocsin: Tocsin) -> None:
    (tocsin.folder / "bad.py").write_text(
        "from engine.features import Column, Family\nSEEN = []\n"
        "def step(state, real, seen, out):\n    SEEN.append(1)\n    out[0] = len(SEEN)\n"
        "FAMILY = Family('bad', 1, 0, (Column('bad', 'n', '', '1', '1 tick', 'every tick', '-'),))\n"
    )
    verdict = json.loads(tocsin("features", "check", "bad.py", "--json", code=3))
    assert not verdict["holds"]
    assert not verdict["promises"]["splits"]["holds"]


@pytest.mark.parametrize(("argv", "code", "said"), [
    (["features", "check"], 2, "check takes a family"), (["features", "check", "missing.py"], 2, "family_missing"),
    (["features", "list", "--set", "nonsense"], 2, "bars:LENGTH"), (["features", "list", "--set", "bars:1h"], 2, "bar_length"),
    (["features", "compute", "bars.parquet", "--out", "x.parquet"], 3, "move_10t"),
    (["features", "compute", "bars.parquet", "--out", "x.parquet", "--set", "bars:5m"], 3, "bars_grid"),
])
def test_what_can_not_be_done_is_told(tocsin: Tocsin, argv: list[str], code: int, said: str) -> None:
    walk(300).write_parquet(tocsin.folder / "bars.parquet")
    tocsin(*argv, code=code)
    assert said in tocsin.stderr
    assert not (tocsin.folder / "x.parquet").exists()


def test_bars_go_into_a_matrix(tocsin: Tocsin) -> None:
    walk(300).write_csv(tocsin.folder / "bars.csv")
    report = tocsin.json("features", "compute", "bars.csv", "--out", "x.parquet", "--set", "bars:1m")
    found = pl.read_parquet(tocsin.folder / "x.parquet")
    assert found.height == report["rows"] == 300
    assert found.columns[3:] == report["columns"]


def test_a_configuration_that_names_no_such_features_says_so(tocsin: Tocsin) -> None:
    for line, said in (('timeframes = "2m"', "timeframes"), ('families = "nothing.py"', "family_missing")):
        (tocsin.folder / "tocsin.toml").write_text(f"[features]\n{line}\n")
        tocsin("features", "list", code=2)
        assert said in tocsin.stderr
