"""A function in a process of its own: its answer, whatever it prints; its end, and its parent's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from engine.errors import TocsinError
from trainers.family import ChildEnded, alone

ROOT = Path(__file__).parents[2]


def test_the_answer(capfd: pytest.CaptureFixture[str]) -> None:
    assert alone(divmod, 7, 2) == (3, 1)
    assert alone(print, "said by a library") is None
    assert capfd.readouterr().out == ""


def test_what_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        alone(divmod, 7, 0)


def test_its_end() -> None:
    with pytest.raises(ChildEnded):
        alone(os._exit, 0)
    with pytest.raises(ChildEnded):
        alone(os.abort)


def test_one_that_never_began_has_not_ended_on_what_it_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trainers.py").write_text("raise ImportError('no such luck')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TocsinError) as refused:
        alone(divmod, 7, b"x" * 10_000_000)
    assert refused.value.code == "no_child"
    assert "no such luck" in capfd.readouterr().err


@pytest.mark.parametrize("file", [True, False], ids=["a file", "from standard input"])
def test_a_script_without_a_guard(file: bool, tmp_path: Path) -> None:
    script = "from trainers.family import alone; print(alone(divmod, 7, 2))"
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, *([tmp_path / "script.py"] if file else ["-"])], input="" if file else script, capture_output=True,
        text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "(3, 1)\n"), done.stderr


def test_it_ends_with_its_parent() -> None:
    script = "from trainers.family import alone; alone(exec, 'import time; time.sleep(600)')"
    with subprocess.Popen([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(ROOT)}) as parent:
        deadline = time.monotonic() + 30
        while not (children := psutil.Process(parent.pid).children()) and time.monotonic() < deadline:
            time.sleep(0.01)
        parent.kill()
    (child,) = children
    while lives(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not lives(child)


def lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
