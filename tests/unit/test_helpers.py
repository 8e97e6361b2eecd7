"""docs/helpers.md: every name is where the page says, and its program runs."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.errors import TocsinError
from engine.features import FeatureSet, augment_time_features
from engine.features.families.time_features import NAMES
from trainers.experts.devices import assigned_gpu, choose_device, cuda_gpus
from trainers.experts.rows import purged_train_val_split, reorder_to_neutral_buy_sell, time_series_train_val_split

PAGE = (Path(__file__).parents[2] / "docs" / "helpers.md").read_text()
SIGNATURES = re.findall(r"^\| `(\w+)\(([^`]*)\)` \| `([\w.]+)` \|", PAGE, re.MULTILINE)
LISTED = re.findall(r"^\| `(\w+)(?:\([^`]*\))?` \| `([\w.]+)` \|", PAGE, re.MULTILINE)


def test_the_page_lists_what_the_old_system_had() -> None:
    assert len(LISTED) == 13


@pytest.mark.parametrize(("name", "module"), LISTED)
def test_every_name_is_where_the_page_says(name: str, module: str) -> None:
    assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize(("name", "arguments", "module"), SIGNATURES)
def test_every_one_is_called_as_the_page_says(name: str, arguments: str, module: str) -> None:
    signature = inspect.signature(getattr(importlib.import_module(module), name))
    there = list(signature.parameters.values())
    said = [argument.partition("=") for argument in arguments.split(", ")]
    for (argument, _, default), parameter in zip(said, there, strict=False):
        assert argument == parameter.name
        assert default == ("" if parameter.default is parameter.empty else repr(parameter.default))
    assert all(parameter.default is not parameter.empty for parameter in there[len(said) :])
    assert len(str(signature)) < 300, "a default is as long as an environment"


@pytest.mark.parametrize("call", [
    lambda: assigned_gpu(1, 0), lambda: assigned_gpu(0, 8), lambda: assigned_gpu("1", 8),
    lambda: choose_device("auto", 1, False, 2), lambda: choose_device("auto", "1", False, cuda_gpus),
    lambda: time_series_train_val_split(1000, embargo=-1), lambda: time_series_train_val_split(1000, val=1.5),
    lambda: time_series_train_val_split(1000, val="0.2"), lambda: purged_train_val_split(np.arange(1000), np.arange(999)),
    lambda: purged_train_val_split(np.arange(1000), None), lambda: augment_time_features(np.ones((80, 1))),
    lambda: augment_time_features(["1.0"]), lambda: reorder_to_neutral_buy_sell([0.1, 0.2, 0.7]),
    lambda: reorder_to_neutral_buy_sell([[0.1, 0.9]]),
])
def test_what_cannot_be_meant_is_refused_by_code(call: Callable[[], object]) -> None:
    with pytest.raises(TocsinError) as refused:
        call()
    assert isinstance(refused.value, ValueError)
    assert refused.value.hint


def test_a_frame_s_columns_are_purged_as_arrays_are() -> None:
    pandas = pytest.importorskip("pandas")
    times = pandas.Series(pandas.date_range("2024-03-31", periods=1000, freq="min", tz="Europe/Berlin"))
    ends = (times + pandas.Timedelta("30min")).set_axis(range(5, 1005))
    train, validation = purged_train_val_split(times, ends)
    stamps = np.arange(1000)
    wanted, last = purged_train_val_split(stamps, stamps + 30)
    assert np.array_equal(train, wanted)
    assert np.array_equal(validation, last)


def test_lists_are_reordered() -> None:
    assert reorder_to_neutral_buy_sell([[0.1, 0.2, 0.7]]).tolist() == [[0.2, 0.7, 0.1]]


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
