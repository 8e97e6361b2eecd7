"""Every error a user can meet, as one tree.

    TocsinError                 exit 1   something failed
     ├── UsageError             exit 2   command line or configuration
     ├── InputRefused           exit 3   ticks, files, labels that can't be taken (also a ValueError)
     ├── TransportUnreachable   exit 4   the log can't be reached, or what it holds contradicts itself
     ├── ModelRefused           exit 5   a bundle that must not answer
     ├── DeviceMissing          exit 6   a library or device that isn't here
     └── OwnershipLost          exit 7   another process owns the partition now; don't restart at once

Each error has a `code` (stable, machine-readable), a message that says what is wrong, and a `hint` that says what
to do about it. A command prints both on stderr and leaves with the exit code of the class; Ctrl-C leaves with 130.
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INPUT = 3
EXIT_TRANSPORT = 4
EXIT_MODEL = 5
EXIT_DEVICE = 6
EXIT_OWNERSHIP = 7
EXIT_INTERRUPTED = 130

EXITS = {
    EXIT_DONE: "done",
    EXIT_FAILED: "failed",
    EXIT_USAGE: "usage or configuration",
    EXIT_INPUT: "input refused",
    EXIT_TRANSPORT: "transport not reachable",
    EXIT_MODEL: "model refused",
    EXIT_DEVICE: "device or library missing",
    EXIT_OWNERSHIP: "ownership lost (don't restart at once)",
    EXIT_INTERRUPTED: "Ctrl-C",
}


class TocsinError(Exception):
    """Base of the tree: `code` for machines, the message for people, `hint` says what to do."""

    exit: int = EXIT_FAILED

    def __init__(self, code: str, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.args[0]} [{self.code}]"
        return f"{text}\n  → {self.hint}" if self.hint else text


class UsageError(TocsinError):
    """A command line or configuration that can't be meant."""

    exit = EXIT_USAGE


class InputRefused(TocsinError, ValueError):
    """Ticks, files, labels or matrices that can't be taken as they are."""

    exit = EXIT_INPUT


class TransportUnreachable(TocsinError):
    """The log can't be reached, or what it holds contradicts itself."""

    exit = EXIT_TRANSPORT


class ModelRefused(TocsinError):
    """A bundle that must not answer: unsigned, altered, foreign, half-written, not to be found."""

    exit = EXIT_MODEL


class DeviceMissing(TocsinError):
    """A library or device that isn't here; the hint has the line that installs it."""

    exit = EXIT_DEVICE


class OwnershipLost(TocsinError):
    """Another process owns the partition now: everything this one still wants to write is refused."""

    exit = EXIT_OWNERSHIP
