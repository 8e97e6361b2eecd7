"""Child processes that end with their parent, whatever becomes of it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any


def end_with_parent() -> None:
    """Call first in a child: when the parent is gone, it is asked to stop, and ended if it hasn't five seconds later."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(5.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent").start()


def tell(pipe: Connection, what: Any) -> None:
    """Send something to the parent, unless that was killed: then nobody is there to hear it."""
    with suppress(BrokenPipeError, ConnectionResetError):
        pipe.send(what)
