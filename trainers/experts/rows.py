"""What an expert is given, checked and brought into one shape: labels, rows, weights, stamps, and the split in time."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.errors import InputRefused
from engine.types import F32, F64, I64

from ..metrics import LABELS
from .parameters import FROM_0, SHARE, checked

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


def reorder_to_neutral_buy_sell(p: ArrayLike) -> NDArray[Any]:
    """(n, 3) columns [sell, neutral, buy] -> [neutral, buy, sell]. Raises InputRefused (`shape`)."""
    given = np.asarray(p)
    if given.ndim != 2 or given.shape[1] != 3:
        raise InputRefused("shape", f"probabilities of shape {given.shape}", hint="give (n, 3): sell, neutral, buy")
    return given[:, [1, 2, 0]]


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
    `feature_missing`, `feature_twice`.
    """
    if hasattr(X, "toarray"):
        raise InputRefused("dtype", "sparse input is not supported", hint="give X.toarray()")
    if hasattr(X, "collect_schema") and not hasattr(X, "to_numpy"):
        raise InputRefused("dtype", "a LazyFrame has no rows yet", hint="give X.collect()")
    found = None
    if hasattr(X, "columns") and hasattr(X, "to_numpy"):
        found = tuple(str(name) for name in X.columns)
        missing = [name for name in names or () if name not in found]
        if missing:
            raise InputRefused(
                "feature_missing", f"the frame lacks {', '.join(missing[:5])}", hint="give every column the fit had"
            )
        count = Counter(found)
        twice = [name for name in dict.fromkeys(names or found) if count[name] > 1]
        if twice:
            raise InputRefused(
                "feature_twice", f"the frame has {', '.join(twice[:5])} more than once", hint="give every column its own name"
            )
        if names and hasattr(X, "iloc"):                   # pandas: a column's name need not be a string
            X = X.iloc[:, [found.index(name) for name in names]]
        elif names:
            X = X[list(names)]
        X = _values(X)
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


def _values(frame: Any) -> Any:
    """What a frame holds. Raises InputRefused (`dtype`) for times among numbers: a matrix would take them for numbers."""
    for name, dtype in zip(frame.columns, frame.dtypes, strict=True):
        if dtype.is_temporal() if hasattr(dtype, "is_temporal") else dtype.kind in "mM":
            raise InputRefused("dtype", f"column {name} is of type {dtype}", hint="leave times out, or make numbers of them")
    values = frame.to_numpy()
    if values.dtype.kind == "O" and hasattr(frame, "iloc"):
        values = frame.to_numpy(na_value=np.nan)           # pandas' nullable columns
    return values


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


def stamps_of(name: str, values: Any, n: int) -> I64:
    """(n,) ns UTC of integers or datetimes. Raises InputRefused (`shape`, `dtype`)."""
    if getattr(getattr(values, "dtype", None), "tz", None) is not None:
        values = values.to_numpy("datetime64[ns]")         # pandas' datetimes with a zone would be objects else; UTC
    stamps = column_of(name, values, n)
    if stamps.dtype.kind not in "iuM" or (stamps.dtype.kind == "M" and np.isnat(stamps).any()):
        raise InputRefused(
            "dtype", f"{name} is of type {stamps.dtype} or has holes", hint="give ns UTC as integers, or datetimes"
        )
    return (stamps.astype("datetime64[ns]") if stamps.dtype.kind == "M" else stamps).astype(np.int64)


def spans_of(times: Any, end_times: Any, n: int) -> tuple[I64 | None, I64 | None]:
    """(n,) ns UTC of each, None for what isn't known. Raises InputRefused (`shape`, `dtype`, `end_times`)."""
    when = None if times is None else stamps_of("times", times, n)
    ends = None if end_times is None else stamps_of("end_times", end_times, n)
    if ends is not None:
        if when is None:
            raise InputRefused("end_times", "end_times without times", hint="give both, or neither")
        if (ends < when).any():
            raise InputRefused("end_times", "a label ends before its row", hint="end_times are the ends of the labels")
    return when, ends


def time_series_train_val_split(n: int, val: float = 0.15, embargo: int | None = None) -> tuple[I64, I64]:
    """Row indices (train, validation) of n rows in order of time: the last `val` validates, at least 100 rows train.

    embargo: rows left out between them, by default the larger of 24 and 1 %. Raises InputRefused (`too_few_rows`),
    ParameterRefused (`parameter`).
    """
    checked("val", val, 0.15, SHARE)
    checked("embargo", embargo, 24, FROM_0, optional=True)
    gap = max(24, -(-n // 100)) if embargo is None else embargo
    first = max(n - round(n * val), LEAST_TRAINING_ROWS + gap)
    if first >= n:
        raise _too_few(n)
    return np.arange(first - gap), np.arange(first, n)


def purged_train_val_split(times: Any, end_times: Any, val: float = 0.15) -> tuple[I64, I64]:
    """Row indices (train, validation): the last `val` validates, those train whose label ends before it begins.

    times, end_times: (n,) ns UTC or datetimes, rows in any order. Raises InputRefused: `shape`, `dtype`, `end_times` (a
    label ends before its row), `too_few_rows`; ParameterRefused (`parameter`).
    """
    checked("val", val, 0.15, SHARE)
    n = np.size(times)
    when, ends = spans_of(times, end_times, n)
    if when is None or ends is None:
        raise InputRefused("end_times", "not both of times and end_times", hint="give both")
    order = np.argsort(when, kind="stable")
    earlier, validation = np.split(order, [n - round(n * val)])
    train = earlier[ends[earlier] < when[validation[:1]]] if validation.size else earlier[:0]
    if train.size < LEAST_TRAINING_ROWS:
        raise _too_few(n)
    return train, validation


def train_and_validation(rows: I64, times: I64 | None, end_times: I64 | None) -> tuple[I64, I64]:
    """Some of these rows, by number, by what is known of all: the labels' ends, else the rows' times, else their order."""
    if times is not None and end_times is not None:
        train, validation = purged_train_val_split(times[rows], end_times[rows])
        return rows[train], rows[validation]
    order = rows if times is None else rows[np.argsort(times[rows], kind="stable")]
    train, validation = time_series_train_val_split(rows.size)
    return order[train], order[validation]


def _too_few(n: int) -> InputRefused:
    return InputRefused(
        "too_few_rows", f"{n} rows leave fewer than {LEAST_TRAINING_ROWS} to train, or none to stop early on",
        hint="give more rows, or set early_stopping=0",
    )
