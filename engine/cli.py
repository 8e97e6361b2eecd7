"""The table of verbs. A verb's module is imported when the verb is called, so `--help` needs none of them.

A command module has EXAMPLE (one line), `add_arguments(parser)` and `run(args, config) -> exit code`. `--json`,
`--config`, `--home`, `--transport`, `--registry`, `--deployment` and `--name` belong to every verb and are merged
into the Config; `args.json` stays with the command.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from importlib import import_module
from typing import Any, NoReturn

from .errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, EXITS, TocsinError
from .hidden import hide

VERBS: dict[str, tuple[str, str]] = {
    "demo": ("trainers.commands.demo", "train on the first half of a tick file, stream the second, show the signals"),
    "run engine": ("engine.commands.run", "keep an engine running: ticks in, signals out"),
    "run trainer": ("trainers.commands.run", "record the log, train when it is time, swap better bundles in"),
    "train": ("trainers.commands.train", "one training: ticks to a signed bundle in the registry"),
    "replay": ("trainers.commands.replay", "files, a lake or a log through the very same pipeline, no server"),
    "feed": ("engine.commands.feed", "put ticks into the log: from files or simulated"),
    "signals": ("engine.commands.signals", "what was published"),
    "models": ("engine.commands.models", "bundles: list, show, diff, verify, export, activate, rollback, history, keygen"),
    "models import": ("trainers.commands.models_import", "a model you trained yourself, by LightGBM, XGBoost or CatBoost"),
    "why": ("engine.commands.why", "why a symbol's newest decision is what it is, or why there is none"),
    "pause": ("engine.commands.pause", "name no side for these symbols until they are resumed"),
    "resume": ("engine.commands.resume", "decide on paused symbols again"),
    "rejects": ("engine.commands.rejects", "what was refused: list, show, requeue"),
    "settings": ("engine.commands.settings", "rules the log lays over its bundle: show, set"),
    "features": ("engine.commands.features", "what the engine knows of a tick: list, compute, check"),
    "bench": ("trainers.commands.bench", "how fast it is here, beside what it is held against"),
    "lake": ("trainers.commands.lake", "what is recorded of the log: list, import, verify"),
    "log": ("engine.commands.log", "make a log on a server of yours; what a log is; a log as a file"),
    "doctor": ("engine.commands.doctor", "what is here, what is missing and how to get it"),
    "config": ("engine.commands.config", "each setting and where it came from"),
}


def main(argv: list[str] | None = None) -> int:
    """Entry point of the `tocsin` script; returns the exit code of errors.EXITS."""
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")        # √ and · on a terminal that knows ASCII only
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview())
        return EXIT_DONE
    if argv[0] == "--version":
        from . import __version__

        print(f"tocsin {__version__}")
        return EXIT_DONE
    words = 2 if " ".join(argv[:2]) in VERBS or argv[0] not in VERBS else 1
    verb = " ".join(argv[:words])
    if verb not in VERBS:
        known = [name for name in VERBS if name.startswith(f"{argv[0]} ")]
        if known and argv[1:2] in (["-h"], ["--help"]):
            print("\n".join(f"  tocsin {name:<15}{VERBS[name][1]}" for name in known))
            return EXIT_DONE
        said = f"{argv[0]} what?" if known else f"no verb {hide(argv[0])!r}"
        print(f"tocsin: {said}\n{_nearest(argv[0], known)}", file=sys.stderr)
        return EXIT_USAGE
    try:
        return _call(verb, argv[words:])
    except TocsinError as error:
        print(hide(f"tocsin: {error}"), file=sys.stderr)
        return error.exit
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:                    # the reader of our output has left; nothing is wrong with us
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            print("tocsin: there is no room for what should be written\n  → make room on that disk", file=sys.stderr)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_FAILED
        # ours to mend, not the user's to read: the trace goes into a file
        print(hide(f"tocsin: this should not have happened: {type(error).__name__}: {error}\n"
                   f"  → please report it with {_keep_trace()}"), file=sys.stderr)
        return EXIT_FAILED


class _Parser(argparse.ArgumentParser):
    """A URL that stands where none is expected isn't repeated with its password."""

    def error(self, message: str) -> NoReturn:
        super().error(hide(message))


def _call(verb: str, argv: list[str]) -> int:
    module = import_module(VERBS[verb][0])
    parser = _Parser(
        prog=f"tocsin {verb}", description=VERBS[verb][1], epilog=f"example:\n  {module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    common(parser)
    args = parser.parse_args(argv)
    from .config import load

    flags = {
        "home": args.home, "log.transport": args.transport, "registry.path": args.registry,
        "log.deployment": args.deployment, "engine.name": args.name,
    }
    code: int = module.run(args, load(args.config, flags=flags))
    sys.stdout.flush()
    return code


def common(parser: argparse.ArgumentParser) -> None:
    """What every verb understands (a verb with sub-verbs calls it for each of them)."""
    group = parser.add_argument_group("everywhere")
    for flag, options in _COMMON.items():
        group.add_argument(flag, **options)


_COMMON: dict[str, dict[str, Any]] = {
    "--json": {"action": "store_true", "help": "one JSON value (or lines) on stdout, nothing else there"},
    "--config": {"metavar": "F", "help": "configuration file (default tocsin.toml where there is one)"},
    "--home": {"metavar": "DIR", "help": "log, registry, keys (default $TOCSIN_HOME, else .tocsin)"},
    "--transport": {"metavar": "URL", "help": "memory://, redis://…, redis+embedded://DIR (default: embedded in HOME)"},
    "--registry": {"metavar": "DIR", "help": "folder of bundles (default HOME/registry)"},
    "--deployment": {"metavar": "NAME", "help": "scopes signals, checkpoints and control records (default main)"},
    "--name": {"metavar": "NAME", "help": "stable name of this process (default host and deployment)"},
}


def _overview() -> str:
    lines = ["usage: tocsin VERB …", "", "Ticks in, buy / sell / neutral signals out.", ""]
    lines += [f"  {verb:<15}{text}" for verb, (_, text) in VERBS.items()]
    lines += ["", "example:", "  tocsin demo", "", "`tocsin VERB --help` says more. Exit codes:"]
    lines += [f"  {code:<5}{meaning}" for code, meaning in EXITS.items()]
    return "\n".join(lines)


def _nearest(verb: str, known: list[str]) -> str:
    import difflib

    if known:
        return f"  → {', '.join(f'tocsin {name}' for name in known)}"
    near = difflib.get_close_matches(verb, VERBS, 1)
    return f"  → did you mean `tocsin {near[0]}`?" if near else f"  → verbs are {', '.join(VERBS)}"


def _keep_trace() -> str:
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="tocsin-", suffix=".txt", delete=False) as file:
        file.write(hide(traceback.format_exc()))
    return file.name


if __name__ == "__main__":
    sys.exit(main())
