"""Fixtures: spans kept in memory, and the logging of the process given back as it was."""

import logging
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.telemetry.support import Lines, Spans


@pytest.fixture(scope="session")
def span_memory() -> InMemorySpanExporter:
    # The provider is global and can be set once a process, so another test package may have set it already.
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider(shutdown_on_exit=False)
        trace.set_tracer_provider(provider)
    memory = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    return memory


@pytest.fixture
def spans(span_memory: InMemorySpanExporter) -> Iterator[Spans]:
    span_memory.clear()
    yield Spans(span_memory)
    span_memory.clear()


@pytest.fixture
def log_lines() -> Iterator[Lines]:
    """A stream for `logs.configure`; afterwards the process logs as it did before."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    hook, thread_hook, show = sys.excepthook, threading.excepthook, warnings.showwarning
    yield Lines()
    logging.captureWarnings(False)
    sys.excepthook, threading.excepthook, warnings.showwarning = hook, thread_hook, show
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
