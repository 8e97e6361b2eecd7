"""Signals and rejects: bytes that fit their schema, survive a round trip, and are cut at the right place."""

from __future__ import annotations

import base64
import json

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.instruments import Instrument, Instruments
from engine.replay import replay
from engine.types import Code, Position, Refused, TickBatch
from engine.wire.records import (
    Decisions,
    Stamp,
    canonical,
    canonical_order,
    encode_rejects,
    encode_signals,
    reject_decoder,
    schemas,
    signal_decoder,
)
from tests.made import made_ticks, speaking_bundle

STAMP = Stamp('ma"in', 3, 7, "12", "abcd", ["one", "two"], 1, 2, 3)


def decisions(n: int, symbol: str = "EURUSD", scale: int = 5) -> Decisions:
    rng = np.random.default_rng(n)
    ticks = TickBatch([Instrument(symbol, scale=scale)], sid=np.zeros(n, np.int64), ts=10**18 + np.arange(n),
                      bid=rng.integers(1, 10**9, n), ask=rng.integers(1, 10**9, n), ordinal=np.arange(n))
    p = rng.dirichlet([1, 1, 1], (n, 2)).astype(np.float32)
    width = rng.uniform(1, 50, n)
    width[::5] = np.nan
    horizon = np.where(np.isnan(width), np.nan, rng.uniform(60, 3600, n))
    return Decisions(ticks, horizon, width, p, p.mean(axis=1).astype(np.float32), p[:, 0, 0], rng.integers(0, 3, n),
                     rng.integers(0, 10, n), rng.integers(0, 3, n))


@pytest.mark.parametrize("symbol", ["EURUSD", 'A"B\\C', 'x","log":{', "Ω/€"])
@pytest.mark.parametrize("scale", [0, 3, 9])
def test_records_fit_the_schema_and_keep_their_numbers(symbol: str, scale: int) -> None:
    d = decisions(40, symbol, scale)
    records = encode_signals(d, STAMP, ['"5-6"'] * 40)
    schema = schemas()["signal"]
    for i, record in enumerate(records):
        plain = json.loads(record)
        jsonschema.validate(plain, schema)
        signal = signal_decoder.decode(record)
        assert list(plain) == list(signal.__struct_fields__)
        assert signal.symbol == symbol
        assert (round(signal.bid * 10**scale), round(signal.ask * 10**scale)) == (d.ticks.bid[i], d.ticks.ask[i])
        assert np.array(signal.probabilities, np.float32).tobytes() == d.probabilities[i].tobytes()
        assert [np.array(v, np.float32).tobytes() for v in signal.votes.values()] == [v.tobytes() for v in d.votes[i]]
        assert (signal.horizon is None) == bool(np.isnan(d.width[i]))
        assert signal.expires is None or signal.expires == signal.ts + (signal.horizon or 0)
        cut = canonical(record)
        assert list(json.loads(cut)) == list(plain)[:-2]
        assert {k: v for k, v in plain.items() if k not in ("log", "timing")} == json.loads(cut)
        assert b" " not in cut.replace(symbol.encode(), b"")


def test_every_signal_and_reject_of_a_run_fits_its_schema() -> None:
    done = replay(made_ticks(3000, symbols=2, rate=0.1), speaking_bundle("tick"), Instruments())
    for kind, records in (("signal", done.signals), ("reject", done.rejects)):
        validator = jsonschema.Draft202012Validator(schemas()[kind])
        assert len(records) > 20
        for record in records:
            validator.validate(json.loads(record))
    ids = [signal_decoder.decode(r).id for r in done.signals]
    assert len(set(ids)) == len(ids)


def test_canonical_order_is_by_stamp_symbol_and_ordinal() -> None:
    done = replay(made_ticks(3000, symbols=2, rate=0.1), speaking_bundle("tick"), Instruments())
    shuffled = [done.signals[i] for i in np.random.default_rng(1).permutation(len(done.signals))]
    ordered = canonical_order(shuffled)
    assert ordered == canonical_order(done.signals)
    keys = [(s["ts"], s["symbol"], int(s["id"].rsplit(":", 1)[1])) for s in map(json.loads, ordered)]
    assert keys == sorted(keys)


@given(st.binary(max_size=300), st.sampled_from(list(Code)))
def test_a_reject_holds_the_whole_input(payload: bytes, code: Code) -> None:
    (record,) = encode_rejects([Refused(Position((1, 2), 3), code, payload)], 4, 5, ['"1-2"'])
    jsonschema.validate(json.loads(record), schemas()["reject"])
    reject = reject_decoder.decode(record)
    assert reject.code == code
    held = reject.payload.encode() if reject.encoding == "utf-8" else base64.b64decode(reject.payload)
    assert held == payload
    assert json.loads(canonical(record)) == {k: v for k, v in json.loads(record).items() if k != "log"}
