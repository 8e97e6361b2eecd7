"""The guard of an embedded Redis: its parent, and the one who stops it when its users were killed.

A script of its own, run by redis_server.py as `python -I -S redis_guard.py USERS IDLE SERVER [ARGUMENT…]`: it imports
the standard library only and lives exactly as long as the server. After IDLE seconds in which nobody held the lock on
USERS it stops the server, and holds that lock meanwhile, so that nobody joins a server that is going.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock


def main(users_path: str, idle: float, command: list[str]) -> None:
    users = os.open(users_path, os.O_RDWR | os.O_CREAT, 0o600)
    ended, alive = os.pipe()
    os.set_inheritable(alive, True)                # the server holds the writing end: `ended` reads when it is gone
    server = os.posix_spawn(command[0], command, os.environ)
    os.close(alive)

    empty_since: float | None = None
    while not select.select([ended], [], [], min(idle / 4, 5.0))[0]:
        try:
            flock(users, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            empty_since = None
            continue
        now = time.monotonic()
        empty_since = now if empty_since is None else empty_since
        if now - empty_since >= idle:
            os.kill(server, signal.SIGTERM)        # our child, not waited for yet: no other process can have its id
            break
        flock(users, LOCK_UN)
    os.waitpid(server, 0)                          # the lock goes with us: who comes next starts a server of its own


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3:])
