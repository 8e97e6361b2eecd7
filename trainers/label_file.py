"""Labels that somebody else made: a file of rows, joined to ticks without a look ahead.

Columns: symbol, ts (asked when), end (its outcome was certain when), label (1 buy, 0 neutral, -1 sell), optional weight
(above 0). Stamps are datetimes or integer ns; without a zone they are UTC. Rows stand in any order.

A label is learned from the features of the symbol's last admitted tick at or before its ts. It is dropped, and counted,
where `no_tick`: there is none; `old_tick`: it is more than 10 minutes old; `features`: not every window was full by then.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.errors import InputRefused
from engine.features.families.quote import HOLE
from engine.files import EARLIEST, nanoseconds, read_frame
from engine.types import F64, I64, TickBatch

from .labels import Outcomes, uniqueness

if TYPE_CHECKING:
    import polars as pl

REQUIRED = ("symbol", "ts", "end", "label")


@dataclass(frozen=True)
class LabelFile:
    """m rows as the file has them; `symbol` holds indices into `symbols`; weight: None where the file has none."""

    name: str
    symbols: list[str]
    symbol: I64
    ts: I64
    end: I64
    label: I64
    weight: F64 | None

    def digest(self) -> str:
        """sha256 of the rows in their order."""
        digest = hashlib.sha256("\n".join(self.symbols).encode())
        for column in (self.symbol, self.ts, self.end, self.label, self.weight):
            if column is not None:
                digest.update(column.tobytes())
        return digest.hexdigest()


def read_labels(path: Path) -> LabelFile:
    """Raises InputRefused: what `read_frame` does, and `labels_columns`, `labels_empty`, and with the first such row's number
    `labels_value`, `labels_stamp`, `labels_end`, `labels_weight`, `labels_duplicate`.
    """
    import polars as pl

    frame = read_frame(path)
    missing = [name for name in REQUIRED if name not in frame.columns]
    if missing:
        raise InputRefused(
            "labels_columns", f"{path} has no column {', '.join(missing)} (there are {', '.join(frame.columns)})",
            hint="a label has symbol, ts, end, label (-1, 0 or 1), and may have weight",
        )
    if not frame.height:
        raise InputRefused("labels_empty", f"{path} has no rows", hint="check the file")
    label, weight = _numbers(frame["label"]), _numbers(frame["weight"]) if "weight" in frame.columns else None
    _refuse("labels_value", ~np.isin(label, (-1.0, 0.0, 1.0)), label, "a label is none of -1, 0, 1",
            "1 is buy, 0 neutral, -1 sell")
    ts, end = _stamps(frame["ts"]), _stamps(frame["end"])
    _refuse("labels_end", end < ts, end, "a label ends before its ts", "`end` is when its outcome was certain")
    if weight is not None:
        _refuse("labels_weight", ~((weight > 0.0) & np.isfinite(weight)), weight, "a weight isn't above 0",
                "leave the column out to have labels weighed by how unique they are")
    names = frame["symbol"].cast(pl.String).fill_null("")
    symbols = sorted(names.unique().to_list())
    symbol = np.searchsorted(symbols, names.to_numpy()).astype(np.int64)
    _refuse("labels_duplicate", _repeats(symbol, ts), ts, "a symbol has two labels at one ts", "keep one of them")
    return LabelFile(path.name, symbols, symbol, ts, end, label.astype(np.int64), weight)


def join(given: LabelFile, ticks: TickBatch, ready: NDArray[np.bool_]) -> Outcomes:
    """What is learned from the ticks of any number of symbols, in order of (ts, symbol).

    ticks: admitted ones; ready: (n,) whose features are known. Weights are the file's, or average uniqueness within a
    symbol, over its ticks from a label's own to the last at or before its end. Raises InputRefused `labels_symbol`.
    """
    unknown = sorted(set(given.symbols) - set(ticks.symbols))
    if unknown:
        raise InputRefused(
            "labels_symbol", f"{given.name}: there are no ticks of {unknown[0]!r}" + ", among others" * (len(unknown) > 1),
            hint=f"these ticks are of {', '.join(ticks.symbols)}",
        )
    rows, event, weight = [], [], []
    dropped = {"no_tick": 0, "old_tick": 0, "features": 0}
    for number, symbol in enumerate(given.symbols):
        own = np.flatnonzero(ticks.sid == ticks.symbols.index(symbol))
        stamps = ticks.ts[own]
        labels = np.flatnonzero(given.symbol == number)
        at = np.searchsorted(stamps, given.ts[labels], "right") - 1
        seen = at >= 0
        recent, known = seen.copy(), seen.copy()
        recent[seen] = given.ts[labels[seen]] - stamps[at[seen]] <= HOLE
        known[seen] = recent[seen] & ready[own[at[seen]]]
        for why, left_out in (("no_tick", ~seen), ("old_tick", seen & ~recent), ("features", recent & ~known)):
            dropped[why] += int(left_out.sum())
        labels, at = labels[known], at[known]
        rows.append(labels)
        event.append(own[at])
        until = np.searchsorted(stamps, given.end[labels], "right") - 1
        weight.append(uniqueness(at, until, own.size) if given.weight is None else given.weight[labels])

    row = np.concatenate(rows)
    order = np.lexsort((given.symbol[row], given.ts[row]))
    row = row[order]
    return Outcomes(
        event=np.concatenate(event)[order], event_ts=given.ts[row], end_ts=given.end[row], y=given.label[row],
        weight=np.concatenate(weight)[order], dropped=dropped,
    )


def _numbers(series: pl.Series) -> F64:
    """NaN for what is no number."""
    import polars as pl

    return np.array(series.cast(pl.Float64, strict=False).fill_null(np.nan), np.float64)


def _stamps(series: pl.Series) -> I64:
    import polars as pl

    if not (isinstance(series.dtype, pl.Datetime) or series.dtype.is_integer()):
        raise InputRefused("labels_stamp", f"column {series.name} is {series.dtype}, not a stamp",
                           hint="use datetimes or integer ns")
    stamps = np.array(nanoseconds(series), np.int64)
    _refuse("labels_stamp", stamps < EARLIEST, stamps, f"{series.name} lies before 1971", "integers are ns")
    return stamps


def _repeats(symbol: I64, ts: I64) -> NDArray[np.bool_]:
    """Rows whose (symbol, ts) an earlier row has."""
    order = np.lexsort((ts, symbol))
    again = np.zeros(ts.size, np.bool_)
    again[order[1:]] = (np.diff(symbol[order]) == 0) & (np.diff(ts[order]) == 0)
    return again


def _refuse(code: str, bad: NDArray[np.bool_], values: NDArray[np.generic], what: str, hint: str) -> None:
    if bad.any():
        row, others = int(np.argmax(bad)), int(bad.sum()) - 1
        raise InputRefused(code, f"row {row}: {what} ({values[row]})" + (f", and {others:,} more rows" if others else ""),
                           hint=hint)
