"""Traces and metrics really leave the process, to a collector that is there; and one that is not costs nothing."""

import logging
import math
import socket
from collections.abc import Iterator

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric as SentMetric
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from prometheus_client.parser import text_string_to_metric_families

from dsg.telemetry.otlp import Outage, span_exporter, wanted
from dsg.telemetry.table import STORAGE_TABLE, TABLE
from tests.telemetry.collector import Collector, collector, plain
from tests.telemetry.programs import run

RECONCILE = """
import asyncio, logging, sys
from dsg.reconcile.cluster import Key
from tests.telemetry.support import PassResult
from dsg.storage.process import Runner
from dsg.telemetry.logs import about
from dsg.telemetry.metrics import ReconcileMetrics
from dsg.telemetry.setup import exposition, telemetry
from dsg.telemetry.tracing import span

async def reconcile():
    runner = Runner()
    with about(kind="Repository", namespace="research", name="justice"), span("reconcile", kind="Repository"):
        with span("plan"):
            await asyncio.to_thread(runner.run, [sys.argv[1], "list"], timeout=10, verb="list")
        await asyncio.to_thread(runner.run, [sys.argv[1], "create", "tank/a"], timeout=10, verb="create")

with telemetry(node="node-a", level="info", log_format="json"):
    metrics = ReconcileMetrics()
    asyncio.run(reconcile())
    key = Key("Repository", "research", "justice")
    metrics.passed(PassResult(outcomes={key: "Reconciled"}, corrected=2, steps=["SetProperties"] * 3), 0.25, 4)
    metrics.request("repositories/status", "PUT", "ok")
    metrics.request("repositories/status", "PUT", "Conflict")
    sys.stdout.write(exposition().decode())
"""


@pytest.fixture(scope="session")
def zfs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A command that lists and can't create."""
    command = tmp_path_factory.mktemp("bin") / "zfs"
    command.write_text('#!/bin/sh\n[ "$1" = list ]\n')
    command.chmod(0o755)
    return str(command)


@pytest.fixture
def there() -> Iterator[Collector]:
    with collector() as running:
        yield running


def otlp(running: Collector, **more: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": running.url, **more}


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_trace_leaves_the_process_from_the_reconcile_to_the_command(
    there: Collector, zfs: str, compression: str
) -> None:
    done = run(RECONCILE, otlp(there, OTEL_EXPORTER_OTLP_COMPRESSION=compression), zfs)
    spans = there.spans()
    reconcile, plan, listed, created = (spans[name] for name in ("reconcile", "plan", "zfs list", "zfs create"))
    assert reconcile.parent_span_id == b""
    assert plan.parent_span_id == reconcile.span_id
    assert listed.parent_span_id == plan.span_id
    assert created.parent_span_id == reconcile.span_id
    assert {span.trace_id for span in spans.values()} == {reconcile.trace_id}
    assert plain(list(reconcile.attributes)) == {"dsg.kind": "Repository"}
    assert there.encodings == ({"gzip"} if compression == "gzip" else {""})

    for resource in there.resources():
        assert resource["service.name"] == "dsg-operator" and resource["service.version"]
        assert resource["service.instance.id"] == resource["dsg.node"] == "node-a"

    # The log line of each command names its span, and the object it was run for.
    commands = {line["command"]: line for line in done.logs() if line["event"] == "command"}
    for name, span in (("zfs list", listed), ("zfs create", created)):
        line = commands[name]
        assert bytes.fromhex(line["trace_id"]) == span.trace_id and bytes.fromhex(line["span_id"]) == span.span_id
        assert (line["namespace"], line["name"], line["node"]) == ("research", "justice", "node-a")


def sent_points(metric: SentMetric) -> dict[tuple[tuple[str, object], ...], float]:
    data = getattr(metric, str(metric.WhichOneof("data")))
    return {
        tuple(sorted(plain(list(point.attributes)).items())): (
            float(point.count) if metric.HasField("histogram") else float(point.as_int or point.as_double)
        )
        for point in data.data_points
    }


def test_prometheus_and_the_collector_are_told_the_same_numbers(there: Collector, zfs: str) -> None:
    done = run(RECONCILE, otlp(there), zfs)
    sent = there.metrics()
    shown = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(done.stdout)
        for sample in family.samples
    }
    names = {
        "dsg.reconcile.duration": "dsg_reconcile_duration_seconds_count",
        "dsg.reconcile.objects": "dsg_reconcile_objects_total",
        "dsg.queue.depth": "dsg_queue_depth",
        "dsg.steps": "dsg_steps_total",
        "dsg.drift.corrected": "dsg_drift_corrected_total",
        "dsg.objects": "dsg_objects",
        "dsg.api.requests": "dsg_api_requests_total",
        "dsg.storage.commands": "dsg_storage_commands_total",
        "dsg.storage.command.duration": "dsg_storage_command_duration_seconds_count",
    }
    for otel, prometheus in names.items():
        points = sent_points(sent[otel])
        assert points and points == {labels: value for (name, labels), value in shown.items() if name == prometheus}
    assert shown["dsg_steps_total", (("step", "SetProperties"),)] == 3
    assert shown["dsg_reconcile_objects_total", (("kind", "Repository"), ("outcome", "ready"))] == 1
    bounds = list(sent["dsg.reconcile.duration"].histogram.data_points[0].explicit_bounds)
    assert bounds[:3] == [0.005, 0.01, 0.025] and bounds[-1] == 300
    assert math.isclose(shown["dsg_reconcile_duration_seconds_sum", (("outcome", "settled"),)], 0.25)
    info = next(labels for (name, labels) in shown if name == "target_info")
    assert dict(info)["service_name"] == "dsg-operator" and dict(info)["dsg_node"] == "node-a"
    assert any(name == "process_resident_memory_bytes" for name, _ in shown)


def test_what_is_sent_is_what_the_tables_say(there: Collector, zfs: str) -> None:
    run(RECONCILE, otlp(there), zfs)
    tables = {metric.name: metric for metric in (*TABLE, *STORAGE_TABLE)}
    sent = {name: metric for name, metric in there.metrics().items() if name.startswith("dsg.")}
    assert {"dsg.storage.commands", "dsg.storage.command.duration", "dsg.reconcile.duration"} <= sent.keys()
    for name, metric in sent.items():
        known = tables[name]
        assert (metric.description, metric.unit) == (known.description, known.unit)
        for labels in sent_points(metric):
            assert dict(labels).keys() == known.attributes.keys(), name


LISTENING = """
import sys, threading
def audit(event, args):
    if event == "socket.connect": print("connects to", args[1])
sys.addaudithook(audit)
"""


def test_nothing_leaves_when_nobody_asked_for_it(zfs: str) -> None:
    report = "\nprint('threads', [t.name for t in threading.enumerate()])"
    done = run(LISTENING + RECONCILE.replace("    sys.stdout.write(exposition().decode())", "") + report, None, zfs)
    assert done.stdout.strip() == "threads ['MainThread']"
    assert all("trace_id" in line for line in done.logs())


def test_the_sdk_can_be_turned_off(there: Collector, zfs: str) -> None:
    done = run(LISTENING + RECONCILE, otlp(there, OTEL_SDK_DISABLED="true"), zfs)
    assert there.requests == 0 and "connects" not in done.stdout
    assert "dsg_" not in done.stdout and "python_info" in done.stdout
    assert done.logs() and not any("trace_id" in line for line in done.logs())


def test_the_environment_names_the_service_if_it_wants_to(there: Collector, zfs: str) -> None:
    attributes = "deployment.environment.name=test,service.instance.id=i"
    run(RECONCILE, otlp(there, OTEL_SERVICE_NAME="mine", OTEL_RESOURCE_ATTRIBUTES=attributes), zfs)
    for resource in there.resources():
        assert resource["service.name"] == "mine" and resource["service.instance.id"] == "i"
        assert resource["deployment.environment.name"] == "test" and resource["dsg.node"] == "node-a"


@pytest.mark.parametrize(
    ("environ", "traces", "metrics"),
    [
        ({}, False, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True, False),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4318/v1/metrics"}, False, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_METRICS_EXPORTER": "none"}, True, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_METRICS_EXPORTER": "prometheus"}, True, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_METRICS_EXPORTER": "prometheus, otlp"}, True, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "TRUE"}, False, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, False, True),
    ],
)
def test_the_standard_variables_decide_what_is_sent(environ: dict[str, str], traces: bool, metrics: bool) -> None:
    assert (wanted("traces", environ), wanted("metrics", environ)) == (traces, metrics)


def test_a_protocol_that_is_not_offered_is_an_error_that_says_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    wanted("traces", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf" in record.getMessage()


DEAD = """
import time, sys
from dsg.telemetry.logs import configure
from dsg.telemetry.metrics import ReconcileMetrics
from dsg.telemetry.setup import Settings, start
from dsg.telemetry.tracing import span
configure("info", "json", "node-a")
running = start(Settings("node-a", shutdown_seconds=0.5))
metrics = ReconcileMetrics()
began = time.monotonic()
for _ in range(5000):
    with span("reconcile"):
        pass
print("work", time.monotonic() - began)
metrics.request("leases", "PATCH", "ok")
time.sleep(0.3)
began = time.monotonic()
complete = running.shutdown()
print("shutdown", time.monotonic() - began)
print("complete", int(complete))
running.shutdown()
"""


@pytest.mark.parametrize("how", ["refuses", "is silent"])
def test_a_dead_collector_neither_blocks_nor_fills_the_log(how: str) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        if how == "is silent":
            server.listen(16)
        else:
            server.close()
        done = run(
            DEAD,
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
                "OTEL_BSP_SCHEDULE_DELAY": "50",
                "OTEL_METRIC_EXPORT_INTERVAL": "50",
            },
        )
    said = dict(line.split() for line in done.stdout.splitlines())
    assert said["complete"] == "0"
    assert float(said["work"]) < 5.0
    assert float(said["shutdown"]) < 1.0
    events = [line["event"] for line in done.logs()]
    lost = [event for event in events if "telemetry that was still queued is lost" in event]
    assert len(lost) == 1
    for signal in ("traces", "metrics"):
        assert sum(event.startswith(f"{signal} do not reach the collector") for event in events) <= 1
    # Beside these, the queue in front may say that it is full before the first export has failed, every 20 s at most.
    assert len(events) <= 3 + sum("Queue full" in event for event in events) <= 5


def one_span() -> list[ReadableSpan]:
    with TracerProvider(shutdown_on_exit=False).get_tracer("x").start_as_current_span("s") as span:
        pass
    assert isinstance(span, ReadableSpan)
    return [span]


def test_an_outage_is_said_once_and_its_end_too(
    there: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", there.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    outage = Outage("traces")
    exporter = span_exporter(outage)
    spans = one_span()
    there.status = 401
    for _ in range(3):
        assert exporter.export(spans) is SpanExportResult.FAILURE
    assert outage.on
    (begin,) = caplog.records
    assert begin.levelno == logging.WARNING
    assert "traces do not reach the collector" in begin.getMessage() and "401" in begin.getMessage()
    there.status = 200
    for _ in range(3):
        assert exporter.export(spans) is SpanExportResult.SUCCESS
    assert not outage.on
    _, end = caplog.records
    assert end.getMessage() == "traces reach the collector again; batches lost: 3"
    there.status = 404
    exporter.export(spans)
    assert len(caplog.records) == 3
    exporter.shutdown()
    exporter.shutdown()
    assert len(caplog.records) == 3


def test_the_reason_for_an_outage_hides_credentials(caplog: pytest.LogCaptureFixture) -> None:
    Outage("traces").lost("HTTPConnectionPool: https://user:abcdef0123@collector:4318/v1/traces refused")
    assert "abcdef0123" not in caplog.text and "refused" in caplog.text
