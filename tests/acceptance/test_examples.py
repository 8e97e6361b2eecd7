"""The examples of docs/examples, run as a user would."""

from __future__ import annotations

import subprocess

from tests.acceptance.conftest import ROOT, Tocsin


def _run(tocsin: Tocsin, *argv: object) -> str:
    """In the user's folder, with the installed command first on PATH."""
    path = f"{tocsin.command.parent}:{tocsin.environ['PATH']}"
    done = subprocess.run(
        [str(word) for word in argv], cwd=tocsin.folder, timeout=400, capture_output=True, text=True,
        env=tocsin.environ | {"PATH": path, "PYTHON": str(tocsin.command.with_name("python"))},
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    return done.stdout


def test_paper_beside_live(tocsin: Tocsin) -> None:
    _run(tocsin, "sh", ROOT / "docs/examples/paper_beside_live.sh")
    live, paper = (
        tocsin("signals", "--json", *which, "--transport", "redis+embedded://.tocsin/log").splitlines()
        for which in ((), ("--deployment", "paper"))
    )
    assert len(paper) > len(live) > 100
    assert all('"bundle":"1"' in line and '"deployment":"main"' in line for line in live)
    assert all('"bundle":"2"' in line and '"deployment":"paper"' in line for line in paper)
    assert not any('"reason":"paused"' in line for line in live)
    assert any('"reason":"paused"' in line for line in paper)


def test_from_libraries(tocsin: Tocsin) -> None:
    said = _run(tocsin, tocsin.command.with_name("python"), ROOT / "docs/examples/from_libraries.py")
    for name in ("lightgbm", "xgboost", "xgboost_rf", "xgboost_dart", "catboost", "catboost_alt"):
        assert f"{name}: " in said
    assert "the first row's mean of all" in said


def test_import_model(tocsin: Tocsin) -> None:
    _run(tocsin, "sh", ROOT / "docs/examples/import_model.sh")
    assert tocsin.json("models", "list")[0]["experts"]
    assert any((tocsin.folder / "exported").rglob("*.txt"))


def test_attributions(ours: Tocsin) -> None:
    registry = ours.folder / ".tocsin/registry"
    said = _run(
        ours, ours.command.with_name("python"), ROOT / "docs/examples/attributions.py", registry,
        ours.folder / ".tocsin/keys/public.pem", "second.parquet", "1",
    )
    assert said.count("margin of buy") == 1
    assert len(said.splitlines()) == 6
