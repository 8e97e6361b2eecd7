"""Fits side by side in processes of their own: what a crash costs, who waits for whom, and what is left behind."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest

from engine.cli import main
from engine.errors import TocsinError
from engine.files import write_ticks
from tests.contract.test_expert import DATA
from tests.engines import wait_for
from tests.experts import installed
from tests.made import made_ticks
from trainers import experts, fit
from trainers.fit import Fits, Rows, plan

ROOT = Path(__file__).parents[2]
ROWS = Rows(DATA.X, DATA.y.astype(np.int64), np.ones(len(DATA.y)), DATA.times, DATA.times)


@pytest.fixture
def strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(installed(tmp_path / "strangers"))
    experts._experts.cache_clear()
    yield tmp_path / "strangers"
    experts._experts.cache_clear()


def left() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob(f"{fit._FOLDER}{os.getpid()}-*"))


def test_a_crash_costs_one_expert(strangers: Path) -> None:
    told: list[tuple[str, int, int]] = []
    with Fits(["deadly", "xgboost", "failing", "lightgbm"], "lean", 2) as fits:
        fitted, failed = fits.run(ROWS, lambda *progress: told.append(progress))
        assert not multiprocessing.active_children()
    assert [f.name for f in fitted] == ["lightgbm", "xgboost"]
    assert all(f.parity <= fit.PARITY for f in fitted)
    assert {f.name: f.error.code for f in failed} == {"deadly": "fit_died", "failing": "fit_failed"}
    assert "SIGSEGV" in str({f.name: f.error for f in failed}["deadly"])
    assert {name for name, _, _ in told} == {"lightgbm", "xgboost"}
    assert not left()


def test_a_child_killed_while_it_sends_costs_one_expert(strangers: Path) -> None:
    with Fits(["cut", "lightgbm"], "lean", 2) as fits:
        fitted, failed = fits.run(ROWS, lambda *progress: None)
    assert [f.name for f in fitted] == ["lightgbm"]
    assert [(f.name, f.error.code) for f in failed] == [("cut", "fit_died")]
    assert "SIGKILL" in str(failed[0].error)


def test_where_none_stands_its_error_is_raised(strangers: Path) -> None:
    with Fits(["deadly"], "lean", 1) as fits, pytest.raises(TocsinError, match="SIGSEGV") as died:
        fits.run(ROWS, lambda *progress: None)
    assert died.value.code == "fit_died"
    assert not left()


def test_only_one_fit_at_a_time_on_a_gpu(strangers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTES", str(tmp_path))
    with Fits(["first", "second", "xgboost_rf"], "lean", 4) as fits:
        fitted, failed = fits.run(ROWS, lambda *progress: None)
    assert (len(fitted), failed) == (3, [])
    first, second = sorted((tmp_path / name).read_text().split() for name in ("first", "second"))
    assert float(first[1]) <= float(second[0])
    assert first[2:] == second[2:] == ["gpu", "0"]


def test_side_by_side_as_one_by_one() -> None:
    """Neither the others nor the order change a fit."""
    names = ["catboost", "xgboost_dart", "lightgbm"]
    with Fits(names, "lean", 1) as fits:
        one_by_one, _ = fits.run(ROWS, lambda *progress: None)
    with Fits(names[::-1], "lean", 3) as fits:
        together, _ = fits.run(ROWS, lambda *progress: None)
    assert [f.name for f in one_by_one] == ["lightgbm", "xgboost_dart", "catboost"]
    assert [f.served for f in one_by_one] == [f.served for f in together]


@pytest.mark.parametrize(("threads", "wanted"), [(1, [1, 1, 1]), (2, [1, 1, 1]), (3, [1, 1, 1]), (8, [3, 3, 2])])
def test_the_threads_of_those_at_once_are_the_budget(threads: int, wanted: list[int]) -> None:
    planned = plan(["lightgbm", "xgboost_dart", "xgboost"], threads)
    assert [name for name, _, _ in planned] == ["xgboost_dart", "xgboost", "lightgbm"]
    assert [idx for _, idx, _ in planned] == [4, 2, 1]
    assert [share for _, _, share in planned] == wanted
    assert sum(wanted[:threads]) == threads


def test_a_killed_training_leaves_rows_until_the_next(strangers: Path, tmp_path: Path) -> None:
    program = (
        "from tests.integration.test_fits import ROWS\nfrom trainers.fit import Fits\n"
        "if __name__ == '__main__': Fits(['slow'], 'lean', 1).run(ROWS, print)\n"
    )
    (tmp_path / "training.py").write_text(program)
    begun = tmp_path / "begun"
    environ = os.environ | {"BEGUN": str(begun), "PYTHONPATH": f"{strangers}:{ROOT}"}
    training = subprocess.Popen([sys.executable, str(tmp_path / "training.py")], env=environ)
    wait_for(begun.exists, "the fit hasn't begun")
    children = psutil.Process(training.pid).children()
    assert children
    training.send_signal(signal.SIGKILL)
    training.wait()
    wait_for(lambda: not any(child.is_running() for child in children), "the fits outlive their training")
    [folder] = Path(tempfile.gettempdir()).glob(f"{fit._FOLDER}{training.pid}-*")
    with fit._folder(ROWS) as own:
        assert not folder.exists()
        kept = fit._rows(str(own))
        assert isinstance(kept.matrix, np.memmap)
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(kept, ROWS, strict=True))
    assert not own.exists()


def test_the_rows_of_a_training_that_lives_are_nobody_s_to_remove() -> None:
    """Whatever its process is called here: in a container that shares the folder it has another number."""
    folder = Path(tempfile.mkdtemp(prefix=f"{fit._FOLDER}{2**31 - 2}-"))
    with fit._locked(folder):
        with fit._folder(ROWS):
            assert folder.exists()
        assert folder.exists()
    with fit._folder(ROWS):
        assert not folder.exists()


def test_where_only_one_class_was_seen_a_bundle_has_no_library_s_file(tmp_path: Path) -> None:
    write_ticks(made_ticks(40_000, rate=1.0), tmp_path / "ticks.parquet")
    stamps = pl.read_parquet(tmp_path / "ticks.parquet")[500::20].select("symbol", "ts")
    neutral = stamps.with_columns(end=pl.col("ts") + pl.duration(seconds=1), label=pl.lit(0, pl.Int8))
    neutral.write_parquet(tmp_path / "labels.parquet")
    home = tmp_path / "home"
    assert main([
        "train", "--ticks", str(tmp_path / "ticks.parquet"), "--labels", str(tmp_path / "labels.parquet"), "--activate", "manual",
        "--home", str(home),
    ]) == 0
    assert {file.name for file in (home / "registry/1").iterdir()} == {"manifest.json", "manifest.sig", "lightgbm.npz"}


def test_the_bundle_is_made_of_those_that_stood(strangers: Path, tmp_path: Path) -> None:
    write_ticks(made_ticks(60_000, rate=1.0), tmp_path / "ticks.parquet")
    environ = {k: v for k, v in os.environ.items() if not k.startswith("TOCSIN_")} | {"PYTHONPATH": f"{strangers}:{ROOT}"}
    command = [
        sys.executable, "-m", "engine.cli", "train", "--ticks", str(tmp_path / "ticks.parquet"), "--experts", "deadly,lightgbm",
        "--activate", "always", "--home", str(tmp_path / "home"), "--json",
    ]
    done = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["failed"].keys() == {"deadly"}
    assert "SIGSEGV" in report["failed"]["deadly"]
    assert "without deadly" in report["why"]
    manifest = json.loads((tmp_path / "home/registry/1/manifest.json").read_text())
    assert [expert["name"] for expert in manifest["experts"]] == ["lightgbm"]
    assert manifest["experts"][0]["weight"] == 1.0
