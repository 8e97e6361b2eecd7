"""The experts that can be trained. One file of this folder each, found by itself; strangers' come by entry points.

    model = create("lightgbm", idx=1).fit(X, y)
    model.predict_proba(X)          # (n, 3) float32 [neutral, buy, sell]
    served = model.export()         # what the engine runs
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from engine.errors import UsageError

from .base import Trainable

GROUP = "tocsin.expert"
"""Entry points of this group name a Trainable each."""


def names() -> tuple[str, ...]:
    """Every expert, ours first and in order of their places. Raises UsageError (`expert_clash`) for two of one name."""
    return tuple(_experts())


def chosen(experts: str) -> list[str]:
    """The experts of a list A,B or of `all`. Raises UsageError (`expert_unknown`, `expert_twice`)."""
    known = names()
    wanted = [name.strip() for name in experts.split(",") if name.strip()]
    if wanted == ["all"]:
        return list(known)
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise UsageError("expert_unknown", f"no expert {', '.join(unknown) or experts!r}", hint=f"known: {', '.join(known)}")
    twice = [name for name in known if wanted.count(name) > 1]
    if twice:
        raise UsageError("expert_twice", f"{', '.join(twice)} is named more than once", hint="name each expert once")
    return wanted


def cost(name: str) -> float:
    """About how long a fit of this expert takes, LightGBM's being 1."""
    return _experts()[name].cost


def create(
    name: str, idx: int = 1, device: str = "auto", gpu_only: bool = False, threads: int | None = None,
    preset: str = "lean", **params: Any,
) -> Trainable:
    """An unfitted expert.

    idx: from 1, decides the GPU. device: auto, cpu, gpu, cuda:3. gpu_only: never the CPU. threads: of the CPU, all by
    default. preset: lean or seed; params override it. Raises UsageError (`expert_unknown`, `expert_clash`,
    `parameter`), DeviceMissing (`library_missing`) where the expert's library can't be imported.
    """
    known = _experts()
    if not isinstance(name, str) or name not in known:
        near = difflib.get_close_matches(str(name), known, 1)
        raise UsageError(
            "expert_unknown", f"no expert {name!r}",
            hint=f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}",
        )
    model = known[name](idx, device, gpu_only, threads, preset, **params)
    model.library()
    return model


@cache
def _experts() -> dict[str, type[Trainable]]:
    found: dict[str, type[Trainable]] = {}
    for module in pkgutil.iter_modules(__path__):
        for thing in vars(importlib.import_module(f"{__name__}.{module.name}")).values():
            if isinstance(thing, type) and issubclass(thing, Trainable) and vars(thing).get("name") == module.name:
                found[module.name] = thing
    found = dict(sorted(found.items(), key=lambda item: item[1].place))
    for entry in entry_points(group=GROUP):
        expert = entry.load()
        if not (isinstance(expert, type) and issubclass(expert, Trainable)):
            raise UsageError(
                "expert_clash", f"the entry point {entry.name!r} ({entry.value}) is no expert",
                hint="it must name a subclass of trainers.experts.base.Trainable; uninstall or repair that package",
            )
        if entry.name in found:
            raise UsageError(
                "expert_clash", f"two experts are called {entry.name!r}: {found[entry.name]} and {entry.value}",
                hint="uninstall one of the two packages",
            )
        found[entry.name] = expert
    return found
