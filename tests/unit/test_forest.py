"""A forest answers as its definition says, and refuses to be anything it can't walk."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys
import zipfile
from typing import Any

import numpy as np
import pytest

from engine.errors import InputRefused, ModelRefused
from engine.runtimes.forest.layout import FORMAT, Forest
from engine.runtimes.forest.runtime import ForestRuntime
from trainers.export.forest import parity

EXACT = 1e-7          # both are float64 inside; ours is rounded to float32


# ---- forests made by hand, against a walk that is obviously right


def made(seed: int, *, width: int = 1, linear: bool = False, splits: int = 40, trees: int = 21) -> Forest:
    """A random forest in the widest sense the layout allows: children shared between parents, roots that are leaves."""
    rng = np.random.default_rng(seed)
    features, leaves = 6, 30

    def below(parents: np.ndarray) -> np.ndarray:
        split = parents + 1 + (rng.random(parents.size) * 6).astype(int)
        leaf = ~rng.integers(0, leaves, parents.size)
        return np.where((rng.random(parents.size) < 0.7) & (split < splits), split, leaf)

    slopes = rng.integers(0, 4, leaves) if linear else np.zeros(0, int)
    return Forest(
        n_features=features, feature=rng.integers(0, features, splits).astype(np.int32),
        threshold=rng.normal(size=splits).astype(np.float32), left=below(np.arange(splits)).astype(np.int32),
        right=below(np.arange(splits)).astype(np.int32), nan_right=rng.random(splits) < 0.5,
        root=np.where(rng.random(trees) < 0.8, rng.integers(0, splits // 2, trees), ~rng.integers(0, leaves, trees)
                      ).astype(np.int32),
        tree_class=(rng.integers(0, 3, trees) if width == 1 else np.full(trees, -1)).astype(np.int32),
        value=rng.normal(size=(leaves, width)), base=rng.normal(size=3),
        slope_start=(np.cumsum([0, *slopes]) if linear else slopes).astype(np.int32),
        slope_feature=rng.integers(0, features, slopes.sum()).astype(np.int32),
        slope=rng.normal(size=slopes.sum()), fallback=rng.normal(size=leaves if linear else 0),
        level_start=np.zeros(0, np.int32), cover=np.zeros(0),
    )


def walk(forest: Forest, x: np.ndarray) -> np.ndarray:
    """One row's probabilities, as the docstring of Forest says."""
    sums = forest.base.copy()
    for root, speaks_for in zip(forest.root, forest.tree_class, strict=True):
        node = int(root)
        while node >= 0:
            number = x[forest.feature[node]]
            right = forest.nan_right[node] if np.isnan(number) else number >= forest.threshold[node]
            node = int(forest.right[node] if right else forest.left[node])
        said = forest.value[~node].copy()
        if forest.linear:
            own = slice(forest.slope_start[~node], forest.slope_start[~node + 1])
            factors = x[forest.slope_feature[own]].astype(np.float64)
            said[0] = forest.fallback[~node] if np.isnan(factors).any() else said[0] + factors @ forest.slope[own]
        sums[slice(None) if speaks_for < 0 else speaks_for] += said if speaks_for < 0 else said[0]
    e = np.exp(sums - sums.max())
    return np.asarray(e / e.sum())


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", [{}, {"width": 3}, {"linear": True}, {"trees": 1}, {"splits": 2}], ids=str)
def test_answers_as_its_definition(kind: dict[str, Any], seed: int) -> None:
    forest = made(seed, **kind)
    rng = np.random.default_rng(seed + 100)
    X = rng.normal(size=(150, 6)).astype(np.float32)
    X[rng.random(X.shape) < 0.2] = np.nan
    X[:50] = rng.choice(forest.threshold, (50, 6))                       # x == threshold goes right
    assert np.abs(forest.predict_proba(X) - [walk(forest, x) for x in X]).max() <= EXACT


def test_a_row_s_bits_do_not_depend_on_its_batch() -> None:
    runtime = ForestRuntime({"plain": made(1, trees=37), "linear": made(2, linear=True), "vector": made(3, width=3)})
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 6)).astype(np.float32)
    X[rng.random(X.shape) < 0.1] = np.nan
    whole = runtime.votes(X)
    for size in (1, 2, 7, 15, 16, 17, 63, 64, 65, 128, 299):
        parts = np.concatenate([runtime.votes(X[i : i + size]) for i in range(0, len(X), size)])
        assert parts.tobytes() == whole.tobytes(), size
    order = rng.permutation(len(X))
    assert runtime.votes(X[order]).tobytes() == whole[order].tobytes()


def test_together_as_alone() -> None:
    forests = {f"f{i}": made(i, width=3 if i == 2 else 1, linear=i == 4, trees=5 + 9 * i) for i in range(6)}
    X = np.random.default_rng(0).normal(size=(70, 6)).astype(np.float32)
    together = ForestRuntime(forests).votes(X)
    assert together.shape == (70, 6, 3)
    assert together.dtype == np.float32
    for e, forest in enumerate(forests.values()):
        assert together[:, e].tobytes() == forest.predict_proba(X).tobytes()
    assert np.abs(together.sum(2) - 1.0).max() < 1e-6


def test_no_rows() -> None:
    assert ForestRuntime({"a": made(0)}).votes(np.zeros((0, 6), np.float32)).shape == (0, 1, 3)


def test_any_layout_of_the_same_rows() -> None:
    forest = made(0)
    X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    frozen = X.copy()
    frozen.flags.writeable = False
    for same in (np.asfortranarray(X), frozen, X.astype(np.float64), np.repeat(X, 2, 0)[::2]):
        assert forest.predict_proba(same).tobytes() == forest.predict_proba(X).tobytes()


@pytest.mark.parametrize("shape", [(3, 5), (3, 7), (6,), (2, 3, 6)])
def test_other_features_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelRefused) as refused:
        made(0).predict_proba(np.zeros(shape, np.float32))
    assert refused.value.code == "forest_features"


def test_forests_over_different_features_do_not_answer_together() -> None:
    with pytest.raises(ModelRefused):
        ForestRuntime({"a": made(0), "b": dataclasses.replace(made(0), n_features=7)})


# ---- bytes


def test_bytes_come_back_and_are_the_same_each_time() -> None:
    forest = made(5, linear=True)
    data = forest.to_bytes()
    again = Forest.from_bytes(data)
    X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    assert again.to_bytes() == data == made(5, linear=True).to_bytes()
    assert again.predict_proba(X).tobytes() == forest.predict_proba(X).tobytes()


def stored(**changes: Any) -> bytes:
    """A good forest's members with some replaced; None leaves one out."""
    with np.load(io.BytesIO(made(0).to_bytes())) as archive:
        members = dict(archive) | changes
    buffer = io.BytesIO()
    np.savez(buffer, **{name: member for name, member in members.items() if member is not None})
    return buffer.getvalue()


def changed(name: str, place: int, value: Any) -> dict[str, np.ndarray]:
    array = np.array(getattr(made(0), name))
    array[place] = value
    return {name: array}


HOSTILE = {
    "a loop of one": {"left": np.arange(40, dtype=np.int32)},
    "back to the root": changed("left", 20, 0),
    "a split beyond the end": changed("right", 39, 40),
    "a leaf beyond the end": changed("right", 3, ~30),
    "the smallest child": changed("left", 3, -(2**31)),
    "a feature too many": changed("feature", 0, 6),
    "a negative feature": changed("feature", 0, -1),
    "a threshold that is none": changed("threshold", 0, np.nan),
    "a threshold below all": changed("threshold", 0, -np.inf),
    "a root beyond the end": changed("root", 0, 40),
    "a root that is no leaf": changed("root", 0, ~30),
    "a class too many": changed("tree_class", 0, 3),
    "a class of all for one value": changed("tree_class", 0, -1),
    "an infinite leaf": changed("value", 0, np.inf),
    "a leaf that is none": changed("value", 0, np.nan),
    "a leaf too large to sum": changed("value", 0, 1e200),
    "an infinite base": changed("base", 0, np.inf),
    "no class at all": {"base": np.full(3, -np.inf)},
    "four classes": {"base": np.zeros(4)},
    "two values to a leaf": {"value": np.zeros((30, 2))},
    "splits of another length": {"feature": np.zeros(39, np.int32)},
    "no trees": {"root": np.zeros(0, np.int32), "tree_class": np.zeros(0, np.int32)},
    "another dtype": {"feature": made(0).feature.astype(np.int64)},
    "another shape": {"threshold": made(0).threshold[:, None]},
    "no features": {"n_features": np.int64(0)},
    "too many features": {"n_features": np.int64(2**15)},
    "features that are no number": {"n_features": np.str_("6")},
    "another link": {"link": np.str_("sigmoid")},
    "slopes without fallbacks": {"slope": np.zeros(1), "slope_feature": np.zeros(1, np.int32)},
    "fallbacks without slopes": {"fallback": np.zeros(30)},
    "slopes of no leaf": {
        "fallback": np.zeros(30), "slope": np.zeros(2), "slope_feature": np.zeros(2, np.int32),
        "slope_start": np.array([0] * 29 + [5, 2], np.int32),
    },
    "a slope on no feature": {
        "fallback": np.zeros(30), "slope": np.zeros(2), "slope_feature": np.array([0, 6], np.int32),
        "slope_start": np.array([0] * 30 + [2], np.int32),
    },
    "symmetric trees that share leaves": {
        "left": np.zeros(0, np.int32), "right": np.zeros(0, np.int32), "root": np.full(21, ~0, np.int32),
        "level_start": np.cumsum([0, *[2] * 19, 1, 1]).astype(np.int32),
    },
    "a member missing": {"left": None},
    "a member too many": {"extra": np.zeros(1)},
    "no format": {"format": None},
    "a format to come": {"format": np.int64(FORMAT + 1)},
    "a format that is no number": {"format": np.str_("1")},
    "objects": {"value": np.array([object()], object)},
}


@pytest.mark.parametrize("changes", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelRefused) as refused:
        Forest.from_bytes(stored(**changes))
    assert refused.value.code == ("forest_format" if "format" in changes else "forest_damaged")


def test_a_file_that_unpacks_to_more_than_itself_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("value.npy", bytes(50_000_000))
    with pytest.raises(ModelRefused, match="larger than the file"):
        Forest.from_bytes(buffer.getvalue())


@pytest.mark.parametrize("data", [b"", b"PK", b"tree\nversion=v4\n", bytes(1000)])
def test_what_is_no_file_at_all_is_refused(data: bytes) -> None:
    with pytest.raises(ModelRefused):
        Forest.from_bytes(data)


def test_damage_anywhere_is_refused_or_changes_nothing() -> None:
    """Most of a file is guarded by checksums; what isn't (a time stamp of the archive, say) may not matter."""
    rng = np.random.default_rng(0)
    data = made(0).to_bytes()
    refused = 0
    for _ in range(300):
        broken = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            broken[place] ^= 1 << rng.integers(0, 8)
        try:
            assert Forest.from_bytes(bytes(broken)).to_bytes() == data
        except ModelRefused:
            refused += 1
    for length in range(0, len(data), 97):
        with pytest.raises(ModelRefused):
            Forest.from_bytes(data[:length])
    assert refused > 200


def test_a_forest_can_not_be_changed() -> None:
    forest = made(0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        forest.n_features = 7  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        forest.left[0] = 0


@pytest.mark.parametrize("size", [1e-310, 5e-324, 1e-40])
def test_leaves_that_say_next_to_nothing(size: float) -> None:
    X = np.zeros((3, 6), np.float32)
    forest = dataclasses.replace(made(0), value=made(0).value * size, base=np.array([0.0, 1.0, 2.0]))
    e = np.exp([0.0, 1.0, 2.0])
    assert np.abs(forest.predict_proba(X) - e / e.sum()).max() < EXACT


def test_hundreds_of_trees_of_large_leaves_are_answered_by_lanes() -> None:
    forest = made(0, trees=900)
    assert dataclasses.replace(forest, value=forest.value / np.abs(forest.value).max() * 15.9).exact().quantum


def test_parity_wants_rows() -> None:
    with pytest.raises(InputRefused):
        parity(made(0), np.zeros((0, 3)), np.zeros((0, 6), np.float32))
    with pytest.raises(InputRefused):
        parity(made(0), np.zeros((2, 2)), np.zeros((2, 6), np.float32))


def test_serving_loads_no_training_library(tmp_path: Any) -> None:
    (tmp_path / "forest.npz").write_bytes(made(0).to_bytes())
    program = f"""
import sys
libraries = ("lightgbm", "xgboost", "catboost", "torch", "sklearn", "scipy")
for library in libraries:
    sys.modules[library] = None          # as if it weren't installed
import numpy as np
from engine.manifest import Calibration, Expert
from engine.runtimes.ensemble import Ensemble
from engine.runtimes.forest.layout import Forest
from engine.runtimes.forest.runtime import ForestRuntime
forest = Forest.from_bytes(open({str(tmp_path / "forest.npz")!r}, "rb").read())
calibration = Calibration([1.0] * 3, np.eye(3).tolist(), [0.0] * 3)
ensemble = Ensemble([ForestRuntime({{"a": forest}})], [Expert("a", 1, "forest", "f", 1.0, calibration, 0.0, {{}})])
print(ensemble.predict_proba(np.zeros((1, 6), np.float32)).tobytes().hex())
assert not any(sys.modules[library] for library in libraries)
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 0, answer.stderr
    here = made(0).predict_proba(np.zeros((1, 6), np.float32))
    assert np.abs(np.frombuffer(bytes.fromhex(answer.stdout.strip()), np.float32) - here).max() < 1e-6
