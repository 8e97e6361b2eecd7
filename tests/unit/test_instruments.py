"""Which rule counts for a symbol, which rules can't be meant, and what a manifest says of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.errors import UsageError
from engine.instruments import Instrument, Instruments, SymbolTable


def test_without_rules_every_symbol_has_the_defaults() -> None:
    assert Instruments().get("EURUSD") == Instrument("EURUSD", scale=5, size_scale=3, crossed="reject")


def test_the_first_pattern_that_matches_counts() -> None:
    rules = Instruments({"USDJPY": {"scale": 2}, "*JPY": {"scale": 3, "crossed": "keep"}, "*": {"size_scale": 0}})
    assert rules.get("USDJPY") == Instrument("USDJPY", scale=2)
    assert rules.get("EURJPY") == Instrument("EURJPY", scale=3, crossed="keep")
    assert rules.get("EURUSD") == Instrument("EURUSD", size_scale=0)
    assert Instruments({"*": {"scale": 1}, "USDJPY": {"scale": 3}}).get("USDJPY") == Instrument("USDJPY", scale=1)


def test_patterns_tell_case_apart_and_match_the_whole_symbol() -> None:
    rules = Instruments({"EUR???": {"scale": 4}, "[XG]*": {"scale": 2}}, closed=True)
    assert rules.get("EURUSD") is not None
    assert rules.get("XAUUSD") is not None
    for stranger in ("eurusd", "EURUSDT", "AEURUSD", "USDXAU", ""):
        assert rules.get(stranger) is None


def test_a_closed_list_knows_only_what_it_names() -> None:
    assert Instruments(closed=True).get("EURUSD") is None
    assert Instruments({"EURUSD": {}}, closed=True).get("EURUSD") == Instrument("EURUSD")


def test_the_same_symbol_gives_the_same_instrument() -> None:
    rules = Instruments({"*": {"scale": 3}})
    assert rules.get("EURUSD") is rules.get("EURUSD")


@pytest.mark.parametrize(
    "fields",
    [
        {"scale": -1}, {"scale": 10}, {"size_scale": -1}, {"size_scale": 10}, {"crossed": "drop"}, {"scale": "5"},
        {"scale": 2.5}, {"scal": 5}, {"scale": None}, {"spread": -1}, {"commission_bp": -0.1}, {"slippage": float("nan")},
        {"delay_ms": float("inf")}, {"max_spread": -1}, {"max_spread": 1.5}, {"calendar": "nyse"}, {"aliases": "EUR/USD"},
        {"aliases": [5]},
    ],
)
def test_a_rule_that_cant_be_meant_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refused:
        Instruments({"EURUSD": {"scale": 5}, "*JPY": fields})
    assert refused.value.code == "instrument_rule"
    assert "*JPY" in str(refused.value)
    assert refused.value.hint


@pytest.mark.parametrize("closed", [False, True])
def test_a_manifest_rebuilds_them(closed: bool) -> None:
    """to_dict, through JSON, gives the same answers, the order of the patterns included."""
    rules = Instruments({"USDJPY": {"scale": 2}, "*JPY": {"scale": 3}, "BTC*": {"crossed": "keep"}}, closed=closed)
    said = msgspec.json.decode(msgspec.json.encode(rules.to_dict()))
    assert list(said["rules"]) == ["USDJPY", "*JPY", "BTC*"]
    again = Instruments(said["rules"], closed=said["closed"])
    assert again.to_dict() == rules.to_dict()
    for symbol in ("USDJPY", "EURJPY", "BTCUSD", "EURUSD"):
        assert again.get(symbol) == rules.get(symbol)


def test_other_counting_says_otherwise() -> None:
    said = Instruments({"*": {"scale": 5}}).to_dict()
    assert Instruments({"*": {"scale": 4}}).to_dict() != said
    assert Instruments({"*": {"scale": 5}}, closed=True).to_dict() != said
    assert Instruments({"*": {}}).to_dict() == said            # the default written out is the default


def test_costs_dont_count_otherwise() -> None:
    """A bundle may answer under other costs than it was trained with; one that counts prices otherwise may not."""
    plain, dear = Instruments({"*": {"scale": 4}}), Instruments({"*": {"scale": 4, "commission_bp": 0.4, "slippage": 1.5}})
    assert plain.counting() == dear.counting() == plain.to_dict()
    assert dear.to_dict()["rules"]["*"]["commission_bp"] == 0.4
    assert Instruments.from_dict(dear.to_dict()).get("X") == dear.get("X")
    assert Instruments({"*": {"scale": 4, "spread": 2}}).counting() != plain.counting()
    table = SymbolTable(plain)
    table.sid("X")
    assert table.recount(dear) == []
    assert table.instruments[0].slippage == 1.5
    assert table.adopt(Instrument("X", scale=4)) == 0


def test_an_instrument_never_changes() -> None:
    with pytest.raises(AttributeError):
        Instrument("EURUSD").scale = 3  # type: ignore[misc]


# ---- names and zones

NAMED = {"EURUSD": {"aliases": ["EUR/USD", "EURUSD.m"]}, "*JPY": {"scale": 3}, "USDJPY": {"aliases": ["USD/JPY"]}}


def test_an_alias_is_the_symbol() -> None:
    rules = Instruments(NAMED, closed=True)
    for name in ("EURUSD", "EUR/USD", "EURUSD.m"):
        assert rules.get(name) == Instrument("EURUSD", aliases=("EUR/USD", "EURUSD.m"))
    assert rules.get("USD/JPY") == rules.get("USDJPY") == Instrument("USDJPY", scale=3, aliases=("USD/JPY",))
    assert rules.get("EUR/USDx") is None
    table = SymbolTable(rules)
    assert [table.sid(name) for name in ("EURUSD.m", "USD/JPY", "EURUSD", "EUR/USD", "USDJPY", "X")] == [0, 1, 0, 0, 1, -1]
    assert [i.symbol for i in table.instruments] == ["EURUSD", "USDJPY"]


def test_an_alias_is_its_symbol_before_any_pattern() -> None:
    rules = Instruments({"EUR/*": {"scale": 4}, "*": {"scale": 2}, **NAMED})
    assert rules.get("EUR/USD") == rules.get("EURUSD") == Instrument("EURUSD", scale=2, aliases=("EUR/USD", "EURUSD.m"))
    assert rules.get("EUR/GBP") == Instrument("EUR/GBP", scale=4)


@pytest.mark.parametrize(("rules", "says"), [
    ({"EUR*": {"aliases": ["EUR/USD"]}}, "'EUR*'"),
    ({"EURUSD": {"aliases": ["GBPUSD"]}, "GBPUSD": {}}, "'GBPUSD'"),
    ({"EURUSD": {"aliases": ["EURUSD"]}}, "'EURUSD'"),
    ({"EURUSD": {"aliases": ["E"]}, "EURGBP": {"aliases": ["E"]}}, "'EURGBP'"),
    ({"EURUSD": {"aliases": ["E", "E"]}}, "'E'"),
    ({"EURUSD": {"aliases": ["EUR?"]}}, "'EUR?'"),
    ({"EURUSD": {"aliases": [""]}}, "''"),
])
def test_a_name_has_one_meaning(rules: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as refused:
        Instruments(rules)
    assert refused.value.code == "instrument_alias"
    assert says in str(refused.value)
    assert refused.value.hint


def test_aliases_count_otherwise_and_survive_a_manifest() -> None:
    rules, plain = Instruments(NAMED), Instruments({**NAMED, "EURUSD": {}})
    assert rules.counting() != plain.counting()
    said = msgspec.json.decode(msgspec.json.encode(rules.to_dict()))
    assert said == rules.to_dict()
    assert Instruments.from_dict(said).get("EUR/USD") == rules.get("EURUSD")


def test_a_symbol_that_becomes_an_alias_keeps_its_row_and_gets_no_new_ticks() -> None:
    """Numbers are rows of every state: nobody else may move into one."""
    table = SymbolTable(Instruments())
    assert [table.sid(name) for name in ("EUR/USD", "GBPUSD", "EURUSD")] == [0, 1, 2]
    assert table.recount(Instruments(NAMED)) == [2]
    assert [i.symbol for i in table.instruments] == ["EUR/USD", "GBPUSD", "EURUSD"]
    assert [table.sid(name) for name in ("EUR/USD", "GBPUSD", "EURUSD", "EURUSD.m")] == [2, 1, 2, 2]
    assert [table.names(sid) for sid in range(3)] == [[], ["GBPUSD"], ["EURUSD", "EUR/USD", "EURUSD.m"]]
    again = SymbolTable(Instruments(NAMED))
    for instrument in table.instruments:
        again.restore(instrument)
    assert [again.sid(name) for name in ("EUR/USD", "GBPUSD", "EURUSD")] == [2, 1, 2]
    table.recount(Instruments())
    assert [table.sid(name) for name in ("EUR/USD", "GBPUSD", "EURUSD")] == [0, 1, 2]


def test_a_zone_has_an_iana_name() -> None:
    assert Instruments({"*": {"zone": "Europe/Athens"}}).to_dict()["rules"]["*"]["zone"] == "Europe/Athens"
    with pytest.raises(UsageError) as refused:
        Instruments({"EURUSD": {"zone": "UTC+3"}})
    assert refused.value.code == "zone"
    assert "'EURUSD'" in str(refused.value)
    assert "Etc/GMT-3" in refused.value.hint


def test_zone_calendar_and_widest_spread_change_no_tick() -> None:
    plain = Instruments({"*": {}})
    other = Instruments({"*": {"zone": "Asia/Tokyo", "calendar": "always", "max_spread": 20}})
    assert plain.counting() == other.counting()
    assert plain.to_dict() != other.to_dict()
    table = SymbolTable(plain)
    table.sid("X")
    assert table.recount(other) == []
    assert table.instruments[0].max_spread == 20
