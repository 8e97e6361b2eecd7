"""`read_ticks`: Parquet, CSV and NDJSON files to one TickBatch, rows as the files have them.

    read_ticks("EURUSD.parquet")
    read_ticks(["a.csv", "b.csv"], columns={"bid": "Bid", "ask": "Ask", "ts": "Time:ms"})

Columns: symbol, ts, bid, ask, optional bid_size, ask_size, seq, ingest (when the log stored the row); instead of bid and
ask `price`, optional size, for instruments that declare their `spread`. `ts` and `ingest` are datetimes, RFC 3339 text or
integers (ns UTC, or `:s`, `:ms`, `:us` in the column map). Datetimes and text without a zone are read by the instrument's,
which is UTC where it names none. Several files are merged by ts, stably.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import InputRefused
from .instruments import Instrument, Instruments, SymbolTable
from .types import NO_SEQ, TickBatch
from .wire.stamps import ns_to_rfc3339
from .wire.ticks import LARGEST, to_points
from .zones import to_utc

if TYPE_CHECKING:
    import polars as pl

REQUIRED = ("symbol", "ts", "bid", "ask")
OPTIONAL = ("bid_size", "ask_size", "seq", "ingest")
ONE_PRICE = ("price", "size")
"""Instead of bid and ask, for instruments that declare their spread."""
_VENDOR = re.compile(r"[^_]+_([A-Za-z0-9]+)-.*")
EARLIEST = 31_536_000_000_000_000
"""1971: an earlier stamp is an integer in another unit than it was read in."""
_ZONED = r"(?:[Zz]|[+-]\d\d:?\d\d)\s*$"
_APART = 86_400_000_000_000
"""ns: stamps further apart than this belong to two changes of the clock."""
_UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}


def read_ticks(
    files: str | Path | Iterable[str | Path], instruments: Instruments | None = None,
    *, columns: Mapping[str, str] | None = None,
) -> TickBatch:
    """Files to ticks; a row's cursor is its 0-based number in this order.

    columns: our name -> the file's, with a unit behind a colon for integer stamps (`ts=time:ms`).
    Raises InputRefused: a file that can't be read, a missing column, a row that is no tick (its number is named), a
    stamp that its zone's clock skipped, or showed twice and the order of the rows doesn't tell which, one symbol from
    two files that look like two vendors.
    """
    import polars as pl

    rules = instruments or Instruments()
    paths = [Path(files)] if isinstance(files, str | Path) else [Path(file) for file in files]
    if not paths:
        raise InputRefused("no_files", "no file given", hint="name one or more Parquet, CSV or NDJSON files")
    frames = [_normalised(read_frame(path), path, columns or {}, rules) for path in paths]
    _refuse_two_vendors(paths, frames, rules)
    merged = pl.concat(frames, how="diagonal")
    if not merged.height:
        raise InputRefused("no_rows", f"{', '.join(path.name for path in paths)}: no rows", hint="check the files")
    if len(frames) > 1:
        merged = merged.sort("ts", maintain_order=True)
    return ticks_from_frame(merged, rules)


def ticks_from_frame(frame: pl.DataFrame, instruments: Instruments) -> TickBatch:
    """A polars frame with the columns above (ts: datetime or ns) to ticks. Raises InputRefused, naming the first bad row."""
    import polars as pl

    one_price = "price" in frame.columns and not {"bid", "ask"} & set(frame.columns)
    required = ("symbol", "ts", "price") if one_price else REQUIRED
    missing = [name for name in required if name not in frame.columns]
    if missing:
        there = ", ".join(frame.columns) or "none of a tick; is a comma what separates them?"
        raise InputRefused("columns", f"no column {', '.join(missing)} (there are {there})",
                           hint="name the columns: --map bid=Bid,ask=Ask,ts=Time:ms")
    nulls = [name for name in required if frame[name].null_count()]
    if nulls:
        row = int(frame[nulls[0]].is_null().arg_true()[0])
        raise InputRefused("row", f"row {row}: no {nulls[0]}", hint="remove the row")
    table = SymbolTable(instruments)
    names = frame["symbol"].cast(pl.String).unique(maintain_order=True).to_list()
    numbers = {name: table.sid(name) for name in names}
    unknown = [name for name, sid in numbers.items() if sid < 0]
    if unknown:
        raise InputRefused("symbol", f"symbol {unknown[0]!r} isn't in [instruments], and the list is closed",
                           hint="add it to [instruments]")
    sid = np.asarray(frame["symbol"].cast(pl.String).replace_strict(numbers, return_dtype=pl.Int64).to_numpy(), np.int64)

    scale = np.array([10.0**i.scale for i in table.instruments])[sid]
    size_scale = np.array([10.0**i.size_scale for i in table.instruments])[sid]
    data = {"sid": sid, "ts": nanoseconds(_utc(frame["ts"], frame["symbol"], instruments))}
    for name in required[2:]:
        prices = frame[name].cast(pl.Float64).to_numpy()
        points, exact = to_points(prices, scale)
        _refuse_first(~(points > 0), prices, f"{name} isn't a positive price", "remove the row")
        _refuse_first(~exact, prices, f"{name} is finer than the instrument's scale",
                      "raise the symbol's scale in [instruments], or round the prices to it")
        data[name] = points.astype(np.int64)
    for name in ("size",) if one_price else ("bid_size", "ask_size"):
        if name in frame.columns:
            sizes = frame[name].cast(pl.Float64).fill_null(0.0).fill_nan(0.0).to_numpy()
            size_points = np.rint(sizes * size_scale)
            _refuse_first(~((size_points >= 0) & (size_points < LARGEST)), sizes, f"{name} is no size",
                          "lower size_scale in [instruments], or remove the row")
            data[name] = size_points.astype(np.int64)
    if one_price:
        _quote_around(data, np.array([i.spread for i in table.instruments])[sid])
    if "seq" in frame.columns:
        data["seq"] = frame["seq"].cast(pl.Int64).fill_null(NO_SEQ).to_numpy()
    if "ingest" in frame.columns:
        data["appended"] = nanoseconds(_utc(frame["ingest"], frame["symbol"], instruments))
    _refuse_first(data["ts"] < EARLIEST, data["ts"], "the stamp lies before 1971",
                  "integers are read as ns unless the column map names a unit: --map ts=ts:ms")
    return TickBatch(table.instruments, **data)


def _quote_around(data: dict[str, np.ndarray], spread: np.ndarray) -> None:
    """A bid and an ask instead of the price, as the wire's ticks of one price have them; its size on both sides."""
    price = data.pop("price")
    _refuse_first(spread == 0, price, "one price, and the instrument declares no spread",
                  "give the symbol's spread, in points, in [instruments]")
    data["bid"] = price - spread // 2
    data["ask"] = data["bid"] + spread
    _refuse_first(data["bid"] <= 0, price, "the price is below half its instrument's spread", "check the spread in [instruments]")
    if "size" in data:
        data["bid_size"] = data["ask_size"] = data.pop("size")


def write_ticks(ticks: TickBatch, path: str | Path) -> None:
    """Ticks as a Parquet file that `read_ticks` gives back as they are (but for their places in a log)."""
    import polars as pl

    scale = np.array([10.0**i.scale for i in ticks.instruments])[ticks.sid]
    size_scale = np.array([10.0**i.size_scale for i in ticks.instruments])[ticks.sid]
    frame = pl.DataFrame({
        "symbol": pl.Series(ticks.symbols, dtype=pl.String).gather(ticks.sid), "ts": ticks.ts,
        "bid": ticks.bid / scale, "ask": ticks.ask / scale,
        "bid_size": ticks.bid_size / size_scale, "ask_size": ticks.ask_size / size_scale,
    }).with_columns(pl.col("ts").cast(pl.Datetime("ns", "UTC")))
    if (ticks.seq != NO_SEQ).any():
        frame = frame.with_columns(pl.Series("seq", ticks.seq))
    if ticks.appended.any():
        frame = frame.with_columns(pl.Series("ingest", ticks.appended).cast(pl.Datetime("ns", "UTC")))
    frame.write_parquet(path)


def read_frame(path: Path) -> pl.DataFrame:
    """A file's columns as they are. Raises InputRefused `file_kind`, `file_missing`, `file_damaged`."""
    import polars as pl

    readers: dict[str, Callable[..., pl.DataFrame]] = {
        ".parquet": pl.read_parquet, ".pq": pl.read_parquet, ".csv": pl.read_csv, ".gz": pl.read_csv,
        ".ndjson": pl.read_ndjson, ".jsonl": pl.read_ndjson,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputRefused("file_kind", f"{path}: no reader for {path.suffix or 'a file without suffix'}",
                           hint=f"known: {', '.join(readers)}")
    if not path.is_file():
        raise InputRefused("file_missing", f"{path} isn't there", hint="check the path")
    try:
        frame = reader(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputRefused("file_damaged", f"{path} can't be read: {str(error).splitlines()[0]}",
                           hint="check that the file is whole") from None
    return frame


def _normalised(frame: pl.DataFrame, path: Path, columns: Mapping[str, str], rules: Instruments) -> pl.DataFrame:
    """Only our columns, under our names, stamps as datetimes in UTC."""
    import polars as pl

    picked: dict[str, pl.Series] = {}
    for name in (*REQUIRED, *OPTIONAL, *ONE_PRICE):
        source, _, unit = columns.get(name, name).partition(":")
        if source not in frame.columns:
            if name in columns:
                raise InputRefused("columns", f"{path} has no column {source!r} (there are {', '.join(frame.columns)})",
                                   hint="check --map")
            continue
        picked[name] = frame[source].alias(name)
    unknown = set(columns) - {*REQUIRED, *OPTIONAL, *ONE_PRICE}
    if unknown:
        raise InputRefused("columns", f"no tick column is called {sorted(unknown)[0]!r}",
                           hint=f"columns are {', '.join((*REQUIRED, *OPTIONAL, *ONE_PRICE))}")
    if "symbol" not in picked and "ts" in picked:
        picked["symbol"] = pl.Series("symbol", [path.stem.split("_")[0]] * frame.height, dtype=pl.String)
    for name in {"ts", "ingest"} & set(picked):
        unit = columns.get(name, "").partition(":")[2] or "ns"
        try:
            picked[name] = stamps(picked[name], unit, path, picked["symbol"].cast(pl.String), rules)
        except pl.exceptions.PolarsError:
            raise InputRefused("stamp", f"{path}: {name} holds what is no stamp",
                               hint="integers need a unit that fits: --map ts=ts:ms") from None
    casts = {"symbol": pl.String, "bid": pl.Float64, "ask": pl.Float64, "bid_size": pl.Float64,
             "ask_size": pl.Float64, "price": pl.Float64, "size": pl.Float64, "seq": pl.Int64}
    try:
        return pl.DataFrame([s.cast(casts[k]) if k in casts else s for k, s in picked.items()])
    except pl.exceptions.PolarsError as error:
        raise InputRefused("columns", f"{path}: {str(error).splitlines()[0]}", hint="check the columns' types") from None


def stamps(series: pl.Series, unit: str, path: Path, symbols: pl.Series, rules: Instruments) -> pl.Series:
    """Datetimes in UTC of what a column holds."""
    import polars as pl

    if unit not in _UNITS:
        raise InputRefused("stamp_unit", f"no unit {unit!r}", hint="units are s, ms, us, ns")
    if series.dtype == pl.String:
        zoned = series.str.contains(_ZONED).fill_null(True).to_numpy()
        try:
            series = series.str.to_datetime(time_unit="ns", time_zone="UTC", strict=True)
        except pl.exceptions.PolarsError:
            raise InputRefused("stamp", f"{path}: {series.name} holds text that is no stamp",
                               hint="use RFC 3339 (2024-05-06T10:00:00Z), or integers with a unit") from None
        return _localised(series, ~zoned, symbols, rules, f"{path.name}: ")
    if isinstance(series.dtype, pl.Datetime):
        return _utc(series, symbols, rules, f"{path.name}: ")
    if series.dtype.is_numeric():
        return (series.cast(pl.Int64) * _UNITS[unit]).cast(pl.Datetime("ns", "UTC"))
    raise InputRefused("stamp", f"{path}: {series.name} is {series.dtype}, not a stamp", hint="check --map")


def nanoseconds(series: pl.Series) -> np.ndarray:
    """Datetimes (without a zone: UTC) or integers to ns; 0 for null."""
    import polars as pl

    if isinstance(series.dtype, pl.Datetime):
        series = series.dt.cast_time_unit("ns")
    return series.cast(pl.Int64).fill_null(0).to_numpy()


# ---- stamps without a zone


def _utc(series: pl.Series, symbols: pl.Series, rules: Instruments, where: str = "") -> pl.Series:
    """Datetimes in UTC; those without a zone are read by their instrument's. What isn't a datetime is left as it is."""
    import polars as pl

    if not isinstance(series.dtype, pl.Datetime):
        return series
    if series.dtype.time_zone is not None:
        return series.dt.convert_time_zone("UTC").dt.cast_time_unit("ns")
    series = series.dt.replace_time_zone("UTC").dt.cast_time_unit("ns")
    return _localised(series, np.ones(len(series), np.bool_), symbols, rules, where)


def _localised(series: pl.Series, naive: np.ndarray, symbols: pl.Series, rules: Instruments, where: str) -> pl.Series:
    """The same datetimes, where the rows that are `naive` show the clock of their instrument's zone, not UTC."""
    import polars as pl

    names = symbols.unique().drop_nulls().to_list()
    elsewhere = {name: found for name in names if (found := rules.get(name)) and found.zone != "UTC"}
    naive = naive & series.is_not_null().to_numpy() & symbols.is_in(list(elsewhere)).fill_null(False).to_numpy()
    if not naive.any():
        return series
    stamps = series.cast(pl.Int64).fill_null(0).to_numpy().copy()
    home = symbols.replace_strict({name: i.symbol for name, i in elsewhere.items()}, default=None).to_numpy()
    for instrument in {i.symbol: i for i in elsewhere.values()}.values():
        rows = np.flatnonzero(naive & (home == instrument.symbol))
        stamps[rows] = _told_apart(stamps[rows], rows, instrument, where)
    return pl.Series(series.name, stamps).cast(pl.Datetime("ns", "UTC")).set(series.is_null(), None)


def _told_apart(local: np.ndarray, rows: np.ndarray, instrument: Instrument, where: str) -> np.ndarray:
    """ns UTC of what the zone's clock showed at one symbol's rows, in their order.

    An hour that it shows twice is told apart where only one reading keeps the rows in order: they go back once, and that
    is where the clock did.
    """
    first, last, times = to_utc(local, instrument.zone)
    if (times == 0).any():
        at = int(np.argmax(times == 0))
        raise _no_stamp(where, rows[at], local[at], instrument, "was never shown by the clock", "check the zone")
    stamps = first.copy()
    twice = np.flatnonzero(times == 2)
    for change in np.split(twice, 1 + np.flatnonzero(np.diff(local[twice]) > _APART)):
        back = 1 + np.flatnonzero(np.diff(local[change]) < 0)
        if back.size == 1:
            stamps[change[back[0]:]] = last[change[back[0]:]]
        elif change.size:
            at = change[back[1] if back.size else 0]
            raise _no_stamp(where, rows[at], local[at], instrument, "was shown twice by the clock, and the order of the rows "
                            "doesn't tell which it is", "write the stamps of that hour with their offset, or as integers (UTC)")
    return stamps


def _no_stamp(where: str, row: int, local: int, instrument: Instrument, what: str, hint: str) -> InputRefused:
    shown = ns_to_rfc3339(int(local)).removesuffix("Z")
    return InputRefused("stamp", f"{where}row {row}: {shown} {what} in {instrument.zone}, {instrument.symbol}'s zone", hint=hint)


def _refuse_first(bad: np.ndarray, values: np.ndarray, what: str, hint: str) -> None:
    if bad.any():
        row, others = int(np.argmax(bad)), int(bad.sum()) - 1
        raise InputRefused("row", f"row {row}: {what} ({values[row]})" + (f", and {others:,} more rows" if others else ""),
                           hint=hint)


def _refuse_two_vendors(paths: list[Path], frames: list[pl.DataFrame], rules: Instruments) -> None:
    """One symbol from two vendors would be two prices in one stream.

    Files named SYMBOL_VENDOR-… say so themselves; others may hold a symbol for one time after the other (April and
    May), never for the same time.
    """
    import polars as pl

    seen: dict[str, list[tuple[str | None, int, int, Path]]] = {}
    for path, frame in zip(paths, frames, strict=True):
        if not {"symbol", "ts"} <= set(frame.columns):
            continue                           # ticks_from_frame says what is missing
        named = _VENDOR.fullmatch(path.stem)
        vendor = named[1] if named else None
        spans = frame.group_by("symbol").agg(pl.col("ts").min().alias("first"), pl.col("ts").max().alias("last"))
        for name, first, last in spans.with_columns(pl.col("first", "last").cast(pl.Int64)).iter_rows():
            known = rules.get(name) if name else None
            symbol = known.symbol if known else name
            for other, start, end, where in (one for one in seen.setdefault(symbol, []) if one[3] != path):
                if vendor != other if vendor and other else first < end and start < last:
                    raise InputRefused(
                        "two_vendors", f"{symbol} comes from {where.name} and from {path.name}, "
                        + ("two vendors" if vendor and other else "for the same time"),
                        hint="rename the symbol in one of them, or read them apart",
                    )
            seen[symbol].append((vendor, first, last, path))
