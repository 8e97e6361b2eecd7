"""Child processes that end with their parent, whatever becomes of it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

T = TypeVar("T")


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


def alone(function: Callable[..., T], *args: Any) -> T:
    """Called in a process of its own, which it may end. Raises BrokenProcessPool where it did."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin) as child:
        return child.submit(function, *args).result()


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)           # Ctrl-C is the parent's to hear; it ends us
    end_with_parent()


def tell(pipe: Connection, what: Any) -> None:
    """Send something to the parent, unless that was killed: then nobody is there to hear it."""
    with suppress(BrokenPipeError, ConnectionResetError):
        pipe.send(what)
