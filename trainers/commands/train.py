"""`tocsin train`: one training, from tick files to a signed bundle."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from engine.config import MAIN, Config
from engine.errors import UsageError
from engine.terminal import answer_json, note

if TYPE_CHECKING:
    from ..pipeline import Trained

EXAMPLE = "tocsin train --ticks EURUSD.parquet && tocsin models list"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ticks", nargs="+", metavar="FILE", required=True, help="Parquet, CSV or NDJSON ticks")
    parser.add_argument("--experts", default="lightgbm", metavar="A,B|all", help="who is fitted (default lightgbm)")
    parser.add_argument("--preset", choices=("lean", "seed"), default="lean", help="lean (default) or the full table")
    parser.add_argument("--activate", choices=("if-better", "manual", "always"), default="if-better",
                        help="make it champion (and, with --transport, have the log's engines answer with it) only if it "
                        "beats the prior and the champion on unseen events (default), never, or always")
    parser.add_argument("--moments", choices=("cusum", "tick"), default="cusum", help="when the ensemble is asked")
    parser.add_argument("--map", metavar="A=B,…", help="columns of the files: bid=Bid,ask=Ask,ts=Time:ms,symbol=Pair")
    parser.add_argument("--comment", default="", help="why, kept with the activation")


def run(args: argparse.Namespace, config: Config) -> int:
    from engine.arguments import column_map
    from engine.files import read_ticks
    from engine.manifest import Moments
    from engine.registry import signing
    from engine.registry.store import Registry

    from ..pipeline import train
    from ..progress import Bars

    fits = start_fits(args.experts, args.preset, config)
    try:
        rules = config.rules()
        private = signing.load_private(keys(config))
        registry = Registry(config.registry_path, config.trust_path)
        ticks = read_ticks(args.ticks, rules, columns=column_map(args.map))
        with Bars() as bars:
            trained = train(ticks, registry, private, rules, fits, Moments(kind=args.moments), bars.show)
    finally:
        for fit in fits:
            fit.stop()
    activated = None
    if args.activate == "always" or (args.activate == "if-better" and trained.better):
        activated = _activate(trained.version, registry, private, config, args.comment)
    report = {
        "version": trained.version, "better": trained.better, "activated": activated is not None,
        "activation": activated, **trained.metrics,
    }
    if args.json:
        answer_json(report)
    else:
        note(in_words(trained, activated is not None))
    return 0


def start_fits(experts: str, preset: str, config: Config) -> list[Any]:
    """A child per expert. Raises UsageError for a name that isn't one."""
    from ..experts import names
    from ..experts.devices import cpu_budget, thread_shares
    from ..fit import Fit

    known = list(names())
    wanted = known if experts == "all" else [name for name in experts.split(",") if name]
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise UsageError("expert_unknown", f"no expert {', '.join(unknown) or experts!r}", hint=f"known: {', '.join(known)}")
    threads = thread_shares(config.trainer.threads or cpu_budget(), len(wanted))
    return [Fit(name, known.index(name) + 1, preset, share) for name, share in zip(wanted, threads, strict=True)]


def keys(config: Config) -> Any:
    """The private key's path; a key pair is made where none is configured and none is there."""
    from engine.registry import signing

    private = config.keys_path / "private.pem"
    if not private.exists() and not config.registry.keys and not config.trust_path.exists():
        signing.generate(config.keys_path)
        note(f"made a key pair in {config.keys_path}")
    return private


def _activate(version: str, registry: Any, private: Any, config: Config, comment: str) -> dict[str, Any]:
    """The control record first (where a transport is named), then the alias: the log is the only truth of what answers."""
    from engine.registry.activate import activate
    from engine.terminal import whoever
    from engine.transports import open_log

    done: dict[str, Any] = {"alias": "champion" if config.log.deployment == MAIN else None}
    if config.log.transport:
        log = open_log(config.url, deployment=config.log.deployment, create=config.log.partitions)
        try:
            activation = activate(log, registry, private, version, whoever(), comment)
            done |= {"k": activation.k, "copies": {p: log.format(c) for p, c in activation.copies.items()}}
        finally:
            log.close()
    if config.log.deployment == MAIN:
        registry.set_alias("champion", version)
    return done


def in_words(trained: Trained, activated: bool) -> str:
    m = trained.metrics
    lines = [
        f"bundle {trained.version}: {m['events']['train']:,} events to learn from, "
        f"{m['events']['test']:,} unseen to be judged by",
        f"  log loss {m['log_loss']:.4f}, of the prior {m['prior_log_loss']:.4f}; ranks whether the price moves with an "
        f"AUC of {m['auc']['neutral']:.3f}, and which way with {m['auc']['direction']:.3f} (0.5 is chance)",
        f"  {_verdict(m['against_prior'], 'the prior')}",
    ]
    if m["refused"]:
        lines.append(f"  refused ticks: {', '.join(f'{count:,} {code}' for code, count in m['refused'].items())}")
    if m["against_champion"]:
        lines.append(f"  {_verdict(m['against_champion'], 'champion ' + m['against_champion']['champion'])}")
    lines.append("  it is champion now" if activated else
                 f"  not activated; tocsin models activate {trained.version} would do it")
    return "\n".join(lines)


def _verdict(c: dict[str, Any], other: str) -> str:
    if c["verdict"] == "not comparable":
        return f"not comparable with {other} ({c['events']} common events)"
    direction = "better" if c["mean"] >= 0 else "worse"
    proven = "more than chance" if c["better"] else "not enough"
    return (
        f"{abs(c['mean']):.4f} ± {c['standard_error']:.4f} nats {direction} than {other} "
        f"({c['blocks']} blocks of {c['block_ns'] / 60e9:g} min): {proven}"
    )
