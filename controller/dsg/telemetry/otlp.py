"""Sends traces and metrics to a collector by OTLP over HTTP, where the environment names one; otherwise nothing leaves.

A collector that can't be reached must cost the operator nothing: queues are bounded, sending happens in threads of its
own, and an outage is logged once when it begins and once when it ends.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from dsg.telemetry.redaction import redact_text

_log = logging.getLogger(__name__)

Signal = Literal["traces", "metrics"]

_PROTOCOL = "http/protobuf"


def sdk_disabled(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether OTEL_SDK_DISABLED turns telemetry off (OpenTelemetry specification, environment variables)."""
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def wanted(signal: Signal, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a signal is to be sent by OTLP, by the standard environment variables.

    It is when an endpoint is given for it (OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT) and
    OTEL_TRACES_EXPORTER does not name something else, such as none; or when that names otlp. Unlike the specification's
    default, nothing is sent to localhost unasked. A protocol other than http/protobuf is logged as an error, and then
    nothing is sent: storage is kept without a collector too.
    """
    if sdk_disabled(environ):
        return False
    name = signal.upper()
    exporters = {word.strip() for word in environ.get(f"OTEL_{name}_EXPORTER", "").lower().split(",")} - {""}
    endpoint = environ.get(f"OTEL_EXPORTER_OTLP_{name}_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if ("otlp" not in exporters) if exporters else not endpoint:
        return False
    protocol = environ.get(f"OTEL_EXPORTER_OTLP_{name}_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol and protocol.strip().lower() != _PROTOCOL:
        _log.error(
            "%s are not sent: the protocol %r is not offered; set OTEL_EXPORTER_OTLP_PROTOCOL=%s and the collector's "
            "OTLP/HTTP endpoint (port 4318 by convention)",
            signal,
            protocol,
            _PROTOCOL,
        )
        return False
    return True


class Outage:
    """Follows whether one signal reaches its collector, and logs when that changes."""

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        self._lock = threading.Lock()
        self._lost = 0

    @property
    def on(self) -> bool:
        """Whether the last batch was lost."""
        return self._lost > 0

    def delivered(self) -> None:
        """Record that a batch arrived."""
        with self._lock:
            lost, self._lost = self._lost, 0
        if lost:
            _log.info("%s reach the collector again; batches lost: %d", self._signal, lost)

    def lost(self, why: str) -> None:
        """Record that a batch did not arrive; logs only the first of a row."""
        with self._lock:
            self._lost += 1
            first = self._lost == 1
        if first:
            _log.warning(
                "%s do not reach the collector and are dropped until it answers: %s. "
                "Check OTEL_EXPORTER_OTLP_ENDPOINT and the network; storage is not affected",
                self._signal,
                redact_text(why) or "no reason given",
            )


class _Attempt(threading.local):
    """What an exporter said during the export that this thread is at."""

    reason: str | None = None
    """The first thing it logged; None outside of an export."""


_attempt = _Attempt()


def _keep_reason(record: logging.LogRecord) -> bool:
    # An exporter returns no reason for a failure, it only logs it: several lines for each batch.
    if _attempt.reason is None:
        return True
    _attempt.reason = _attempt.reason or record.getMessage()
    return False


@contextmanager
def _attempting(outage: Outage) -> Iterator[Callable[[bool], None]]:
    """Run one export; the function given to the block takes whether the batch arrived."""
    _attempt.reason = ""
    result: list[bool] = []
    error = ""
    try:
        yield result.append
    except Exception as raised:  # the SDK's thread would log it each time
        error = repr(raised)
    finally:
        reason, _attempt.reason = _attempt.reason, None
    if result == [True]:
        outage.delivered()
    else:
        outage.lost(error or reason)


class _Spans(OTLPSpanExporter):
    """An exporter that tells an `Outage` instead of logging each failure."""

    def __init__(self, outage: Outage) -> None:
        super().__init__()
        self._outage = outage
        self._ended = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        with _attempting(self._outage) as arrived:
            result = super().export(spans)
            arrived(result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        if not self._ended:
            self._ended = True
            super().shutdown()  # type: ignore[no-untyped-call]


class _Metrics(OTLPMetricExporter):
    """The same for metrics."""

    def __init__(self, outage: Outage) -> None:
        super().__init__()
        self._outage = outage
        self._ended = False

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        result = MetricExportResult.FAILURE
        with _attempting(self._outage) as arrived:
            result = super().export(metrics_data, timeout_millis, **kwargs)
            arrived(result is MetricExportResult.SUCCESS)
        return result

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        if not self._ended:
            self._ended = True
            super().shutdown(timeout_millis, **kwargs)


def span_exporter(outage: Outage) -> OTLPSpanExporter:
    """Return an exporter of spans, configured by the environment; any thread may shut it down, more than once."""
    _quiet(OTLPSpanExporter.__module__, _keep_reason)
    # The queue in front of it warns for each span that finds it full; while an outage is on, that has been said.
    _quiet("opentelemetry.sdk._shared_internal", lambda record: not (outage.on and "Queue full" in record.getMessage()))
    return _Spans(outage)


def metric_exporter(outage: Outage) -> OTLPMetricExporter:
    """Return an exporter of metrics, configured by the environment; any thread may shut it down, more than once."""
    _quiet(OTLPMetricExporter.__module__, _keep_reason)
    return _Metrics(outage)


def _quiet(logger: str, keep: Callable[[logging.LogRecord], bool]) -> None:
    logging.getLogger(logger).addFilter(keep)
