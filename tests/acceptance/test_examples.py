"""The examples of docs/examples, run as a user would."""

from __future__ import annotations

import subprocess

from tests.acceptance.conftest import ROOT, Tocsin


def test_paper_beside_live(tocsin: Tocsin) -> None:
    path = f"{tocsin.command.parent}:{tocsin.environ['PATH']}"
    done = subprocess.run(
        ["sh", ROOT / "docs/examples/paper_beside_live.sh"], cwd=tocsin.folder, timeout=400, capture_output=True, text=True,
        env=tocsin.environ | {"PATH": path, "PYTHON": str(tocsin.command.with_name("python"))},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    live, paper = (
        tocsin("signals", "--json", *which, "--transport", "redis+embedded://.tocsin/log").splitlines()
        for which in ((), ("--deployment", "paper"))
    )
    assert len(paper) > len(live) > 100
    assert all('"bundle":"1"' in line and '"deployment":"main"' in line for line in live)
    assert all('"bundle":"2"' in line and '"deployment":"paper"' in line for line in paper)
    assert not any('"reason":"paused"' in line for line in live)
    assert any('"reason":"paused"' in line for line in paper)
