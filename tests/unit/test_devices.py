"""`tocsin doctor --devices`: where each expert would train, on any number of GPUs."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from engine.cli import main
from engine.errors import EXIT_USAGE, UsageError
from trainers.commands.devices import Place, assignment
from trainers.experts import names
from trainers.experts.devices import Gpus
from trainers.fit import Fits, Rows

NONE = np.zeros(1, np.int64)
ROWS = Rows(np.zeros((1, 2), np.float32), NONE, np.ones(1), NONE, NONE)


def places(count: int, threads: int = 8) -> list[Place]:
    return assignment(threads, lambda expert: Gpus(count, "there is none", "buy one"))


@pytest.mark.parametrize("count", [8, 3, 1])
def test_gpus_go_round_by_place(count: int) -> None:
    found = places(count)
    assert [place.expert for place in found] == list(names())
    assert [place.idx for place in found] == list(range(1, len(names()) + 1))
    assert [place.device for place in found] == [f"cuda:{(place.idx - 1) % count}" for place in found]


def test_without_gpus_the_threads_are_shared() -> None:
    found = places(0)
    assert {(place.device, place.why) for place in found} == {("cpu", "there is none")}
    assert sum(place.threads for place in found) == 8


def test_a_gpu_that_was_demanded_and_isnt_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_DEVICE", "cuda:3")
    assert {place.device for place in places(4)} == {"cuda:3"}
    for place in places(3):
        assert place.device == "none"
        assert "GPU 3 was asked for, 3 can be used" in place.why
    monkeypatch.setenv("TOCSIN_DEVICE", "cpu")
    assert {(place.device, place.why) for place in places(4)} == {("cpu", "$TOCSIN_DEVICE says so")}


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "catboost", None)
    found = {place.expert: place for place in places(2)}
    assert (found["catboost"].library, found["catboost"].device) == ("missing", "none")
    assert "pip install" in found["catboost"].why
    assert found["lightgbm"].device == "cuda:0"


def test_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--devices", "--pretend", "3", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [place["device"] for place in said[:4]] == ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]
    assert main(["doctor", "--devices"]) == 0
    assert "xgboost_dart" in capsys.readouterr().out


def test_a_device_that_is_none_is_a_word_misspelt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TOCSIN_DEVICE", "foo")
    assert main(["doctor", "--devices"]) == EXIT_USAGE
    assert "'foo'" in capsys.readouterr().err
    with Fits(["lightgbm"], "lean", 1) as fits, pytest.raises(UsageError, match="'foo'") as refused:
        fits.run(ROWS, lambda *progress: None)
    assert (refused.value.code, refused.value.exit) == ("device", EXIT_USAGE)


@pytest.mark.parametrize("argv", [["--pretend", "2"], ["--devices", "--pretend", "-1"]])
def test_what_cannot_be_meant(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *argv]) == 2
    assert "pretend" in capsys.readouterr().err
