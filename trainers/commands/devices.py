"""`tocsin doctor --devices`: where each expert would train here, were all of them trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from engine.config import Config
from engine.errors import DeviceMissing
from engine.terminal import answer_json, table

from ..experts import create, names
from ..experts.base import Trainable
from ..experts.devices import CPU, Gpus, cpu_budget
from ..fit import plan

PRETENDED = "it is pretended that there is none"


class Place(NamedTuple):
    """Of an expert. device: cpu, cuda:3, or none where it can't train; threads: of the CPU, beside all the others."""

    idx: int
    expert: str
    library: str
    device: str
    threads: int
    why: str


def run(as_json: bool, pretend: int | None, config: Config) -> int:
    """pretend: so many GPUs, for every library."""
    known = None if pretend is None else Gpus(pretend, PRETENDED, "leave out --pretend")
    places = assignment(config.trainer.threads or cpu_budget(), lambda expert: known or expert._gpus())
    if as_json:
        answer_json([place._asdict() for place in places])
    else:
        table("", ("idx", "expert", "library", "device", "threads", "why"), places)
    return 0


def assignment(threads: int, gpus: Callable[[Trainable], Gpus]) -> list[Place]:
    """Every expert's place, in order of idx. gpus: how many an expert's library can use."""
    return sorted(_place(name, idx, share, gpus) for name, idx, share in plan(names(), threads))


def _place(name: str, idx: int, threads: int, gpus: Callable[[Trainable], Gpus]) -> Place:
    try:
        expert = create(name, idx=idx)
    except DeviceMissing as error:
        return Place(idx, name, "missing", "none", threads, error.hint)
    library = " ".join(f"{what} {version}" for what, version in expert.versions().items())
    try:
        there = gpus(expert)
        device = expert.where(there)
    except DeviceMissing as error:
        return Place(idx, name, library, "none", threads, f"{error.args[0]}: {error.hint}")
    if device.kind == CPU:
        return Place(idx, name, library, CPU, threads, "$TOCSIN_DEVICE says so" if there.usable else there.why_none)
    return Place(idx, name, library, f"cuda:{device.number}", threads, "")
