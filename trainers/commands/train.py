"""`tocsin train`: one training, from tick files to a signed bundle."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.config import Config
from engine.errors import UsageError
from engine.manifest import KINDS, Moments
from engine.terminal import answer_json, note

if TYPE_CHECKING:
    from engine.registry.decisions import Decision

    from ..pipeline import Trained

EXAMPLE = "tocsin train --ticks EURUSD.parquet && tocsin models list"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ticks", nargs="+", metavar="FILE", help="Parquet, CSV or NDJSON ticks (default: what "
                        "is recorded of the log that --transport names)")
    parser.add_argument("--experts", default="lightgbm", metavar="A,B|all", help="who is fitted (default lightgbm)")
    parser.add_argument("--preset", choices=("lean", "seed"), default="lean", help="lean (default) or the full table")
    parser.add_argument("--activate", choices=("if-better", "manual", "always"), default="if-better",
                        help="make it champion (and, with --transport, have the log's engines answer with it) only if it "
                        "beats the prior and the champion on unseen events (default), never, or always")
    parser.add_argument("--moments", choices=KINDS, default="cusum", help="when the ensemble is asked: the price has moved "
                        "(cusum, default), at every tick, when a bar closes")
    parser.add_argument("--labels", metavar="FILE", help="learn the labels of a Parquet file (symbol, ts, end, label -1, 0 or 1, "
                        "optional weight) instead of the triple barrier's")
    parser.add_argument("--map", metavar="A=B,…", help="columns of the files: bid=Bid,ask=Ask,ts=Time:ms,symbol=Pair")
    parser.add_argument("--comment", default="", help="why, kept with the activation")


def run(args: argparse.Namespace, config: Config) -> int:
    from engine.arguments import column_map
    from engine.features import FeatureSet
    from engine.files import read_ticks
    from engine.registry import signing
    from engine.registry.controls import read_controls
    from engine.registry.settings import check_file, counted_now
    from engine.registry.store import Registry
    from engine.skew import doubts
    from engine.transports import open_log

    from ..label_file import read_labels
    from ..progress import Bars
    from ..sources import ticks_of_log
    from ..training import start_fits, train_and_decide

    if not args.ticks and not config.log.transport:
        raise UsageError("train_source", "nothing to train on", hint="name files (--ticks) or a log (--transport)")
    if args.ticks is None and args.map:
        raise UsageError("train_source", "--map is about files", hint="name them: --ticks FILE")
    labels = read_labels(Path(args.labels)) if args.labels else None
    with ExitStack() as stack:
        fits = stack.enter_context(start_fits(args.experts, args.preset, config))
        private = signing.load_private(keys(config))
        registry = Registry(config.registry_path, config.trust_path)
        log = None
        if config.log.transport:
            log = open_log(config.url, deployment=config.log.deployment, create=config.log.partitions, rules=config.rules())
            stack.callback(log.close)
            controls = read_controls(log, registry.public_key())
            check_file(config.rules(), log, controls)
        if args.ticks:
            rules = counted_now(log, controls) if log else config.rules()
            ticks = read_ticks(args.ticks, rules, columns=column_map(args.map))
            for doubt in doubts(ticks):
                note(doubt)
        else:
            assert log is not None
            ticks, rules = ticks_of_log(log, registry, config, config.trainer.days)
        with Bars() as bars:
            trained, decision = train_and_decide(
                ticks, registry, private, rules, fits, Moments(kind=args.moments), bars.show,
                FeatureSet.of(config.features), log=log, deployment=config.log.deployment, rule=args.activate,
                trigger="command", comment=args.comment, tell=note, labels=labels,
            )
    report = {"version": trained.version, **decision_dict(decision), **trained.metrics}
    if args.json:
        answer_json(report)
    else:
        note(in_words(trained, decision.activated, args.labels))
    return 0


def decision_dict(decision: Decision) -> dict[str, Any]:
    """What became of the bundle, without what is said elsewhere."""
    import msgspec

    return {key: value for key, value in msgspec.to_builtins(decision).items() if key != "about"}


def keys(config: Config) -> Any:
    """The private key's path; a key pair is made where none is configured and none is there."""
    from engine.registry import signing

    private = config.keys_path / "private.pem"
    if not private.exists() and not config.registry.keys and not config.trust_path.exists():
        signing.generate(config.keys_path)
        note(f"made a key pair in {config.keys_path}")
    return private


def in_words(trained: Trained, activated: bool, labels: str | None) -> str:
    m = trained.metrics
    from ..training import verdict

    lines = [
        f"bundle {trained.version}: {m['events']['train']:,} events to learn from, "
        f"{m['events']['test']:,} unseen to be judged by",
        f"  log loss {m['log_loss']:.4f}, of the prior {m['prior_log_loss']:.4f}; ranks whether the price moves with an "
        f"AUC of {m['auc']['neutral']:.3f}, and which way with {m['auc']['direction']:.3f} (0.5 is chance)",
        f"  {verdict(m['against_prior'], 'the prior')}",
    ]
    lines += [f"  without {name}: {why}" for name, why in m["failed"].items()]
    if m["refused"]:
        lines.append(f"  refused ticks: {', '.join(f'{count:,} {code}' for code, count in m['refused'].items())}")
    if labels and any(m["dropped"].values()):
        lines.append(f"  labels left out: {', '.join(f'{count:,} {why}' for why, count in m['dropped'].items() if count)}")
    if m["against_champion"]:
        lines.append(f"  {verdict(m['against_champion'], 'champion ' + m['against_champion']['champion'])}")
    lines.append("  it is champion now" if activated else
                 f"  not activated; tocsin models activate {trained.version} would do it")
    return "\n".join(lines)
