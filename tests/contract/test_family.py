"""What every feature family promises: those of the fused kernel, and families of one's own by `tocsin features check`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.errors import TocsinError, UsageError
from engine.eventtime import EventTime
from engine.familycheck import check
from engine.features import Family, FeatureSet
from engine.features import families as folder
from engine.features.families import indicators
from engine.features.kernel import layout
from engine.features.own import load
from engine.feeds.market import lively
from engine.types import F32, TickBatch

FAMILIES = {family.name: family for family in layout(indicators.USUAL) if family.columns}
OWN = Path(__file__).parents[1] / "families"


@pytest.fixture(scope="module")
def ticks() -> TickBatch:
    """Two symbols of a lively day and a night: long enough for the bars of an hour."""
    found = lively(2.2)
    return found[EventTime().admit(found) == 0]


@pytest.fixture(scope="module")
def matrix(ticks: TickBatch) -> F32:
    return FeatureSet.default().state().update(ticks).matrix


def columns(family: Family) -> list[int]:
    return [FeatureSet.default().names.index(column.name) for column in family.columns]


def test_every_file_of_families_is_in_the_kernel() -> None:
    files = {file.stem for file in Path(folder.__path__[0]).glob("*.py")} - {"__init__"}
    assert files == {{"time": "time_features"}.get(f.name, f.name) for f in layout(indicators.USUAL)}
    assert sum(len(family.columns) for family in FAMILIES.values()) == 64


@pytest.mark.parametrize("name", FAMILIES)
def test_a_column_is_told_and_known_and_finite(name: str, matrix: F32) -> None:
    for column, at in zip(FAMILIES[name].columns, columns(FAMILIES[name]), strict=True):
        assert all((column.formula, column.window, column.unit, column.warmup, column.cost, column.source))
        values = matrix[:, at]
        assert not np.isinf(values).any(), column.name
        assert np.mean(~np.isnan(values)) > 0.3, column.name
        assert np.nanstd(values) > 0, column.name


@pytest.mark.parametrize("name", FAMILIES)
def test_once_known_a_column_stays_known_but_for_holes(name: str, ticks: TickBatch, matrix: F32) -> None:
    """Within a symbol, after the first value: NaN only in the five minutes and 100 ticks after a hole, or without sizes."""
    for sid in range(len(ticks.instruments)):
        rows = np.flatnonzero(ticks.sid == sid)
        ts, every = ticks.ts[rows], np.arange(len(rows))
        begins = np.concatenate([[0], np.flatnonzero(np.diff(ts) > 600e9) + 1])
        begun = begins[np.searchsorted(begins, every, "right") - 1]
        settled = (ts - ts[begun] > 310e9) & (every - begun > 100)
        sized = (ticks.bid_size + ticks.ask_size)[rows] > 0
        for column, at in zip(FAMILIES[name].columns, columns(FAMILIES[name]), strict=True):
            known = ~np.isnan(matrix[rows, at])
            expected = settled & (every >= np.argmax(known)) & (sized | (column.name != "imbalance"))
            assert expected.sum() > 1000, column.name
            assert known[expected].all(), column.name


# ---- families of one's own


@pytest.mark.parametrize("file", sorted(OWN.glob("*.py")), ids=lambda file: file.stem)
def test_a_family_of_ones_own_holds(file: Path, ticks: TickBatch) -> None:
    own = load(str(file))
    assert own.compiled == (not file.stem.startswith("slow"))
    verdict = check(own, ticks[:6000])
    assert verdict.holds, verdict.promises
    assert set(verdict.promises) == {"bounds", "splits", "restore", "symbols", "repeats", "look-ahead", "values", "cost"}


def test_compiled_or_not_the_bits_are_the_same(ticks: TickBatch) -> None:
    both = FeatureSet.default(families=[str(OWN / "bid_moves.py"), str(OWN / "slow_bid_moves.py")])
    assert both.names[-2:] == ["bid_move", "slow_bid_move"]
    found = both.state().update(ticks[:6000]).matrix
    assert found[:, -1].tobytes() == found[:, -2].tobytes()
    plain = FeatureSet.default().state().update(ticks[:6000]).matrix
    assert np.ascontiguousarray(found[:, :64]).tobytes() == plain.tobytes()


BAD = {
    "repeats": "LAST = [0.0]\ndef step(state, real, seen, out):\n    out[0] = seen.bid - LAST[0]\n    LAST[0] = seen.bid\n",
    "restore": "LAST = {}\ndef step(state, real, seen, out):\n    key = id(state.base)\n"
               "    out[0] = seen.bid - LAST.get(key, seen.bid)\n    LAST[key] = seen.bid\n",
    "values": "def step(state, real, seen, out):\n    out[0] = float('inf')\n",
}


@pytest.mark.parametrize("promise", BAD)
def test_a_family_that_breaks_a_promise_is_told(promise: str, ticks: TickBatch, tmp_path: Path) -> None:
    verdict = check(load(str(_written(tmp_path, BAD[promise]))), ticks[:4000])
    assert not verdict.holds
    assert not verdict.promises[promise].holds
    assert verdict.promises["cost"].holds


def _written(folder: Path, step: str, columns: str = '("x", "x", "1 tick", "1", "1 tick", "every tick", "a test")') -> Path:
    file = folder / "family.py"
    file.write_text("from engine.features import Column, Family\n" + step
                    + f'FAMILY = Family("x", 1, 1, (Column(*{columns}),))\n')
    return file


@pytest.mark.parametrize(("content", "code"), [
    ("raise RuntimeError('no')", "family_invalid"), ("FAMILY = 3", "family_invalid"), ("import nothing_there", "family_invalid"),
    ("from engine.features import Family\nFAMILY = Family('x', 1, 1, ())\ndef step(*a): pass", "family_invalid"),
])
def test_what_is_no_family_says_so(content: str, code: str, tmp_path: Path) -> None:
    (tmp_path / "family.py").write_text(content)
    with pytest.raises(UsageError) as refused:
        load(str(tmp_path / "family.py"))
    assert refused.value.code == code
    assert refused.value.hint


@pytest.mark.parametrize("name", ["nothing.py", "no.such.module", "nosuchentrypoint"])
def test_a_family_that_isnt_there_says_so(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        load(name)
    assert refused.value.code == "family_missing"


@pytest.mark.parametrize("line", ["state[1] = 7", "out[1] = 1.0"])
def test_a_compiled_family_that_writes_beyond_its_own_is_told_before_it_runs(line: str, ticks: TickBatch, tmp_path: Path) -> None:
    step = f"from numba import njit\n@njit\ndef step(state, real, seen, out):\n    out[0] = 1.0\n    {line}\n"
    verdict = check(load(str(_written(tmp_path, step))), ticks[:2000])
    assert set(verdict.promises) == {"bounds"}
    assert not verdict.holds
    assert "out of bounds" in verdict.promises["bounds"].seen


def test_what_a_family_does_not_write_is_not_known(ticks: TickBatch, tmp_path: Path) -> None:
    step = "def step(state, real, seen, out):\n    state[0] += 1\n    if state[0] > 5:\n        out[0] = 1.0\n"
    found = FeatureSet.default(families=[str(_written(tmp_path, step))]).state().update(ticks[:2000]).matrix[:, -1]
    assert np.isnan(found).sum() == 5 * len(np.unique(ticks.sid[:2000]))
    assert (found[~np.isnan(found)] == 1.0).all()


@pytest.mark.parametrize(("head", "body", "code"), [
    ("@njit(fastmath=True)", "out[0] = 1.0", "family_invalid"), ("@njit", "out[0] = seen.nothere", "family_failed"),
])
def test_a_compiled_family_that_can_not_be_says_so(
    head: str, body: str, code: str, ticks: TickBatch, tmp_path: Path
) -> None:
    file = _written(tmp_path, f"from numba import njit\n{head}\ndef step(state, real, seen, out):\n    {body}\n")
    with pytest.raises(UsageError) as refused:
        FeatureSet.default(families=[str(file)]).state().update(ticks[:10])
    assert refused.value.code == code


def test_too_few_ticks_prove_nothing(ticks: TickBatch) -> None:
    with pytest.raises(UsageError) as refused:
        check(load(str(OWN / "bid_moves.py")), ticks[:100])
    assert refused.value.code == "family_ticks"


def test_names_that_clash_are_refused(tmp_path: Path) -> None:
    harmless = "def step(state, real, seen, out):\n    out[0] = 1.0\n"
    twice = str(_written(tmp_path, harmless))
    with pytest.raises(UsageError, match="two families are named x"):
        FeatureSet.default(families=[twice, twice])
    sigma = str(_written(tmp_path, harmless, '("sigma", "x", "1 tick", "1", "1 tick", "every tick", "a test")'))
    with pytest.raises(UsageError, match="two columns are named sigma"):
        FeatureSet.default(families=[sigma])


def test_another_formula_under_the_same_name_has_another_fingerprint(tmp_path: Path) -> None:
    found = set()
    for constant in ("1.0", "2.0"):
        file = _written(tmp_path, f"def step(state, real, seen, out):\n    out[0] = {constant}\n")
        found.add(FeatureSet.default(families=[str(file)]).fingerprint)
    assert len(found | {FeatureSet.default().fingerprint}) == 3


def test_a_step_that_fails_names_the_family_and_the_tick(ticks: TickBatch, tmp_path: Path) -> None:
    file = _written(tmp_path, "def step(state, real, seen, out):\n    out[5] = 1.0\n")
    with pytest.raises(TocsinError) as failed:
        FeatureSet.default(families=[str(file)]).state().update(ticks[:10])
    assert failed.value.code == "family_failed"
    assert str(ticks.ts[0]) in str(failed.value)
