"""`tocsin why`: why a symbol's newest decision is what it is, or why there is none."""

from __future__ import annotations

import argparse
from typing import Any

from ..config import Config
from ..terminal import answer_json, table

EXAMPLE = "tocsin why EURUSD --at 2024-05-06T14:03:00Z"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("symbol", metavar="SYMBOL")
    parser.add_argument("--at", metavar="T", help="ns or RFC 3339: the newest decision at or before it (default the newest)")


def run(args: argparse.Namespace, config: Config) -> int:
    from ..arguments import stamp
    from ..registry.store import Registry
    from ..transports import open_log
    from ..why import why

    at = stamp(args.at) if args.at else None
    log = open_log(config.url, deployment=config.log.deployment)
    try:
        answer = why(log, Registry(config.registry_path, config.trust_path), args.symbol, at)
    finally:
        log.close()
    if args.json:
        answer_json(answer)
    elif answer["decision"] is None:
        _undecided(answer)
    else:
        _decided(answer)
    return 0


def _decided(answer: dict[str, Any]) -> None:
    decision, limits = answer["decision"], answer["thresholds"]
    neutral, buy, sell = decision["probabilities"]
    rows = [
        ("decision", f"{decision['side']} ({decision['reason']}) at {decision['at']}, position {decision['position']}"),
        ("because", answer["because"]),
        ("probabilities", f"neutral {neutral:.4f}, buy {buy:.4f}, sell {sell:.4f}, margin {decision['margin']:+.4f}"),
        ("thresholds", "not known here" if limits is None else
         f"buy {limits['buy']:+.4g}, sell {limits['sell']:+.4g}, hysteresis {limits['hysteresis']:g}, "
         f"cooldown {limits['cooldown_s']:g} s, spread at most {limits['max_spread']:g} times its mean"
         + (f" and {limits['max_spread_points']} points" if limits["max_spread_points"] else "")),
        ("quote", f"{decision['bid']} / {decision['ask']}"),
        *((f"vote of {name}", _vote(vote)) for name, vote in decision["votes"].items()),
        ("bundle", decision["bundle"] + _by(answer["by"]["bundle"])),
        *((name, _by(by).strip()) for name, by in answer["by"].items() if name != "bundle" and by is not None),
        *([("refused since", _counts(answer["refused_since"]))] if answer["refused_since"] else []),
        ("licence", decision["licence"] + (f": {decision['licence_because']}" if decision["licence_because"] else "")),
    ]
    table(answer["symbol"], ("", ""), rows)


def _vote(vote: dict[str, Any]) -> str:
    neutral, buy, sell = vote["vote"]
    weight = "" if vote["weight"] is None else f", weight {vote['weight']:.3g}"
    return f"neutral {neutral:.4f}, buy {buy:.4f}, sell {sell:.4f}{weight}"


def _by(by: dict[str, Any] | None) -> str:
    if by is None:
        return ""
    return f" by {by['by']} (control record {by['k']})" + (f": {by['comment']}" if by["comment"] else "")


def _undecided(answer: dict[str, Any]) -> None:
    rows = [("decision", "none"), ("because", answer["because"]), ("partition", str(answer["partition"]))]
    if answer["refused"]:
        last = answer["last_refused"]
        rows += [("refused", _counts(answer["refused"])), ("last refused", f"{last['position']}: {last['wrong']}"),
                 ("what to do", last["advice"])]
    table(answer["symbol"], ("", ""), rows)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{code} {count:,}" for code, count in counts.items())
