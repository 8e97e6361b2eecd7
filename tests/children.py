"""The two children of a trainer service, as the operating system shows them."""

from __future__ import annotations

from pathlib import Path

import psutil


def command(process: psutil.Process) -> str:
    """Its command line; empty once it is gone."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def workers(service: int) -> list[psutil.Process]:
    """Children that multiprocessing spawned to work; its resource tracker isn't one. service: its process id."""
    try:
        children = psutil.Process(service).children()
    except psutil.NoSuchProcess:
        return []
    return [child for child in children if "spawn_main" in command(child)]


def recorder(service: int, home: Path) -> psutil.Process | None:
    """The process that holds the lake, while it is a living child of this service."""
    try:
        pid = int((home / "lake/lock").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return next((child for child in workers(service) if child.pid == pid), None)


def training(service: int, home: Path) -> psutil.Process | None:
    """The child that trains: the other one, once the recorder has shown itself."""
    recording = recorder(service, home)
    if recording is None:
        return None
    return next((child for child in workers(service) if child.pid != recording.pid), None)
