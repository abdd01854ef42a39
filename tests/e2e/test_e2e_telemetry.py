"""What the operator on a node tells: traces from reconcile to each zfs command, metrics, JSON logs with trace ids."""

from __future__ import annotations

import json

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.e2e.cluster import Cluster, repository, wait
from tests.telemetry.collector import Collector

pytestmark = pytest.mark.lab


def all_spans(traces: Collector) -> list[Span]:
    return [
        span
        for request in traces.traces
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def test_a_trace_leads_from_the_reconcile_to_each_zfs_command(cluster: Cluster, traces: Collector) -> None:
    cluster.apply(repository("traced"))
    cluster.wait_ready("traced")

    def lineage() -> list[str]:
        spans = {span.span_id: span for span in all_spans(traces)}
        creations = [s for s in spans.values() if s.name == "zfs create" and "traced/g1" in str(s.attributes)]
        names = []
        place = creations[0] if creations else None
        while place is not None:
            names.append(place.name)
            place = spans.get(place.parent_span_id)
        return names if names and names[-1] == "reconcile" else []

    found = wait("the trace of a creation", lineage, 30)
    assert found[0] == "zfs create"
    assert found[1].startswith("step ")
    assert found[2:] == ["reconcile Repository", "reconcile"]
    assert any(span.name == "plan" for span in all_spans(traces))
    assert {"service.name": "dsg-operator", "dsg.node": "node-a"}.items() <= traces.resources()[0].items()


def test_metrics_leave_and_can_be_scraped(cluster: Cluster, traces: Collector) -> None:
    wait("metrics at the collector", lambda: "dsg.steps" in traces.metrics(), 30)
    code = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/metrics').read().decode())"
    text = cluster.sh("/opt/dsg/bin/python", "-c", code)
    for name in ("dsg_steps_total", "dsg_storage_command_duration_seconds_bucket", "dsg_objects", "dsg_watch_age"):
        assert name in text, name


def test_logs_are_json_with_trace_ids_and_no_secrets(cluster: Cluster) -> None:
    log = cluster.node().operator_log()
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert len(lines) > 10
    steps = [line for line in lines if line["event"] == "step taken"]
    assert steps
    assert all(len(line["trace_id"]) == 32 for line in steps)
    assert cluster.api.credentials.token("operator") not in log
    others = [line for line in log.splitlines() if line and not line.startswith("{")]
    assert others == [], "every line is JSON"
