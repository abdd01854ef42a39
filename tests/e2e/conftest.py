"""One lab for all end-to-end tests: a real API server, two storage nodes with real OpenZFS, the operator on each."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from lab.credentials import GUEST_VIEW_OF_HOST
from lab.errors import LabError
from lab.library import Lab
from lab.node import DATA_PLANE_PORT
from lab.processes import spawn
from tests.e2e.cluster import NAMESPACE, Cluster, pool
from tests.telemetry.collector import Collector, collector

COMMON = ("--listen", "0.0.0.0:8080", "--command-timeout", "10")
SLOW = ("--resync", "600", *COMMON)
"""For node-a: a resync so slow that what is seen must have come by events."""
QUICK = ("--resync", "10", *COMMON)
"""For node-b."""


@pytest.fixture(scope="session")
def traces() -> Iterator[Collector]:
    """A collector that node-a's operator sends to."""
    with collector() as running:
        yield running


def environment(traces: Collector) -> dict[str, str]:
    port = traces.url.rpartition(":")[2]
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{GUEST_VIEW_OF_HOST}:{port}",
        "OTEL_BSP_SCHEDULE_DELAY": "500",
        "OTEL_METRIC_EXPORT_INTERVAL": "5000",
    }


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, traces: Collector) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("lab")
    lab = Lab(directory, ("node-a", "node-b"), forwards=(8080, DATA_PLANE_PORT))
    try:
        lab.up(operators=False)
        lab.start_operator("node-a", SLOW, environment(traces))
        lab.start_operator("node-b", QUICK)
        lab.api.kubectl("admin", "create", "namespace", NAMESPACE)
        lab.api.kubectl("admin", "label", "namespace", NAMESPACE, "team=data")
        monitor = [sys.executable, "-m", "dsg.operator", "monitor", f"--kubeconfig={lab.api.kubeconfig('monitor')}"]
        spawn(monitor, directory / "monitor.log", directory / "monitor.pid", tied=True)
        made = Cluster(lab)
        made.apply(pool("node-a"), pool("node-b"))
        yield made
    finally:
        for name, node in lab.nodes.items():
            try:
                end = "\n".join(node.operator_log().splitlines()[-12:])
            except LabError as error:
                end = f"(none: {error})"
            print(f"--- the operator's log on {name} ends:\n{end}")
        lab.destroy()


@pytest.fixture(scope="session")
def researchers(cluster: Cluster) -> str:
    """Let the group of researchers open transactions; returns its name."""
    role = ("--clusterrole=dsg-researcher", "--group=researchers")
    cluster.api.kubectl("admin", "create", "rolebinding", "researchers", "-n", NAMESPACE, *role)
    return "researchers"


@pytest.fixture
def restart_a(cluster: Cluster, traces: Collector) -> object:
    """Return a function that starts node-a's operator as it was started first."""
    return lambda: cluster.lab.start_operator("node-a", SLOW, environment(traces))
