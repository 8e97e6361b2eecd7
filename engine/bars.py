"""Bars as input: each becomes the quotes it tells of and a watermark at its end, for the same kernel as ticks.

Open, then high and low (the low first where the bar rose), stand at its start; the close stands right before its end; the
watermark at its end closes it without a quote. Volatility is measured from close to close so, and bars of the same or a
longer length come out as they went in. With bid and ask, the mid's high is the middle of both highs.

    bars = read_bars("GBPUSD_M1.parquet", "1m")
    X = FeatureSet.for_bars("1m").compute(bars)              # one row per bar, what is known at its end
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from .errors import InputRefused, UsageError
from .files import EARLIEST, nanoseconds, read_frame, stamps
from .instruments import Instruments, SymbolTable
from .types import I64, TickBatch
from .wire.ticks import LARGEST, to_points

if TYPE_CHECKING:
    import polars as pl

LENGTHS = {"1s": 1, "5s": 5, "10s": 10, "15s": 15, "30s": 30, "1m": 60, "5m": 300}
"""Seconds. Volatility is of moves of at most five minutes: longer bars don't tell it."""
PRICES = ("open", "high", "low", "close")
QUOTED = tuple(f"{side}_{price}" for side in ("bid", "ask") for price in PRICES)


def are_bars(columns: Iterable[str]) -> bool:
    """Whether columns of these names hold bars."""
    return set(PRICES) <= set(columns) or set(QUOTED) <= set(columns)


def seconds(length: str) -> int:
    """Of a bar's length. Raises UsageError `bar_length`."""
    if length not in LENGTHS:
        raise UsageError("bar_length", f"bars of {length}", hint=f"lengths are {', '.join(LENGTHS)}")
    return LENGTHS[length]


def read_bars(
    files: str | Path | Iterable[str | Path], length: str, instruments: Instruments | None = None,
    *, columns: Mapping[str, str] | None = None,
) -> TickBatch:
    """Files of bars (symbol, ts: the bar's start, bid_open … ask_close or open … close) to what a kernel takes of them.

    columns: our name -> the file's, as in read_ticks. Raises InputRefused: as `bars_from_frame`, and a file or stamp that
    can't be read.
    """
    import polars as pl

    rules = instruments or Instruments()
    paths = [Path(files)] if isinstance(files, str | Path) else [Path(file) for file in files]
    frames = []
    for path in paths:
        frame = read_frame(path)
        for name, source in (columns or {}).items():
            column = source.partition(":")[0]
            if column not in frame.columns:
                raise InputRefused("columns", f"{path} has no column {column!r} (there are {', '.join(frame.columns)})",
                                   hint="check --map")
            frame = frame.with_columns(frame[column].alias(name))
        if "symbol" not in frame.columns:
            frame = frame.with_columns(pl.lit(path.stem.split("_")[0]).alias("symbol"))
        if "ts" in frame.columns:
            unit = (columns or {}).get("ts", "").partition(":")[2] or "ns"
            frame = frame.with_columns(stamps(frame["ts"], unit, path, frame["symbol"].cast(pl.String), rules))
        frames.append(frame)
    merged = pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()
    if not merged.height:
        raise InputRefused("no_rows", "no bars", hint="check the files")
    return bars_from_frame(merged, length, rules)


def bars_from_frame(frame: pl.DataFrame, length: str, instruments: Instruments) -> TickBatch:
    """Five rows per bar, in order of time; the fifth is its watermark (bid 0).

    Bars of one price stand around it by the instrument's `spread`. Raises UsageError `bar_length`; InputRefused: `bars_grid`
    (bars overlap, or begin off the grid of their length), `columns`, `symbol`, `row` (a price that
    isn't one, or finer than the scale; a high below the low).
    """
    import polars as pl

    span = seconds(length) * 10**9
    if not are_bars(frame.columns) or "ts" not in frame.columns:
        raise InputRefused("columns", f"these are no bars (columns: {', '.join(frame.columns)})",
                           hint=f"symbol, ts, and {', '.join(PRICES)}, or the same with bid_ and ask_ before them")
    nulls = [name for name in ("symbol", "ts") if frame[name].null_count()]
    if nulls:
        raise InputRefused("row", f"bar {int(frame[nulls[0]].is_null().arg_true()[0])}: no {nulls[0]}", hint="remove the bar")
    frame = frame.sort("ts", "symbol", maintain_order=True)
    table = SymbolTable(instruments)
    names = frame["symbol"].cast(pl.String)
    numbers = {name: table.sid(name) for name in names.unique(maintain_order=True)}
    unknown = [name for name, sid in numbers.items() if sid < 0]
    if unknown:
        raise InputRefused("symbol", f"symbol {unknown[0]!r} isn't in [instruments], and the list is closed",
                           hint="add it to [instruments]")
    sid = names.replace_strict(numbers, return_dtype=pl.Int64).to_numpy()
    start = nanoseconds(frame["ts"])
    if start[0] < EARLIEST:
        raise InputRefused("row", f"the stamp of bar 0 lies before 1971 ({start[0]} ns)",
                           hint="integers are read as ns unless the column map names a unit: --map ts=ts:ms")
    _check_starts(sid, start, span)
    quoted = set(QUOTED) <= set(frame.columns)
    points = {name: _points(frame, name, sid, table) for name in (QUOTED if quoted else PRICES)}
    if quoted:
        bid, ask = (np.stack([points[f"{side}_{price}"] for price in PRICES]) for side in ("bid", "ask"))
    else:
        spread = np.array([i.spread for i in table.instruments])[sid]
        bid = np.stack([points[price] for price in PRICES]) - spread // 2
        ask = bid + spread
    if sid.size and bid.min() <= 0:
        raise InputRefused("row", f"bar {int(np.argmax(bid.min(axis=0) <= 0))}: a price is below half its instrument's spread",
                           hint="check the spread in [instruments]")
    return _rows(table, sid, start, span, bid, ask)


def _check_starts(sid: I64, start: I64, length: int) -> None:
    order = np.lexsort((start, sid))
    same = np.diff(sid[order]) == 0
    close = same & (np.diff(start[order]) < length)
    if same.sum() > 10 and (np.diff(start[order])[same] > length).all():
        raise InputRefused("bars_grid", "no two bars stand next to each other: they are longer than was said",
                           hint="name the bars' own length; ts is a bar's start")
    if close.any() or (start % length).any():
        row = order[int(np.argmax(close)) + 1] if close.any() else int(np.argmax(start % length != 0))
        raise InputRefused("bars_grid", f"bar {row} begins within another one, or off the grid of its length",
                           hint="name the bars' own length; ts is a bar's start")


def _points(frame: pl.DataFrame, name: str, sid: I64, table: SymbolTable) -> I64:
    import polars as pl

    try:
        prices = frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
    except pl.exceptions.PolarsError:
        raise InputRefused("columns", f"{name} holds what is no price", hint="check the columns' types") from None
    points, exact = to_points(prices, np.array([10.0**i.scale for i in table.instruments])[sid])
    for bad, what, hint in (
        (~((points > 0) & (points < LARGEST) & np.isfinite(prices)), "isn't a price", "remove the bar"),
        (~exact, "is finer than the instrument's scale", "raise the symbol's scale in [instruments]"),
    ):
        if bad.any():
            raise InputRefused("row", f"bar {int(np.argmax(bad))}: {name} {what} ({prices[np.argmax(bad)]})", hint=hint)
    return np.asarray(points, np.int64)


def _rows(table: SymbolTable, sid: I64, start: I64, length: int, bid: I64, ask: I64) -> TickBatch:
    """bid, ask: (4, n) in the order of PRICES."""
    opened, high, low, close = bid + ask
    wrong = (high < low) | (high < np.maximum(opened, close)) | (low > np.minimum(opened, close))
    if wrong.any():
        raise InputRefused("row", f"bar {int(np.argmax(wrong))}: open or close lies outside low and high", hint="remove the bar")
    order = np.where(close > opened, [[0], [2], [1], [3]], [[0], [1], [2], [3]])
    n = sid.size
    nothing = np.zeros((1, n), np.int64)
    quotes = [np.concatenate([np.take_along_axis(side, order, 0), nothing]) for side in (bid, ask)]
    ts = start + np.array([[0], [1], [2], [length - 1], [length]])
    columns = {"sid": np.broadcast_to(sid, (5, n)), "ts": ts, "bid": quotes[0], "ask": quotes[1],
               "ordinal": np.broadcast_to(np.arange(5)[:, None], (5, n)), "minor": np.broadcast_to(np.arange(n), (5, n))}
    # a bar's watermark stands before the next bar's open, which has the same stamp
    by_time = np.lexsort((columns["minor"].T.ravel(), ts.T.ravel()))
    instruments = [msgspec.structs.replace(instrument, crossed="keep") for instrument in table.instruments]
    return TickBatch(instruments, **{name: np.asarray(column).T.ravel()[by_time] for name, column in columns.items()})
