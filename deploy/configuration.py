"""docs/configuration.md, made from the types in engine/config.py and their docstrings: `make schemas` writes it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import msgspec

from engine import config, instruments

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
"*JPY" = { scale = 3 }
EURUSD = { scale = 5, crossed = "keep" }
```
"""

INSTRUMENTS = """\
A table per symbol or shell pattern; the first that matches a symbol counts. `closed = true` refuses every symbol that
none matches.

"""

TAIL = """
The rules are part of a bundle. A log counts as the file of whoever created it said, until `tocsin settings set instruments=file`
says otherwise. An engine or trainer whose file names other rules than the log's refuses to start (exit 2) and says which.

## Variables without a section

| variable | what |
|---|---|
| `TOCSIN_HOME` | the folder of log, registry, keys, lake and demos (default `.tocsin`); the flag is `--home` |
| `TOCSIN_DATA` | a folder that holds `ticks/`: what the demo replays, and tests of real ticks read |
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
    parts.append(f"\n## [instruments]\n\n{INSTRUMENTS}{_table(instruments.Instrument, said)}{TAIL}")
    return "".join(parts)


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
