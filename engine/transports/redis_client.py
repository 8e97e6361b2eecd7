"""How a Redis is reached, and what its refusals mean.

A command is sent once: what may have been done is never sent again, whatever the URL asks for. Every failure leaves as
a coded error, whose text holds no password.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from redis.backoff import NoBackoff
from redis.connection import ConnectionPool, UnixDomainSocketConnection, parse_url
from redis.exceptions import ConnectionError, RedisError, TimeoutError
from redis.retry import Retry

from ..errors import OwnershipLost, TocsinError, TransportUnreachable, UsageError

TIMEOUT_S = 5.0
"""A server that says nothing for so long is a failure."""


class Client:
    """Connections to one server. `prefix` and `shown`: the URL's `?prefix=`, and the URL without its secrets.

    Raises TransportUnreachable: `unreachable`, `timeout`, `auth`, `loading`, `readonly`, `memory`, `disk`, `closed`,
    `repeat` and `broken` (as the scripts of redis.py answer), `redis` (any other answer); OwnershipLost: `fenced`;
    UsageError: `transport_url`.
    """

    def __init__(self, url: str) -> None:
        options = _options(url)
        self.prefix = str(options.pop("prefix", ""))
        self.shown = _shown(url, options)
        self.greet: Callable[[Any], None] | None = None
        """Called with each new connection, also one that replaces a lost one, before anything else is asked of it."""
        self._closed = False
        try:
            self._pool = ConnectionPool(**options, redis_connect_func=self._meet)
            self.connection()          # reaches nobody yet, but meets an argument that redis-py doesn't know
        except (TypeError, ValueError):
            raise _unreadable() from None

    def connection(self) -> Any:
        """A connection for one thread to `send_command` and `read_response` on, within `coded`."""
        return self._pool.make_connection()

    def ask(self, *command: Any) -> Any:
        """One command over a pooled connection; from any thread."""
        with self.coded():
            connection: Any = self._pool.get_connection()
            try:
                connection.send_command(*command)
                return connection.read_response()
            finally:
                self._pool.release(connection)

    @contextmanager
    def coded(self) -> Iterator[None]:
        """What redis-py raises inside leaves as an error of ours."""
        if self._closed:
            raise TransportUnreachable("closed", f"the log {self.shown} has been closed", hint="open it again")
        try:
            yield
        except RedisError as error:
            raise _coded(error, self.shown) from error

    def close(self) -> None:
        self._closed = True
        self._pool.disconnect()

    def _meet(self, connection: Any) -> None:
        connection.on_connect()
        if self.greet:
            try:
                self.greet(connection)
            except BaseException:
                connection.disconnect()
                raise


def _options(url: str) -> dict[str, Any]:
    try:
        options = dict(parse_url(url))  # type: ignore[no-untyped-call]
    except ValueError:
        raise _unreadable() from None  # its text may hold a piece of the password
    return options | {
        "protocol": 2, "decode_responses": False, "health_check_interval": 0,
        "socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0), "retry_on_timeout": False, "retry_on_error": [],
    }


def _shown(url: str, options: Mapping[str, Any]) -> str:
    db = options.get("db", 0)
    if options.get("connection_class") is UnixDomainSocketConnection:
        return f"unix://{options.get('path', '')}" + (f"?db={db}" if db else "")
    user = f"{options['username']}@" if "username" in options else ""
    return f"{url.partition('://')[0]}://{user}{options.get('host', 'localhost')}:{options.get('port', 6379)}/{db}"


def _unreadable() -> UsageError:
    return UsageError(
        "transport_url", "the transport's URL can't be read",
        hint="redis://user:password@host:6379/0 or unix:///path?db=0; special characters of a password are written %XX",
    )


_MEANINGS = (
    # words of the server's answer or of redis-py's class; code; what it means; what to do
    (("MISCONF", "No space left"), "disk", "it can't write to its disk", "make room on the server's disk"),
    (("OOM", "OutOfMemory"), "memory", "it is at its maxmemory", "raise maxmemory, or trim what nobody needs any more"),
    (("READONLY", "ReadOnly"), "readonly", "it is a replica that only reads", "name the primary in --transport"),
    (("LOADING", "BusyLoading"), "loading", "it is still reading its data", "try again in a moment"),
    (
        ("Authentication", "NOAUTH", "WRONGPASS", "NoPermission", "NOPERM"), "auth",
        "it refuses this user or password", "check the user and password of --transport",
    ),
)


def _coded(error: RedisError, url: str) -> TocsinError:
    text = str(error)
    answer, key, value = (*text.split(" ", 2), "", "")[:3]
    if answer == "FENCED":
        return OwnershipLost(
            "fenced", f"{key} is held with epoch {value}: another engine has taken over",
            hint="nothing of this write was done; don't restart at once, the other one is at work",
        )
    if answer == "REPEAT":
        return TransportUnreachable(
            "repeat", f"{key}: {value} is published already, a step that begins at or below it was refused",
            hint="two engines with one epoch, or a step published twice: nothing of it was written",
        )
    if answer == "BROKEN":
        return TransportUnreachable(
            "broken", f"{key}: the step before this one isn't in the log, which ends at {value}",
            hint="nothing of this step was written: take the partition over again",
        )
    for words, code, means, hint in _MEANINGS:
        if any(word in f"{type(error).__name__} {text}" for word in words):
            return TransportUnreachable(code, f"{url}: {means} ({text})", hint=hint)
    if isinstance(error, TimeoutError):
        return TransportUnreachable(
            "timeout", f"{url} has said nothing for {TIMEOUT_S:.0f} s",
            hint="what was on its way may or may not be done",
        )
    if isinstance(error, ConnectionError):
        return TransportUnreachable("unreachable", f"{url}: {text}", hint="is a Redis server there? check --transport")
    return TransportUnreachable("redis", f"{url}: {text}", hint="this server, or what it holds, isn't what a log needs")
