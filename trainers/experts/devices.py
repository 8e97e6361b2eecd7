"""Where an expert trains: which GPU, or how many threads of the CPU."""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

from engine.errors import DeviceMissing

from .parameters import FROM_1, ParameterRefused, checked

log = logging.getLogger(__name__)

CPU, GPU = "cpu", "gpu"


class Device(NamedTuple):
    """Where a fit runs: the CPU, or the GPU of this number."""

    kind: str
    number: int = 0


class Gpus(NamedTuple):
    """How many GPUs an expert's library can use; if none, why, and what to do about it."""

    usable: int
    why_none: str = ""
    hint: str = ""


def assigned_gpu(idx: int, count: int) -> int:
    """GPU of the expert with this idx (from 1) among `count` GPUs. Raises ParameterRefused (`parameter`)."""
    return int((checked("idx", idx, 1, FROM_1) - 1) % checked("count", count, 1, FROM_1))


def choose_device(
    device: str | None, idx: int, gpu_only: bool, gpus: Callable[[], Gpus], environ: Mapping[str, str] | None = None
) -> Device:
    """The device of an expert: the argument, else $TOCSIN_DEVICE, else `auto`.

    device: `auto` or None (a GPU if there is one, else the CPU, said once in the log), `cpu`, `gpu` (the one assigned to
    idx), `cuda:3` (GPU 3). gpus: asked only where a GPU may be used; `cuda_gpus` for one. environ: the process's by
    default. Raises DeviceMissing (`gpu_missing`) where a GPU is demanded and isn't there, ParameterRefused (`device`,
    `parameter`).
    """
    checked("idx", idx, 1, FROM_1)
    checked("gpu_only", gpu_only, False)
    if not callable(gpus):
        raise ParameterRefused("parameter", f"gpus {gpus!r}", hint="gpus is a function that finds them, such as cuda_gpus")
    wanted = _wanted(device, gpu_only, environ)
    kind, _, number = wanted.partition(":")
    known = number.isdecimal() or wanted == kind if kind in (GPU, "cuda") else wanted in ("auto", CPU)
    if not known:
        raise ParameterRefused("device", f"device {wanted!r}", hint="a device is auto, cpu, gpu, or cuda:3 for GPU 3")
    if kind == CPU:
        if gpu_only:
            raise ParameterRefused("device", "device cpu and gpu_only", hint="leave one of them out")
        return Device(CPU)
    there = gpus()
    gpu = int(number) if number else assigned_gpu(idx, max(there.usable, 1))
    if gpu < there.usable:
        return Device(GPU, gpu)
    why = f"GPU {gpu} was asked for, {there.usable} can be used" if there.usable else there.why_none
    return left_for_cpu(device, gpu_only, why, there.hint, environ)


def left_for_cpu(
    device: str | None, gpu_only: bool, why: str, hint: str, environ: Mapping[str, str] | None = None
) -> Device:
    """The CPU, said once for each reason, where no GPU was demanded. Raises DeviceMissing (`gpu_missing`) where one was."""
    if gpu_only or _wanted(device, gpu_only, environ) != "auto":
        raise DeviceMissing("gpu_missing", f"no GPU to train on: {why}", hint=hint)
    _say_once(f"training on the CPU: {why}")
    return Device(CPU)


def _wanted(device: str | None, gpu_only: bool, environ: Mapping[str, str] | None) -> str:
    """The argument, else the environment, where empty is unset; an argument `gpu_only` outranks an environment's cpu."""
    checked("device", device, "auto", optional=True)
    if device not in (None, "auto"):
        return str(device)
    named = (os.environ if environ is None else environ).get("TOCSIN_DEVICE") or "auto"
    return "auto" if named == CPU and gpu_only else named


@cache
def _say_once(message: str) -> None:
    log.info(message)


@cache
def cuda_gpus() -> Gpus:
    """What the CUDA driver shows; it heeds CUDA_VISIBLE_DEVICES."""
    none = Gpus(0, "the CUDA driver shows no GPU", "install the NVIDIA driver, and see that CUDA_VISIBLE_DEVICES hides none")
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return none
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return none
    return Gpus(count.value)


def thread_shares(budget: int, fits: int) -> list[int]:
    """CPU threads of each of `fits` parallel fits: budget // fits, the remainder to the first; at least one each."""
    return [max(1, budget // fits + (i < budget % fits)) for i in range(fits)]


def cpu_budget() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
