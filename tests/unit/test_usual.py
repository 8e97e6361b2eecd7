"""The shipped table: it holds together, stands behind one's own rules, and is fine enough for what venues quote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from engine import usual
from engine.config import Config, load
from engine.errors import UsageError
from engine.files import read_ticks
from engine.instruments import Instrument, Instruments
from tests.made import real_file

FILES = (
    "BTCUSDT_BINANCE-TARDIS20200222", "BTCUSDT_BINANCE-USDM20240808", "BTCUSD_DUKASCOPY-NODE20230220",
    "CADJPY_DUKASCOPY-PARRONDO2012", "ETHUSDT_BINANCE-USDM20240808", "EURGBP_DUKASCOPY-TRI2010", "EURUSD_DUKASCOPY-NODE20260713",
    "EURUSD_DUKASCOPY-TC20190204", "EURUSD_FXCM-LEAN2014", "EURUSD_OANDA-LEAN2014", "EURUSD_TRUEFX-202309",
    "GBPJPY_DUKASCOPY-NINETY47", "GBPUSD_DUKASCOPY-TRI2010", "USDJPY_TRUEFX-NAUT2013", "USDSGD_DUKASCOPY-FXBT201405",
    "XAGUSD_DUKASCOPY-FXBT201405", "XAUUSD_OANDA-LEAN2014",
)


def rules(folder: Path, text: str) -> Instruments:
    (folder / "tocsin.toml").write_text(f"[instruments]\n{text}")
    return load(str(folder / "tocsin.toml"), {}, {}).rules()


def test_it_is_whole() -> None:
    """Each with its slash, none named twice, and by its quote currency as fine as the others."""
    for symbol, rule in usual.rules().items():
        assert set(rule) == {"scale", "size_scale", "calendar", "aliases"}
        assert f"{symbol[:3]}/{symbol[3:]}" in rule["aliases"] or symbol == "DOGEUSDT"
        assert rule["scale"] == 3 or not symbol.endswith("JPY")
        assert rule["calendar"] == ("always" if symbol.removesuffix("T").endswith("USD") and symbol[:3] in CRYPTO else "currency")
    known = Instruments(usual.rules(), closed=True)
    assert known.get("EUR/USD") == known.get("EURUSD")
    majors = ["EURUSD", "GBPUSD", "USDJPY", "USDCHF", "AUDUSD", "USDCAD", "NZDUSD", "EURJPY", "XAUUSD", "XAGUSD", "ETHUSD"]
    assert all(known.get(symbol) for symbol in majors)


YEN = Instrument("USDJPY", scale=3, aliases=("USD/JPY", "USD_JPY"), calendar="currency")
CRYPTO = {"BTC", "ETH", "SOL", "BNB", "XRP", "ADA", "DOG", "LTC"}


def test_one_s_own_rules_come_first(tmp_path: Path) -> None:
    found = rules(tmp_path, 'table = "usual"\n"GBP*" = {scale = 4}\nEURUSD = {commission_bp = 0.3}\n'
                            'SILVER = {aliases = ["XAGUSD"]}\nMINE = {aliases = ["XAU/USD"]}\n')
    assert found.get("EURUSD") == Instrument("EURUSD", commission_bp=0.3)
    assert found.get("GBP/USD") == Instrument("GBPUSD", scale=4, aliases=("GBP/USD", "GBP_USD"))
    assert found.get("XAGUSD") == Instrument("SILVER", aliases=("XAGUSD",))
    assert found.get("XAU/USD") == Instrument("MINE", aliases=("XAU/USD",))
    assert found.get("XAUUSD") == Instrument("XAUUSD", scale=3, aliases=("XAU_USD",), calendar="currency")
    assert found.get("USD/JPY") == YEN
    assert found.get("STRANGER") == Instrument("STRANGER")


def test_it_can_be_all_there_is(tmp_path: Path) -> None:
    found = rules(tmp_path, 'table = "usual"\nclosed = true\n')
    assert found.get("STRANGER") is None
    assert found.get("BTC/USDT") == found.get("BTCUSDT") != None  # noqa: E711


def test_a_log_keeps_what_it_was_created_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules are written out; the table's name isn't."""
    said = rules(tmp_path, 'table = "usual"\n').to_dict()
    assert set(said) == {"closed", "rules"}
    assert set(said["rules"]) == set(usual.rules())
    monkeypatch.setattr(usual, "rules", dict)
    assert Instruments.from_dict(said).get("USDJPY") == YEN


@pytest.mark.parametrize("text", [
    'table = "unusual"\n', "table = true\n", 'table = {scale = 3}\n', 'table = "usual"\nEURUSD = 5\n',
    'table = "usual"\nEURUSD = {aliases = 5}\n',
])
def test_no_other_table(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError) as refused:
        rules(tmp_path, text)
    assert refused.value.code in ("instrument_table", "instrument_rule")
    assert refused.value.hint


def test_without_it_nothing_is_known() -> None:
    assert Config().rules().to_dict() == {"closed": False, "rules": {}}


@pytest.mark.parametrize("name", FILES)
def test_real_files_are_read_with_it(name: str) -> None:
    frame = pl.read_parquet(real_file(name))
    ticks = read_ticks(real_file(name), Instruments(usual.rules(), closed=True))
    (instrument,) = ticks.instruments
    assert np.array_equal(ticks.bid / 10.0**instrument.scale, frame["bid"].to_numpy())
    assert np.array_equal(ticks.ask / 10.0**instrument.scale, frame["ask"].to_numpy())
    sizes = frame["bid_size"].fill_null(0.0).to_numpy()
    assert np.allclose(ticks.bid_size / 10.0**instrument.size_scale, sizes, atol=1e-9, rtol=1e-12)
