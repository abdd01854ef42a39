"""What the data plane measures of itself, and the page on which it shows that.

Labels are few and bounded, and none names a repository, a path, or a person.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal, Protocol

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from dsg.transfer.metric import DURATION_BUCKETS, Instrument, Metric
from dsg.transfer.problems import Code

Direction = Literal["in", "out"]

REQUESTS = Metric(
    "dsg.plane.requests",
    Instrument.COUNTER,
    "{request}",
    "Requests that were answered, by operation and HTTP status; 0 where the connection was cut instead.",
    {"route": "operation of docs/reference/openapi.yaml, or other", "status": "HTTP status of the answer, or 0"},
)
DURATION = Metric(
    "dsg.plane.request.duration",
    Instrument.HISTOGRAM,
    "s",
    "Time from a request's head to the end of its answer; waiting for a turn is part of it.",
    {"route": "operation of docs/reference/openapi.yaml, or other"},
)
REFUSED = Metric(
    "dsg.plane.refusals",
    Instrument.COUNTER,
    "{request}",
    "Requests that were not carried out, by the code of the answer; every code is there.",
    {"code": "a code of docs/data-plane.md"},
)
BYTES = Metric(
    "dsg.plane.transferred",
    Instrument.COUNTER,
    "By",
    "Bytes of bodies that came in from clients or went out to them; headers and TLS are not counted.",
    {"direction": "in or out"},
)
IDLE = Metric(
    "dsg.plane.idle.timeouts",
    Instrument.COUNTER,
    "{request}",
    "Requests that ended because their client sent or took nothing for longer than the idle timeout.",
    {"direction": "in or out"},
)
IN_FLIGHT = Metric(
    "dsg.plane.requests.in.flight",
    Instrument.GAUGE,
    "{request}",
    "Requests of transactions that are under way; those that wait for their turn are part of it.",
)
HANGING = Metric(
    "dsg.plane.calls.hanging",
    Instrument.GAUGE,
    "{call}",
    "Calls to the storage that have not returned for so long that requests for the same storage are refused.",
)
CONNECTIONS = Metric("dsg.plane.connections", Instrument.GAUGE, "{connection}", "Connections that are open.")
TURNED_AWAY = Metric(
    "dsg.plane.connections.refused",
    Instrument.COUNTER,
    "{connection}",
    "Connections that were closed at once because there were too many.",
)

TABLE: tuple[Metric, ...] = (REQUESTS, DURATION, REFUSED, BYTES, IDLE, IN_FLIGHT, HANGING, CONNECTIONS, TURNED_AWAY)
"""What the data plane shows, beside the usual `process_…` metrics."""

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Recorder(Protocol):
    """Takes what is measured. All of it is called in the server's event loop."""

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request that is over; `status` 0 where its connection was cut."""

    def refused(self, code: Code) -> None:
        """Count a request that was not carried out."""

    def moved(self, direction: Direction, size: int) -> None:
        """Count bytes of a body."""

    def idle(self, direction: Direction) -> None:
        """Count a request that ended for want of progress."""

    def turned_away(self) -> None:
        """Count a connection too many."""


class Unrecorded:
    """Measures nothing."""

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Do nothing."""

    def refused(self, code: Code) -> None:
        """Do nothing."""

    def moved(self, direction: Direction, size: int) -> None:
        """Do nothing."""

    def idle(self, direction: Direction) -> None:
        """Do nothing."""

    def turned_away(self) -> None:
        """Do nothing."""


class PrometheusRecorder:
    """Keeps what is measured for Prometheus to fetch."""

    def __init__(self) -> None:
        # Each counter would have a second series that says when it was made.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests, self._refused, self._bytes, self._idle, self._turned_away = (
            Counter(metric.prometheus_name, metric.description, list(metric.attributes), registry=registry)
            for metric in (REQUESTS, REFUSED, BYTES, IDLE, TURNED_AWAY)
        )
        self._duration = Histogram(
            DURATION.prometheus_name,
            DURATION.description,
            list(DURATION.attributes),
            registry=registry,
            buckets=DURATION_BUCKETS,
        )
        self._in_flight, self._connections, self._hanging = (
            Gauge(metric.prometheus_name, metric.description, registry=registry)
            for metric in (IN_FLIGHT, CONNECTIONS, HANGING)
        )
        # A series that begins with 1 has no increase to alert on.
        for code in Code:
            self._refused.labels(code.value)
        for counter in (self._bytes, self._idle):
            counter.labels("in")
            counter.labels("out")

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request that is over."""
        self._requests.labels(route, str(status)).inc()
        self._duration.labels(route).observe(seconds)

    def refused(self, code: Code) -> None:
        """Count a request that was not carried out."""
        self._refused.labels(code.value).inc()

    def moved(self, direction: Direction, size: int) -> None:
        """Count bytes of a body."""
        self._bytes.labels(direction).inc(size)

    def idle(self, direction: Direction) -> None:
        """Count a request that ended for want of progress."""
        self._idle.labels(direction).inc()

    def turned_away(self) -> None:
        """Count a connection too many."""
        self._turned_away.inc()

    def watch(self, in_flight: Callable[[], int], connections: Callable[[], int], hanging: Callable[[], int]) -> None:
        """Ask these for their numbers whenever the page is fetched."""
        self._hanging.set_function(hanging)
        self._in_flight.set_function(in_flight)
        self._connections.set_function(connections)

    def page(self) -> bytes:
        """Return all of it in the Prometheus text format 0.0.4."""
        return generate_latest(self._registry)


class MetricsPage:
    """Serves `/metrics` over plain HTTP, beside the server itself: it names no repository and needs no grant."""

    def __init__(self, recorder: PrometheusRecorder, host: str, port: int) -> None:
        self._address = (host, port)
        app = web.Application()
        app.router.add_get("/metrics", self._answer)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        self._recorder = recorder
        self.port = port
        """The port that was taken."""

    async def __aenter__(self) -> MetricsPage:
        """Begin to serve. Raises OSError when the address can't be had."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, *self._address).start()
        except BaseException:
            await self._runner.cleanup()
            raise
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(body=await asyncio.to_thread(self._recorder.page), headers={"Content-Type": _METRICS_TYPE})
