"""`tocsin models import`: a model you trained yourself, as a bundle."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from engine.config import Config
from engine.errors import UsageError
from engine.manifest import KINDS, Moments, Policy
from engine.terminal import answer_json, note

from .train import keys

if TYPE_CHECKING:
    from engine.instruments import Instruments
    from engine.registry.store import Registry

EXAMPLE = "tocsin models import model.txt --features ret1_s,vol14_s,mom5_s --ticks EURUSD.parquet"

THRESHOLD = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="saved by LightGBM (.txt), XGBoost (.json, .ubj) or CatBoost (.cbm, .json)")
    parser.add_argument("--features", metavar="A,B|FILE", help="the engine's column behind each of the model's, in the model's "
                        "order (default: as the model names them; `tocsin features list` names the engine's)")
    parser.add_argument("--classes", metavar="A,B", help="which side each of the model's classes is, in its order: sell, "
                        "neutral, buy (default: as the file names them; three that are only numbered are sell,neutral,buy)")
    parser.add_argument("--moments", choices=KINDS, default="cusum", help="when the model is asked: the price has moved "
                        "(cusum, default), at every tick, when a bar closes")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--threshold", type=float, default=THRESHOLD, metavar="M", help="a side is named where buy and sell "
                     f"differ by more than M (default {THRESHOLD})")
    how.add_argument("--ticks", nargs="+", metavar="FILE", help="learn the thresholds at the moments of these ticks, best "
                     "such as the model never saw: a tenth of them lies beyond either")
    parser.add_argument("--map", metavar="A=B,…", help="columns of the tick files: bid=Bid,ask=Ask,ts=Time:ms,symbol=Pair")


def run(args: argparse.Namespace, config: Config) -> int:
    from engine.arguments import column_map
    from engine.features import FeatureSet
    from engine.files import read_ticks
    from engine.registry import signing
    from engine.registry.store import Registry
    from engine.types import CLASSES

    from ..importing import import_model

    if args.map and not args.ticks:
        raise UsageError("import_ticks", "--map is about files of ticks", hint="name them: --ticks FILE")
    if not 0.0 < args.threshold < 1.0:
        raise UsageError("threshold", f"{args.threshold:g} can't be exceeded, or always is", hint="between 0 and 1")
    names, classes = _names(args.features), _classes(args.classes)
    rules = config.rules()
    private = signing.load_private(keys(config))
    registry = Registry(config.registry_path, config.trust_path)
    if config.log.transport:
        rules = _rules_of_log(config, registry)
    done = import_model(
        Path(args.file), names, classes, FeatureSet.of(config.features), Moments(kind=args.moments),
        Policy(args.threshold, -args.threshold),
        read_ticks(args.ticks, rules, columns=column_map(args.map)) if args.ticks else None, rules, registry, private,
    )
    sides = [CLASSES[label % len(CLASSES)] for label in done.classes]
    if args.json:
        answer_json({
            "version": done.version, "library": done.library, "parity": done.parity, "classes": sides,
            "features": list(done.columns), "policy": {"buy": done.policy.buy, "sell": done.policy.sell},
        })
    else:
        note(f"bundle {done.version}: {done.library}'s answers within {done.parity:.1g}; buy beyond {done.policy.buy:.4g}, sell "
             f"beyond {done.policy.sell:.4g}\n  the model's classes, in its order: {', '.join(sides)}\n"
             f"  not activated; tocsin models activate {done.version} would do it")
    return 0


def _names(text: str | None) -> list[str]:
    """A comma list, or a file with a name per line. Raises UsageError `import_features`."""
    if not text:
        return []
    path = Path(text)
    if "," not in text and path.is_file():
        try:
            text = path.read_text().replace("\n", ",")
        except (OSError, ValueError) as error:
            raise UsageError("import_features", f"{path} can't be read: {error}", hint="a file of names, one per line") from None
    return [name.strip() for name in text.split(",") if name.strip()]


def _classes(text: str | None) -> list[int]:
    """Sides by name; a number might be a label or the place of a class. Raises UsageError `import_classes`."""
    from ..importing import SIDES

    words = [word.strip().lower() for word in (text or "").split(",") if word.strip()]
    for word in words:
        if word not in SIDES:
            raise UsageError("import_classes", f"--classes {text}: {word!r} is no side",
                             hint="sell, neutral or buy for each class of the model, in its order: --classes sell,buy")
    return [SIDES[word] for word in words]


def _rules_of_log(config: Config, registry: Registry) -> Instruments:
    """How a log counts prices, which is how its bundles must. Raises UsageError `settings_differ`."""
    from engine.registry.controls import read_controls
    from engine.registry.settings import check_file, counted_now
    from engine.transports import open_log

    log = open_log(config.url, deployment=config.log.deployment)
    try:
        controls = read_controls(log, registry.public_key())
        check_file(config.rules(), log, controls)
        return counted_now(log, controls)
    finally:
        log.close()
