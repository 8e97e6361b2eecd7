"""The only clock. Nothing that decides a byte of a signal imports it (a lint rule keeps it out)."""

from __future__ import annotations

import time

wall_ns = time.time_ns
"""ns UTC, for stamps people read."""

monotonic_ns = time.monotonic_ns
"""ns that only rise, for durations and leases."""

sleep = time.sleep


def stamp() -> str:
    """Now, for records that people read: RFC 3339, UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
