"""docs/metrics.md, made from a scrape of an engine that owns one partition and of a trainer: `make schemas` writes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

from prometheus_client.core import Metric

from engine.instruments import Instrument, Instruments
from engine.partition.state import Partition
from engine.transports.base import Extent
from engine.transports.memory import MemoryLog
from engine.types import START
from engine.watch.metrics import EngineCollector, TrainerCollector
from engine.watch.observer import Observer
from engine.watch.status import Status
from engine.watch.training import TrainerObserver

FILE = Path(__file__).parent.parent / "docs" / "metrics.md"

HEAD = """\
# Metrics

Made by `make schemas` from what an engine and a trainer export; edit `engine/watch/metrics.py`.

`[engine] listen` and `[trainer] listen` say where ([configuration](configuration.md)); only this machine reaches the
defaults. Three addresses, read only:

- `/metrics`: what follows, in Prometheus' text format, and the operating system's `process_*` where it offers them.
- `/healthz`: 200 while the process should be left alone, 503 when it should be started anew (`stuck`, `a loop died`).
- `/readyz`: 200 while it does its work, else 503. Both answer with JSON whose `reason` says why, and, where something
  can be done about it, a `hint`. What can stand there is in [failures](failures.md).

Counters begin at 0 with the process.
"""


def families() -> dict[str, list[Metric]]:
    """By who exports them."""
    part, seen = Partition(0, 1, Instruments()), Observer()
    part.bundle = SimpleNamespace(version="1")  # type: ignore[assignment]
    seen.granted(0, [Instrument("EURUSD")])
    keeper = SimpleNamespace(extents={0: Extent(START, START, 0, 0, 0)}, over={}, rejects_trimmed=Counter())
    status = Status("engine", MemoryLog(1), seen, {0: part}, SimpleNamespace(paused={}), keeper, [])  # type: ignore[arg-type]
    trainer = TrainerObserver()
    trainer.run_ended("kept", 1.0, bundle=True)
    trainer.recorded["ok"] += 1
    return {"engine": list(EngineCollector(status).collect()), "trainer": list(TrainerCollector(trainer).collect())}


def document() -> str:
    parts = [HEAD]
    for who, found in families().items():
        parts.append(f"\n## Of {'an' if who == 'engine' else 'a'} {who}\n\n| name | type | labels | what |\n|---|---|---|---|\n")
        parts += [f"{row}\n" for family in found for row in _rows(family)]
    return "".join(parts)


def _rows(family: Metric) -> Iterator[str]:
    ending = {"counter": "_total", "info": "_info"}.get(family.type, "")
    labels = {name for sample in family.samples for name in sample.labels} - {"le"} or set(getattr(family, "_labelnames", ()))
    named = ", ".join(f"`{name}`" for name in sorted(labels))
    yield f"| `{family.name}{ending}` | {family.type} | {named} | {family.documentation} |"


if __name__ == "__main__":
    FILE.write_text(document())
