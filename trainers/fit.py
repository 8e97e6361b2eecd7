"""Fits in child processes: a library that crashes, or is killed, takes one expert with it and nothing else.

A child is started before its rows are ready, so that importing the library costs no time of its own. There are no more
children at once than CPUs, the longest fits first, and only one fit at a time on a GPU. All read one copy of the rows:
files in a folder of the run, mapped into memory.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from engine.errors import TocsinError
from engine.types import F32, F64, I64

from .experts import cost, create, names
from .experts.base import Trainable
from .experts.devices import CPU, Device, thread_shares
from .export.forest import parity
from .family import end_with_parent, tell

PARITY = 1e-6
"""Largest difference allowed between the probabilities of the exported expert and its library's, summed in float64."""


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


class Failed(NamedTuple):
    """An expert that could not be fitted, and what its fit raised."""

    name: str
    error: TocsinError


Progress = Callable[[str, int, int], None]
"""(expert, round, of so many)"""


def plan(experts: Sequence[str], threads: int) -> list[tuple[str, int, int]]:
    """(expert, idx, threads of the CPU) of each, the longest fit first; those that go on at once have `threads` together."""
    known = names()
    longest = sorted(experts, key=cost, reverse=True)
    shares = thread_shares(threads, len(longest))
    return [(name, known.index(name) + 1, share) for name, share in zip(longest, shares, strict=True)]


class Fits:
    """The fits of a training; the first of them are started ahead.

    experts: by name, each one's idx is its place among all. threads: of the CPU, shared out; as many fits go on at once,
    so how many threads a fit gets depends on nothing else. `with` ends every child, whatever it is doing.
    """

    def __init__(self, experts: Sequence[str], preset: str, threads: int) -> None:
        self._waiting = [_Fit(name, idx, preset, share) for name, idx, share in plan(experts, threads)]
        self._running: list[_Fit] = []
        self._at_once = max(1, threads)
        self._start()

    def run(self, rows: Rows, progress: Progress) -> tuple[list[Fitted], list[Failed]]:
        """Fit all. Raises the first one's error where none stands: what the fit raised, TocsinError `fit_died`."""
        fitted: list[Fitted] = []
        failed: list[Failed] = []
        with _folder(rows) as folder:
            while self._running:
                for fit in self._running:
                    if fit.device is not None and not fit.began and self._is_free(fit.device):
                        fit.begin(folder)
                for fit in self._heard():
                    try:
                        done = fit.hear(progress)
                    except TocsinError as error:
                        failed.append(Failed(fit.name, error))
                    else:
                        if done is None:
                            continue
                        fitted.append(done)
                    fit.stop()
                    self._running.remove(fit)
                    self._start()
        if not fitted:
            raise failed[0].error
        return sorted(fitted, key=lambda f: f.idx), failed

    def stop(self) -> None:
        """End every child, whatever it is doing."""
        for fit in self._running:
            fit.stop()
        self._running, self._waiting = [], []

    def __enter__(self) -> Fits:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        while self._waiting and len(self._running) < self._at_once:
            fit = self._waiting.pop(0)
            fit.start()
            self._running.append(fit)

    def _is_free(self, device: Device) -> bool:
        return device.kind == CPU or not any(fit.began and fit.device == device for fit in self._running)

    def _heard(self) -> list[_Fit]:
        ready = wait([fit.pipe for fit in self._running])
        return [fit for fit in self._running if fit.pipe in ready]


class _Fit:
    """One expert's fit in a process of its own."""

    def __init__(self, name: str, idx: int, preset: str, threads: int) -> None:
        self.name = name
        self.device: Device | None = None
        """Known once the child has its library."""
        self.began = False
        self._arguments = name, idx, preset, threads

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_child, args=(theirs, *self._arguments), daemon=True)
        self._process.start()
        theirs.close()

    def begin(self, folder: Path) -> None:
        """Tell it where the rows are. A child that is gone already says so when it is heard."""
        self.began = True
        tell(self.pipe, str(folder))

    def hear(self, progress: Progress) -> Fitted | None:
        """One message. Raises what the fit raised, TocsinError `fit_died`."""
        try:
            kind, value = self.pipe.recv()
        except (EOFError, OSError):                        # OSError: in the middle of a message
            raise self._died() from None
        if kind == "done":
            return Fitted(*value)
        if kind == "error":
            error_type, code, message, hint = value
            raise error_type(code, message, hint=hint)
        if kind == "device":
            self.device = Device(*value)
        else:
            progress(self.name, *value)
        return None

    def stop(self) -> None:
        """End the child, whatever it is doing."""
        self._process.kill()
        self._process.join()
        self.pipe.close()

    def _died(self) -> TocsinError:
        self._process.join()
        code = self._process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return TocsinError("fit_died", f"the process that fitted {self.name} {how}",
                           hint="is there memory enough? try fewer ticks, or --experts without it")


_FOLDER = "tocsin-fit-"


@contextmanager
def _folder(rows: Rows) -> Iterator[Path]:
    """The rows as files, for as long as it is open; what killed trainings left is removed.

    Whoever lives holds a lock on its folder: containers may share the place of folders, and know nothing of each other's
    processes.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        with suppress(OSError), _locked(left, LOCK_EX | LOCK_NB):        # another training's, or another user's
            shutil.rmtree(left, ignore_errors=True)
    with _own_folder() as folder:
        try:
            for name, values in rows._asdict().items():
                np.save(folder / f"{name}.npy", values, allow_pickle=False)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _own_folder() -> Iterator[Path]:
    """A new folder that is locked; until then under a name that nobody takes for a left one."""
    made = Path(tempfile.mkdtemp(prefix=f".{_FOLDER}{os.getpid()}-"))
    with _locked(made):
        yield made.rename(made.with_name(made.name[1:]))


@contextmanager
def _locked(folder: Path, how: int = LOCK_EX) -> Iterator[None]:
    """While it is open; a process that ends lets go. With LOCK_NB, BlockingIOError is raised where another has the lock."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _rows(folder: str) -> Rows:
    return Rows(*(np.load(Path(folder) / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in Rows._fields))


def _child(pipe: Connection, name: str, idx: int, preset: str, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)           # Ctrl-C is the parent's to hear; it ends us
    end_with_parent()
    try:
        model = create(name, idx=idx, preset=preset, threads=threads)
        tell(pipe, ("device", tuple(model.where())))
        rows = _rows(pipe.recv())
        model.fit(
            rows.matrix, rows.y, sample_weight=rows.weight, times=rows.times, end_times=rows.end_times,
            progress=lambda done, total: tell(pipe, ("progress", (done, total))),
        )
        tell(pipe, ("done", tuple(_fitted(model, rows.matrix))))
    except TocsinError as error:
        kind = next(k for k in type(error).__mro__ if k.__module__ == TocsinError.__module__)     # one the parent knows
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
        parity(served, model.unrounded_proba(rows), rows), model.settings_ | {"rounds": model.rounds_}, model.versions(),
    )
