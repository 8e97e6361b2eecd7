"""The product as a user has it: the wheel, built from this folder and installed elsewhere, driven by its commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.files import write_ticks
from tests.made import made_ticks

ROOT = Path(__file__).parents[2]
WARM, LIVE = 60_000, 20_000


class Tocsin:
    """The installed command in a folder of its own."""

    def __init__(self, command: Path, folder: Path) -> None:
        self.command = command
        self.folder = folder
        self.running: list[subprocess.Popen[bytes]] = []
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith("TOCSIN_") and k != "PYTHONPATH"}
        self.environ |= {"TOCSIN_ENGINE_LISTEN": "", "TOCSIN_TRAINER_LISTEN": ""}      # several on one machine

    def __call__(self, *argv: object, code: int = 0, environ: dict[str, str] | None = None) -> str:
        """Run to the end; stdout. Fails the test on another exit code, or on a traceback in the user's face."""
        done = subprocess.run(
            [self.command, *map(str, argv)], cwd=self.folder, env=self.environ | (environ or {}), capture_output=True,
            timeout=300,
        )
        said = done.stderr.decode(errors="replace")
        assert done.returncode == code, f"{argv}: exit {done.returncode}, {code} expected\n{said}"
        assert "Traceback" not in said, said
        self.stderr = said
        return done.stdout.decode()

    def json(self, *argv: object, **options: Any) -> Any:
        return json.loads(self(*argv, "--json", **options))

    def start(self, *argv: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [self.command, *map(str, argv)], cwd=self.folder, env=self.environ, stdout=subprocess.PIPE,
            stderr=(self.folder / f"{argv[0]}-{len(self.running)}.log").open("wb"),
        )
        self.running.append(process)
        return process

    def wait_until_ready(self, engine: subprocess.Popen[bytes]) -> None:
        self.wait_until_said(engine, "ready:")

    def wait_until_said(self, engine: subprocess.Popen[bytes], words: str) -> None:
        said = self.folder / f"run-{self.running.index(engine)}.log"
        deadline = time.monotonic() + 120
        while words.encode() not in said.read_bytes():
            assert engine.poll() is None, said.read_text()
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.05)

    def end(self) -> None:
        """Stop what still runs, as a user would; what doesn't hear it is killed."""
        for process in self.running:
            if process.poll() is None:
                process.terminate()
        for process in self.running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `tocsin` script of the wheel, in an environment that borrows this one's libraries but not this folder."""
    folder = tmp_path_factory.mktemp("installed")
    run = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*run, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv/bin/python"
    wheel = next(folder.glob("tocsin-*.whl"))
    subprocess.run([*run, "--python", python, "install", "--no-deps", "--no-compile", wheel], check=True)
    home = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], check=True, capture_output=True, text=True
    ).stdout.strip()
    Path(home, "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = subprocess.run(
        [python, "-c", "import engine; print(engine.__file__)"], check=True, capture_output=True, text=True, cwd=folder
    ).stdout
    assert str(folder) in where, f"the wheel isn't what is imported: {where}"
    return folder / "venv/bin/tocsin"


@pytest.fixture
def tocsin(installed: Path, tmp_path: Path) -> Iterator[Tocsin]:
    command = Tocsin(installed, tmp_path)
    yield command
    command.end()
    assert not left_behind(tmp_path), "a process was left behind"


@pytest.fixture(scope="session")
def prepared(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tick files, keys and a first bundle."""
    folder = tmp_path_factory.mktemp("prepared")
    made = made_ticks(WARM + LIVE, symbols=3, rate=0.5)
    for name, ticks in (("first", made[:WARM]), ("second", made[WARM:]), ("both", made)):
        write_ticks(ticks, folder / f"{name}.parquet")
    (folder / "start").write_text(str(int(made.ts[WARM])))
    tocsin = Tocsin(installed, folder)
    report = tocsin.json("train", "--ticks", "first.parquet", "--activate", "always")
    assert report["version"] == "1"
    assert report["activated"]
    return folder


@pytest.fixture
def ours(tocsin: Tocsin, prepared: Path) -> Tocsin:
    """The prepared folder's content, in a folder of this test's own."""
    shutil.copytree(prepared, tocsin.folder, dirs_exist_ok=True)
    return tocsin


def left_behind(folder: Path) -> list[str]:
    """Command lines of processes that still name the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words:
            found.append(words)
    return found
