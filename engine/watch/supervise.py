"""A loop beside the main one whose death doesn't go unseen: whoever started it asks, and ends with it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..errors import TocsinError, TransportUnreachable
from ..outage import passes

_PATIENCE_S = 5.0


class Loop:
    """Calls `work` every `every_s` seconds in a thread of its own, until it is stopped or `work` raises."""

    def __init__(self, name: str, work: Callable[[], None], every_s: float) -> None:
        self.name = name
        self._work = work
        self._every_s = every_s
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end and wait a little; a `work` that hangs ends with the process."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE_S)

    @property
    def alive(self) -> bool:
        """Whether it is running."""
        return self._thread.is_alive() and self._error is None

    @property
    def death(self) -> str | None:
        """In words, what it died of; None if it didn't. A log that went away for a while is no death: its owner waits for it."""
        if self._error is None or (isinstance(self._error, TransportUnreachable) and passes(self._error)):
            return None
        return f"{self.name}: {_cause(self._error)}"

    def check(self) -> None:
        """Raise what it died of: one of our own errors as it is, with its exit code; any other as `loop_died`."""
        if isinstance(self._error, TocsinError):
            raise self._error
        if self._error:
            raise TocsinError(
                "loop_died", f"the {self.name} loop died: {_cause(self._error)}",
                hint="this should not have happened; the process ends with it, so that whoever supervises it starts it anew",
            ) from self._error

    def _run(self) -> None:
        try:
            while True:
                self._work()
                if self._stop.wait(self._every_s):
                    return
        except BaseException as error:         # kept, whatever it is: `check` raises it where it is heard
            self._error = error


def _cause(error: BaseException) -> str:
    return str(error.args[0]) if isinstance(error, TocsinError) else f"{type(error).__name__}: {error}"
