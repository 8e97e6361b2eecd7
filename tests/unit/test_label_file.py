"""Labels of somebody's own: joined to ticks without a look ahead, purged by their ends, refused where they can't be meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from engine.errors import InputRefused
from engine.eventtime import EventTime
from engine.features import FeatureSet
from engine.instruments import Instruments
from engine.manifest import Moments
from engine.registry import Registry, signing
from engine.types import Reason, TickBatch
from tests.made import made_ticks
from trainers.dataset import build
from trainers.fit import Fits
from trainers.label_file import LabelFile, join, read_labels
from trainers.labels import uniqueness
from trainers.pipeline import train

SECOND = 1_000_000_000
TICKS = made_ticks(30_000, symbols=2, rate=1.0)
TAKEN = TICKS[EventTime().admit(TICKS) == 0]
ROWS = FeatureSet.default().state().update(TAKEN)
READY = ROWS.status == int(Reason.DECIDED)


def made_labels(n: int = 400, seed: int = 1) -> dict[str, Any]:
    """Between, before and long after ticks; some at a tick's very stamp."""
    rng = np.random.default_rng(seed)
    first, last = int(TAKEN.ts[0]), int(TAKEN.ts[-1])
    ts = np.sort(rng.integers(first - 300 * SECOND, last + 1200 * SECOND, n))
    ts[::7] = rng.choice(TAKEN.ts, ts[::7].size)
    ts = np.unique(ts)
    return {
        "symbol": [TAKEN.symbols[s] for s in rng.integers(0, 2, ts.size)], "ts": ts,
        "end": ts + rng.integers(0, 900 * SECOND, ts.size), "label": rng.integers(-1, 2, ts.size),
    }


def written(path: Path, columns: dict[str, Any]) -> LabelFile:
    pl.DataFrame(columns).write_parquet(path / "own.parquet")
    return read_labels(path / "own.parquet")


def test_joined_to_the_last_tick_at_or_before(tmp_path: Path) -> None:
    """Against plain loops: rows, order, and why others were left out."""
    columns = made_labels()
    got = join(written(tmp_path, columns), TAKEN, READY)
    own = [np.flatnonzero(TAKEN.sid == sid).tolist() for sid in (0, 1)]
    expected, dropped = [], {"no_tick": 0, "old_tick": 0, "features": 0}
    order = sorted(range(len(columns["ts"])), key=lambda k: (columns["ts"][k], columns["symbol"][k]))
    for k in order:
        sid, t = TAKEN.symbols.index(columns["symbol"][k]), columns["ts"][k]
        before = [i for i in own[sid] if TAKEN.ts[i] <= t]
        if not before:
            dropped["no_tick"] += 1
        elif t - TAKEN.ts[before[-1]] > 600 * SECOND:
            dropped["old_tick"] += 1
        elif not READY[before[-1]]:
            dropped["features"] += 1
        else:
            expected.append((before[-1], t, columns["end"][k], columns["label"][k]))
    assert min(dropped.values()) > 0
    assert got.dropped == dropped
    assert list(zip(got.event.tolist(), got.event_ts, got.end_ts, got.y, strict=True)) == expected
    assert len(expected) > 150


def test_weights_are_uniqueness_among_the_symbols_ticks_or_the_files_own(tmp_path: Path) -> None:
    columns = made_labels()
    got = join(written(tmp_path, columns), TAKEN, READY)
    for sid in (0, 1):
        own, mine = np.flatnonzero(TAKEN.sid == sid), TAKEN.sid[got.event] == sid
        start = np.searchsorted(own, got.event[mine])
        end = np.array([np.flatnonzero(TAKEN.ts[own] <= t)[-1] for t in got.end_ts[mine]])
        assert got.weight[mine] == pytest.approx(uniqueness(start, end, own.size))
    assert 0.0 < got.weight.min() < got.weight.max() <= 1.0 + 1e-9

    weighed = join(written(tmp_path, columns | {"weight": np.arange(len(columns["ts"])) + 1.0}), TAKEN, READY)
    at = {(t, s): k + 1.0 for k, (t, s) in enumerate(zip(columns["ts"].tolist(), columns["symbol"], strict=True))}
    keys = [(t, TAKEN.symbol(e)) for t, e in zip(weighed.event_ts.tolist(), weighed.event, strict=True)]
    assert weighed.weight.tolist() == [at[key] for key in keys]


def test_order_and_kind_of_stamp_dont_matter(tmp_path: Path) -> None:
    columns = made_labels()
    frame = pl.DataFrame(columns)
    stamps = frame.with_columns(
        pl.col("ts").cast(pl.Datetime("ns", "UTC")).dt.convert_time_zone("Asia/Tokyo"), pl.col("end").cast(pl.Datetime("ns"))
    ).sample(fraction=1.0, shuffle=True, seed=3)
    plain = join(written(tmp_path, columns), TAKEN, READY)
    other = join(written(tmp_path, {name: stamps[name] for name in stamps.columns}), TAKEN, READY)
    for name in ("event", "event_ts", "end_ts", "y", "weight"):
        assert np.array_equal(getattr(plain, name), getattr(other, name)), name


def test_ticks_after_a_labels_stamp_change_none_of_its_row(tmp_path: Path) -> None:
    """The features it is learned from, bit for bit; a label at the changed tick itself shows that it would be seen."""
    columns = made_labels()
    given = written(tmp_path, columns)
    before = build(TICKS, Moments(), FeatureSet.default(), given)
    t = int(before.event_ts[before.event_ts.size // 2])
    changed = TICKS[np.arange(len(TICKS))]
    later = changed.ts > t
    changed.bid[later] += 700
    changed.ask[later] += 705
    after = build(changed, Moments(), FeatureSet.default(), given)
    a, b = before.event_ts <= t, after.event_ts <= t
    assert before.matrix[a].tobytes() == after.matrix[b].tobytes()
    assert before.matrix[~a].tobytes() != after.matrix[~b].tobytes()


def test_the_dataset_is_the_files_and_its_digest_covers_it(tmp_path: Path) -> None:
    columns = made_labels()
    data = build(TICKS, Moments(), FeatureSet.default(), written(tmp_path, columns))
    joined = join(written(tmp_path, columns), TAKEN, READY)
    assert data.matrix.tobytes() == ROWS.matrix[joined.event].tobytes()
    assert (data.labels, data.dropped) == ("own.parquet", joined.dropped)
    digests = {data.digest, build(TICKS, Moments(), FeatureSet.default()).digest}
    flipped = columns["label"].copy()
    flipped[200] = -1 if flipped[200] != -1 else 1
    for other in ({"label": flipped}, {"end": columns["end"] + 1}, {"weight": np.ones(len(flipped))}):
        digests.add(build(TICKS, Moments(), FeatureSet.default(), written(tmp_path, columns | other)).digest)
    assert len(digests) == 5
    assert build(TICKS, Moments(), FeatureSet.default(), written(tmp_path, columns)).digest == data.digest
    assert build(TICKS, Moments(), FeatureSet.default()).labels == ""


def spoilt(columns: dict[str, Any], name: str, row: int, value: Any) -> dict[str, Any]:
    values = list(np.asarray(columns[name]).tolist())
    values[row] = value
    return columns | {name: values}


@pytest.mark.parametrize(("spoil", "code", "says"), [
    (lambda c: {k: v for k, v in c.items() if k != "end"}, "labels_columns", "end"),
    (lambda c: {k: v[:0] for k, v in c.items()}, "labels_empty", "no rows"),
    (lambda c: spoilt(c, "label", 3, 2), "labels_value", "row 3"),
    (lambda c: spoilt(c, "label", 3, None), "labels_value", "row 3"),
    (lambda c: spoilt(c | {"label": c["label"] * 1.0}, "label", 3, 0.5), "labels_value", "row 3"),
    (lambda c: spoilt(c, "end", 5, int(c["ts"][5]) - 1), "labels_end", "row 5"),
    (lambda c: spoilt(c, "ts", 4, None), "labels_stamp", "row 4"),
    (lambda c: spoilt(c, "ts", 4, 1_699_999_200), "labels_stamp", "row 4"),
    (lambda c: c | {"ts": [str(t) for t in c["ts"]]}, "labels_stamp", "ts"),
    (lambda c: spoilt(c | {"weight": np.ones(len(c["ts"]))}, "weight", 6, 0.0), "labels_weight", "row 6"),
    (lambda c: spoilt(c | {"weight": np.ones(len(c["ts"]))}, "weight", 6, None), "labels_weight", "row 6"),
    (lambda c: spoilt(spoilt(c, "symbol", 9, "MADE0"), "symbol", 2, "MADE0") | {"ts": [*c["ts"][:9], c["ts"][2], *c["ts"][10:]]},
     "labels_duplicate", "row 9"),
    (lambda c: spoilt(c, "symbol", 1, "OTHER"), "labels_symbol", "'OTHER'"),
    (lambda c: spoilt(c, "symbol", 1, None), "labels_symbol", "''"),
])
def test_what_cant_be_meant_is_refused(tmp_path: Path, spoil: Any, code: str, says: str) -> None:
    with pytest.raises(InputRefused) as refused:
        join(written(tmp_path, spoil(made_labels())), TAKEN, READY)
    assert refused.value.code == code
    assert says in str(refused.value)
    assert refused.value.hint


def test_what_cant_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    for name, code in (("none.parquet", "file_missing"), ("bad.parquet", "file_damaged"), ("bad.xlsx", "file_kind")):
        with pytest.raises(InputRefused) as refused:
            read_labels(tmp_path / name)
        assert refused.value.code == code


def test_labels_without_a_row_are_no_training(tmp_path: Path) -> None:
    columns = made_labels() | {}
    columns["ts"] = columns["ts"] - 10**15
    with pytest.raises(InputRefused) as refused:
        build(TICKS, Moments(), FeatureSet.default(), written(tmp_path, columns))
    assert refused.value.code == "no_events"
    assert "no_tick" in str(refused.value)


def last_move(ticks: TickBatch) -> dict[str, Any]:
    """Labels that the features know: which way the price went in the minute before; certain at once."""
    taken = ticks[EventTime().admit(ticks) == 0]
    ts = np.arange(int(taken.ts[0]) + 7200 * SECOND, int(taken.ts[-1]), 20 * SECOND)
    at = np.searchsorted(taken.ts, ts, "right") - 1
    ago = np.searchsorted(taken.ts, ts - 60 * SECOND, "right") - 1
    return {"symbol": ["MADE0"] * ts.size, "ts": ts, "end": ts, "label": np.sign(taken.bid[at] - taken.bid[ago])}


def test_a_bundle_learns_them_and_says_so(tmp_path: Path) -> None:
    ticks = made_ticks(50_000, rate=1.0)
    given = written(tmp_path, last_move(ticks))
    signing.generate(tmp_path / "keys")
    registry = Registry(tmp_path / "registry", tmp_path / "keys/public.pem")
    with Fits(["lightgbm"], "lean", threads=2) as fits:
        trained = train(
            ticks, registry, signing.load_private(tmp_path / "keys/private.pem"), Instruments(), fits,
            Moments(kind="bar:1m"), lambda *stage: None, FeatureSet.default(), labels=given,
        )
    manifest = registry.read(trained.version).manifest
    assert manifest.training.labels == "own.parquet"
    assert manifest.training.events == len(build(ticks, Moments(), FeatureSet.default(), given).y)
    assert manifest.moments.kind == "bar:1m"               # when the engine asks, whatever the labels were of
    assert trained.metrics["auc"]["direction"] > 0.8
    assert trained.better
