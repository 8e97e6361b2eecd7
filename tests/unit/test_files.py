"""Tick files: every kind read the same, bad ones refused with the row or column named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from engine.errors import InputRefused
from engine.files import read_ticks, write_ticks
from engine.instruments import Instruments
from engine.types import TickBatch
from tests.made import made_ticks, real_file

FRAME = pl.DataFrame({
    "symbol": ["EURUSD", "EURUSD", "USDJPY"],
    "ts": [1_400_000_000_000_000_001, 1_400_000_000_000_000_002, 1_400_000_000_500_000_000],
    "bid": [1.23456, 1.2, 110.123], "ask": [1.23458, 1.2, 110.125], "bid_size": [1.5, None, 0.0],
})
OURS = ("ts", "bid", "ask", "bid_size", "ask_size", "seq", "major", "minor", "ordinal", "appended")


def same(a: TickBatch, b: TickBatch) -> bool:
    names = [[batch.symbol(i) for i in range(len(batch))] for batch in (a, b)]
    return names[0] == names[1] and all(np.array_equal(getattr(a, k), getattr(b, k)) for k in OURS)


def test_parquet_csv_and_ndjson_are_read_the_same(tmp_path: Path) -> None:
    FRAME.write_parquet(tmp_path / "a.parquet")
    FRAME.write_csv(tmp_path / "a.csv")
    FRAME.write_ndjson(tmp_path / "a.ndjson")
    ticks = [read_ticks(tmp_path / f"a.{kind}") for kind in ("parquet", "csv", "ndjson")]
    assert ticks[0].bid.tolist() == [123_456, 120_000, 11_012_300]
    assert ticks[0].bid_size.tolist() == [1500, 0, 0]
    assert ticks[0].minor.tolist() == [0, 1, 2]
    assert same(ticks[0], ticks[1])
    assert same(ticks[0], ticks[2])


def test_written_ticks_are_read_back(tmp_path: Path) -> None:
    ticks = made_ticks(500, symbols=3)
    ticks.seq[::3] = 7
    ticks.appended[:] = ticks.ts + 5
    write_ticks(ticks, tmp_path / "t.parquet")
    assert same(read_ticks(tmp_path / "t.parquet"), ticks)


def test_columns_and_units_can_be_named(tmp_path: Path) -> None:
    pl.DataFrame({"Time": [1_400_000_000_123], "Bid": [1.1], "Ask": [1.2]}).write_csv(tmp_path / "GBPUSD_x.csv")
    ticks = read_ticks(tmp_path / "GBPUSD_x.csv", columns={"ts": "Time:ms", "bid": "Bid", "ask": "Ask"})
    assert (ticks.symbol(0), ticks.ts[0]) == ("GBPUSD", 1_400_000_000_123_000_000)
    pl.DataFrame({"ts": ["2014-05-01T00:00:00.5Z"], "bid": [1.1], "ask": [1.2]}).write_csv(tmp_path / "GBPUSD.csv")
    assert read_ticks(tmp_path / "GBPUSD.csv").ts[0] == 1_398_902_400_500_000_000


def test_several_files_are_merged_by_stamp_stably(tmp_path: Path) -> None:
    for name, rows in (("A_v", [(1, 1.0), (3, 1.1)]), ("B_v", [(1, 2.0), (2, 2.1)])):
        pl.DataFrame({"ts": [10**18 + t for t, _ in rows], "bid": [p for _, p in rows], "ask": [p for _, p in rows]}).write_csv(
            tmp_path / f"{name}.csv")
    ticks = read_ticks([tmp_path / "A_v.csv", tmp_path / "B_v.csv"])
    assert [(ticks.symbol(i), int(ticks.ts[i]) - 10**18, int(ticks.minor[i])) for i in range(4)] == [
        ("A", 1, 0), ("B", 1, 1), ("B", 2, 2), ("A", 3, 3)]


@pytest.mark.parametrize(("change", "code", "says"), [
    (FRAME.drop("bid"), "columns", "no column bid"),
    (FRAME.with_columns(bid=pl.Series([1.0, None, 1.0])), "row", "row 1"),
    (FRAME.with_columns(bid=pl.Series([1.0, -1.0, 1.0])), "row", "row 1"),
    (FRAME.with_columns(bid=pl.Series([1.0, 1.0, float("inf")])), "row", "row 2"),
    (FRAME.with_columns(bid=pl.Series([1.0, 1.0, 1.000001])), "row", "row 2"),
    (FRAME.with_columns(bid_size=pl.Series([1.0, -1.0, 1.0])), "row", "row 1"),
    (FRAME.with_columns(ts=pl.Series([10**18, 10**18, -3])), "row", "row 2"),
    (FRAME.with_columns(ts=pl.col("ts") // 10**6), "row", "--map ts=ts:ms"),
    (FRAME.with_columns(ts=pl.Series([1.7e24, 1.7e24, 1.7e24])), "stamp", "ts"),
    (FRAME.clear(), "no_rows", "bad.parquet"),
    (FRAME.with_columns(ts=pl.Series(["a", "b", "c"])), "stamp", "ts"),
])
def test_what_is_no_tick_is_named(tmp_path: Path, change: pl.DataFrame, code: str, says: str) -> None:
    change.write_parquet(tmp_path / "bad.parquet")
    with pytest.raises(InputRefused) as found:
        read_ticks(tmp_path / "bad.parquet")
    assert found.value.code == code
    assert says in str(found.value)
    assert found.value.hint


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and then nothing")
    FRAME.write_parquet(tmp_path / "EURUSD_a.parquet")
    FRAME.write_parquet(tmp_path / "EURUSD_b.parquet")
    FRAME.write_parquet(tmp_path / "EURUSD_X-may.parquet")
    later = FRAME.with_columns(pl.col("ts") + 10**15)
    later.write_parquet(tmp_path / "EURUSD_may.parquet")
    later.write_parquet(tmp_path / "EURUSD_Y-june.parquet")
    assert len(read_ticks([tmp_path / "EURUSD_a.parquet", tmp_path / "EURUSD_may.parquet"])) == 6
    for files, code in (
        (["cut.parquet"], "file_damaged"), (["none.parquet"], "file_missing"), (["x.xls"], "file_kind"),
        (["EURUSD_a.parquet", "EURUSD_b.parquet"], "two_vendors"), ([], "no_files"),
        (["EURUSD_X-may.parquet", "EURUSD_Y-june.parquet"], "two_vendors"),
    ):
        with pytest.raises(InputRefused) as found:
            read_ticks([tmp_path / file for file in files])
        assert found.value.code == code


def test_a_closed_list_refuses_other_symbols(tmp_path: Path) -> None:
    FRAME.write_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputRefused) as found:
        read_ticks(tmp_path / "a.parquet", Instruments({"EUR*": {}}, closed=True))
    assert found.value.code == "symbol"


@pytest.mark.parametrize("name", ["XAUUSD_OANDA-LEAN2014", "BTCUSDT_BINANCE-USDM20240808", "EURUSD_DUKASCOPY-NODE20260713"])
def test_real_files(name: str) -> None:
    frame = pl.read_parquet(real_file(name))
    ticks = read_ticks(real_file(name))
    assert len(ticks) == frame.height
    assert np.array_equal(ticks.bid / 1e5, frame["bid"].to_numpy())
    assert np.array_equal(ticks.ts, frame["ts"].to_physical().to_numpy())
