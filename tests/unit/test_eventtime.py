"""Event time against a plain-Python telling of its rules."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.eventtime import REMEMBERED, TOLERANCE, VERDICTS, EventTime
from engine.files import read_ticks
from engine.instruments import Instrument
from engine.types import NO_SEQ, Code, TickBatch
from tests.made import made_ticks, real_file


def oracle(ticks: TickBatch) -> list[Code | None]:
    last: dict[int, tuple[int, int]] = {}
    seen: dict[int, list[tuple[int, ...]]] = {}
    out: list[Code | None] = []
    for i in range(len(ticks)):
        sid, ts, seq = int(ticks.sid[i]), int(ticks.ts[i]), int(ticks.seq[i])
        payload = tuple(int(getattr(ticks, k)[i]) for k in ("bid", "ask", "bid_size", "ask_size"))
        known, known_seq = last.get(sid, (0, NO_SEQ))
        numbered = seq >= 0 and known_seq >= 0
        if ticks.bid[i] > ticks.ask[i] and ticks.instruments[sid].crossed == "reject":
            out.append(Code.CROSSED)
        elif ticks.appended[i] and ts > ticks.appended[i] + TOLERANCE:
            out.append(Code.FUTURE)
        elif ts < known or (ts == known and numbered and seq < known_seq):
            out.append(Code.LATE)
        elif ts == known and (seq == known_seq if numbered else payload in seen[sid][-REMEMBERED:]):
            out.append(Code.DUPLICATE)
        else:
            if ts > known:
                seen[sid] = []
            seen[sid].append(payload)
            last[sid] = (ts, seq)
            out.append(None)
    return out


def verdicts(ticks: TickBatch) -> list[Code | None]:
    return [VERDICTS[v] for v in EventTime().admit(ticks)]


def test_the_rules_on_made_ticks() -> None:
    ticks = made_ticks(3000, symbols=3)
    expected = oracle(ticks)
    assert verdicts(ticks) == expected
    assert {Code.CROSSED, Code.LATE, Code.DUPLICATE, None} == set(expected)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 4), st.integers(1, 3), st.integers(-1, 3)), max_size=200))
@settings(max_examples=200, deadline=None)
def test_the_rules_on_anything(rows: list[tuple[int, int, int, int]]) -> None:
    columns = np.array(rows, np.int64).reshape(len(rows), 4).T
    sid, ts, bid, seq = (np.ascontiguousarray(c) for c in columns)
    ticks = TickBatch([Instrument("A"), Instrument("B", crossed="keep")], sid=sid, ts=ts, bid=bid,
                      ask=np.full(len(rows), 2), seq=seq)
    assert verdicts(ticks) == oracle(ticks)


def test_more_ticks_at_one_stamp_than_are_remembered() -> None:
    n = 2 * REMEMBERED
    bid = np.concatenate([np.arange(1, n + 1), [n, 1]])
    ticks = TickBatch([Instrument("A")], sid=np.zeros(n + 2, np.int64), ts=np.ones(n + 2, np.int64), bid=bid, ask=bid + 1)
    assert verdicts(ticks)[-2:] == [Code.DUPLICATE, None]          # the last is found, the first is forgotten


def test_future_by_the_logs_own_stamp_only() -> None:
    ts = np.array([10**18, 10**18 + TOLERANCE, 10**18 + TOLERANCE + 1, 2 * 10**18])
    appended = np.array([10**18, 10**18, 10**18, 0])
    ticks = TickBatch([Instrument("A")], sid=np.zeros(4, np.int64), ts=ts, bid=np.array([1, 2, 3, 4]),
                      ask=np.array([5, 5, 5, 5]), appended=appended)
    assert verdicts(ticks) == [None, None, Code.FUTURE, None]


def test_refused_ticks_change_no_state() -> None:
    ticks = made_ticks(3000, symbols=2)
    all_of_them = EventTime()
    taken = all_of_them.admit(ticks) == 0
    only_good = EventTime()
    assert not only_good.admit(ticks[taken]).any()
    assert np.array_equal(all_of_them.rows.ints, only_good.rows.ints)


def test_real_ticks() -> None:
    ticks = read_ticks(real_file("EURUSD_OANDA-LEAN2014"))
    found = EventTime().admit(ticks)
    assert np.bincount(found, minlength=len(VERDICTS)).tolist() == [532_891, 0, 0, 0, 12]
    head = ticks[:20_000]
    assert verdicts(head) == oracle(head)
