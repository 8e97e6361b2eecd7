"""Clean stops: SIGTERM and Ctrl-C raise a flag that loops ask for; a second one ends the process at once."""

from __future__ import annotations

import signal
from types import FrameType

from .errors import EXIT_DONE, EXIT_INTERRUPTED


class Stop:
    """Install in the main thread; `Stop()` is asked as `stop()`."""

    def __init__(self) -> None:
        self._signal = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._heard)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        signal.signal(number, signal.SIG_DFL)

    def __call__(self) -> bool:
        return self._signal != 0

    @property
    def exit(self) -> int:
        return EXIT_INTERRUPTED if self._signal == signal.SIGINT else EXIT_DONE
