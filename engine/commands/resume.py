"""`tocsin resume`: decide on paused symbols again."""

from __future__ import annotations

import argparse

from ..config import Config
from .pause import change_paused

EXAMPLE = "tocsin resume EURUSD --comment 'the news is out'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("symbols", nargs="*", metavar="SYMBOL|PATTERN", help="of what is paused; none: all")
    parser.add_argument("--comment", default="", help="why, kept in the log")


def run(args: argparse.Namespace, config: Config) -> int:
    from ..registry.pausing import after_resume

    return change_paused(after_resume, args, config)
