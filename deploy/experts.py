"""docs/experts.md, made from the experts' docstrings, presets and search spaces: `make schemas` writes it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from trainers.experts import create, names
from trainers.experts.base import Trainable

FILE = Path(__file__).parent.parent / "docs" / "experts.md"

HEAD = """\
# The experts

Made by `make schemas` from `trainers/experts`; edit those. An expert is trained by its library and served by one kernel
(`engine/runtimes/forest`): the engine needs no training library.

```python
from trainers.experts import create

model = create("xgboost", idx=2)               # device="auto" | "cpu" | "gpu" | "cuda:3", gpu_only, threads, preset, parameters
model.fit(X, y)                                # (n, F) array or frame; y in -1, 0, 1; sample_weight, times, end_times
model.predict_proba(X)                         # (n, 3) float32: neutral, buy, sell
model.save("model.ubj")                        # the library's own file; create("xgboost").load("model.ubj"): the same bits
served = model.export()                        # a Forest: what the engine runs
served.predict_proba(rows)                     # (n, F) float32 array: the same within 1e-6, tens of times sooner
```

`tocsin train --experts xgboost,catboost` fits them side by side into one bundle, `--experts all` all of them.
[Migration](migration.md) has the way from scripts that call the libraries.

"""


def _common() -> str:
    said = ["## What all have in common", "", inspect.getdoc(Trainable) or "", ""]
    for method in ("fit", "predict_proba", "predict", "score", "export", "save", "load"):
        function = getattr(Trainable, method)
        said += [f"**`{method}`**: {_words(function)}", ""]
    return "\n".join(said)


def _words(thing: Any) -> str:
    return " ".join((inspect.getdoc(thing) or "").split())


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _span(space: tuple[Any, ...]) -> str:
    if len(space) == 3 and space[2] in ("int", "log", "linear"):
        low, high, how = space
        return f"{_shown(low)} to {_shown(high)}" + (f", {how}" if how != "linear" else "")
    return " or ".join(map(_shown, space))


def _expert(name: str) -> str:
    expert = type(create(name))
    lean, seed, space = expert.presets["lean"], expert.presets["seed"], expert.search_space
    base = expert.__bases__[0]
    said = [
        f"## `{name}`",
        f"`{expert.__module__}.{expert.__name__}`, place {expert.place}, needs `{expert.requires}`; its file in a bundle is "
        f"`{expert.library_file}`.",
        _words(expert), *([_words(base)] if base is not Trainable else []),
    ]
    rows = [
        f"| `{one}` | {_shown(lean[one])} | {_shown(seed[one])} | {_span(space[one]) if one in space else ''} |" for one in lean
    ]
    return "\n\n".join(said) + "\n\n" + "\n".join(["| parameter | lean | seed | searched |", "|---|---|---|---|", *rows, ""])


def document() -> str:
    return HEAD + "\n".join([_common(), *(_expert(name) for name in names())])


if __name__ == "__main__":
    FILE.write_text(document())
