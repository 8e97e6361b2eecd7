"""The three addresses of a process: /metrics, /healthz, /readyz. Read only, for machines, never on the way of a tick."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import sys
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from threading import BoundedSemaphore, Thread
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, gzip_accepted

from ..errors import UsageError
from .health import Verdict

MOST = 8
"""Connections answered at a time; more are closed unanswered."""

TIMEOUT_S = 5.0
"""A client that says or takes nothing for so long is left."""

log = logging.getLogger("tocsin")


class Exporter:
    """Answers from threads of its own until it is closed."""

    def __init__(
        self, listen: str, section: str, metrics: CollectorRegistry, health: Callable[[], Verdict],
        ready: Callable[[], Verdict],
    ) -> None:
        host, port = _place(listen, section)
        answers = {
            "/metrics": partial(_metrics, metrics),
            "/healthz": partial(_verdict, "healthy", health),
            "/readyz": partial(_verdict, "ready", ready),
        }
        try:
            self._server = _Server(host, port, answers)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise UsageError("listen", f"[{section}] listen = {listen!r}: {reason}", hint=_hint(section)) from None
        address = self._server.socket.getsockname()
        named = host or "127.0.0.1"
        self.url = f"http://{f'[{named}]' if ':' in named else named}:{address[1]}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.1,), name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def serve(
    listen: str, section: str, metrics: CollectorRegistry, health: Callable[[], Verdict], ready: Callable[[], Verdict]
) -> Exporter | None:
    """listen: host:port of [section], port 0 for any free one; None where it is empty. Raises UsageError `listen`."""
    return Exporter(listen, section, metrics, health, ready) if listen else None


def _place(listen: str, section: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not port.isdecimal() or not listen.count(":") or (":" in host and not host.startswith("[")):
        raise UsageError("listen", f"[{section}] listen = {listen!r} isn't host:port", hint=_hint(section))
    return host.removeprefix("[").removesuffix("]"), int(port)


def _hint(section: str) -> str:
    return (f"set TOCSIN_{section.upper()}_LISTEN or [{section}] listen to another host:port; port 0 takes any that is "
            'free, listen = "" none')


Answer = tuple[HTTPStatus, str, bytes]
"""Status, type, body."""


def _metrics(registry: CollectorRegistry, accept: str) -> Answer:
    encode, kind = choose_encoder(accept)
    return HTTPStatus.OK, kind, encode(registry)


def _verdict(word: str, ask: Callable[[], Verdict], accept: str) -> Answer:
    ok, reason, details = ask()
    body = json.dumps({word: ok, "reason": reason, **details}) + "\n"
    return HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE, "application/json", body.encode()


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 4 * MOST
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, answers: Mapping[str, Callable[[str], Answer]]) -> None:
        self.answers = answers
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._free = BoundedSemaphore(MOST)
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):         # who asked has left; nothing is wrong with us
            log.error("an answer failed: %s: %s", type(error).__name__, error)


class _Handler(BaseHTTPRequestHandler):
    """GET and HEAD of the three paths."""

    server: _Server
    timeout = TIMEOUT_S

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        answer = self.server.answers.get(self.path.partition("?")[0])
        if answer is None:
            status, kind = HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8"
            body = (" ".join(self.server.answers) + "\n").encode()
        else:
            status, kind, body = answer(self.headers.get("Accept", ""))
        self.send_response(status)
        if gzip_accepted(self.headers.get("Accept-Encoding", "")):
            body = gzip.compress(body, compresslevel=1)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def version_string(self) -> str:
        return "tocsin"

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every few seconds; nobody reads of them."""
