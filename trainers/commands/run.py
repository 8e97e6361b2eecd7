"""`tocsin run trainer`: records the log, trains when it is time, puts better bundles into the log."""

from __future__ import annotations

import argparse

from engine.config import Config
from engine.errors import UsageError
from engine.terminal import note

EXAMPLE = "tocsin run trainer --transport redis+embedded://.tocsin/log"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The rest of what it does is in [trainer], [lake] and [registry]."""
    parser.add_argument("--logs", choices=("text", "json"), default="text", help="log lines for people (default) or one JSON "
                        "object each")


def run(args: argparse.Namespace, config: Config) -> int:
    """Until SIGTERM or Ctrl-C. SIGUSR1, or a file `train-now` in HOME, asks for a training."""
    from engine.stopping import Stop

    if config.url.startswith("memory://"):
        raise UsageError("transport_memory", f"{config.url} lives in one process, in which nobody else could feed ticks",
                         hint="redis+embedded://DIR needs no server either")
    stop = Stop()
    from engine.watch.logs import configure

    from ..service import Service
    from .train import keys

    configure("trainer", args.logs == "json")
    keys(config)
    service = Service(config, args.logs == "json")
    try:
        service.run(stop, ready=lambda: note(f"ready: trainer of {config.log.deployment} on {service.log.url}"))
    finally:
        service.close()
    return stop.exit
