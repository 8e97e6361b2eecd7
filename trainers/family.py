"""Child processes that end with their parent, whatever becomes of it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from engine.errors import TocsinError

T = TypeVar("T")

_ALONE = """
import sys
from multiprocessing.connection import Connection
parent = Connection(int(sys.argv[1]))
sys.path = parent.recv()
from trainers.family import _called
_called(parent)
"""


class ChildEnded(Exception):
    """A process ended before it had answered."""


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
    """Called in a process of its own, which it may end. Raises ChildEnded where it did, TocsinError `no_child`, what it raises.

    No process of multiprocessing's: that would import the caller's script anew, which a script without a guard, or one that
    was never a file, doesn't survive.
    """
    begun = False
    ours, theirs = Pipe()
    place = theirs.fileno()
    with ours, subprocess.Popen(                           # what a library prints is no answer: stdout goes to stderr
        [sys.executable, "-P", "-c", _ALONE, str(place)], pass_fds=[place], stdin=subprocess.DEVNULL, stdout=2
    ) as child:
        theirs.close()
        try:
            ours.send(sys.path)
            ours.send((function, args))
            begun = ours.recv()
            returned, said = ours.recv()
        except (EOFError, OSError):
            if begun:
                raise ChildEnded from None
            raise TocsinError("no_child", "a process to ask a library in ended before it asked",
                              hint="what it said stands above; is there memory for it?") from None
        finally:
            child.kill()
    if not returned:
        raise said
    return said  # type: ignore[no-any-return]


def _called(parent: Connection) -> None:
    """In the child of `alone`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)           # Ctrl-C is the parent's to hear; it ends us
    function, args = parent.recv()
    threading.Thread(target=_end_with, args=(parent,), daemon=True, name="parent").start()
    parent.send(True)
    try:
        answer = True, function(*args)
    except Exception as error:
        answer = False, error
    parent.send(answer)


def _end_with(parent: Connection) -> None:
    """It has nothing more to say: what is heard is its end."""
    wait([parent])
    os._exit(1)


def tell(pipe: Connection, what: Any) -> None:
    """Send something to the parent, unless that was killed: then nobody is there to hear it."""
    with suppress(BrokenPipeError, ConnectionResetError):
        pipe.send(what)
