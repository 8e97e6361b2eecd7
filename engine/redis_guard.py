"""The guard of an embedded Redis: its parent, and the one who stops it when everybody has gone without a word.

A script of its own, run by redis_server.py as `python -I -S redis_guard.py LOCK USERS IDLE SERVER [ARGUMENT…]`: it
imports the standard library only and lives exactly as long as the server. It stops the server after IDLE seconds in
which nobody held the lock on USERS, and holds LOCK meanwhile, so that nobody joins a server that is going.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock


def main(lock_path: str, users_path: str, idle: float, command: list[str]) -> None:
    lock, users = (os.open(path, os.O_RDWR | os.O_CREAT, 0o600) for path in (lock_path, users_path))
    ended, alive = os.pipe()
    os.set_inheritable(alive, True)                # the server holds the writing end: `ended` reads when it is gone
    server = os.posix_spawn(command[0], command, os.environ)
    os.close(alive)

    empty_since: float | None = None
    while not select.select([ended], [], [], min(idle / 4, 5.0))[0]:
        if not _alone(lock, users):
            empty_since = None
        elif empty_since is None:
            empty_since = time.monotonic()
        elif time.monotonic() - empty_since >= idle:
            os.kill(server, signal.SIGTERM)        # our child, not waited for yet: no other process can have its id
            break
        if empty_since is not None:
            flock(users, LOCK_UN)
            flock(lock, LOCK_UN)
    os.waitpid(server, 0)                          # the locks go with us: whoever comes next starts a server of its own


def _alone(lock: int, users: int) -> bool:
    """True, and both are locked: nobody uses the server and nobody is coming or leaving."""
    try:
        flock(lock, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    try:
        flock(users, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        flock(lock, LOCK_UN)
        return False
    return True


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4:])
