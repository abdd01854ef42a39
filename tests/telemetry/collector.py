"""A collector in this process: takes OTLP over HTTP, decodes it, keeps it."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span


def plain(attributes: "list[KeyValue]") -> dict[str, object]:
    return {item.key: getattr(item.value, str(item.value.WhichOneof("value"))) for item in attributes}


@dataclass
class Collector:
    """What arrived."""

    url: str = ""
    status: int = 200
    """What is answered."""
    traces: list[ExportTraceServiceRequest] = field(default_factory=list)
    metric_requests: list[ExportMetricsServiceRequest] = field(default_factory=list)
    encodings: set[str] = field(default_factory=set)
    requests: int = 0

    def take(self, path: str, encoding: str, body: bytes) -> None:
        self.requests += 1
        if self.status != 200:
            return
        self.encodings.add(encoding)
        data = gzip.decompress(body) if encoding == "gzip" else body
        if path == "/v1/traces":
            self.traces.append(ExportTraceServiceRequest.FromString(data))
        elif path == "/v1/metrics":
            self.metric_requests.append(ExportMetricsServiceRequest.FromString(data))

    def spans(self) -> dict[str, Span]:
        return {
            span.name: span
            for request in self.traces
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }

    def resources(self) -> list[dict[str, object]]:
        found = [resource.resource for request in self.traces for resource in request.resource_spans]
        found += [resource.resource for request in self.metric_requests for resource in request.resource_metrics]
        return [plain(list(resource.attributes)) for resource in found]

    def metrics(self) -> dict[str, Metric]:
        """The newest state of each metric."""
        return {
            metric.name: metric
            for request in self.metric_requests
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@contextmanager
def collector() -> Iterator[Collector]:
    """Run a collector on a free port of the loopback interface."""
    kept = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.take(self.path, self.headers.get("Content-Encoding", ""), body)
            self.send_response(kept.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    kept.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
