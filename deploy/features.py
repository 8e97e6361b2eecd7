"""docs/features.md, made from the families' columns and words: `make schemas` writes it."""

from __future__ import annotations

import inspect
from pathlib import Path

from deploy.pictures import STRETCHES, TOLD
from engine.config import TIMEFRAMES
from engine.features import FeatureSet
from engine.features.families import indicators
from engine.features.kernel import RAW, layout
from engine.features.spec import Column, Family

FILE = Path(__file__).parent.parent / "docs" / "features.md"

HEAD = """\
# Features

Made by `make schemas` from the families in `engine/features/families`; edit those. `tocsin features list` prints the same.

{count} columns by default, float32, one row per admitted tick, for training and live by the same compiled kernel, bit for
bit. None has a unit of price or size: prices ten times as high, counted in the same points, and sizes seven times as large
give the same row. **NaN until known**: a column says after how much it is; forests take NaN as their libraries do.

What the words below mean:

- **mid** = (bid + ask) / 2; **spread** = ask − bid, 0 where crossed. Inside, prices are integer points and the mid integer
  half-points, so that every sum over a window is exact.
- **mean spread**: exponentially weighted in event time with a half-life of 900 s. A tick weighs 1 − 2^(−dt / 900 s), dt the
  time since the tick before, at least 0.01 s and at most 60 s; the n-th of the first 200 ticks (from 1) at least 1 / n. It
  begins at the first tick's spread.
- **sigma**, points per √second: the root of the exponentially weighted mean, half-life 900 s, of m² / d, where m is the move
  of the mid over d seconds from one grid tick to the next: a grid tick is the first at least 5 s after the one before (the
  symbol's first tick is one). A move weighs 1 − 2^(−d / 900 s), and what was before keeps 2^(−d / 900 s) of its weight; if
  d > 300 s neither the move nor its time counts. Known from a weight of 0.02 of all on, and where it isn't 0.
- **panes**: windows of 60 s consist of panes of 1 s, windows of 300 s of panes of 5 s, both on UTC's grid. A window is the
  running pane, up to this tick, and whatever panes of the 59 pane lengths before it hold ticks. "The mid 60 s ago" is that of
  the last tick before the window (the first tick's, where there is none). A window is known when its length has passed since
  the symbol's first tick, or since the first one after a hole of more than 600 s.
- **tick moves** are differences of the mid from tick to tick, the window's first from the tick before it (0 for a symbol's
  first tick). The **direction** of a tick is the sign of the last move that wasn't 0, 0 before there was one.
- **holes**: what is said of a hole of more than 600 s holds at a tick too whose mid is more than eight times the window's first,
  or less than an eighth.
- **ticks ago** are counted back to a symbol's first tick, or to the first after a hole of more than 600 s.
- **order flow** of a tick: + bid size if the bid is at or above the one before, − the size before if at or below; − ask size
  if the ask is at or below the one before, + the size before if at or above.
- **bars** are of the mid. A bar is [start, end) on UTC's grid, closed by the first tick past its end, which sees it; time
  without ticks makes no bar, so that bars go on after a weekend where they stopped. A bar of more than a minute is made of
  closed minutes.
- **decisions wait** (reasons `warmup`, `gap`) until sigma is known and 51 minute bars have closed since the first tick or the
  last hole. Columns on bars longer than a minute, marked *slow*, may still be NaN then, in training as live (`run engine --warm`
  fills them before the first decision); so are columns whose input a feed doesn't have: sizes, a spread, as many ticks or
  moves. Nothing divided by nothing is NaN, but for what a line says otherwise, and `spread_rel` (1 where no spread ever was),
  `cci` and `adx` (0, as in TA-Lib).
- **limits**: a move of more than 2^28 half-points (where twice the price has more than 32 bits: a sixteenth of it) counts as
  that in `rv` and `jump`; `jump_300s` and `zscore_300s` are NaN while the window spans more, `vwap_300s` where its sum of sizes
  times its range has more than 62 bits; sizes of more than 2^43 points count as that, except in `imbalance`.

`[features] timeframes` names other bar lengths for the indicators ({lengths}); each is {per} columns.

Cost: a tick pays for what is computed at every tick, and a copy of the rest. [Benchmarks](benchmarks.md) has the figures.

{pictures}"""

OWN = """
## Families of one's own

A module with `FAMILY` and `step`, named in `[features] families` (a file that ends in .py, a module, or the name of an entry
point `tocsin.feature` that a package brings). Its columns stand behind the others, for training and live.

```python
import numpy as np
from numba import njit                            # leave out @njit for plain Python: some microseconds a tick, the slow path
from engine.features import Column, Family

@njit
def step(state, real, seen, out):                 # once per admitted tick of a symbol
    out[0] = (seen.bid - state[1]) / seen.spread if state[0] > 0 and seen.spread > 0.0 else np.nan
    state[0] += 1
    state[1] = seen.bid

FAMILY = Family("bid_moves", 1, 2, (              # name, version, words of state, columns
    Column("bid_move", "(bid − the last bid) / mean spread", "1 tick", "spreads", "2 ticks", "every tick", "ratio"),
))
```

`state` and `real` are the family's words of one symbol, the same memory as int64 and as float64, zero before its first tick:
all it may remember. `seen` has `ts` (ns), `bid`, `ask`, `bid_size`, `ask_size` (integer points), `spread` (the mean, points)
and `sigma` (points per √second, NaN until known). `out` is the row's part for its columns (float32). Numbers that don't stand
in the words don't survive a restart: `tocsin features check FILE.py` tries that and the rest of what a family must promise,
and prints a verdict. Only that command
checks compiled code for indices beyond its arrays. A family that raises ends the engine at that tick, each time: try it on all
the ticks you have. The fingerprint covers the file's bytes, comments too, and the order of the families, but not what the file
imports: raise the family's version with that. Paths are relative to the working folder.

Other features on a log that has a bundle are another deployment: `--deployment NAME` beside the old one, warmed by
`run engine --warm`, with a bundle trained on them.
"""


def document() -> str:
    families = layout(indicators.USUAL)
    columns = sum(len(family.columns) for family in families)
    assert columns == len(FeatureSet.default().names)
    parts = [HEAD.format(count=columns, lengths=", ".join(TIMEFRAMES), per=indicators.COUNT, pictures=TOLD)]
    parts += [_section(family) for family in families if family.columns]
    raw = RAW[-1]
    parts.append(f"\n## {raw.name}\n\nNot among the {columns}: `FeatureSet.time_features(clock)` gives these nine.\n\n")
    parts.append(_table(raw.columns))
    parts.append(OWN)
    return "".join(parts)


def _section(family: Family) -> str:
    told = inspect.cleandoc(_module(family).__doc__ or "").strip()
    names = [name for name in STRETCHES if name.partition("_")[0] == family.name]
    shown = "\n\n".join(f"![{name}](features/{name}.svg)" for name in names)
    return f"\n## {family.name}\n\n{shown}\n\n{told}\n\n{_table(family.columns)}"


def _module(family: Family) -> object:
    from engine.features import families

    name = {"time": "time_features"}.get(family.name, family.name)
    return getattr(families, name)


def _table(columns: tuple[Column, ...]) -> str:
    head = "| column | formula | window | unit | known after | computed | needs | source |\n|---|---|---|---|---|---|---|---|\n"
    return head + "".join(
        f"| `{c.name}` | {_cell(c.formula)} | {c.window} | {c.unit} | {c.warmup}{'' if c.awaited else ', *slow*'} | {c.cost} "
        f"| {c.needs} | {_cell(c.source)} |\n"
        for c in columns
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    FILE.write_text(document())
