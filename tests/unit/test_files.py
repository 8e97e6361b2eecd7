"""Tick files: every kind read the same, bad ones refused with the row or column named."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from engine.errors import InputRefused
from engine.features import FeatureSet
from engine.files import read_ticks, ticks_from_frame, write_ticks
from engine.instruments import Instruments, SymbolTable
from engine.types import Entry, Kind, TickBatch
from engine.wire.stamps import ns_to_rfc3339
from engine.wire.ticks import decode
from engine.zones import to_utc, zone
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


# ---- names and zones

def stamps(batch: TickBatch) -> list[str]:
    return [ns_to_rfc3339(int(ts)) for ts in batch.ts]


def test_text_without_a_zone_is_read_by_the_instruments(tmp_path: Path) -> None:
    prices = pl.DataFrame({"bid": [1.1] * 2, "ask": [1.2] * 2})
    for between in "T ":
        times = [f"2024-07-01{between}12:00:00", f"2024-12-02{between}12:00:00"]
        prices.with_columns(ts=pl.Series(times)).write_csv(tmp_path / "EURUSD.csv")
        for where, told in (("UTC", ["12", "12"]), ("Europe/Athens", ["09", "10"]), ("Etc/GMT-3", ["09", "09"]),
                            ("America/New_York", ["16", "17"])):
            ticks = read_ticks(tmp_path / "EURUSD.csv", Instruments({"EUR*": {"zone": where}}))
            assert stamps(ticks) == [f"2024-07-01T{told[0]}:00:00Z", f"2024-12-02T{told[1]}:00:00Z"]
        assert stamps(read_ticks(tmp_path / "EURUSD.csv", Instruments({"GBP*": {"zone": "Asia/Tokyo"}})))[0][11:13] == "12"


@pytest.mark.parametrize(("offset", "hour"), [("Z", 12), ("+00:00", 12), ("+03:00", 9), ("+0530", 6), ("-05:00", 17)])
def test_text_with_an_offset_says_itself_what_it_is(tmp_path: Path, offset: str, hour: int) -> None:
    pl.DataFrame({"ts": [f"2024-07-01T12:00:00.5{offset}"], "bid": [1.1], "ask": [1.2]}).write_csv(tmp_path / "EURUSD.csv")
    minute = 30 if offset == "+0530" else 0
    assert stamps(read_ticks(tmp_path / "EURUSD.csv", Instruments({"*": {"zone": "Asia/Tokyo"}}))) == [
        f"2024-07-01T{hour:02d}:{minute:02d}:00.5Z"
    ]


@pytest.mark.parametrize("unit", ["ns", "us", "ms"])
def test_datetimes_without_a_zone_too_but_no_integers_and_none_with_one(tmp_path: Path, unit: Any) -> None:
    tokyo = Instruments({"*": {"zone": "Asia/Tokyo"}})
    noon = FRAME.with_columns(ts=pl.datetime(2024, 7, 1, 12).cast(pl.Datetime(unit)), ingest=pl.datetime(2024, 7, 1, 12, 0, 1))
    noon.write_parquet(tmp_path / "naive.parquet")
    naive = read_ticks(tmp_path / "naive.parquet", tokyo)
    assert stamps(naive) == ["2024-07-01T03:00:00Z"] * 3
    assert (naive.appended - naive.ts).tolist() == [10**9] * 3
    assert stamps(ticks_from_frame(noon, tokyo)) == ["2024-07-01T03:00:00Z"] * 3
    zoned = noon.with_columns(pl.col("ts").dt.replace_time_zone("America/New_York"))
    zoned.write_parquet(tmp_path / "zoned.parquet")
    assert stamps(read_ticks(tmp_path / "zoned.parquet", tokyo)) == ["2024-07-01T16:00:00Z"] * 3
    FRAME.write_parquet(tmp_path / "whole.parquet")
    assert same(read_ticks(tmp_path / "whole.parquet", tokyo), read_ticks(tmp_path / "whole.parquet"))


def test_each_symbol_of_a_file_has_its_own_zone(tmp_path: Path) -> None:
    FRAME.with_columns(ts=pl.datetime(2024, 7, 1, 12)).write_parquet(tmp_path / "a.parquet")
    ticks = read_ticks(tmp_path / "a.parquet", Instruments({"USDJPY": {"zone": "Asia/Tokyo"}}))
    assert stamps(ticks) == ["2024-07-01T12:00:00Z"] * 2 + ["2024-07-01T03:00:00Z"]


def local(tmp_path: Path, *times: str, zone: str = "Europe/Berlin", symbols: str = "") -> list[str]:
    frame = pl.DataFrame({"ts": times, "bid": [1.1] * len(times), "ask": [1.2] * len(times)})
    if symbols:
        frame = frame.with_columns(pl.Series("symbol", list(symbols)))
    frame.write_csv(tmp_path / "A.csv")
    return stamps(read_ticks(tmp_path / "A.csv", Instruments({"*": {"zone": zone}})))


def test_the_hour_that_comes_twice_is_told_apart_by_the_order_of_the_rows(tmp_path: Path) -> None:
    night = [f"2024-10-27 {at}:00" for at in ("01:59", "02:10", "02:50", "02:05", "02:55", "03:00")]
    utc = ["23:59", "00:10", "00:50", "01:05", "01:55", "02:00"]
    said = [f"2024-10-{26 if at.startswith('23') else 27}T{at}:00Z" for at in utc]
    assert local(tmp_path, *night) == said
    assert local(tmp_path, *(stamp for stamp in night for _ in "AB"), symbols="AB" * 6) == [at for at in said for _ in "AB"]
    later = [stamp.replace("2024-10-27", "2025-10-26") for stamp in night]                     # a year later it is the 26th
    assert local(tmp_path, *night, *later)[7:] == [at.replace("2024-10-27", "2025-10-26") for at in said[1:]]


@pytest.mark.parametrize(("times", "row", "says"), [
    (["2024-10-27 02:10:00", "2024-10-27 02:50:00"], 0, "twice"),                             # either, or one each
    (["2024-10-27 01:10:00", "2024-10-27 02:50:00"], 1, "twice"),
    (["2024-10-27 02:10:00", "2024-10-27 02:05:00", "2024-10-27 02:20:00", "2024-10-27 02:00:00"], 3, "twice"),
    (["2024-03-31 01:59:59", "2024-03-31 02:00:00"], 1, "never"),
    (["2024-03-31 01:59:59", "2024-03-31 02:59:59.999999999"], 1, "never"),
])
def test_a_stamp_that_can_not_be_told_is_refused_by_its_row(tmp_path: Path, times: list[str], row: int, says: str) -> None:
    with pytest.raises(InputRefused) as found:
        local(tmp_path, *times)
    assert found.value.code == "stamp"
    assert f"A.csv: row {row}: {times[row].replace(' ', 'T')}" in str(found.value)
    assert says in str(found.value)
    assert found.value.hint


def test_the_edges_of_the_hours_are_read(tmp_path: Path) -> None:
    assert local(tmp_path, "2024-03-31 01:59:59", "2024-03-31 03:00:00") == ["2024-03-31T00:59:59Z", "2024-03-31T01:00:00Z"]
    assert local(tmp_path, "2024-10-27 01:59:59", "2024-10-27 03:00:00") == ["2024-10-26T23:59:59Z", "2024-10-27T02:00:00Z"]


def test_years_of_hours_are_read_as_the_zone_database_has_them(tmp_path: Path) -> None:
    """Against Python's own conversion, where the clock showed each time once."""
    for name in ("Europe/London", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Tokyo"):
        utc = pl.datetime_range(pl.datetime(2015, 1, 1), pl.datetime(2020, 1, 1), "1h", time_unit="ns", eager=True)
        shown = np.array([
            int(datetime.fromtimestamp(at // 10**9, zone(name)).replace(tzinfo=UTC).timestamp()) * 10**9
            for at in utc.to_physical().to_list()
        ])
        first, last, times = to_utc(shown, name)
        once = times == 1
        assert once.sum() > len(utc) - 30
        assert (first[once] == last[once]).all()
        assert np.array_equal(first[once], utc.to_physical().to_numpy()[once])
        assert set(times.tolist()) <= {1, 2}


def test_an_alias_in_a_file_is_the_symbol(tmp_path: Path) -> None:
    rules = Instruments({"EURUSD": {"aliases": ["EUR/USD"]}})
    later = FRAME.with_columns(pl.Series("symbol", ["EUR/USD"] * 3), pl.col("ts") + 10**10)
    pl.concat([FRAME, later]).write_parquet(tmp_path / "a.parquet")
    ticks = read_ticks(tmp_path / "a.parquet", rules)
    assert [ticks.symbol(row) for row in range(6)] == ["EURUSD", "EURUSD", "USDJPY", "EURUSD", "EURUSD", "EURUSD"]
    later.with_columns(pl.col("ts") - 10**10).write_parquet(tmp_path / "b.parquet")
    FRAME.write_parquet(tmp_path / "c.parquet")
    read_ticks([tmp_path / "b.parquet", tmp_path / "c.parquet"])
    with pytest.raises(InputRefused) as found:
        read_ticks([tmp_path / "b.parquet", tmp_path / "c.parquet"], rules)
    assert found.value.code == "two_vendors"


def test_one_price_is_a_quote_as_wide_as_the_instrument_says(tmp_path: Path) -> None:
    """From a file as from the wire."""
    frame = pl.DataFrame({
        "symbol": ["X"] * 3, "ts": [10**18 + k for k in range(3)], "price": [1.1, 1.10001, 1.09], "size": [2.0, 0.5, 1.0],
    })
    frame.write_parquet(tmp_path / "x.parquet")
    rules = Instruments({"X": {"spread": 3}})
    ticks = read_ticks(tmp_path / "x.parquet", rules)
    assert ticks.bid.tolist() == [109_999, 110_000, 108_999]
    assert (ticks.ask - ticks.bid).tolist() == [3, 3, 3]
    assert ticks.bid_size.tolist() == ticks.ask_size.tolist() == [2000, 500, 1000]
    lines = [b'{"symbol":"X","ts":%d,"price":%s,"size":%s}' % (ts, str(p).encode(), str(s).encode())
             for _, ts, p, s in frame.iter_rows()]
    wired, refused = decode([Entry((1, 0), Kind.TICKS, b"\n".join(lines))], SymbolTable(rules))
    assert not refused
    for name in ("ts", "bid", "ask", "bid_size", "ask_size"):
        assert getattr(wired, name).tolist() == getattr(ticks, name).tolist()


@pytest.mark.parametrize(("rules", "says"), [
    ({}, "declares no spread"), ({"X": {"spread": 300_000}}, "half its instrument's spread"),
])
def test_one_price_without_a_spread_that_fits_is_refused(tmp_path: Path, rules: dict[str, Any], says: str) -> None:
    pl.DataFrame({"symbol": ["X"], "ts": [10**18], "price": [1.1]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(InputRefused, match=says) as refused:
        read_ticks(tmp_path / "x.parquet", Instruments(rules))
    assert refused.value.hint


def test_features_of_one_price_know_all_but_what_needs_two(tmp_path: Path) -> None:
    """Trades without sizes: spreads are the declared one, sizes unknown, everything else as of a quote."""
    ticks = made_ticks(8000, rate=1.5, flaws=False)
    price = (ticks.bid + ticks.ask) // 2
    frame = pl.DataFrame({"symbol": ["X"] * len(ticks), "ts": ticks.ts, "price": price / 1e5})
    features = FeatureSet.default()
    last = features.compute(ticks_from_frame(frame, Instruments({"X": {"spread": 4}})))[-1]
    unknown = {name for name, value in zip(features.names, last, strict=True) if np.isnan(value)}
    assert {name for name in unknown if not name.endswith(("_5m", "_15m", "_1h"))} == {"imbalance", "ofi_60s", "vwap_300s"}
    assert last[features.names.index("spread_rel")] == 1.0
