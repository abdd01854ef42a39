"""Spans: what is done for whom, and how long it takes.

One reconcile is one trace: reconcile → plan → each zfs command. The current span is a context variable, so it follows
`await` and `asyncio.to_thread` by itself; an executor needs `in_executor`.
"""

from __future__ import annotations

import asyncio
import contextvars
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple, ParamSpec, TypeVar

from opentelemetry import trace
from opentelemetry.trace import Span, Status, StatusCode

from dsg.telemetry.redaction import redact_text

SCOPE = "dsg"
"""Instrumentation scope of the operator's own spans and metrics."""

ATTRIBUTE_PREFIX = "dsg."
"""Span attributes carry the project's namespace, as OpenTelemetry's naming conventions ask for."""

P = ParamSpec("P")
T = TypeVar("T")


class TraceIds(NamedTuple):
    """Ids of a span as they are written: lower-case hexadecimal (W3C Trace Context)."""

    trace_id: str
    span_id: str


def current_ids() -> TraceIds | None:
    """Return the ids of the current span; None outside of any, or while tracing is off."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return TraceIds(trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id))


@contextmanager
def span(name: str, /, **attributes: str | int | float | bool | None) -> Iterator[Span]:
    """Run a block as a span, a child of the current one.

    Attributes are given the prefix `dsg.`; those that are None are left out. An exception that leaves the block makes
    the span's status an error and is kept with its traceback, without secrets; cancellation is an event and no error.
    """
    tracer = trace.get_tracer(SCOPE)
    given = {ATTRIBUTE_PREFIX + key: value for key, value in attributes.items() if value is not None}
    with tracer.start_as_current_span(
        name, attributes=given, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except asyncio.CancelledError:
            current.add_event("cancelled")
            raise
        except Exception as error:
            _record(current, error)
            raise


def _record(current: Span, error: Exception) -> None:
    # Span.record_exception would export the message as it is; a message can quote a header or a URL.
    message = redact_text(str(error))
    current.add_event(
        "exception",
        {
            "exception.type": type(error).__qualname__,
            "exception.message": message,
            "exception.stacktrace": redact_text("".join(traceback.format_exception(error))),
        },
    )
    current.set_status(Status(StatusCode.ERROR, f"{type(error).__qualname__}: {message}"))


async def in_executor(executor: Executor | None, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function on an executor (None: the loop's own) with the current span and log context.

    `loop.run_in_executor` by itself starts with an empty context, so that spans made in the thread become traces of
    their own.
    """
    context = contextvars.copy_context()
    call: partial[T] = partial(context.run, function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(executor, call)
