"""Structured logs: one JSON object a line (or coloured text for people), for this package and all it uses alike.

Fields: `timestamp` (RFC 3339, UTC), `level`, `logger`, `event`; `node`; `trace_id` and `span_id` of the current span;
whatever is bound by `about`, such as `kind`, `namespace` and `name` of the object at hand; `exception` as a list of
exceptions, the one that was raised first, with their frames. Local variables are never logged.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from enum import StrEnum
from types import TracebackType
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from dsg.telemetry.redaction import redact, redact_text
from dsg.telemetry.tracing import current_ids
from dsg.transfer.log_levels import known


class LogFormat(StrEnum):
    """How log lines look."""

    JSON = "json"
    CONSOLE = "console"
    AUTO = "auto"
    """Console on a terminal, JSON elsewhere."""


_FLOORS: Mapping[str, int] = {
    # It logs whole response bodies at debug, Secrets included.
    "kubernetes.client.rest": logging.INFO,
    "urllib3": logging.INFO,
    "asyncio": logging.INFO,
    "aiohttp.access": logging.WARNING,
}
"""Loggers that stay at a level of their own even when everything else is at debug."""

_FIRST = ("timestamp", "level", "logger", "event", "node", "kind", "namespace", "name", "trace_id", "span_id")
_MAX_FRAMES = 30

_HANDLER_NAME = "dsg"


def configure(
    level: str = "info",
    format: LogFormat | str = LogFormat.AUTO,
    node: str = "",
    *,
    stream: TextIO | None = None,
) -> None:
    """Send every log of this process to `stream` (standard error) in one format; a second call replaces the first.

    Handlers that others put on the root logger are taken away, so that nothing is written twice. Uncaught exceptions,
    of threads as well, and Python's warnings are logged too. `node` is added to every line. Raises ValueError for a
    level or format that does not exist.
    """
    level = known(level)
    try:
        chosen = LogFormat(format)
    except ValueError:
        raise ValueError(f"log format {format!r} does not exist; use one of: {', '.join(LogFormat)}") from None
    out = sys.stderr if stream is None else stream
    terminal = out.isatty()
    console = chosen is LogFormat.CONSOLE or (chosen is LogFormat.AUTO and terminal)

    handler = logging.StreamHandler(out)
    handler.set_name(_HANDLER_NAME)
    handler.setFormatter(_formatter(node, console=console, colors=console and terminal))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    _apply(level)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread

    structlog.configure(
        # All else happens in the formatter, where records of the standard library come by as well.
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def set_level(level: str) -> None:
    """Log at another level from now on. Raises ValueError for one that does not exist."""
    _apply(known(level))
    logging.getLogger("dsg").warning("log level changed to %s", level)


def _apply(level: str) -> None:
    root = logging.getLogger()
    root.setLevel(level.upper())
    for name, floor in _FLOORS.items():
        logging.getLogger(name).setLevel(max(floor, root.level))


def about(
    *, kind: str | None = None, namespace: str | None = None, name: str | None = None, **more: object
) -> AbstractContextManager[None]:
    """Bind fields to every log line written inside the block, in called functions, awaited tasks and threads alike."""
    fields = {"kind": kind, "namespace": namespace, "name": name, **more}
    return structlog.contextvars.bound_contextvars(**{key: value for key, value in fields.items() if value is not None})


def _formatter(node: str, *, console: bool, colors: bool) -> structlog.stdlib.ProcessorFormatter:
    processors: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Node(node),
        structlog.contextvars.merge_contextvars,
        _add_kopf_object,
        _add_trace,
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.StackInfoRenderer(),
    ]
    if console:
        processors += [
            structlog.processors.format_exc_info,
            _redact,
            structlog.dev.ConsoleRenderer(colors=colors, sort_keys=False),
        ]
    else:
        structured = structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=_MAX_FRAMES)
        processors += [structlog.processors.ExceptionRenderer(structured), _redact, _render_json]
    return structlog.stdlib.ProcessorFormatter(processors=processors)


class _Node:
    """Adds the node's name."""

    def __init__(self, node: str) -> None:
        self._node = node

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        if self._node:
            event["node"] = self._node
        return event


def _add_kopf_object(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    # kopf attaches the object a message is about to the record, instead of the message.
    reference = getattr(event.get("_record"), "k8s_ref", None)
    if isinstance(reference, Mapping):
        for key in ("kind", "namespace", "name"):
            if reference.get(key):
                event.setdefault(key, reference[key])
    return event


def _add_trace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    ids = current_ids()
    if ids is not None:
        event["trace_id"], event["span_id"] = ids
    return event


def _redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    clean = redact(event)
    return clean if isinstance(clean, dict) else {"event": clean}


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    ordered = {key: event[key] for key in _FIRST if key in event} | dict(event)
    # ASCII only, so that a file name that is not valid UTF-8 can neither break the line nor the stream's encoding.
    return json.dumps(ordered, ensure_ascii=True)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, Exception):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("dsg").critical(
        "uncaught exception, the process ends: %s", redact_text(repr(error)), exc_info=(kind, error, trace)
    )


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or not issubclass(args.exc_type, Exception):
        return
    where = args.thread.name if args.thread is not None else "a thread"
    logging.getLogger("dsg").critical(
        "uncaught exception, %s ends: %s",
        where,
        redact_text(repr(args.exc_value)),
        exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
    )
