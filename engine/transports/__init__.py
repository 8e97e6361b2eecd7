"""Transports: which one answers for a URL. A transport is a module with `open_log` and `create_log`.

Each is imported when its scheme is first met. Another package adds one by an entry point of the group
`tocsin.transport`, named as its scheme, that names such a module.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import Protocol, cast

from ..errors import UsageError
from ..instruments import Instruments
from .base import Log

SCHEMES = {
    "memory": "memory",
    "redis": "redis",
    "rediss": "redis",
    "unix": "redis",
    "redis+embedded": "redis",
}
"""The module that answers for each scheme of ours."""

GROUP = "tocsin.transport"

PLAIN = Instruments()
"""Every symbol as the defaults have it."""


class Transport(Protocol):
    """What a transport's module holds."""

    open_log: Callable[[str, str, int | None, Instruments], Log]
    """(url, deployment, create, rules) -> the log; create: partitions of a new one where nobody made one, None: don't."""

    create_log: Callable[[str, int, Instruments], Log]
    """(url, partitions, rules) -> the new log; refused with code `log_exists` where there is one."""


def open_log(url: str, *, deployment: str = "main", create: int | None = None, rules: Instruments = PLAIN) -> Log:
    """The log at a URL, seen by one deployment.

    With `create` a log in memory or of an embedded server is made, with so many partitions and `rules` of counting,
    where there is none; on other transports only `create_log` makes one. Raises UsageError (codes `transport_unknown`,
    `transport_url`, `transport_clash`, `deployment_name`, `partitions`), TransportUnreachable (code `no_log` and others),
    DeviceMissing.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", deployment):
        raise UsageError(
            "deployment_name", f"{deployment!r} can't name a deployment",
            hint="up to 64 letters, digits, '.', '_' and '-'",
        )
    if create is not None:
        _check(create)
    return transport(url).open_log(url, deployment, create, rules)


def create_log(url: str, partitions: int, rules: Instruments = PLAIN) -> Log:
    """A new log of so many partitions, whose prices are counted by these rules.

    Raises as `open_log`, and TransportUnreachable with code `log_exists`.
    """
    _check(partitions)
    return transport(url).create_log(url, partitions, rules)


def _check(partitions: int) -> None:
    if partitions < 1:
        raise UsageError("partitions", f"a log can't have {partitions} partitions", hint="one at least; 4 is usual")


def transport(url: str) -> Transport:
    """The module that answers for a URL's scheme. Raises UsageError."""
    from importlib.metadata import entry_points

    scheme = url.partition("://")[0] if "://" in url else ""
    others = {point.name: point for point in entry_points(group=GROUP)}
    for name in others.keys() & SCHEMES.keys():
        raise UsageError(
            "transport_clash", f"the package {others[name].dist} names a transport {name!r}, which is one of ours",
            hint="uninstall it, or ask its authors for another scheme",
        )
    if scheme in SCHEMES:
        return cast(Transport, import_module(f".{SCHEMES[scheme]}", __package__))
    if scheme in others:
        return cast(Transport, others[scheme].load())
    known = ", ".join(f"{name}://" for name in (*SCHEMES, *others))
    raise UsageError("transport_unknown", f"no transport has the scheme {scheme!r}", hint=f"known are {known}")
