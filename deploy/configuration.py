"""docs/configuration.md, made from the types in engine/config.py and their docstrings: `make schemas` writes it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import msgspec

from engine import config, instruments, usual

FILE = Path(__file__).parent.parent / "docs" / "configuration.md"

HEAD = """\
# Configuration

Made by `make schemas` from `engine/config.py`; edit it there.

What counts, from weakest to strongest: the defaults below, `tocsin.toml` in the working folder (or `--config F`), the
variable `TOCSIN_<SECTION>_<KEY>` (`TOCSIN_LOG_TRANSPORT` for `[log] transport`), a flag. A key or a variable of that
form that doesn't exist is refused with the nearest one that does. `tocsin config show` prints every setting, its value
and where it came from. HOME below is `TOCSIN_HOME`.

Nothing in here but `[instruments]` can change a byte of a decision. What does (thresholds, cooldown, weights) stands in
the bundle and, laid over it, in the log: `tocsin settings set policy.cooldown_s=30 --comment WHY`.

```toml
[log]
transport = "redis://localhost:6379"
keep_mb = 2048

[engine]
name = "tokyo-1"

[trainer]
every = "30 5 * * 1-5"

[instruments]
table = "usual"
"*HUF" = { scale = 3 }
EURUSD = { scale = 5, crossed = "keep", aliases = ["EUR/USD", "EURUSD.m"], zone = "Europe/Athens", max_spread = 30 }
```
"""

INSTRUMENTS = """\
A table per symbol or shell pattern; the first that matches a symbol counts, and no other. `closed = true` refuses every
symbol that none matches. `table = "usual"` puts the shipped rules below behind your own.

"""

USUAL = """
### The shipped table

With `table = "usual"`, where no rule of yours matches first. A name that is yours, as a symbol or an alias, isn't the table's. A
log and a bundle keep the rules themselves, not the table's name: another release of the table changes no log there is.

"""

CLOCKS = """
### Aliases and zones

An alias is its symbol: one stream of ticks, one state, signals under the symbol, whatever patterns match it. What came stays
in the log as it came. Whoever writes ticks puts an alias into the partition of its symbol, as `tocsin feed` and `publish` do.

`zone` is for files only: their datetimes and text without a zone show its clock. Integers are UTC, and so is the wire, where
text names its offset. A time that the clock skipped in spring is refused, with its row. The hour that it shows twice in autumn is
told apart by the order of a symbol's rows: where they go back once, the first pass is before the change and the second after
it; where they go back more often or not at all, the row is refused. When the clocks change is read from the package `tzdata`.

Stamps of the wrong clock are told where they show: an engine says so when future-dated ticks are a whole or half hour
ahead of the log's own stamps; `features compute`, `feed files` and `train` say so when the weekends of a currency (`calendar`, or
the shipped table's) don't lie where New York has them.
"""

TAIL = """
The rules are part of a bundle. A log counts as the file of whoever created it said, until `tocsin settings set instruments=file`
says otherwise. An engine or trainer whose file names other rules than the log's refuses to start (exit 2) and says which.

## Variables without a section

| variable | what |
|---|---|
| `TOCSIN_HOME` | the folder of log, registry, keys, lake and demos (default `.tocsin`); the flag is `--home` |
| `TOCSIN_DATA` | a folder that holds `ticks/`: what the demo replays, and tests of real ticks read |
| `TOCSIN_FOREST` | how forests are answered: `avx512`, `avx2`, `portable`; unset the best that is here. The same bits each way |
| `TOCSIN_DEVICE` | what fits run on: `auto` (default), `cpu`, `gpu`, or `cuda:N` |

## Flags of every verb

`--home`, `--transport` (`[log] transport`), `--registry` (`[registry] path`), `--deployment` (`[log] deployment`) and
`--name` (`[engine] name`). The rest is file or variable.

## Keys

The private key signs bundles, control records and decisions: keep it where models are made. `train`, `run trainer`,
`models activate` and `settings set` need it; engines need `public.pem` only.
"""


def document() -> str:
    parts = [HEAD]
    for section in config.SECTIONS:
        kind = type(getattr(config.Config(), section))
        parts.append(f"\n## [{section}]\n\n{_table(kind, _said(config, kind))}")
    told = instruments.Instrument.__doc__ or ""
    said = {}
    for line in told.splitlines():
        name, colon, text = line.strip().partition(": ")
        if colon and name in instruments.Instrument.__struct_fields__:
            said[name] = text
    parts.append(f"\n## [instruments]\n\n{INSTRUMENTS}{_table(instruments.Instrument, said)}{USUAL}{_usual()}{CLOCKS}{TAIL}")
    return "".join(parts)


def _usual() -> str:
    """Symbols of the same rule in one row."""
    rows: dict[str, list[str]] = {}
    for symbol, rule in usual.rules().items():
        rows.setdefault(f"{rule['scale']} | {rule['size_scale']} | {rule['calendar']}", []).append(symbol)
    told = [f"| {', '.join(symbols)} | {rule} |" for rule, symbols in rows.items()]
    slashes = "\nEach has its name with a slash as an alias, and those with `_` (currencies and metals) or `-` (crypto).\n"
    return "\n".join(["| symbols | scale | size_scale | calendar |", "|---|---|---|---|", *told]) + "\n" + slashes


def _table(kind: type[msgspec.Struct], said: dict[str, str]) -> str:
    rows = [
        f"| `{field.name}` | {_default(field.default)} | {said[field.name]} |"
        for field in msgspec.structs.fields(kind) if field.name in said
    ]
    return "\n".join(["| key | default | what |", "|---|---|---|", *rows]) + "\n"


def _default(value: Any) -> str:
    return "" if value == "" else f"`{value}`"


def _said(module: Any, kind: type) -> dict[str, str]:
    """By field, the docstring that stands under it."""
    tree = ast.parse(Path(module.__file__).read_text())
    (node,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == kind.__name__)
    found = {}
    for field, text in zip(node.body, node.body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                found[name] = " ".join(words.split()).replace("|", "\\|")
    return found


if __name__ == "__main__":
    FILE.write_text(document())
