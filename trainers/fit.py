"""Fits in child processes: a library that crashes, or is killed, takes nothing of ours with it.

A child is started before its rows are ready, so that importing the library costs no time of its own.
"""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from engine.errors import DeviceMissing, InputRefused, TocsinError
from engine.types import F32, F64, I64

from .experts import create
from .experts.base import Trainable
from .export.forest import parity
from .family import end_with_parent, tell

PARITY = 1e-6
"""Largest difference allowed between the library's probabilities and the exported expert's."""


class Rows(NamedTuple):
    """What a fit gets."""

    matrix: F32
    y: I64
    weight: F64
    times: I64
    end_times: I64


class Fitted(NamedTuple):
    """What comes back: files by name, and what the manifest says of the expert."""

    name: str
    idx: int
    served: bytes
    library: bytes
    library_file: str
    class_prior: list[float]
    """n_c / n · K per class [neutral, buy, sell]: what puts the priors back that class weights bent."""
    parity: float
    params: dict[str, Any]
    versions: dict[str, str]


class Fit:
    """One expert's fit in a process of its own."""

    def __init__(self, name: str, idx: int, preset: str, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = name
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_child, args=(theirs, name, idx, preset, threads), daemon=True)
        self._process.start()
        theirs.close()

    def start(self, rows: Rows) -> None:
        """Send the rows; the fit begins. Raises TocsinError `fit_died` if the child is gone already."""
        try:
            self._pipe.send(rows)
        except (BrokenPipeError, ConnectionResetError):
            raise self._died() from None

    def result(self, progress: Callable[[int, int], None]) -> Fitted:
        """Wait. `progress` hears (round, of so many). Raises what the fit raised, TocsinError `fit_died`."""
        try:
            while True:
                kind, value = self._pipe.recv()
                if kind == "progress":
                    progress(*value)
                elif kind == "error":
                    error_type, code, message, hint = value
                    raise error_type(code, message, hint=hint)
                else:
                    return Fitted(*value)
        except EOFError:
            raise self._died() from None
        finally:
            self.stop()

    def stop(self) -> None:
        """End the child, whatever it is doing."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _died(self) -> TocsinError:
        self._process.join()
        code = self._process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return TocsinError("fit_died", f"the process that fitted {self.name} {how}; nothing was published",
                           hint="is there memory enough? try fewer ticks, or --experts without it")


def _child(pipe: Connection, name: str, idx: int, preset: str, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)           # Ctrl-C is the parent's to hear; it ends us
    end_with_parent()
    try:
        model = create(name, idx=idx, preset=preset, threads=threads)
        rows: Rows = pipe.recv()
        model.fit(
            rows.matrix, rows.y, sample_weight=rows.weight, times=rows.times, end_times=rows.end_times,
            progress=lambda done, total: tell(pipe, ("progress", (done, total))),
        )
        tell(pipe, ("done", tuple(_fitted(model, rows.matrix))))
    except TocsinError as error:
        kind = next(k for k in (InputRefused, DeviceMissing, TocsinError) if isinstance(error, k))
        tell(pipe, ("error", (kind, error.code, str(error.args[0]), error.hint)))
    except Exception as error:
        last = traceback.format_exc().strip().splitlines()[-2].strip()
        tell(pipe, ("error", (TocsinError, "fit_failed", f"fitting {name}: {type(error).__name__}: {error} ({last})",
                             "this is the library's refusal; try other ticks or another expert")))


def _fitted(model: Trainable, matrix: F32) -> Fitted:
    """Files of a fitted expert; parity over its rows, and over the same with every other value missing."""
    served = model.export()
    holes = matrix[:1000].copy()
    holes[:, ::2] = np.nan
    rows = np.concatenate([matrix, holes])
    return Fitted(
        model.name, model.idx, served.to_bytes(), model.to_bytes(), model.library_file, model.class_prior_.tolist(),
        parity(served, model.predict_proba(rows), rows), model.settings_ | {"rounds": model.rounds_}, model.versions(),
    )
