"""What an expert is given, checked and brought into one shape: labels, rows, weights, stamps, and the split in time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.errors import InputRefused
from engine.types import F32, F64, I64

from ..metrics import LABELS

LEAST_TRAINING_ROWS = 100


class Rows(NamedTuple):
    """X (n, F) float32 without ±inf, y (n,) contiguous, weight (n,): the sample's times its class's."""

    X: F32
    y: I64
    weight: F64


def remap_labels_to_contiguous(y: ArrayLike) -> tuple[I64, I64]:
    """Labels of any integer type and order -> (y', classes): classes (K,) are those present, rising, y == classes[y'].

    With all three present -1 → 0, 0 → 1, 1 → 2. Raises InputRefused (`labels`) as `labels_of`.
    """
    classes, contiguous = np.unique(labels_of(y), return_inverse=True)
    return contiguous.astype(np.int64), classes


def restore_labels(contiguous: ArrayLike, classes: ArrayLike) -> I64:
    """The inverse of `remap_labels_to_contiguous`."""
    return np.asarray(np.asarray(classes, np.int64)[np.asarray(contiguous)])


def reorder_to_neutral_buy_sell(p: NDArray[Any]) -> NDArray[Any]:
    """(n, 3) columns [sell, neutral, buy] -> [neutral, buy, sell]."""
    return p[:, [1, 2, 0]]


def labels_of(y: ArrayLike) -> I64:
    """(n,) labels. Raises InputRefused (`labels`) for none at all, for NaN, and for any that is not -1, 0 or 1."""
    given = np.asarray(y)
    number = given.dtype.kind in "iuf"
    if given.ndim != 1 or given.size == 0:
        wrong = f"of shape {given.shape}"
    elif not number:
        wrong = f"of type {given.dtype}"
    elif np.isnan(given).any():
        wrong = "NaN"
    else:
        wrong = ", ".join(f"{label:g}" for label in np.setdiff1d(given, LABELS)[:5])
    if wrong:
        raise InputRefused(
            "labels", f"labels {wrong} are none of -1, 0, 1", hint="one per row: -1 sell, 0 neutral, 1 buy"
        )
    return given.astype(np.int64)


def rows_of(X: Any, names: tuple[str, ...] | None = None, ndim: int = 2) -> tuple[F32, tuple[str, ...] | None]:
    """An array, or a frame with named columns (polars, pandas) -> C-contiguous float32 without ±inf, and the names.

    names: the columns to take from a frame, in that order. Raises InputRefused: `shape`, `empty`, `dtype`,
    `feature_missing`.
    """
    if hasattr(X, "toarray"):
        raise InputRefused("dtype", "sparse input is not supported", hint="give X.toarray()")
    found = None
    if hasattr(X, "columns") and hasattr(X, "to_numpy"):
        found = tuple(str(name) for name in X.columns)
        missing = [name for name in names or () if name not in found]
        if missing:
            raise InputRefused(
                "feature_missing", f"the frame lacks {', '.join(missing[:5])}", hint="give every column the fit had"
            )
        if names and hasattr(X, "iloc"):                   # pandas: a column's name need not be a string
            X = X.iloc[:, [found.index(name) for name in names]]
        elif names:
            X = X[list(names)]
        X = X.to_numpy()
    try:
        given = np.asarray(X)
    except ValueError as error:
        raise InputRefused("shape", f"not a matrix: {error}", hint="give rows of equal length") from None
    if given.ndim != ndim:
        wanted = "(rows, features)" if ndim == 2 else "(rows, steps, features)"
        raise InputRefused("shape", f"an array of shape {given.shape}", hint=f"Reshape your data: this expert takes {wanted}")
    if given.size == 0:
        lacking = "feature" if len(given) else "sample"
        raise InputRefused(
            "empty", f"0 {lacking}(s) (shape={given.shape}) while a minimum of 1 is required", hint="give one at least"
        )
    if given.dtype.kind == "O":
        given = _numbers(given)
    if given.dtype.kind == "c":
        raise InputRefused("dtype", "Complex data not supported", hint="every column is a number")
    if given.dtype.kind not in "fiub":
        raise InputRefused("dtype", f"values of type {given.dtype}", hint="every column is a number")
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(given, np.float32)
    infinite = np.isinf(rows)
    if infinite.any():
        rows = np.where(infinite, np.float32(np.nan), rows)
    return rows, found


def _numbers(given: NDArray[Any]) -> NDArray[Any]:
    """Objects that are numbers."""
    try:
        return given.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputRefused("dtype", f"not all values are numbers: {error}", hint="every column is a number") from None


def column_of(name: str, values: ArrayLike, n: int) -> NDArray[Any]:
    """(n,). Raises InputRefused (`shape`)."""
    column = np.asarray(values)
    if column.shape != (n,):
        raise InputRefused("shape", f"{name} has shape {column.shape} for {n} rows", hint="give one value per row")
    return column


def weights_of(sample_weight: ArrayLike | None, n: int) -> F64:
    """(n,), ones by default. Raises InputRefused (`shape`, `weights`)."""
    if sample_weight is None:
        return np.ones(n)
    weight = column_of("sample_weight", sample_weight, n).astype(np.float64)
    wrong = "" if np.isfinite(weight).all() and (weight >= 0).all() else "some weights are negative or no numbers"
    if wrong or not weight.any():
        raise InputRefused("weights", wrong or "every weight is zero", hint="a weight is finite and at least 0")
    return weight


def stamps_of(name: str, values: ArrayLike, n: int) -> I64:
    """(n,) ns UTC of integers or datetimes. Raises InputRefused (`shape`, `dtype`)."""
    stamps = column_of(name, values, n)
    if stamps.dtype.kind not in "iuM" or (stamps.dtype.kind == "M" and np.isnat(stamps).any()):
        raise InputRefused(
            "dtype", f"{name} is of type {stamps.dtype} or has holes", hint="give ns UTC as integers, or datetimes"
        )
    return (stamps.astype("datetime64[ns]") if stamps.dtype.kind == "M" else stamps).astype(np.int64)


def time_series_train_val_split(n: int, val: float = 0.15, embargo: int | None = None) -> tuple[I64, I64]:
    """Row indices (train, validation) of n rows in order of time: the last `val` validates, at least 100 rows train.

    embargo: rows left out between them, by default the larger of 24 and 1 %. Raises InputRefused (`too_few_rows`).
    """
    gap = max(24, -(-n // 100)) if embargo is None else embargo
    first = max(n - round(n * val), LEAST_TRAINING_ROWS + gap)
    if first >= n:
        raise _too_few(n)
    return np.arange(first - gap), np.arange(first, n)


def purged_train_val_split(times: I64, end_times: I64, val: float = 0.15) -> tuple[I64, I64]:
    """Row indices (train, validation): the last `val` validates, those train whose label ends before it begins.

    times, end_times: (n,) ns UTC, rows in any order. Raises InputRefused: `end_times` (a label ends before its row),
    `too_few_rows`.
    """
    if (end_times < times).any():
        raise InputRefused("end_times", "a label ends before its row", hint="end_times are the ends of the labels")
    order = np.argsort(times, kind="stable")
    earlier, validation = np.split(order, [times.size - round(times.size * val)])
    train = earlier[end_times[earlier] < times[validation[:1]]] if validation.size else earlier[:0]
    if train.size < LEAST_TRAINING_ROWS:
        raise _too_few(times.size)
    return train, validation


def train_and_validation(n: int, times: I64 | None, end_times: I64 | None) -> tuple[I64, I64]:
    """Row indices by what is known: the labels' ends, else the rows' times, else their order."""
    if end_times is None:
        order = np.arange(n) if times is None else np.argsort(times, kind="stable")
        train, validation = time_series_train_val_split(n)
        return order[train], order[validation]
    if times is None:
        raise InputRefused("end_times", "end_times without times", hint="give both, or neither")
    return purged_train_val_split(times, end_times)


def _too_few(n: int) -> InputRefused:
    return InputRefused(
        "too_few_rows", f"{n} rows leave fewer than {LEAST_TRAINING_ROWS} to train, or none to stop early on",
        hint="give more rows, or set early_stopping=0",
    )
