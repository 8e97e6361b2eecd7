"""What every trainable expert must do, whoever wrote it. A new file in trainers/experts is asked all of this."""

from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
import sys
import threading
import time
import warnings
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest import SkipTest

import numpy as np
import pytest

from engine.errors import DeviceMissing, InputRefused, ModelRefused, UsageError
from engine.runtimes.forest.layout import Forest
from trainers.experts import chosen, create, names
from trainers.experts.base import _OPEN, _SEAL, SCALES, NotFitted, Trainable, _seal
from trainers.experts.devices import Device, Gpus, _say_once, assigned_gpu, choose_device, thread_shares
from trainers.experts.rows import (
    purged_train_val_split,
    remap_labels_to_contiguous,
    reorder_to_neutral_buy_sell,
    restore_labels,
    time_series_train_val_split,
)
from trainers.export.forest import parity
from trainers.metrics import neg_log_loss

PARITY = 1e-6


class Data(NamedTuple):
    X: np.ndarray
    y: np.ndarray
    times: np.ndarray


def make(seed: int, n: int = 900, features: int = 6) -> Data:
    """Rows in which something can be learned, with holes."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, features)).astype(np.float32)
    score = X[:, 0] + 0.5 * rng.normal(size=n)
    y = np.where(score > 0.7, 1, np.where(score < -0.7, -1, 0))
    X[rng.random(X.shape) < 0.05] = np.nan
    return Data(X, y, np.arange(n) * 1_000_000_000)


DATA, OTHER = make(0), make(1)


@pytest.fixture(params=names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(name: str) -> Trainable:
    """On the CPU, where the same fit gives the same bits."""
    return create(name, device="cpu", threads=1)


@pytest.fixture
def fitted(name: str) -> Trainable:
    return create(name, device="cpu", threads=1).from_bytes(fitted_bytes(name))


@cache
def fitted_bytes(name: str) -> bytes:
    return create(name, device="cpu", threads=1).fit(DATA.X, DATA.y).to_bytes()


def stopping(name: str) -> Trainable:
    """As the preset that stops early on a part of the rows, with fewer of them."""
    return create(name, device="cpu", threads=1, preset="seed", rounds=20)


# ---- what it answers


def test_classes_stand_as_neutral_buy_sell(fitted: Trainable) -> None:
    p = fitted.predict_proba(DATA.X)
    assert p.shape == (len(DATA.X), 3)
    assert p.dtype == np.float32
    assert fitted.classes_.tolist() == [0, 1, -1]
    assert knows_its_columns(DATA.y, p)
    assert np.array_equal(fitted.predict(DATA.X), np.array([0, 1, -1])[p.argmax(1)])
    assert (fitted.predict(DATA.X) == DATA.y).mean() > 0.6


def knows_its_columns(y: np.ndarray, p: np.ndarray) -> bool:
    """Whether each class's column is larger where that class is."""
    return all(p[y == label, i].mean() > p[y != label, i].mean() + 0.1 for i, label in enumerate((0, 1, -1)))


def test_a_swapped_column_would_be_seen(fitted: Trainable) -> None:
    """What tells the right order tells every wrong one."""
    p = fitted.predict_proba(OTHER.X)
    for order in itertools.permutations(range(3)):
        assert knows_its_columns(OTHER.y, p[:, order]) == (order == (0, 1, 2)), order


@pytest.mark.parametrize("order", list(itertools.permutations((-1, 0, 1))))
def test_which_label_comes_first_moves_no_column(name: str, order: tuple[int, ...]) -> None:
    rows = np.concatenate([np.flatnonzero(label == DATA.y) for label in order])
    model = create(name, device="cpu", threads=1).fit(DATA.X[rows], DATA.y[rows])
    assert knows_its_columns(OTHER.y, model.predict_proba(OTHER.X))


@pytest.mark.parametrize("label", [-1, 0, 1])
def test_an_only_class_is_certain(model: Trainable, label: int, tmp_path: Path) -> None:
    model.fit(DATA.X, np.full(len(DATA.y), label))
    column = [0, 1, -1].index(label)
    p = model.predict_proba(OTHER.X)
    assert (p == np.eye(3, dtype=np.float32)[column]).all()
    assert (model.predict(OTHER.X) == label).all()
    assert model.class_prior_.tolist() == np.eye(3)[column].tolist()
    assert model.rounds_ == 0
    served = model.export()
    assert isinstance(served, Forest)
    assert Forest.from_bytes(served.to_bytes()).predict_proba(OTHER.X).tobytes() == p.tobytes()
    loaded = create(model.name).load(model.save(tmp_path / "model") and tmp_path / "model")
    assert loaded.predict_proba(OTHER.X).tobytes() == p.tobytes()
    assert loaded.to_bytes() == model.to_bytes()
    altered = model.to_bytes().replace(b'"n_features": 6', b'"n_features": 7')
    with pytest.raises(ModelRefused):
        create(model.name).from_bytes(altered)


def test_probabilities_are_finite_and_sum_to_one_whatever_the_row(fitted: Trainable) -> None:
    X = np.array([[v] * 6 for v in (0.0, 1e38, -1e38, np.nan, np.inf, -np.inf, 1e-40)], np.float32)
    p = fitted.predict_proba(X)
    assert ((p >= 0) & (p <= 1)).all()
    assert np.abs(p.sum(1) - 1).max() < 1e-6


def test_what_is_exported_answers_the_same(fitted: Trainable) -> None:
    X = OTHER.X.copy()
    X[::5, 0], X[1::5, 1], X[2::5] = np.inf, -np.inf, np.nan
    served = fitted.export()
    assert parity(served, fitted.predict_proba(X), X) <= PARITY
    if isinstance(served, Forest):
        served = Forest.from_bytes(served.to_bytes())
        assert parity(served, fitted.predict_proba(X), X) <= PARITY


def test_a_row_s_bits_do_not_depend_on_its_batch(fitted: Trainable) -> None:
    served = fitted.export()
    whole = served.predict_proba(OTHER.X)
    for size in (1, 3, 64, 500):
        parts = [served.predict_proba(OTHER.X[i : i + size]) for i in range(0, len(OTHER.X), size)]
        assert np.concatenate(parts).tobytes() == whole.tobytes(), size


@pytest.mark.parametrize("absent", [-1, 0, 1])
def test_a_class_that_is_missing_gets_nothing_and_moves_no_column(model: Trainable, absent: int) -> None:
    here = absent != DATA.y
    model.fit(DATA.X[here], DATA.y[here])
    p = model.predict_proba(OTHER.X)
    column = [0, 1, -1].index(absent)
    assert (p[:, column] == 0).all()
    assert np.abs(p.sum(1) - 1).max() < 1e-6
    assert (model.predict(DATA.X[here]) == DATA.y[here]).mean() > 0.6
    assert model.class_prior_[column] == 0
    served = model.export()
    assert (served.predict_proba(OTHER.X)[:, column] == 0).all()
    assert parity(served, p, OTHER.X) <= PARITY


def test_the_same_fit_gives_the_same_bits(name: str, fitted: Trainable) -> None:
    again = create(name, device="cpu", threads=1).fit(DATA.X, DATA.y)
    assert again.to_bytes() == fitted.to_bytes()
    assert again.fit(OTHER.X, OTHER.y).to_bytes() != fitted.to_bytes()


def test_two_threads_fit_the_same_twice(name: str) -> None:
    """For a given number of threads."""
    one, two = (create(name, device="cpu", threads=2).fit(DATA.X, DATA.y).to_bytes() for _ in range(2))
    assert one == two


def odd(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows nobody would wish for."""
    rng = np.random.default_rng(3)
    X, y = DATA.X.copy(), DATA.y
    if name == "constant":
        X[:, 1], X[:, 2], X[:, 3] = 1.0, 0.0, np.nan
    elif name == "holes":
        X[rng.random(X.shape) < 0.7] = np.nan
    elif name == "infinite":
        X[::2, 1], X[1::2, 1] = np.inf, -np.inf
    elif name == "wide":
        X = np.concatenate([X, rng.normal(size=(len(X), 494)).astype(np.float32)], 1)
    elif name == "twice":
        X, y = np.repeat(X[:300], 3, axis=0), np.repeat(y[:300], 3)
    elif name == "huge":
        X = X * np.float32(1e37)
    return X, y


@pytest.mark.parametrize("rows", ["constant", "holes", "infinite", "wide", "twice", "huge"])
def test_rows_nobody_would_wish_for(name: str, rows: str) -> None:
    X, y = odd(rows)
    model = create(name, device="cpu", threads=1, rounds=8).fit(X, y)
    p = model.predict_proba(X)
    assert np.abs(p.sum(1) - 1).max() < 1e-6
    assert rows == "holes" or (model.predict(X) == y).mean() > 0.5
    assert parity(model.export(), p, X) <= PARITY
    assert model.predict_proba(X[:1]).tobytes() == p[:1].tobytes()


def test_lists_will_do(fitted: Trainable, model: Trainable) -> None:
    p = fitted.predict_proba(OTHER.X)
    assert model.fit(DATA.X.tolist(), DATA.y.tolist()).predict_proba(OTHER.X.tolist()).tobytes() == p.tobytes()


def test_a_pandas_frame_is_taken_whatever_its_columns_are_called(fitted: Trainable, model: Trainable) -> None:
    pandas = pytest.importorskip("pandas")
    p = fitted.predict_proba(OTHER.X)
    model.fit(pandas.DataFrame(DATA.X), pandas.Series(DATA.y))
    turned = pandas.DataFrame(OTHER.X).iloc[:, ::-1].assign(more="text")
    assert model.predict_proba(turned).tobytes() == p.tobytes()


def test_class_weights_are_undone_by_the_prior(name: str) -> None:
    common = DATA.y != 1
    common[np.flatnonzero(DATA.y == 1)[:60]] = True
    y = DATA.y[common]
    model = create(name, device="cpu", threads=1).fit(DATA.X[common], y)
    counts = np.array([(y == label).sum() for label in (0, 1, -1)])
    assert np.allclose(model.class_prior_, counts / y.size * 3)
    bent = model.predict_proba(DATA.X[common])
    straight = bent * model.class_prior_
    straight /= straight.sum(1, keepdims=True)
    share = counts / y.size
    assert np.abs(straight.mean(0) - share).max() < np.abs(bent.mean(0) - share).max() / 2
    unweighted = create(name, device="cpu", threads=1, class_weight=None).fit(DATA.X[common], y)
    assert unweighted.class_prior_.tolist() == [1, 1, 1]


# ---- what it takes


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "float64"])
def test_labels_of_any_type(fitted: Trainable, model: Trainable, dtype: str) -> None:
    p = fitted.predict_proba(OTHER.X)
    assert model.fit(DATA.X, DATA.y.astype(dtype)).predict_proba(OTHER.X).tobytes() == p.tobytes()


def test_unsigned_labels(model: Trainable) -> None:
    here = DATA.y >= 0
    p = model.fit(DATA.X[here], DATA.y[here]).predict_proba(OTHER.X)
    assert model.fit(DATA.X[here], DATA.y[here].astype(np.uint8)).predict_proba(OTHER.X).tobytes() == p.tobytes()


@pytest.mark.parametrize(
    ("y", "named"),
    [
        (np.where(DATA.y == 1, 7, DATA.y), "7"), (np.where(DATA.y == 0, 0.5, DATA.y), "0.5"),
        (np.where(DATA.y == 0, np.nan, DATA.y), "NaN"), (DATA.y.astype(str), "type"), (DATA.y == 1, "bool"),
    ],
)
def test_other_labels_are_refused_by_name(model: Trainable, y: Any, named: str) -> None:
    with pytest.raises(InputRefused, match=named) as refused:
        model.fit(DATA.X, y)
    assert refused.value.code == "labels"
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize(
    ("X", "y", "code"),
    [
        (DATA.X[0], DATA.y, "shape"), (DATA.X[:, :, None], DATA.y, "shape"), (DATA.X, DATA.y[:-1], "shape"),
        (DATA.X[:0], DATA.y[:0], "empty"), (DATA.X[:, :0], DATA.y, "empty"), (DATA.X.astype(str), DATA.y, "dtype"),
        ([[1.0], [1.0, 2.0]], [0, 1], "shape"), (DATA.X, None, "labels"),
        (DATA.X.astype(complex), DATA.y, "dtype"), ([[{}], [{}]], [0, 1], "dtype"),
    ],
)
def test_rows_that_cannot_be_meant_are_refused(model: Trainable, X: Any, y: Any, code: str) -> None:
    with pytest.raises(InputRefused) as refused:
        model.fit(X, y)
    assert refused.value.code == code


@pytest.mark.parametrize("X", [DATA.X[:, :5], DATA.X[:0], DATA.X[0]])
def test_other_rows_are_refused_when_asked(fitted: Trainable, X: Any) -> None:
    with pytest.raises(InputRefused):
        fitted.predict_proba(X)


@pytest.mark.parametrize(
    "weight", [np.ones(3), np.zeros(len(DATA.y)), np.full(len(DATA.y), np.nan), -np.ones(len(DATA.y))]
)
def test_weights_that_are_none_are_refused(model: Trainable, weight: Any) -> None:
    with pytest.raises(InputRefused):
        model.fit(DATA.X, DATA.y, sample_weight=weight)


def test_weights_count(fitted: Trainable, model: Trainable) -> None:
    p = fitted.predict_proba(OTHER.X)
    same = model.fit(DATA.X, DATA.y, sample_weight=np.ones(len(DATA.y))).predict_proba(OTHER.X)
    buys = model.fit(DATA.X, DATA.y, sample_weight=np.where(DATA.y == 1, 10.0, 1.0)).predict_proba(OTHER.X)
    assert same.tobytes() == p.tobytes()
    assert buys[:, 1].mean() > p[:, 1].mean() + 0.1


def test_a_frame_is_taken_by_its_names(fitted: Trainable, model: Trainable) -> None:
    polars = pytest.importorskip("polars")
    columns = ["ret 1", "vol:14", "mom5", "a", "b", "c"]
    frame = polars.DataFrame(DATA.X, schema=columns)
    p = fitted.predict_proba(DATA.X)
    model.fit(frame, polars.Series(DATA.y))
    assert model.feature_names_in_.tolist() == columns
    assert model.n_features_in_ == 6
    assert model.predict_proba(DATA.X).tobytes() == p.tobytes()
    shuffled = frame.select(polars.lit(0.0).alias("more"), *columns[::-1])
    assert model.predict_proba(shuffled).tobytes() == p.tobytes()
    with pytest.raises(InputRefused, match="mom5"):
        model.predict_proba(frame.drop("mom5"))


def test_infinite_is_missing(fitted: Trainable) -> None:
    X = OTHER.X.copy()
    X[::3, 0] = np.nan
    infinite = X.copy()
    infinite[::6, 0], infinite[3::6, 0] = np.inf, -np.inf
    assert fitted.predict_proba(infinite).tobytes() == fitted.predict_proba(X).tobytes()
    beyond = X.astype(np.float64)
    beyond[::3, 0] = 1e300                                               # no float32
    assert fitted.predict_proba(beyond).tobytes() == fitted.predict_proba(X).tobytes()


@pytest.fixture
def pandas() -> Any:
    return pytest.importorskip("pandas")


def test_pandas_nullable_columns_are_numbers(fitted: Trainable, model: Trainable, pandas: Any) -> None:
    p = fitted.predict_proba(OTHER.X)
    frame = pandas.DataFrame(DATA.X).astype("Float32")
    assert frame.isna().any().any()
    model.fit(frame, pandas.Series(DATA.y, dtype="Int8"))
    assert model.predict_proba(pandas.DataFrame(OTHER.X).astype("Float64")).tobytes() == p.tobytes()


def test_a_pandas_frame_of_one_name_twice_is_refused(model: Trainable, pandas: Any) -> None:
    twice = pandas.DataFrame(DATA.X, columns=["a", "b", "c", "d", "e", "a"])
    with pytest.raises(InputRefused, match="a more than once") as refused:
        model.fit(twice, DATA.y)
    assert refused.value.code == "feature_twice"
    model.fit(DATA.X[:, :1], DATA.y)
    once = pandas.DataFrame(DATA.X[:, :1], columns=["a"])
    model.fit(once, DATA.y)
    with pytest.raises(InputRefused, match="a more than once"):
        model.predict(twice)


def test_times_among_the_numbers_of_a_frame_are_refused(model: Trainable, pandas: Any) -> None:
    polars = pytest.importorskip("polars")
    days = polars.Series("day", np.arange(len(DATA.y)) % 9).cast(polars.Date)
    frame = polars.DataFrame(DATA.X)
    stamps = pandas.date_range("2024-01-01", periods=len(DATA.y), tz="UTC")
    for X in (frame.with_columns(days), polars.DataFrame([days]), pandas.DataFrame(DATA.X).assign(day=stamps)):
        with pytest.raises(InputRefused, match="column day") as refused:
            model.fit(X, DATA.y)
        assert refused.value.code == "dtype"
    with pytest.raises(InputRefused, match="LazyFrame") as refused:
        model.fit(frame.lazy(), DATA.y)
    assert "collect" in refused.value.hint


# ---- the split in time


def changed_at(rows: np.ndarray) -> Data:
    """The same data with other features and labels in these rows."""
    X, y = DATA.X.copy(), DATA.y.copy()
    X[rows], y[rows] = -X[rows] + 3, -y[rows]
    return Data(X, y, DATA.times)


def test_times_with_a_zone_are_taken(name: str, pandas: Any) -> None:
    ends = DATA.times + 5_000_000_000
    bits = stopping(name).fit(DATA.X, DATA.y, times=DATA.times, end_times=ends).to_bytes()
    berlin = pandas.DatetimeIndex(DATA.times).tz_localize("UTC").tz_convert("Europe/Berlin")
    later = pandas.Series(pandas.DatetimeIndex(ends)).dt.tz_localize("UTC")
    assert stopping(name).fit(DATA.X, DATA.y, times=berlin, end_times=later).to_bytes() == bits
    holes = berlin.to_series().where(DATA.times > 0)
    with pytest.raises(InputRefused, match="holes"):
        stopping(name).fit(DATA.X, DATA.y, times=holes)


def test_rows_that_weigh_nothing_are_as_if_they_were_not_there(name: str) -> None:
    """Those that would validate among them."""
    weight = np.ones(len(DATA.y))
    weight[-150:], weight[::7] = 0.0, 0.0
    there = weight > 0
    bits = stopping(name).fit(DATA.X[there], DATA.y[there], times=DATA.times[there]).to_bytes()
    assert stopping(name).fit(DATA.X, DATA.y, weight, DATA.times).to_bytes() == bits
    ends = DATA.times + 5_000_000_000
    bits = stopping(name).fit(DATA.X[there], DATA.y[there], None, DATA.times[there], ends[there]).to_bytes()
    assert stopping(name).fit(DATA.X, DATA.y, weight, DATA.times, ends).to_bytes() == bits


def test_rows_in_the_embargo_teach_nothing(name: str) -> None:
    n = len(DATA.y)
    first = n - round(0.15 * n)
    bits = stopping(name).fit(DATA.X, DATA.y).to_bytes()
    embargo = changed_at(np.arange(first - 24, first))
    assert stopping(name).fit(embargo.X, embargo.y).to_bytes() == bits
    trained = changed_at(np.arange(first - 30, first - 24))
    assert stopping(name).fit(trained.X, trained.y).to_bytes() != bits


def test_labels_that_reach_into_validation_teach_nothing(name: str) -> None:
    n = len(DATA.y)
    first = n - round(0.15 * n)
    ends = DATA.times + 5_000_000_000
    reaching = np.arange(first - 5, first)                               # ends at or after the first to validate
    ends[100] = DATA.times[first]                                        # and one from long ago
    bits = stopping(name).fit(DATA.X, DATA.y, times=DATA.times, end_times=ends).to_bytes()
    purged = changed_at(np.append(reaching, 100))
    assert stopping(name).fit(purged.X, purged.y, times=DATA.times, end_times=ends).to_bytes() == bits
    trained = changed_at(np.array([first - 6, first - 7, first - 8, first - 9]))
    assert stopping(name).fit(trained.X, trained.y, times=DATA.times, end_times=ends).to_bytes() != bits


def test_time_decides_not_the_order_of_rows(name: str) -> None:
    """Rows from the end of time validate, wherever they stand."""
    back = np.arange(len(DATA.y))[::-1]
    n = len(DATA.y)
    bits = stopping(name).fit(DATA.X[back], DATA.y[back], times=DATA.times[back]).to_bytes()
    first = n - round(0.15 * n)
    embargo = changed_at(np.arange(first - 24, first))
    assert stopping(name).fit(embargo.X[back], embargo.y[back], times=DATA.times[back]).to_bytes() == bits


@pytest.mark.parametrize(
    ("times", "ends"),
    [
        (None, DATA.times), (DATA.times, DATA.times - 1), (DATA.times[:5], None), (DATA.times.astype(float), None),
        (DATA.times, np.full(len(DATA.y), 10**18)),
    ],
)
def test_stamps_that_cannot_be_meant_are_refused(name: str, times: Any, ends: Any) -> None:
    with pytest.raises(InputRefused):
        stopping(name).fit(DATA.X, DATA.y, times=times, end_times=ends)


@pytest.mark.parametrize(("times", "ends"), [(None, DATA.times), (DATA.times, DATA.times - 1)])
def test_ends_that_cannot_be_meant_are_refused_where_nothing_stops_early(model: Trainable, times: Any, ends: Any) -> None:
    with pytest.raises(InputRefused) as refused:
        model.fit(DATA.X, DATA.y, times=times, end_times=ends)
    assert refused.value.code == "end_times"


def test_too_few_rows_to_stop_early_are_refused(name: str) -> None:
    with pytest.raises(InputRefused) as refused:
        stopping(name).fit(DATA.X[:120], DATA.y[:120])
    assert refused.value.code == "too_few_rows"


def test_the_split_keeps_its_distance() -> None:
    for n in (130, 200, 1000, 10_000):
        train, validation = time_series_train_val_split(n)
        assert validation[-1] == n - 1
        assert validation[0] - train[-1] - 1 == max(24, -(-n // 100))
        assert train.size >= 100
    assert time_series_train_val_split(10_000)[1].size == 1500
    assert time_series_train_val_split(130)[1].size == 6
    train, validation = time_series_train_val_split(1000, val=0.2, embargo=0)
    assert (train.size, validation.size) == (800, 200)
    with pytest.raises(InputRefused):
        time_series_train_val_split(124)


def test_the_purge_takes_exactly_the_labels_that_reach_across() -> None:
    times = np.arange(1000)
    ends = times + np.random.default_rng(0).integers(0, 300, 1000)
    order = np.random.default_rng(1).permutation(1000)
    train, validation = purged_train_val_split(times[order], ends[order])
    assert sorted(times[order][validation]) == list(range(850, 1000))
    assert sorted(times[order][train]) == [t for t in range(850) if ends[t] < 850]


# ---- saved and loaded


def test_the_same_bits_after_loading(name: str, model: Trainable, tmp_path: Path) -> None:
    fitted = model.fit(DATA.X, DATA.y)
    fitted.save(tmp_path / "model.txt")
    assert [file.name for file in tmp_path.iterdir()] == ["model.txt"]
    loaded = create(name).load(tmp_path / "model.txt")
    assert loaded.predict_proba(OTHER.X).tobytes() == fitted.predict_proba(OTHER.X).tobytes()
    assert loaded.export().predict_proba(OTHER.X).tobytes() == fitted.export().predict_proba(OTHER.X).tobytes()
    assert loaded.class_prior_.tolist() == fitted.class_prior_.tolist()
    assert loaded.settings_ == fitted.settings_
    assert loaded.rounds_ == fitted.rounds_
    assert loaded.to_bytes() == fitted.to_bytes()


def test_the_same_bits_in_a_fresh_process(tmp_path: Path) -> None:
    rows = tmp_path / "rows.npy"
    np.save(rows, OTHER.X)
    expected = {}
    for name in names():
        fitted = create(name).from_bytes(fitted_bytes(name)).save(tmp_path / name)
        expected[name] = hashlib.sha256(fitted.predict_proba(OTHER.X).tobytes()).hexdigest()
    answer = run(
        "import hashlib, json, numpy as np\n"
        "from trainers.experts import create, names\n"
        f"rows = np.load({str(rows)!r})\n"
        f"models = {{name: create(name).load({str(tmp_path)!r} + '/' + name) for name in names()}}\n"
        "digests = {name: hashlib.sha256(m.predict_proba(rows).tobytes()).hexdigest() for name, m in models.items()}\n"
        "print(json.dumps(digests))"
    )
    assert json.loads(answer.stdout.splitlines()[-1]) == expected, answer.stderr


def test_another_expert_s_file_is_refused(name: str, fitted: Trainable) -> None:
    for other in names():
        if other != name:
            with pytest.raises(ModelRefused):
                create(other).from_bytes(fitted.to_bytes())


def test_damaged_files_are_refused(name: str, fitted: Trainable, tmp_path: Path) -> None:
    data = fitted.to_bytes()
    rng = np.random.default_rng(0)
    broken = [data[: len(data) // 2], b"", b"nothing"]
    for place in rng.integers(0, len(data), 50):
        flipped = bytearray(data)
        flipped[place] ^= 1
        broken.append(bytes(flipped))
    for content in broken:
        with pytest.raises(ModelRefused):
            create(name).from_bytes(content)
    with pytest.raises(ModelRefused):
        create(name).load(tmp_path / "nothing.txt")


@pytest.mark.parametrize("said", [
    (b'"class_prior"', b'"class_prios"'), (b'"classes": [', b'"classes": {}, "more": ['), (b'"format": 2', b'"format": 3'),
    (b'"n_features": 6', b'"n_features": "six"'), (b'{"format"', b'{"format" {'),
])
def test_another_version_s_description_is_refused(name: str, fitted: Trainable, said: tuple[bytes, bytes]) -> None:
    """Sealed as a whole, and not what this one writes."""
    data = fitted.to_bytes().replace(*said, 1)
    assert data != fitted.to_bytes()
    data = _seal(_SEAL.sub(_OPEN.encode(), data, 1))
    with pytest.raises(ModelRefused) as refused:
        create(name).from_bytes(data)
    assert refused.value.code in ("model_format", "model_damaged")


def test_where_it_cannot_be_saved_nothing_is_left(fitted: Trainable, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for where in ("folder", "missing/model.txt", "file/model.txt"):
        with pytest.raises(UsageError, match=f"{where}' can't be written") as refused:
            fitted.save(tmp_path / where)
        assert refused.value.code == "out"
        assert "part" not in str(refused.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


# ---- sklearn's conventions


def test_parameters(name: str, model: Trainable) -> None:
    params = model.get_params()
    assert {"idx", "device", "gpu_only", "threads", "preset"} <= set(params)
    assert create(name, **params).get_params() == params
    assert model.set_params(preset="seed").get_params()["preset"] == "seed"
    for wrong in ({"presett": "seed"}, {"nothing": 1}):
        with pytest.raises(UsageError):
            model.set_params(**wrong)
        with pytest.raises(ValueError, match="no parameter"):
            create(name, **wrong)


@pytest.mark.parametrize("wrong", [
    {"preset": "big"}, {"preset": ["lean"]}, {"idx": 0}, {"idx": "1"}, {"idx": 1.0}, {"threads": 0}, {"threads": "2"},
    {"class_weight": "heavy"}, {"class_weight": {0: 1.0}}, {"device": 3}, {"gpu_only": "no"}, {"rounds": "10"}, {"rounds": 0},
    {"rounds": 10.0}, {"rounds": True}, {"early_stopping": -1}, {"learning_rate": 0.0}, {"learning_rate": float("nan")},
])
def test_values_that_cannot_be_meant_are_refused(model: Trainable, wrong: dict[str, Any]) -> None:
    """By fit: until then they are only kept, as sklearn wants it."""
    with pytest.raises(UsageError, match=next(iter(wrong))) as refused:
        model.set_params(**wrong).fit(DATA.X, DATA.y)
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize("wrong", [{"rate_drop": 2}, {"skip_drop": -1}, {"booster": "other"}, {"booster": 1}])
def test_values_of_dart_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        create("xgboost_dart", device="cpu", **wrong).fit(DATA.X, DATA.y)


def test_presets_and_searches_keep_to_the_limits(name: str) -> None:
    kind = type(create(name))
    for preset in kind.presets.values():
        assert {parameter for parameter, value in preset.items() if not isinstance(value, bool)} == kind.limits.keys()
        assert all(value in kind.limits[parameter] for parameter, value in preset.items() if parameter in kind.limits)
    for parameter, space in kind.search_space.items():
        assert all(value in kind.limits[parameter] for value in space if value not in SCALES)


def test_none_and_numpy_s_numbers_will_do(name: str, fitted: Trainable) -> None:
    rounds = np.int64(fitted.settings_["rounds"])
    seen = create(name, np.int64(1), None, np.False_, np.int32(1), rounds=rounds)
    seen.where(Gpus(0, "there is none"))
    assert seen.set_params(device="cpu").fit(DATA.X, DATA.y).to_bytes() == fitted.to_bytes()


def test_parameters_that_were_never_fitted_are_refused_when_asked(fitted: Trainable) -> None:
    if type(fitted).__module__.endswith(("lightgbm", "catboost", "catboost_alt")):     # XGBoost's counts from loading on
        with pytest.raises(UsageError, match="threads"):
            fitted.set_params(threads="2").predict_proba(OTHER.X)
    with pytest.raises(UsageError, match="threads"):
        fitted.set_params(threads="2").fit(DATA.X, DATA.y)


def test_sklearn_clones_it_and_knows_its_errors(fitted: Trainable) -> None:
    base = pytest.importorskip("sklearn.base")
    from sklearn.exceptions import NotFittedError
    from sklearn.model_selection import TimeSeriesSplit, cross_val_score

    copy = base.clone(fitted.set_params(idx=3))
    assert copy.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(DATA.X)
    assert not hasattr(copy, "n_features_in_")
    assert not hasattr(fitted, "feature_names_in_")
    scores = cross_val_score(copy, DATA.X, DATA.y, cv=TimeSeriesSplit(2), scoring="accuracy", error_score="raise")
    assert scores.min() > 0.5


def test_sklearn_searches_by_labels_or_by_our_log_loss(name: str) -> None:
    selection = pytest.importorskip("sklearn.model_selection")
    model, cut = create(name, device="cpu", threads=1), selection.TimeSeriesSplit(2)

    def search(scoring: Any = None) -> Any:
        return selection.GridSearchCV(model, {"rounds": [5]}, scoring=scoring, cv=cut, error_score="raise").fit(DATA.X, DATA.y)

    by_labels, by_loss = search(), search(neg_log_loss)
    for i, (train, test) in enumerate(cut.split(DATA.X)):
        p = create(name, device="cpu", threads=1, rounds=5).fit(DATA.X[train], DATA.y[train]).predict_proba(DATA.X[test])
        right = [[0, 1, -1][row.argmax()] == label for row, label in zip(p, DATA.y[test], strict=True)]
        loss = -np.mean([np.log(row[[0, 1, -1].index(label)]) for row, label in zip(p, DATA.y[test], strict=True)])
        assert by_labels.cv_results_[f"split{i}_test_score"][0] == pytest.approx(np.mean(right))
        assert by_loss.cv_results_[f"split{i}_test_score"][0] == pytest.approx(-loss, rel=1e-6)
    heavy = np.where(DATA.y == 1, 3.0, 1.0)
    right = by_labels.best_estimator_.predict(DATA.X) == DATA.y
    assert by_labels.best_estimator_.score(DATA.X, DATA.y, heavy) == pytest.approx(np.average(right, weights=heavy))


CANT = {
    "check_no_attributes_set_in_init": "an expert's parameters are those of its presets, not spelled out in __init__",
    "check_do_not_raise_errors_in_init_or_set_params": "a parameter that doesn't exist is refused at once",
    "check_classifiers_classes": "labels are -1, 0, 1, never text",
    "check_classifiers_train": "classes_ is always [0, 1, -1], whatever the labels were",
    "check_classifiers_regression_target": "0.3 is refused as a label that isn't -1, 0 or 1, in our words",
    "check_dtype_object": "what is no number is refused as a ValueError, not a TypeError",
    "check_supervised_y_2d": "labels of shape (n, 1) are refused, not reshaped",
    "check_class_weight_classifiers": "class weights are balanced or none",
}
"""Of sklearn's checks, those that no expert can pass, and why."""


def lenient(name: str) -> Trainable:
    """The expert for sklearn's data: a label it doesn't know is taken for one it knows, so that all else is looked at."""
    kind = type(create(name))

    def known(y: Any) -> Any:
        given = np.asarray(y)
        whole = given.ndim == 1 and given.dtype.kind in "iuf" and (np.isfinite(given) & (given == given.round())).all()
        return (given.astype(int) + 1) % 3 - 1 if whole else y

    def fit(self: Trainable, X: Any, y: Any = None, *args: Any, **kwargs: Any) -> Trainable:
        return kind.fit(self, X, known(y), *args, **kwargs)

    def score(self: Trainable, X: Any, y: Any) -> float:
        return kind.score(self, X, known(y))

    made = type(f"Lenient_{name}", (kind,), {"fit": fit, "score": score, "__module__": __name__})
    globals()[made.__name__] = made                                      # where pickle looks for it
    return made(device="cpu", threads=1, rounds=3)


def test_sklearn_s_checks_pass_but_those_named(name: str) -> None:
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    failing = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for estimator, check in checks.estimator_checks_generator(lenient(name)):
            called = getattr(check, "func", check).__name__
            try:
                check(estimator)
            except SkipTest:
                pass
            except Exception as error:
                failing[called] = error
    assert failing.keys() == CANT.keys(), {called: repr(failing.get(called)) for called in failing.keys() ^ CANT.keys()}


def test_unfitted_use_is_refused(model: Trainable, tmp_path: Path) -> None:
    for use in (model.predict, model.predict_proba):
        with pytest.raises(NotFitted) as refused:
            use(DATA.X)
        assert isinstance(refused.value, InputRefused)
        assert isinstance(refused.value, ValueError)
    for use in (model.export, model.to_bytes, lambda: model.save(tmp_path / "x.txt")):
        with pytest.raises(NotFitted):
            use()
    assert not list(tmp_path.iterdir())


# ---- what a search may try


def drawn(space: dict[str, tuple[Any, ...]], rng: np.random.Generator) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for parameter, choices in space.items():
        low, high, scale = choices if choices[-1] in SCALES else (0, len(choices) - 1, "choice")
        if scale == "log":
            found[parameter] = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        elif scale == "linear":
            found[parameter] = float(rng.uniform(low, high))
        else:
            number = int(rng.integers(low, high + 1))
            found[parameter] = number if scale == "int" else choices[number]
    return found


def test_whatever_a_search_draws_can_be_fitted(name: str) -> None:
    space = type(create(name)).search_space
    assert space
    rng = np.random.default_rng(0)
    for preset in ("lean", "seed"):
        assert space.keys() <= type(create(name)).presets[preset].keys()
    for _ in range(3):
        model = create(name, device="cpu", threads=1, **drawn(space, rng) | {"rounds": 4}).fit(DATA.X, DATA.y)
        assert parity(model.export(), model.predict_proba(OTHER.X), OTHER.X) <= PARITY


def test_presets_name_the_same_parameters(name: str) -> None:
    presets = type(create(name)).presets
    assert presets["lean"].keys() == presets["seed"].keys() >= {"rounds", "early_stopping"}
    assert (presets["lean"]["early_stopping"], presets["seed"]["early_stopping"]) == (0, 50)


# ---- devices


@pytest.mark.parametrize("count", [8, 3, 1, 0])
def test_seventeen_experts_on_however_many_gpus(count: int) -> None:
    gpus = Gpus(count, "there is none")
    chosen = [choose_device("auto", idx, False, lambda: gpus, {}) for idx in range(1, 18)]
    assert chosen == [Device("gpu", (idx - 1) % count) if count else Device("cpu") for idx in range(1, 18)]
    if not count:
        for idx in range(1, 18):
            with pytest.raises(DeviceMissing) as refused:
                choose_device("auto", idx, True, lambda: gpus, {})
            assert refused.value.code == "gpu_missing"


def test_the_cpu_instead_of_a_gpu_is_said_once(name: str, caplog: pytest.LogCaptureFixture) -> None:
    _say_once.cache_clear()
    why = f"no GPU for {name}"
    with caplog.at_level("INFO", "trainers.experts.devices"):
        for _ in range(3):
            assert create(name).where(Gpus(0, why)) == Device("cpu")
    assert [record.message for record in caplog.records] == [f"training on the CPU: {why}"]


@pytest.mark.parametrize("name", ["xgboost", "xgboost_rf", "xgboost_dart"])
def test_a_library_that_quietly_takes_the_cpu_is_caught(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """XGBoost without CUDA, told that there is a GPU, only warns."""
    if create(name).library().build_info()["USE_CUDA"]:
        pytest.skip("this XGBoost would look for the GPU")
    monkeypatch.setattr(type(create(name)), "_gpus", lambda self: Gpus(2))
    _say_once.cache_clear()
    with caplog.at_level("INFO", "trainers.experts.devices"):
        create(name, idx=2, rounds=2, threads=1).fit(DATA.X, DATA.y)
    assert "cuda:1" in caplog.text
    for demanded in ({"gpu_only": True}, {"device": "cuda:1"}, {"device": "gpu"}):
        with pytest.raises(DeviceMissing) as refused:
            create(name, idx=2, rounds=2, threads=1, **demanded).fit(DATA.X, DATA.y)
        assert refused.value.code == "gpu_missing"


def test_without_a_gpu_only_the_cpu_answers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if create(name)._gpus().usable:
        pytest.skip("there is a GPU")
    for demanded in ({"gpu_only": True}, {"device": "gpu"}, {"device": "cuda:0"}):
        with pytest.raises(DeviceMissing) as refused:
            create(name, **demanded).fit(DATA.X, DATA.y)
        assert refused.value.hint
    create(name).fit(DATA.X, DATA.y)
    monkeypatch.setenv("TOCSIN_DEVICE", "gpu")
    with pytest.raises(DeviceMissing):
        create(name).fit(DATA.X, DATA.y)
    create(name, device="cpu").fit(DATA.X, DATA.y)
    monkeypatch.setenv("TOCSIN_DEVICE", "cpu")
    with pytest.raises(DeviceMissing):
        create(name, gpu_only=True).fit(DATA.X, DATA.y)


def test_a_missing_library_is_named_with_what_installs_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library = create(name).requires
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(DeviceMissing, match=library) as refused:
        create(name)
    assert "pip install" in refused.value.hint


@pytest.mark.parametrize(
    ("device", "idx", "gpu_only", "gpus", "environment", "chosen"),
    [
        ("auto", 1, False, 0, None, Device("cpu")),
        ("auto", 1, False, 2, None, Device("gpu", 0)),
        ("auto", 2, False, 2, None, Device("gpu", 1)),
        ("auto", 17, False, 4, None, Device("gpu", 0)),
        ("auto", 3, False, 2, "cpu", Device("cpu")),
        ("auto", 1, False, 4, "cuda:3", Device("gpu", 3)),
        ("gpu", 4, False, 3, "cpu", Device("gpu", 0)),
        ("cpu", 1, False, 2, "gpu", Device("cpu")),
        ("cuda:3", 1, False, 4, None, Device("gpu", 3)),
        ("cuda", 2, False, 4, None, Device("gpu", 1)),
        ("auto", 2, True, 2, "cpu", Device("gpu", 1)),
        ("auto", 1, True, 0, None, DeviceMissing),
        ("gpu", 1, False, 0, None, DeviceMissing),
        ("cuda:3", 1, False, 3, None, DeviceMissing),
        ("cpu", 1, True, 2, None, UsageError),
        ("tpu", 1, False, 2, None, UsageError),
        ("cuda:x", 1, False, 2, None, UsageError),
        ("cpu:1", 1, False, 2, None, UsageError),
        ("auto", 1, False, 2, "fast", UsageError),
        ("auto", 2, False, 2, "", Device("gpu", 1)),
        (None, 2, False, 2, None, Device("gpu", 1)),
        (None, 2, False, 2, "cpu", Device("cpu")),
        ("", 1, False, 2, None, UsageError),
    ],
)
def test_the_rules_of_devices(
    device: str | None, idx: int, gpu_only: bool, gpus: int, environment: str | None, chosen: Any
) -> None:
    environ = {} if environment is None else {"TOCSIN_DEVICE": environment}

    def choose() -> Device:
        return choose_device(device, idx, gpu_only, lambda: Gpus(gpus, "none here", "install one"), environ)

    if isinstance(chosen, Device):
        assert choose() == chosen
    else:
        with pytest.raises(chosen):
            choose()


def test_gpus_and_threads_go_round() -> None:
    assert [assigned_gpu(idx, 4) for idx in (1, 2, 4, 5, 17)] == [0, 1, 3, 0, 0]
    assert thread_shares(8, 3) == [3, 3, 2]
    assert thread_shares(2, 3) == [1, 1, 1]


# ---- threads


def test_two_threads_get_what_one_gets(fitted: Trainable) -> None:
    served = fitted.export()
    expected = fitted.predict_proba(OTHER.X).tobytes(), served.predict_proba(OTHER.X).tobytes()
    answers: list[tuple[bytes, bytes]] = []

    def ask() -> None:
        for _ in range(20):
            answers.append((fitted.predict_proba(OTHER.X).tobytes(), served.predict_proba(OTHER.X).tobytes()))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 40
    assert set(answers) == {expected}


def test_others_run_while_it_fits_and_answers(fitted: Trainable) -> None:
    """With the GIL held, a thread that wakes every millisecond would wake about once."""
    served = fitted.export()
    served.predict_proba(OTHER.X)                                        # compiles, in which others may run
    many = np.tile(OTHER.X, (200, 1))
    label = np.tile(OTHER.y, 200)
    more = np.tile(OTHER.X, (2000, 1))                                   # what is served takes little time
    for work in (lambda: fitted.predict_proba(many), lambda: served.predict_proba(more), lambda: fitted.fit(many, label)):
        worker = threading.Thread(target=work)
        worker.start()
        begun, woken = time.perf_counter(), 0
        while worker.is_alive():
            time.sleep(0.001)
            woken += 1
        worker.join()
        assert woken > 10, f"woke {woken} times in {time.perf_counter() - begun:.3f} s"


def test_beside_a_refit_the_old_model_answers_until_the_new_one_stands(fitted: Trainable) -> None:
    old = fitted.predict_proba(OTHER.X).tobytes()
    answers: list[bytes] = []
    started, done = threading.Event(), threading.Event()

    def ask() -> None:
        while not done.is_set():
            answers.append(fitted.predict_proba(OTHER.X).tobytes())
            started.set()

    asking = threading.Thread(target=ask)
    asking.start()
    started.wait(10)
    during = []
    fitted.fit(OTHER.X, OTHER.y, progress=lambda done, total: during.append(fitted.predict_proba(OTHER.X).tobytes()))
    new = fitted.predict_proba(OTHER.X).tobytes()
    done.set()
    asking.join()
    assert old != new
    assert set(during) == {old}
    assert set(answers) <= {old, new}
    assert answers[0] == old


def test_a_fit_that_fails_leaves_the_old_model(fitted: Trainable) -> None:
    old = fitted.predict_proba(OTHER.X).tobytes()

    def stop(done: int, total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        fitted.fit(OTHER.X, OTHER.y, progress=stop)
    assert fitted.predict_proba(OTHER.X).tobytes() == old


def test_progress_is_told(model: Trainable) -> None:
    told: list[tuple[int, int]] = []
    model.fit(DATA.X, DATA.y, progress=lambda done, total: told.append((done, total)))
    assert told
    assert told == sorted(told)
    assert told[-1][0] <= told[-1][1]


# ---- labels and names


@pytest.mark.parametrize(
    "y", [[1, -1, 0, 0], [1, 1, -1], [0], np.array([1, 0, 1], np.uint8), np.array([-1, 1], np.int8)]
)
def test_labels_become_contiguous_and_come_back(y: Any) -> None:
    contiguous, classes = remap_labels_to_contiguous(y)
    assert sorted(set(contiguous.tolist())) == list(range(classes.size))
    assert classes.tolist() == sorted({int(label) for label in y})
    assert restore_labels(contiguous, classes).tolist() == [int(label) for label in y]


def test_all_three_labels_map_as_the_libraries_want_them() -> None:
    assert remap_labels_to_contiguous([-1, 0, 1])[0].tolist() == [0, 1, 2]
    p = np.array([[0.1, 0.2, 0.7]])                                      # sell, neutral, buy
    assert reorder_to_neutral_buy_sell(p).tolist() == [[0.2, 0.7, 0.1]]


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError) as refused:
        create("lightgmb")
    assert "lightgbm" in refused.value.hint


@pytest.mark.parametrize("name", [None, 3, ["lightgbm"]])
def test_what_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(UsageError) as refused:
        create(name)
    assert refused.value.code == "expert_unknown"


def test_a_list_of_experts() -> None:
    assert chosen(" xgboost , lightgbm,") == ["xgboost", "lightgbm"]
    assert chosen(" all ") == list(names())
    for wrong, code in (("lightgbm,lightgbm", "expert_twice"), ("lightgbm,nobody", "expert_unknown"), (" ,", "expert_unknown")):
        with pytest.raises(UsageError) as refused:
            chosen(wrong)
        assert refused.value.code == code


def run(program: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path[:0] = {[str(path) for path in paths]!r}\n{program}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def stranger(folder: Path, entry: str) -> None:
    """An installed package that offers an expert."""
    (folder / "strangers.py").write_text(
        "from trainers.experts.lightgbm import LightGBMExpert\n"
        "class Stranger(LightGBMExpert):\n    name = 'stranger'\n"
    )
    info = folder / "strangers-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[tocsin.expert]\n{entry}\n")


def test_a_stranger_s_expert_is_found(tmp_path: Path) -> None:
    stranger(tmp_path, "stranger = strangers:Stranger")
    answer = run("from trainers.experts import create, names; print(names()[-1], create('stranger').name)", tmp_path)
    assert answer.stdout.split() == ["stranger", "stranger"], answer.stderr


@pytest.mark.parametrize("entry", ["lightgbm = strangers:Stranger", "dict = builtins:dict"])
def test_a_stranger_that_clashes_is_refused(tmp_path: Path, entry: str) -> None:
    stranger(tmp_path, entry)
    answer = run("from trainers.experts import names; names()", tmp_path)
    assert "UsageError" in answer.stderr
    assert "expert_clash" in answer.stderr


def test_naming_the_experts_loads_no_library() -> None:
    heavy = ("lightgbm", "xgboost", "catboost", "sklearn", "torch")
    answer = run(f"from trainers.experts import names; names(); print([m for m in {heavy} if m in sys.modules])")
    assert answer.stdout.strip() == "[]", answer.stderr


def test_unfitted_use_without_sklearn_is_our_error() -> None:
    answer = run(
        "from trainers.experts.base import NotFitted\n"
        "from trainers.experts.lightgbm import LightGBMModel\n"
        "try: LightGBMModel().predict([[0.0]])\n"
        "except NotFitted as error: print(error.code, 'sklearn' in sys.modules)"
    )
    assert answer.stdout.split() == ["not_fitted", "False"], answer.stderr
