"""/metrics: what is counted, in Prometheus' words. Everything is read at the scrape; no tick ever touches any of it.

Histograms carry no `symbol`: 500 symbols times their buckets would hold the interpreter for 50 ms at every scrape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from .. import __version__, clock
from ..types import REASONS, SIDES, Code
from .observer import BUCKETS_NS, Observer
from .status import Status
from .training import BUCKETS_S, TrainerObserver

Rows = Iterable[tuple[Sequence[str], float]]
"""(label values, value)."""


def registry(collector: Collector) -> CollectorRegistry:
    """What an exporter serves: a process's own metrics and those of the operating system about it."""
    found = CollectorRegistry()
    found.register(collector)
    ProcessCollector(registry=found)
    return found


class EngineCollector(Collector):
    """Of one engine."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status, seen = self._status, self._status.seen
        yield _up(status.name, status.deployment)
        yield from _counts(seen)
        yield _gauge(
            "queue_depth", "Records on their way to being published: in a batch being filled, or sent and not acknowledged.",
            ("stage",), (((stage,), count) for stage, count in status.queued().items()),
        )
        yield from _partitions(status)
        yield from _symbols(seen)


def _counts(seen: Observer) -> Iterator[Metric]:
    yield _counter("ticks", "Ticks by what event time said of them.", ("verdict",),
                   (((verdict,), count) for verdict, count in seen.verdicts().items()))
    yield _counter("rejects", "Inputs refused, ticks and control records; each is kept whole in rejects.", ("code",),
                   (((code.value,), seen.rejected[code.value]) for code in Code))
    decisions = seen.decisions.tolist()
    yield _counter("decisions", "Decisions by side and by why it was that side.", ("side", "reason"), (
        ((side, reason), decisions[i][j]) for i, side in enumerate(SIDES) for j, reason in enumerate(REASONS)
    ))
    yield _histogram(
        "tick_to_signal_seconds", "From a tick read to its signal acknowledged by the log.",
        [ns / 1e9 for ns in BUCKETS_NS], list(seen.latency.buckets), seen.latency.total_ns / 1e9,
    )


def _partitions(status: Status) -> Iterator[Metric]:
    seen, now = status.seen, clock.monotonic_ns()
    work = [(str(one.partition), one) for one in status.work()]
    owned = {number for number, _ in work}
    numbers = [str(number) for number in range(status.partitions)]
    extents = {str(number): extent for number, extent in sorted(dict(status.keeper.extents).items())}
    by = ("partition",)

    yield _gauge("partition_owned", "1 where this engine owns the partition.", by,
                 (((number,), number in owned) for number in numbers))
    bundles = InfoMetricFamily("tocsin_bundle", "The bundle that answers, and the control record that named it.", labels=by)
    for number, one in work:
        if one.bundle is not None:
            bundles.add_metric((number,), {"version": one.bundle, "k": str(one.k)})
    yield bundles
    yield _counter("swaps", "Activations met: from there on another bundle answered.", by,
                   (((number,), seen.swaps[int(number)]) for number, _ in work))
    yield _gauge("paused", "1 where the partition waits for a bundle.", by,
                 (((number,), one.waits_for is not None) for number, one in work))
    yield _gauge("paused_symbols", "Symbols whose decisions are neutral because an operator paused them.", by,
                 (((number,), one.paused_symbols) for number, one in work))
    yield _gauge("lag_records", "Records in the log that aren't done with, as of the last second.", by,
                 (((number,), one.lag_records) for number, one in work if one.lag_records is not None))
    yield _gauge("lag_ticks", "The same in ticks, at the number of ticks per record seen so far.", by,
                 (((number,), one.lag_ticks) for number, one in work if one.lag_ticks is not None))
    yield _gauge("lag_seconds", "Age of what is to be read next by the log's stamp; 0 where nothing is.", by,
                 (((number,), one.lag_s) for number, one in work if one.lag_s is not None))
    yield _gauge("checkpoint_age_seconds", "Since the last checkpoint was acknowledged, or else since takeover.", by,
                 (((number,), (now - seen.checkpoints[one.partition]) / 1e9)
                  for number, one in work if one.partition in seen.checkpoints))
    yield _gauge("log_bytes", "What ticks, and what was published about them, take; an estimate.", by,
                 (((number,), extent.bytes) for number, extent in extents.items()))
    yield _gauge("log_kept_records", "Tick records that aren't trimmed yet.", by,
                 (((number,), extent.kept) for number, extent in extents.items()))
    yield _gauge("log_full", "1 where feeds are refused: ticks take twice their share, or the server has no more room.", by,
                 (((number,), bool(one.full)) for number, one in work))
    yield _counter("rejects_trimmed", "Rejects forgotten before the ticks they are about: they took more than a quarter.", by,
                   (((number,), status.keeper.rejects_trimmed[int(number)]) for number, _ in work))
    yield _gauge("log_over_quota", "1 where more is kept than [log] keep_mb allows, because somebody still needs it.", by,
                 (((number,), one.held_by is not None) for number, one in work))


def _symbols(seen: Observer) -> Iterator[Metric]:
    now = clock.monotonic_ns()
    newest: dict[str, int] = {}                    # a symbol may stand in two partitions, where producers disagree
    for symbols in list(seen.symbols.values()):
        for symbol, taken in symbols.last_taken():
            newest[symbol] = max(taken, newest.get(symbol, taken))
    yield _gauge(
        "last_tick_age_seconds", "Since the symbol's last tick was taken, or else since its partition was taken over.",
        ("symbol",), (((symbol,), (now - taken) / 1e9) for symbol, taken in newest.items()),
    )
    last = seen.last_tick
    yield _gauge("last_tick_timestamp_seconds", "When the last tick of any symbol was taken, by this machine's clock.", (),
                 [] if last is None else [((), last / 1e9)])
    share = seen.warm_share()
    yield _gauge("warm_share", "Share of the symbols that moved whose features are warm.", (),
                 [] if share is None else [((), share)])


class TrainerCollector(Collector):
    """Of one trainer, its recorder included."""

    def __init__(self, seen: TrainerObserver) -> None:
        self._seen = seen

    def collect(self) -> Iterator[Metric]:
        seen = self._seen
        yield _up(seen.name, seen.deployment)
        yield _counter("training_runs", "Runs by how they ended.", ("outcome",),
                       (((outcome,), count) for outcome, count in sorted(dict(seen.runs).items())))
        yield _histogram("training_duration_seconds", "How long runs took.", BUCKETS_S, list(seen.durations), seen.duration_s)
        yield _gauge("training_in_progress", "1 while a run is on.", (), [((), seen.in_progress)])
        last = seen.last_success
        yield _gauge("training_last_success_timestamp_seconds", "When a run last made a bundle.", (),
                     [] if last is None else [((), last)])
        yield _gauge("bundles", "Bundles in the registry.", (), [((), seen.bundles)])
        yield _counter("recorder_rows", "Ticks met by the recorder, by verdict.", ("verdict",),
                       (((verdict,), count) for verdict, count in sorted(dict(seen.recorded).items())))
        yield _gauge(
            "recorder_lag_seconds", "How old the newest recorded record is, where there are newer ones; it grows in silence.",
            (), [((), seen.recorder_lag_s)],
        )
        yield _gauge("lake_bytes", "What the recorded ticks take.", (), [((), seen.lake_bytes)])


def _up(name: str, deployment: str) -> Metric:
    return InfoMetricFamily(
        "tocsin_up", "What answers here.", {"version": __version__, "deployment": deployment, "name": name}
    )


def _counter(name: str, text: str, labels: Sequence[str], rows: Rows) -> Metric:
    family = CounterMetricFamily(f"tocsin_{name}", text, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def _gauge(name: str, text: str, labels: Sequence[str], rows: Rows) -> Metric:
    family = GaugeMetricFamily(f"tocsin_{name}", text, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def _histogram(name: str, text: str, bounds: Sequence[float], counts: Sequence[int], total: float) -> Metric:
    """counts: one per bound, and one above them all."""
    below, buckets = 0, []
    for bound, count in zip((*(repr(float(bound)) for bound in bounds), "+Inf"), counts, strict=True):
        below += count
        buckets.append((bound, float(below)))
    return HistogramMetricFamily(f"tocsin_{name}", text, buckets=buckets, sum_value=total)
