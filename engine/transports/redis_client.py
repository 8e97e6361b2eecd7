"""How a Redis is reached, and what its refusals mean.

A command is sent once: what may have been done is never sent again, whatever the URL asks for. Every failure leaves as
a coded error, whose text holds no password: neither of the URL's own, nor where a server repeats what it was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from redis.backoff import NoBackoff
from redis.connection import ConnectionPool, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.exceptions import ConnectionError, NoPermissionError, RedisError, TimeoutError
from redis.retry import Retry

from ..errors import OwnershipLost, TocsinError, TransportUnreachable, UsageError
from ..hidden import hide

TIMEOUT_S = 5.0
"""A server that says nothing for so long is a failure."""


class Client:
    """Connections to one server. `prefix` and `shown`: the URL's `?prefix=`, and the URL without its secrets.

    Raises TransportUnreachable: `unreachable`, `timeout`, `tls`, `auth`, `rights`, `loading`, `busy`, `readonly`,
    `replicas`, `memory`, `disk`, `cluster`, `closed`, `repeat`, `broken` and `rolled_back` (as the scripts of redis.py
    answer), `redis` (any other answer); OwnershipLost: `fenced`; UsageError: `transport_url`, `tls_file`.
    """

    def __init__(self, url: str) -> None:
        options = _options(url)
        self.prefix = str(options.pop("prefix", ""))
        self.shown = _shown(url, options)
        self._secrets = [str(options[name]) for name in ("password", "ssl_password") if name in options]
        self.greet: Callable[[Any], None] | None = None
        """Called with each new connection, also one that replaces a lost one, before anything else is asked of it."""
        self._tls = options.get("connection_class") is SSLConnection
        self._closed = False
        try:
            self._pool = ConnectionPool(**options, redis_connect_func=self._meet)
            self.connection()          # reaches nobody yet, but meets an argument that redis-py doesn't know
        except (TypeError, ValueError, RedisError):
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
            text = hide(str(error), self._secrets)
            raise _coded(error, text, self.shown) from (error if text == str(error) else None)

    def close(self) -> None:
        self._closed = True
        self._pool.disconnect()

    def _meet(self, connection: Any) -> None:
        connection.on_connect()
        if self._tls:
            # TLS 1.3 sends session tickets after the handshake, which the pool takes for an answer nobody read: read
            # an answer, and they are read with it (that this user may not PING is one, too)
            connection.send_command("PING")
            with suppress(NoPermissionError):
                connection.read_response()
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
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        if name in options and not Path(options[name]).is_file():
            raise UsageError("tls_file", f"{options[name]} isn't there", hint=f"{name} in --transport names a PEM file")
    return options | {
        "protocol": 2, "decode_responses": False, "health_check_interval": 0,
        "socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0), "retry_on_timeout": False, "retry_on_error": [],
        "driver_info": None,           # CLIENT SETINFO would need a right, and tell nobody anything
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
    (
        ("READONLY", "ReadOnly", "MASTERDOWN", "MasterDown", "UNBLOCKED"), "readonly",
        "it is a replica that only reads", "name the primary in --transport",
    ),
    (
        ("NOREPLICAS",), "replicas", "it has fewer replicas at hand than its min-replicas-to-write",
        "bring its replicas back",
    ),
    (("LOADING", "BusyLoading"), "loading", "it is still reading its data", "try again in a moment"),
    (("busy running",), "busy", "somebody's script keeps it from all else", "redis-cli SCRIPT KILL ends that script"),
    (
        ("NoPermission", "NOPERM", "user executing the script can't"), "rights", "this user may not do that",
        "docs/redis.md has the rights that an engine, a feed, a trainer and a consumer need",
    ),
    (
        ("Authentication", "NOAUTH", "WRONGPASS", "unknown command 'AUTH'", "unknown command `AUTH`"), "auth",
        "it refuses this user or password", "check the user and password of --transport",
    ),
    (
        ("MovedError", "MOVED", "CrossSlot", "CROSSSLOT", "CLUSTERDOWN", "ClusterDown"), "cluster",
        "it is a node of a cluster", "a log needs one server for itself (and its replicas), with cluster-enabled no",
    ),
    (
        ("CERTIFICATE", "X509", "WRONG_VERSION_NUMBER", "alert", "[SSL] PEM"), "tls", "no trusted connection",
        "?ssl_ca_certs=FILE names who vouches for the server, &ssl_certfile=FILE&ssl_keyfile=FILE the client's certificate",
    ),
)


def _coded(error: RedisError, text: str, url: str) -> TocsinError:
    """text: the error's, without secrets."""
    answer, key, value = (*text.split(" ", 2), "", "")[:3]
    if answer == "FENCED":
        return OwnershipLost(
            "fenced", f"{key} is held with epoch {value}: another engine has taken over",
            hint="nothing of this write was done; don't restart at once, the other one is at work",
        )
    if answer == "ROLLEDBACK":
        return TransportUnreachable(
            "rolled_back", f"{key} knows epoch {value} only: the log has lost what was written last, this claim with it",
            hint="nothing of this write was done: take the partition over again, what is lost is decided anew",
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
        return TransportUnreachable(
            "unreachable", f"{url}: {text}",
            hint="is a Redis server there, and does it speak TLS exactly if the URL begins with rediss? check --transport",
        )
    return TransportUnreachable("redis", f"{url}: {text}", hint="this server, or what it holds, isn't what a log needs")
