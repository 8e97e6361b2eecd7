"""Families of one's own: a module with `FAMILY` and `step`, named in [features] families or brought by a package.

    from numba import njit                        # leave out @njit for a slow family of plain Python
    from engine.features import Column, Family

    @njit
    def step(state, real, seen, out):             # once per admitted tick of a symbol
        if state[0] == 0:                         # the words are zero before a symbol's first tick
            state[0], real[1] = 1, seen.bid
        out[0] = (seen.bid - real[1]) / seen.spread
        real[1] = seen.bid

    FAMILY = Family("mine", 1, 2, (Column("bid_move", "bid less the last bid, in mean spreads", …),))

`state` and `real` are the family's words of that symbol, the same memory as int64 and as float64: all it may remember.
`seen` is a Seen, `out` the row's part for its columns. Packages name such modules in the entry points `tocsin.feature`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ..errors import UsageError
from ..jit import around, is_compiled
from ..types import F32, F64, I64
from .spec import Family

GROUP = "tocsin.feature"
"""Of the entry points."""


class Seen(NamedTuple):
    """A tick as a family of one's own sees it: ns UTC, points, size points; spread: the mean spread, points; sigma: points
    per √second, NaN until known."""

    ts: int
    bid: int
    ask: int
    bid_size: int
    ask_size: int
    spread: float
    sigma: float


class Own(NamedTuple):
    """A loaded family. digest: of its file, so that another formula under the same name has another fingerprint; what the
    file imports it doesn't cover: raise the family's version with it."""

    family: Family
    step: Callable[..., Any]
    compiled: bool
    digest: str
    run: Callable[..., None]
    """(sid, ts, bid, ask, bid_size, ask_size, spread, sigma, ints, floats, first word, words, out, first column, columns)"""


def load(name: str) -> Own:
    """A family by the path of its file, by its module, or by the name of its entry point.

    Raises UsageError `family_missing` (nothing there), `family_invalid` (it can't be imported, or isn't a family).
    """
    module = _module(name)
    family, step = getattr(module, "FAMILY", None), getattr(module, "step", None)
    if not isinstance(family, Family) or not callable(step):
        raise UsageError("family_invalid", f"{name} has no FAMILY (engine.features.Family) with a function `step`",
                         hint="docs/features.md shows one")
    names = [column.name for column in family.columns]
    if family.words < 0 or not names or len(set(names)) < len(names):
        raise UsageError("family_invalid", f"{name}: {family.words} words, columns {', '.join(names) or 'none'}",
                         hint="a family has one or more columns of different names, and 0 or more words")
    file = Path(module.__file__ or "")
    digest = hashlib.sha256(file.read_bytes() if file.is_file() else repr(family).encode()).hexdigest()
    compiled = is_compiled(step)
    if compiled and step.targetoptions.get("fastmath"):
        raise UsageError("family_invalid", f"{name}: step is compiled with fastmath, which gives other bits on other machines",
                         hint="@njit without fastmath")
    return Own(family, step, compiled, digest, _compiled(step, family.name) if compiled else _plain(step, family.name))


def interpreted(own: Own) -> Own:
    """A compiled family on the slow path, where arrays know their ends."""
    step = own.step.py_func  # type: ignore[attr-defined]
    return own._replace(step=step, compiled=False, run=_plain(step, own.family.name))


def _module(name: str) -> ModuleType:
    try:
        if name.endswith(".py"):
            return _from_file(Path(name))
        for point in entry_points(group=GROUP, name=name):
            loaded = point.load()
            return loaded if isinstance(loaded, ModuleType) else sys.modules[point.module]
        return importlib.import_module(name)
    except UsageError:
        raise
    except ModuleNotFoundError as error:
        if error.name and name.startswith(error.name):
            raise UsageError("family_missing", f"no family {name!r}: no file, module or entry point of that name",
                             hint="[features] families: paths that end in .py, or modules") from None
        raise UsageError("family_invalid", f"{name} can't be imported: {error}", hint="install what it needs") from None
    except (Exception, SystemExit) as error:       # a stranger's module may raise anything
        raise UsageError("family_invalid", f"{name} can't be imported: {type(error).__name__}: {error}",
                         hint="it must import by itself: python FILE") from None


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError("family_missing", f"no file {path}", hint="[features] families: check the path")
    spec = importlib.util.spec_from_file_location(f"tocsin_family_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError("family_invalid", f"{path} isn't a Python file", hint="name a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module                # numba looks a function's module up there
    spec.loader.exec_module(module)
    return module


def _compiled(step: Any, name: str) -> Callable[..., None]:
    """The fast path: the loop around the family's step, compiled at the first call."""
    @around
    def loop(
        sid: I64, ts: I64, bid: I64, ask: I64, bid_size: I64, ask_size: I64, spread: F64, sigma: F64,
        ints: I64, floats: F64, at: int, words: int, out: F32, column: int, columns: int,
    ) -> None:
        for i in range(ts.size):
            step(
                ints[sid[i], at:at + words], floats[sid[i], at:at + words],
                Seen(ts[i], bid[i], ask[i], bid_size[i], ask_size[i], spread[i], sigma[i]), out[i, column:column + columns],
            )

    def run(*args: Any) -> None:
        try:
            loop(*args)
        except Exception as error:                 # a stranger's function may not compile, or raise anything
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise UsageError("family_failed", f"family {name}: {said[0]}",
                             hint="tocsin features check FILE.py; without @njit Python says more") from error

    return run


def _plain(step: Callable[..., Any], name: str) -> Callable[..., None]:
    """The slow path: plain Python, some microseconds a tick."""
    def run(
        sid: I64, ts: I64, bid: I64, ask: I64, bid_size: I64, ask_size: I64, spread: F64, sigma: F64,
        ints: I64, floats: F64, at: int, words: int, out: F32, column: int, columns: int,
    ) -> None:
        rows = zip(*(c.tolist() for c in (sid, ts, bid, ask, bid_size, ask_size, spread, sigma)), strict=True)
        for i, (s, *seen) in enumerate(rows):
            try:
                step(ints[s, at:at + words], floats[s, at:at + words], Seen(*seen), out[i, column:column + columns])
            except Exception as error:             # a stranger's function may raise anything
                raise UsageError("family_failed", f"family {name}, tick at {seen[0]}: {type(error).__name__}: {error}",
                                 hint="tocsin features check FILE.py finds such ticks") from error

    return run
