"""What decides on this machine: for the journal, since bits of a decision are promised per runtime."""

from __future__ import annotations

from llvmlite.binding import get_host_cpu_name

from .. import __version__


def here() -> tuple[str, str, str, str]:
    """Engine version, device, provider, and the kind of processor as LLVM names it."""
    return __version__, "cpu", "forest", get_host_cpu_name()
