"""Files written once by a format's first version: read back as they are, on every machine, by every later version.

    python -m tests.golden.test_golden        writes them anew, after a FORMAT was raised on purpose

frame1.bin is of the frame's version 1, which nobody writes any more.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from engine.features import FeatureSet
from engine.instruments import Instruments, SymbolTable
from engine.registry import signing
from engine.registry.bundle import load_bundle
from engine.registry.store import Registry
from engine.replay import replay
from engine.types import Entry, Kind, TickBatch
from engine.wire import frame
from engine.wire.records import canonical_order
from engine.wire.ticks import decode
from tests.made import made_ticks, speaking_bundle, speaking_forest

HERE = Path(__file__).parent


def golden_ticks() -> TickBatch:
    return made_ticks(1200, symbols=2, rate=0.1)


def decoded(name: str = "frame.bin") -> TickBatch:
    entry = Entry((0, 1), Kind.TICKS, (HERE / name).read_bytes())
    ticks, refused = decode([entry], SymbolTable(Instruments()))
    assert not refused
    return ticks


def signals() -> bytes:
    done = replay(decoded(), speaking_bundle("tick"), Instruments())
    return b"\n".join(canonical_order(done.signals)[::10]) + b"\n"


def test_a_frame_is_read_as_it_was_written() -> None:
    ticks = golden_ticks()
    for name in ("ts", "bid", "ask", "bid_size", "ask_size", "seq"):
        assert np.array_equal(getattr(decoded(), name), getattr(ticks, name))
    assert frame.pack(ticks) == (HERE / "frame.bin").read_bytes()


def test_a_frame_of_version_1_is_read_as_it_was_written() -> None:
    now, then = decoded(), decoded("frame1.bin")
    assert (HERE / "frame1.bin").read_bytes()[3] == 1
    assert all(np.array_equal(column, then.columns()[name]) for name, column in now.columns().items())


def test_features_have_the_bits_they_had() -> None:
    matrix = FeatureSet.default().compute(decoded())
    assert matrix.view(np.int32).tobytes() == (HERE / "features.bin").read_bytes()


def test_a_snapshot_of_then_goes_on_now() -> None:
    ticks = decoded()
    stream = FeatureSet.default().restore((HERE / "snapshot.bin").read_bytes())
    whole = FeatureSet.default().stream()
    head, tail = whole.update(ticks[:600]), whole.update(ticks[600:])
    assert len(head)
    assert stream.update(ticks[600:]).tobytes() == tail.tobytes()


def test_a_bundle_of_then_answers_now() -> None:
    bundle = load_bundle(Registry(HERE / "registry", HERE / "public.pem"), "1")
    rows = np.load(HERE / "rows.npy")
    assert bundle.ensemble.predict_proba(rows).tobytes() == (HERE / "probabilities.bin").read_bytes()


def test_signals_have_the_bytes_they_had() -> None:
    assert signals() == (HERE / "signals.jsonl").read_bytes()


def write() -> None:
    (HERE / "frame.bin").write_bytes(frame.pack(golden_ticks()))
    ticks = decoded()
    matrix = FeatureSet.default().compute(ticks)
    (HERE / "features.bin").write_bytes(matrix.view(np.int32).tobytes())
    stream = FeatureSet.default().stream()
    stream.update(ticks[:600])
    (HERE / "snapshot.bin").write_bytes(stream.snapshot())
    (HERE / "signals.jsonl").write_bytes(signals())

    keys = HERE / "keys"
    private, public = signing.generate(keys)
    made = speaking_bundle("cusum")
    rows = matrix[-32:]
    probabilities = made.ensemble.predict_proba(rows)
    golden = msgspec.structs.replace(
        made.manifest.golden, rows=[[None if np.isnan(x) else float(x) for x in row] for row in rows],
        probabilities=probabilities.astype(np.float64).tolist(),
    )
    manifest = msgspec.structs.replace(made.manifest, golden=golden)
    Registry(HERE / "registry", public).publish(
        manifest, {"made.npz": speaking_forest().to_bytes()}, signing.load_private(private)
    )
    public.rename(HERE / "public.pem")
    private.unlink()                           # nobody signs with it again
    keys.rmdir()
    np.save(HERE / "rows.npy", rows)
    (HERE / "probabilities.bin").write_bytes(probabilities.tobytes())


if __name__ == "__main__":
    write()
