"""Structured logs on stderr. Libraries log with the standard library; only the command line decides how it looks.

Every record carries who asked and on which way (request id, traceparent, user,
session, agent), from `extra` where whoever logs gives it, else from the
execution that it was logged in.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from atomesh.cli._output import escape
from atomesh.cli._settings import Settings
from atomesh.core.context import current_scope

_NOISY = ("asyncio", "grpc", "uvicorn")
"""Libraries whose information is not about this mesh."""


def configure(settings: Settings, *, quiet: bool = False) -> None:
    """Sets up the root logger. `quiet`: a verb whose stderr is for its one error, unless somebody asked for logs."""
    said = "log_level" in settings.sources
    level = "error" if quiet and not said else settings.log.level
    as_json = settings.log.format == "json" or (settings.log.format == "auto" and not sys.stderr.isatty())
    out = logging.StreamHandler(sys.stderr)
    out.setFormatter(_formatter(as_json))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(out)
    root.setLevel(level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _formatter(as_json: bool) -> logging.Formatter:
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
        add_scope,
    ]
    last: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if as_json:
        last += [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ]
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
        )
        last += [escaped, renderer]
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last)


def add_scope(logger: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Adds what is known of the current execution; empty values say nothing and are left out."""
    del logger, name
    scope = current_scope()
    if scope is not None:
        context = scope.context
        event.setdefault("request_id", context.request_id)
        event.setdefault("traceparent", context.traceparent)
        event.setdefault("user_id", context.user_id)
        event.setdefault("session_id", context.session_id)
        event.setdefault("agent", scope.agent)
    for key in [key for key, value in event.items() if value == ""]:
        del event[key]
    return event


def escaped(logger: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Nothing that came over the network reaches a terminal raw."""
    del logger, name
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = escape(value)
    return event
