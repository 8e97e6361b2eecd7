"""docs/helpers.md: every name is where the page says, and its program runs."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

from engine.features import FeatureSet, augment_time_features
from engine.features.families.time_features import NAMES

PAGE = (Path(__file__).parents[2] / "docs" / "helpers.md").read_text()
LISTED = re.findall(r"^\| `(\w+)(?:\([^`]*\))?` \| `([\w.]+)` \|", PAGE, re.MULTILINE)


def test_the_page_lists_what_the_old_system_had() -> None:
    assert len(LISTED) == 12


@pytest.mark.parametrize(("name", "module"), LISTED)
def test_every_name_is_where_the_page_says(name: str, module: str) -> None:
    assert callable(getattr(importlib.import_module(module), name))


def test_its_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [program] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, object] = {}
    exec(program, names)
    p = names["p"]
    assert isinstance(p, np.ndarray)
    assert p.shape == (1000, 3)
    assert [file.name for file in tmp_path.iterdir()] == ["model.txt"]


def test_the_nine_of_closes_by_their_formulas() -> None:
    close = 100.0 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 1e-4, 80)))
    found = augment_time_features(close)
    ret = np.full(80, np.nan)
    ret[1:] = close[1:] / close[:-1] - 1

    def back(values: np.ndarray, by: int) -> np.ndarray:
        return np.concatenate([np.full(by, np.nan), values[: len(values) - by]])

    def deviation(last: int) -> np.ndarray:
        return np.array([ret[i - last + 1 : i + 1].std(ddof=1) if i >= last else np.nan for i in range(80)])

    wanted = np.stack([
        ret, back(ret, 1), back(ret, 2), back(ret, 5), back(ret, 8), deviation(14), deviation(50),
        close - back(close, 5), close - back(close, 15),
    ], axis=1)
    assert found.shape == (80, 9)
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    assert np.allclose(found, wanted, rtol=1e-4, atol=1e-9, equal_nan=True)
    assert FeatureSet.time_features().names == list(NAMES)
