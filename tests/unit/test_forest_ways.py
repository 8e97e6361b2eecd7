"""The ways a forest can be answered: each says what the definition says, all of them the same bits, whatever the batch."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import cpu
from engine.errors import UsageError
from engine.runtimes.forest.layout import Forest
from engine.runtimes.forest.runtime import ForestRuntime
from engine.runtimes.forest.tables import plan

BATCHES = 1, 2, 7, 8, 9, 24, 25, 26, 64, 127, 128, 129, 511, 512, 513, 4096
FEATURES = 9


def tree(rng: np.random.Generator, depth: int, leaves: int, thresholds: np.ndarray) -> tuple[list[list[Any]], int]:
    """Splits [feature, threshold, left, right, nan right] of a tree of at most so many levels and leaves, and its leaves."""
    splits: list[list[Any]] = []
    made = 1

    def grow(level: int) -> int:
        nonlocal made, ended
        if level == depth or made >= leaves or rng.random() < 0.1 * (level > 2):
            ended += 1
            return ~(ended - 1)
        made += 1
        feature = int(rng.integers(len(thresholds)))
        here = len(splits)
        splits.append([feature, rng.choice(thresholds[feature]), 0, 0, bool(rng.random() < 0.5)])
        splits[here][2] = grow(level + 1)
        splits[here][3] = grow(level + 1)
        return here

    ended = 0
    grow(0)
    return splits, ended


def grown(
    seed: int, trees: int, depth: int, leaves: int = 10_000, *, width: int = 1, thresholds: int = 40, features: int = FEATURES
) -> Forest:
    """A forest of random trees; width 3: all speak for all classes."""
    rng = np.random.default_rng(seed)
    pool = rng.normal(size=(features, thresholds)).astype(np.float32)
    rows: list[list[Any]] = []
    roots = []
    count = 0
    for _ in range(trees):
        splits, ended = tree(rng, depth, leaves, pool)
        first = len(rows)
        roots.append(first if splits else ~count)
        rows += [[f, t, a + first if a >= 0 else a - count, b + first if b >= 0 else b - count, n] for f, t, a, b, n in splits]
        count += ended
    columns = list(zip(*rows, strict=True)) if rows else [()] * 5
    return Forest(
        n_features=features, feature=np.array(columns[0], np.int32), threshold=np.array(columns[1], np.float32),
        left=np.array(columns[2], np.int32), right=np.array(columns[3], np.int32), nan_right=np.array(columns[4], np.bool_),
        root=np.array(roots, np.int32), tree_class=np.full(trees, -1, np.int32) if width == 3 else
        rng.integers(0, 3, trees).astype(np.int32), value=rng.normal(size=(count, width)) * 0.1, base=rng.normal(size=3),
        slope_start=np.zeros(0, np.int32), slope_feature=np.zeros(0, np.int32), slope=np.zeros(0), fallback=np.zeros(0),
        level_start=np.zeros(0, np.int32), cover=rng.integers(1, 50, count).astype(np.float64),
    )


def symmetric(seed: int, trees: int, depth: int, *, width: int = 3, features: int = FEATURES) -> Forest:
    """Trees of up to so many levels."""
    rng = np.random.default_rng(seed)
    pool = rng.normal(size=(features, 40)).astype(np.float32)
    levels = rng.integers(0, depth + 1, trees)
    levels[0] = depth
    feature = rng.integers(0, features, levels.sum())
    leaf = np.cumsum([0, *(2**levels)])
    return Forest(
        n_features=features, feature=feature.astype(np.int32), threshold=pool[feature, rng.integers(0, 40, feature.size)],
        left=np.zeros(0, np.int32), right=np.zeros(0, np.int32), nan_right=rng.random(feature.size) < 0.5,
        root=~leaf[:-1].astype(np.int32), tree_class=np.full(trees, -1, np.int32) if width == 3 else
        rng.integers(0, 3, trees).astype(np.int32), value=rng.normal(size=(leaf[-1], width)) * 0.1, base=rng.normal(size=3),
        slope_start=np.zeros(0, np.int32), slope_feature=np.zeros(0, np.int32), slope=np.zeros(0), fallback=np.zeros(0),
        level_start=np.cumsum([0, *levels]).astype(np.int32), cover=rng.integers(0, 50, leaf[-1]).astype(np.float64),
    )


FORESTS: dict[str, Callable[[], Forest]] = {
    "one leaf": lambda: grown(0, 1, 0),
    "stumps": lambda: grown(1, 70, 1),
    "depth 6": lambda: grown(2, 200, 6),
    "few leaves, deep": lambda: grown(3, 150, 25, 31),
    "32 leaves": lambda: grown(31, 150, 25, 32),
    "64 leaves, deep": lambda: grown(4, 150, 25, 63),
    "120 leaves": lambda: grown(41, 70, 25, 120),
    "255 leaves": lambda: grown(42, 70, 25, 255),
    "256 leaves, all classes": lambda: grown(43, 30, 12, 256, width=3),
    "257 leaves": lambda: grown(44, 70, 25, 257),
    "depth 7": lambda: grown(71, 70, 7),
    "depth 10": lambda: grown(72, 100, 10),
    "depth 10, all classes": lambda: grown(73, 30, 10, width=3),
    "depth 12": lambda: grown(5, 70, 12),
    "depth 12, all classes": lambda: grown(6, 40, 12, width=3),
    "depth 6, all classes": lambda: grown(7, 100, 6, width=3),
    "few leaves, all classes": lambda: grown(8, 100, 20, 20, width=3),
    "symmetric 6": lambda: symmetric(9, 100, 6),
    "symmetric 10": lambda: symmetric(10, 70, 10),
    "symmetric, a class each": lambda: symmetric(11, 100, 8, width=1),
    "symmetric 10, a class each": lambda: symmetric(111, 70, 10, width=1),
    "3,000 trees": lambda: grown(12, 3000, 4),
    "more thresholds than a byte counts": lambda: grown(13, 300, 6, thresholds=400),
    **{
        f"{features} features, {kind}": make for features in (65, 128) for kind, make in {
            "depth 6": lambda features=features: grown(14, 100, 6, features=features),
            "32 leaves": lambda features=features: grown(15, 100, 25, 32, features=features),
            "64 leaves": lambda features=features: grown(16, 100, 25, 63, features=features),
            "depth 10": lambda features=features: grown(17, 100, 10, features=features),
            "depth 12, all classes": lambda features=features: grown(18, 70, 12, width=3, features=features),
            "symmetric 10": lambda features=features: symmetric(19, 70, 10, features=features),
        }.items()
    },
}

FORESTS = {kind: cache(make) for kind, make in FORESTS.items()}


def some_rows(forest: Forest, n: int = 4096) -> np.ndarray:
    """Random ones, the thresholds themselves, their neighbours, holes and what isn't finite."""
    rng = np.random.default_rng(n)
    X = rng.normal(size=(n, forest.n_features)).astype(np.float32)
    if forest.threshold.size:
        near = rng.choice(forest.threshold, X.shape)
        X = np.where(rng.random(X.shape) < 0.4, near, X)
        X = np.where(rng.random(X.shape) < 0.1, np.nextafter(X, np.float32(-9)), X)
    X[rng.random(X.shape) < 0.1] = np.nan
    X[rng.random(X.shape) < 0.02] = np.inf
    X[rng.random(X.shape) < 0.02] = -np.inf
    return X.astype(np.float32)


def margins(forest: Forest, x: np.ndarray) -> np.ndarray:
    """What the docstring of Forest says, tree by tree."""
    out = forest.base.copy()
    for t, node in enumerate(forest.root):
        if forest.symmetric:
            way = 0
            for j, level in enumerate(range(forest.level_start[t], forest.level_start[t + 1])):
                v = x[forest.feature[level]]
                goes = v >= forest.threshold[level] if np.isfinite(v) else forest.nan_right[level]
                way |= int(goes) << j
            leaf = ~node + way
        else:
            while node >= 0:
                v = x[forest.feature[node]]
                goes = v >= forest.threshold[node] if np.isfinite(v) else forest.nan_right[node]
                node = forest.right[node] if goes else forest.left[node]
            leaf = ~node
        if forest.tree_class[t] < 0:
            out += forest.value[leaf]
        else:
            out[forest.tree_class[t]] += forest.value[leaf, 0]
    return out


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    return np.asarray(e / e.sum())


@pytest.fixture(params=cpu.possible())
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(cpu.FORCE, request.param)
    return str(request.param)


@pytest.mark.parametrize("kind", FORESTS)
def test_each_way_says_what_the_definition_says(way: str, kind: str) -> None:
    forest = FORESTS[kind]()
    X = some_rows(forest)
    got = ForestRuntime({"it": forest}).votes(X)[:, 0]
    for i in range(0, 4096, 91):
        assert np.abs(got[i] - softmax(margins(forest, X[i]))).max() < 2e-7


@pytest.mark.parametrize("kind", FORESTS)
def test_the_same_bits_in_every_batch_at_every_place_on_every_way(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forest = FORESTS[kind]()
    X = some_rows(forest)
    monkeypatch.setenv(cpu.FORCE, cpu.PORTABLE)
    expected = ForestRuntime({"it": forest}).votes(X)[:, 0]
    for one in cpu.possible():
        monkeypatch.setenv(cpu.FORCE, one)
        runtime = ForestRuntime({"it": forest})
        for size in BATCHES:
            for first in (0, 37, 4096 - size)[: 1 if size == 4096 else 3]:
                got = runtime.votes(X[first : first + size])[:, 0]
                assert got.tobytes() == expected[first : first + size].tobytes(), (one, size, first)


def test_the_vector_ways_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = set()
    for kind, make in FORESTS.items():
        planned = plan([make().exact()])
        assert planned.found == [0], kind
        assert not planned.left
        kinds |= {section.kind for section in planned.sections}
    assert len(kinds) == 5
    assert len(plan([FORESTS["more thresholds than a byte counts"]().exact()]).bins) > 1


def test_together_as_alone_with_those_that_only_the_portable_way_can(way: str) -> None:
    forests = {kind: make() for kind, make in FORESTS.items() if "features" not in kind}
    wide = grown(77, 50, 5)
    wild = Forest(**{name: getattr(wide, name) for name in wide.__dataclass_fields__} | {"value": wide.value * 1e9})
    assert wild.exact().quantum == 0
    forests["beyond an int32"] = wild
    X = some_rows(wide, 300)
    for size in (3, 300):
        together = ForestRuntime(forests).votes(X[:size])
        for e, (kind, forest) in enumerate(forests.items()):
            assert together[:, e].tobytes() == ForestRuntime({kind: forest}).votes(X[:size])[:, 0].tobytes(), kind


def test_trees_that_share_splits_are_answered_too(way: str) -> None:
    forest = grown(5, 70, 9)
    shared = Forest(**{name: getattr(forest, name) for name in forest.__dataclass_fields__} | {
        "root": np.where(np.arange(70) % 2, forest.root, forest.left[np.maximum(np.roll(forest.root, -1), 0)]).astype(np.int32),
    })
    assert plan([shared.exact()]).left == [0]
    X = some_rows(shared, 200)
    got = ForestRuntime({"it": shared}).votes(X)[:, 0]
    for i in range(0, 200, 20):
        assert np.abs(got[i] - softmax(margins(shared, X[i]))).max() < 2e-7


def test_one_deep_symmetric_tree_does_not_make_room_for_all() -> None:
    forest = symmetric(10, 500, 0)
    deep = symmetric(11, 1, 12)
    both = Forest(**{name: getattr(forest, name) for name in forest.__dataclass_fields__} | {
        "feature": deep.feature, "threshold": deep.threshold, "nan_right": deep.nan_right,
        "root": np.concatenate([forest.root, deep.root - np.int32(len(forest.value))]),
        "tree_class": np.concatenate([forest.tree_class, deep.tree_class]),
        "value": np.concatenate([forest.value, deep.value]), "cover": np.concatenate([forest.cover, deep.cover]),
        "level_start": np.concatenate([forest.level_start, [12]]).astype(np.int32),
    })
    runtime = ForestRuntime({"it": both})
    assert runtime.nbytes < 20e6
    X = some_rows(both, 200)
    for i in range(0, 200, 20):
        assert np.abs(runtime.votes(X)[i, 0] - softmax(margins(both, X[i]))).max() < 2e-7


def test_many_features_are_answered_too(way: str) -> None:
    forest = grown(5, 70, 12)
    wide = Forest(**{name: getattr(forest, name) for name in forest.__dataclass_fields__} | {
        "n_features": 500, "feature": (forest.feature + 50 * (np.arange(forest.feature.size) % 9)).astype(np.int32),
    })
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 500)).astype(np.float32)
    got = ForestRuntime({"it": wide}).votes(X)[:, 0]
    for i in range(0, 200, 20):
        assert np.abs(got[i] - softmax(margins(wide, X[i]))).max() < 2e-7


def test_a_way_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cpu.FORCE, "neon")
    with pytest.raises(UsageError) as caught:
        ForestRuntime({"it": grown(1, 3, 2)})
    assert caught.value.code == "forest_way"


@pytest.mark.parametrize(("settings", "expected_way"), [
    ({"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+bmi,+bmi2,+popcnt,+sse4.2"}, cpu.AVX2),
    ({"NUMBA_ENABLE_AVX": "0"}, cpu.PORTABLE),
])
def test_machines_without_avx512_give_the_same_bits(settings: dict[str, str], expected_way: str, tmp_path: Path) -> None:
    """Compiled for another processor, in a process of its own."""
    forest = FORESTS["64 leaves, deep"]()
    X = some_rows(forest, 300)
    (tmp_path / "it").write_bytes(forest.to_bytes())
    np.save(tmp_path / "X.npy", X)
    script = (
        "import sys, numpy as np; from pathlib import Path; from engine import cpu\n"
        "from engine.runtimes.forest.layout import Forest; from engine.runtimes.forest.runtime import ForestRuntime\n"
        "folder = Path(sys.argv[1]); runtime = ForestRuntime({'it': Forest.from_bytes((folder / 'it').read_bytes())})\n"
        "X = np.load(folder / 'X.npy')\n"
        "np.save(folder / 'few.npy', runtime.votes(X[:5])); np.save(folder / 'p.npy', runtime.votes(X))\n"
        "print(cpu.way())\n"
    )
    environ = os.environ | settings | {"XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, env=environ, capture_output=True, text=True)
    assert done.stdout.strip() == expected_way
    expected = ForestRuntime({"it": forest}).votes(X)
    assert np.load(tmp_path / "p.npy").tobytes() == expected.tobytes()
    assert np.load(tmp_path / "few.npy").tobytes() == expected[:5].tobytes()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))], ids=["deepcopy", "pickle"])
def test_a_copy_answers_when_what_it_was_copied_from_is_gone(copied: Any) -> None:
    """Tables hold addresses."""
    forest = grown(5, 70, 8)
    X = some_rows(forest, 200)
    expected = forest.predict_proba(X).tobytes()
    runtime = ForestRuntime({"it": forest})
    copies = copied(forest), copied(runtime)
    del forest, runtime
    gc.collect()
    filled = [np.full(n, 7, np.uint8) for n in range(64, 200_000, 640)]     # where they lay
    assert copies[0].predict_proba(X).tobytes() == expected
    assert copies[1].votes(X)[:, 0].tobytes() == expected
    assert filled


# ---- attributions


@pytest.mark.parametrize("kind", FORESTS)
def test_attributions_sum_to_the_margins_exactly(kind: str) -> None:
    forest = FORESTS[kind]()
    X = some_rows(forest, 60)
    runtime = ForestRuntime({"it": forest})
    parts = runtime.attributions(X)[:, 0]
    assert parts.shape == (60, forest.n_features + 1, 3)
    exact = forest.exact()
    for i in range(60):
        assert np.array_equal(parts[i].sum(0), margins(exact, X[i]))
        assert np.array_equal(parts[i][::-1].sum(0), margins(exact, X[i])), "in any order"
        assert np.abs(softmax(parts[i].sum(0)) - runtime.votes(X)[i, 0]).max() < 1e-7
    asked = np.zeros(forest.n_features, bool)
    asked[forest.feature] = True
    assert (parts[:, :-1][:, ~asked] == 0).all(), "a feature that no split asks about adds nothing"


def test_an_attribution_is_the_difference_a_split_makes() -> None:
    forest = grown(1, 1, 1)
    low, high = forest.value[:, 0] if forest.left[0] == ~0 else forest.value[::-1, 0]
    weight = forest.cover / forest.cover.sum()
    expected = weight @ forest.value[:, 0]
    x = np.zeros((1, FEATURES), np.float32)
    x[0, forest.feature[0]] = np.inf if forest.nan_right[0] else forest.threshold[0] + 1
    parts = ForestRuntime({"it": forest}).attributions(x)[0, 0]
    c = forest.tree_class[0]
    assert parts[forest.feature[0], c] == pytest.approx(high - expected, abs=1e-8)
    assert parts[-1, c] == pytest.approx(expected + forest.base[c], abs=1e-8)
    assert low != high
