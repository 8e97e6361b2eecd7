"""The log lines of services: plain lines for people, or one JSON object per line for machines.

Everything goes through the standard library's logging, so a module says `logging.getLogger("tocsin").info(…)` and needs
to know nothing of this; what it passes as `extra` becomes keys. Imported by services only: structlog takes its time.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from ..hidden import hide

OURS = ("tocsin", "engine", "trainers")
"""Loggers heard from INFO on; others' from WARNING on."""


def configure(service: str, as_json: bool) -> None:
    """Log to stderr from here on, for the whole process. service: the key that says who speaks, under as_json."""

    def named(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    known: list[Processor] = [
        structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder(), _stamped,
    ]
    written: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.format_exc_info,
        _hidden,
    ]
    written += [named, _ordered, structlog.processors.JSONRenderer(serializer=_json)] if as_json else [_line]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=known, processors=written))
    root = logging.getLogger()
    root.handlers = [handler]
    for name in OURS:
        ours = logging.getLogger(name)
        ours.handlers = []
        ours.setLevel(logging.INFO)


def _stamped(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """RFC 3339, UTC, when it was said."""
    said = datetime.fromtimestamp(event["_record"].created, UTC)
    event["ts"] = said.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return event


def _hidden(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """No password of a URL, whoever let it come this far."""
    return {key: hide(value) if isinstance(value, str) else value for key, value in event.items()}


def _ordered(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    first = {key: event.pop(key) for key in ("ts", "level", "service", "logger", "event")}
    return {**first, **event}


def _line(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """Time of day, level, text, key=value."""
    stamp, level, said = event.pop("ts"), event.pop("level"), event.pop("event")
    event.pop("logger")
    trace = event.pop("exception", "")
    keys = " ".join(f"{key}={value}" for key, value in event.items())
    local = datetime.fromisoformat(stamp).astimezone()
    return "\n".join(filter(None, [f"{local:%H:%M:%S} {level.upper()} {said} {keys}".rstrip(), trace]))


def _json(event: EventDict, **options: object) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
