"""One lab for all end-to-end tests: a real API server, two storage nodes with real OpenZFS, the operator on each."""

from __future__ import annotations

import os
import random
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


LOTS: dict[str, tuple[frozenset[str], int]] = {
    "test_e2e_alerts.py": (
        frozenset(
            {
                "test_a_data_plane_that_is_knocked_at_crowded_and_not_scraped",
                "test_more_content_than_there_is_room_for",
                "test_causes_in_transactions",
                "test_a_quota_and_damage",
                "test_commands_and_rights_that_are_missing",
                "test_a_fault_of_the_operator",
                "test_storage_that_hangs_and_a_clock_that_is_wrong",
                "test_a_full_pool",
            }
        ),
        2,
    ),
    # On the xfs type, all are carried out in tests/kube/test_procedures_on_xfs.py.
    "test_e2e_procedures.py": (
        frozenset(
            {
                "test_the_operator_is_upgraded_while_a_client_sends",
                "test_a_node_is_maintained_and_what_waited_goes_on",
                "test_a_repository_that_was_deleted_by_mistake_is_taken_up_again",
                "test_a_pool_is_lost_and_its_repository_restored_on_another_node",
                "test_the_cluster_is_lost_and_made_anew_from_its_yaml",
            }
        ),
        3,
    ),
}
"""Tests of a file of which so many are drawn by lot where time is short: each stands alone and takes minutes."""
NEVER = frozenset({"test_every_alert_but_one_fired_by_its_cause", "test_a_network_that_is_cut"})
"""Tests that no lot falls on: one looks at what all others of its file did, one waits for three minutes."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With DSG_LOT, leave out what the lot does not fall on, and say so; `make soak` leaves out nothing."""
    if os.environ.get("DSG_LOT", "0") == "0":
        return
    out = []
    for file, (names, most) in LOTS.items():
        left = set(random.SystemRandom().sample(sorted(names), len(names) - most)) | NEVER
        out += [item for item in items if item.path.name == file and item.name in left]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if out and terminal is not None:
        terminal.write_line(f"left out by lot, run by `make soak`: {', '.join(item.nodeid for item in out)}")


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
