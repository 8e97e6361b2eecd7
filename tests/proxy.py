"""A TCP proxy that cuts, delays and goes silent, by direction, at once or after so many bytes.

    with Proxy(port) as proxy:
        ...                                   # connect to proxy.port
        proxy.after(DOWN, 0, CUT)             # the next answer is lost, and the connection with it
        proxy.swallow(UP); proxy.heal()       # half-open for a while: what is sent meanwhile is gone
        proxy.to = other                      # what connects from now on reaches another server
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from types import TracebackType

UP, DOWN = "up", "down"
"""From the client to the server, and back."""
CUT, SWALLOW = "cut", "swallow"


class Proxy:
    """One listening port in front of a port of this machine."""

    def __init__(self, to: int) -> None:
        self.to = to
        self.bytes = {UP: 0, DOWN: 0}
        """That have come through."""
        self.accepts = True
        """Whether new connections are served; else they are closed at once."""
        self._delay = {UP: 0.0, DOWN: 0.0}
        self._silent: set[str] = set()
        self._plans: dict[str, tuple[int, str]] = {}
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    # ---- what may happen to what goes through

    def cut(self) -> None:
        """Close every connection at once, on both sides."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _close(*pair)

    def swallow(self, direction: str) -> None:
        """Take what comes and pass nothing on, until `heal`."""
        self._silent.add(direction)

    def delay(self, direction: str, seconds: float) -> None:
        """Pass on later, each piece by so much."""
        self._delay[direction] = seconds

    def after(self, direction: str, count: int, what: str) -> None:
        """When exactly `count` more bytes have gone in a direction: CUT or SWALLOW, once."""
        with self._lock:
            self._plans[direction] = (self.bytes[direction] + count, what)

    def heal(self) -> None:
        """Behave from now on; what was lost stays so, and so do the connections cut."""
        with self._lock:
            self._plans.clear()
            self._silent.clear()
            self._delay = {UP: 0.0, DOWN: 0.0}
            self.accepts = True

    # ---- how

    def _serve(self) -> None:
        while True:
            try:
                client = self._door.accept()[0]
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.to)) if self.accepts else None
            except OSError:
                server = None
            if server is None:
                _close(client)
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append((client, server))
            for direction, source, sink in ((UP, client, server), (DOWN, server, client)):
                threading.Thread(target=self._pump, args=(direction, source, sink), daemon=True).start()

    def _pump(self, direction: str, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65_536):
                if self._delay[direction]:
                    time.sleep(self._delay[direction])
                passed, what = self._let_through(direction, piece)
                if passed:
                    sink.sendall(passed)
                if what == CUT:
                    self.cut()
        _close(source, sink)

    def _let_through(self, direction: str, piece: bytes) -> tuple[bytes, str]:
        """How much of a piece goes on, and what happens then."""
        with self._lock:
            if direction in self._silent:
                return b"", ""
            at, what = self._plans.get(direction, (0, ""))
            if what and self.bytes[direction] + len(piece) > at:
                piece = piece[:at - self.bytes[direction]]
                del self._plans[direction]
                if what == SWALLOW:
                    self._silent.add(direction)
            else:
                what = ""
            self.bytes[direction] += len(piece)
            return piece, what

    def close(self) -> None:
        self._door.close()
        self.cut()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _close(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
