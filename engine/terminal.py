"""What people and scripts read: an answer on stdout (JSON under --json, else a table), everything else on stderr."""

from __future__ import annotations

import getpass
import os
import socket
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from rich.console import Console


def answer_json(value: Any) -> None:
    """One JSON value, the whole of stdout."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode() + "\n")


def line_json(record: bytes) -> None:
    """One record of a stream of JSON lines; flushed, so that whoever follows sees it now."""
    sys.stdout.buffer.write(record + b"\n")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """The answer as a table; numbers to the right. Without a terminal: plain text, no colour."""
    from rich.table import Table

    drawn = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    rows = [list(row) for row in rows]
    for i, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[i], int | float) for row in rows)
        drawn.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(f"{cell:,}" if isinstance(cell, int) else printable(str(cell)) for cell in row))
    console().print(drawn)


def printable(text: str) -> str:
    """What a terminal would act on instead of showing it, as escapes: whoever may send ticks may not write to terminals."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def console(stderr: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 200
    return Console(file=stream, highlight=False, markup=False, soft_wrap=not stream.isatty(), width=width)


def note(text: str) -> None:
    """A line for the person at the terminal."""
    print(text, file=sys.stderr, flush=True)


def whoever() -> str:
    """user@host, for the record of who changed something."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):                # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
