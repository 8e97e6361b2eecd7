"""Where a benchmark runs: what the machine is, and which cores are whose."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from engine import __version__


class Cores(NamedTuple):
    """Empty sets where processes can't be pinned, or where there is only one core."""

    engine: frozenset[int]
    others: frozenset[int]


def split_cores() -> Cores:
    """The last core for the engine, the others for Redis, senders and readers."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(usable) < 2:
        return Cores(frozenset(), frozenset())
    return Cores(frozenset(usable[-1:]), frozenset(usable[:-1]))


def pin(process: int, cores: frozenset[int]) -> None:
    """Keep a process (0: this one), and whatever it starts from now on, on some cores."""
    if cores:
        os.sched_setaffinity(process, cores)


def resident_mb(process: int) -> float:
    """Memory a process has in RAM, as ps says."""
    said = subprocess.run(["ps", "-o", "rss=", "-p", str(process)], capture_output=True, check=True)
    return int(said.stdout) / 1024


def installed(name: str) -> str | None:
    """The version of a package, None where it isn't here."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def describe(cores: Cores, packages: Iterable[str], programs: Mapping[str, str]) -> dict[str, Any]:
    """packages: whose versions are told where they are installed; programs: name -> version of what is no package."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "pinned": {"engine": sorted(cores.engine), "others": sorted(cores.others)},
        "system": f"{platform.system()} {platform.release()}",
        "versions": {"tocsin": __version__, "python": platform.python_version()} | dict(programs)
        | {name: found for name in packages if (found := installed(name))},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
