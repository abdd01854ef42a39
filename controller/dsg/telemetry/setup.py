"""Starts and stops telemetry for the process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata

from opentelemetry import metrics as otel_metrics
from opentelemetry import trace as otel_trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest

from dsg.telemetry.logs import LogFormat, configure
from dsg.telemetry.otlp import Outage, metric_exporter, sdk_disabled, span_exporter, wanted
from dsg.transfer.metric import DURATION_BUCKETS

_log = logging.getLogger(__name__)

SERVICE = "dsg-operator"

_QUEUE = 2048
"""Spans that wait for the collector; those beyond are dropped. About 2 MB."""


def version() -> str:
    """Return the version of the installed distribution; `unknown` where it runs from a tree that is not installed."""
    try:
        return metadata.version("dsg")
    except metadata.PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True, slots=True)
class Settings:
    """What telemetry needs to know; everything about collectors is in the standard OTEL_* variables."""

    node: str = ""
    """Name of the storage node, resource attribute `dsg.node`; empty for a process that belongs to none."""
    instance: str = ""
    """`service.instance.id`; left empty, the node's name: there is one operator per node, and a name that outlives
    restarts keeps one series of each metric instead of one per restart."""
    service: str = SERVICE
    """Resource attribute `service.name`."""
    shutdown_seconds: float = 5.0
    """How long `shutdown` may take to get rid of what is queued."""


class Telemetry:
    """Running traces and metrics."""

    def __init__(
        self,
        settings: Settings,
        tracers: TracerProvider,
        meters: MeterProvider,
        exporters: tuple[OTLPSpanExporter | OTLPMetricExporter, ...],
    ) -> None:
        self._settings = settings
        self._tracers = tracers
        self._meters = meters
        self._exporters = exporters
        self._ended = False

    def shutdown(self) -> bool:
        """Send what is queued, for at most `shutdown_seconds`, and stop. Returns whether all of it was sent.

        Blocks. Whatever is still at work afterwards is a daemon thread that keeps the process from nothing. A second
        call does nothing.
        """
        if self._ended:
            return True
        self._ended = True
        deadline = time.monotonic() + self._settings.shutdown_seconds
        # Side by side: each waits for its own collector, and neither takes a timeout for all it does.
        ends = [_in_thread(self._tracers.shutdown), _in_thread(self._meters.shutdown)]
        done = [end.wait(max(0.0, deadline - time.monotonic())) for end in ends]
        if all(done):
            return True
        for exporter in self._exporters:
            # Ends the retries, so that the threads stop by themselves.
            exporter.shutdown()
        _log.warning(
            "telemetry that was still queued is lost: the collector did not take it within %.1f s",
            self._settings.shutdown_seconds,
        )
        return False


def start(settings: Settings, *, registry: CollectorRegistry = REGISTRY) -> Telemetry:
    """Start traces and metrics, and make them the process's own (once a process, as OpenTelemetry has it).

    Metrics are always readable at `registry`. Nothing is sent anywhere, and no thread for it is started, unless the
    standard OTEL_* variables name a collector; OTEL_SDK_DISABLED=true turns off all but Python's own metrics. What the
    environment says in OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES goes before the attributes set here.
    """
    about = resource(settings)
    exporters: list[OTLPSpanExporter | OTLPMetricExporter] = []
    readers: list[MetricReader] = []
    if not sdk_disabled():
        readers.append(PrometheusMetricReader(scope_info_enabled=False, registry=registry))
    if wanted("metrics"):
        metric_sender = metric_exporter(Outage("metrics"))
        exporters.append(metric_sender)
        readers.append(PeriodicExportingMetricReader(metric_sender))
    # OpenTelemetry's default buckets are made for milliseconds; all our durations are seconds.
    seconds = View(
        instrument_type=Histogram,
        instrument_unit="s",
        aggregation=ExplicitBucketHistogramAggregation(DURATION_BUCKETS),
    )
    # Not at exit by themselves: that would wait for a dead collector without a limit.
    meters = MeterProvider(readers, about, shutdown_on_exit=False, views=[seconds])
    tracers = TracerProvider(resource=about, shutdown_on_exit=False)
    if wanted("traces"):
        span_sender = span_exporter(Outage("traces"))
        exporters.append(span_sender)
        tracers.add_span_processor(BatchSpanProcessor(span_sender, max_queue_size=_QUEUE))
    otel_trace.set_tracer_provider(tracers)
    otel_metrics.set_meter_provider(meters)
    return Telemetry(settings, tracers, meters, tuple(exporters))


def exposition(registry: CollectorRegistry = REGISTRY) -> bytes:
    """Return all metrics of the process in the Prometheus text format 0.0.4. Reads /proc; no other I/O."""
    return generate_latest(registry)


@contextmanager
def telemetry(
    *, node: str, service: str = SERVICE, level: str = "info", log_format: LogFormat | str = LogFormat.AUTO
) -> Iterator[Telemetry]:
    """Log, trace and measure while the block runs; afterwards send what is queued, for a few seconds at most.

    Raises ValueError for a level or format that does not exist.
    """
    configure(level, log_format, node)
    running = start(Settings(node, service=service))
    try:
        yield running
    finally:
        running.shutdown()


def resource(settings: Settings) -> Resource:
    """Return the attributes that say which process it is; the environment's go before ours."""
    ours = {"service.name": settings.service, "service.version": version()}
    if settings.node:
        ours["dsg.node"] = settings.node
    if instance := settings.instance or settings.node:
        ours["service.instance.id"] = instance
    return Resource.create(dict(ours)).merge(OTELResourceDetector().detect())


def _in_thread(stop: Callable[[], object]) -> threading.Event:
    done = threading.Event()

    def run() -> None:
        try:
            stop()
        except Exception:  # a fault in telemetry must not keep the process from ending
            _log.exception("telemetry did not stop cleanly")
        finally:
            done.set()

    threading.Thread(target=run, name="telemetry-shutdown", daemon=True).start()
    return done
