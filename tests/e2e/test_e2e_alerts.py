"""Causes of alerts, made and mended on real OpenZFS and real processes; their metrics pages are judged by promtool.

What takes long by itself, a silent operator and a silent data plane, goes on while the others are made.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lab.node import DATA_PLANE_PORT, PYTHON
from lab.processes import free_port, spawn
from lab.tools import promtool
from tests.e2e.cluster import NAMESPACE, Cluster, pool, repository, wait
from tests.e2e.conftest import QUICK
from tests.operations.promtool import Pages, Scenario, judge
from tests.operations.test_rules import HEALTHY, HOLD, REPAIRED

pytestmark = pytest.mark.lab

NODE, SHELF, PLANE_METRICS = "node-b", "shelf", 8081
OPERATOR, OTHER, MONITOR, PLANE = "node-b:8080", "node-a:8080", "monitor:8080", "node-b:8081"
_FETCH = "import sys, urllib.request as u; sys.stdout.write(u.urlopen('http://127.0.0.1:%d/metrics').read().decode())"


def start(cluster: Cluster) -> None:
    """Start the node's data plane and operator."""
    node = cluster.node(NODE)
    arguments = node.data_plane_arguments()
    listen = ("--listen", f"0.0.0.0:{DATA_PLANE_PORT}", "--metrics-listen", f"127.0.0.1:{PLANE_METRICS}")
    node.start_data_plane((*arguments[:2], "--state", "/var/lib/dsg-data-plane", *listen))
    cluster.lab.start_operator(NODE, (*QUICK, *arguments))


class Scraped:
    """A storage node whose three processes are scraped."""

    def __init__(self, cluster: Cluster, monitor_port: int) -> None:
        self.cluster = cluster
        self.node = cluster.node(NODE)
        self._monitor = monitor_port
        self.well: Pages = {}
        """What was shown before anything was broken."""

    def operator(self) -> str:
        """Return the page of the node's operator; empty where it does not answer."""
        return self._get(self.node.forwarded(8080))

    def monitor(self) -> str:
        return self._get(self._monitor)

    def plane(self) -> str:
        return self.node.run(PYTHON, "-c", _FETCH % PLANE_METRICS, check=False).stdout

    @staticmethod
    def _get(port: int) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def pages(self) -> Pages:
        other = self._get(self.cluster.node("node-a").forwarded(8080))
        found = {OPERATOR: self.operator(), OTHER: other, MONITOR: self.monitor(), PLANE: self.plane()}
        return {address: text for address, text in found.items() if text}


def value(page: str, name: str, labels: Mapping[str, str]) -> float:
    """Return the sum of a page's samples with these labels, and 0 where there is none."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name and sample.labels.items() >= labels.items()
    )


@pytest.fixture(scope="module")
def scraped(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    node, directory = cluster.node(NODE), tmp_path_factory.mktemp("alerts")
    node.stop_operator()
    start(cluster)
    port = free_port()
    command = [sys.executable, "-m", "dsg.operator", "monitor", f"--kubeconfig={cluster.api.kubeconfig('monitor')}"]
    command.append(f"--listen=127.0.0.1:{port}")
    monitor = spawn(command, directory / "monitor.log", directory / "monitor.pid", tied=True)
    disks = [f"/var/tmp/{SHELF}-{number}" for number in (1, 2)]
    cluster.sh("truncate", "-s", "512M", *disks, node=NODE)
    cluster.sh("zpool", "create", "-O", "mountpoint=none", SHELF, "mirror", *disks, node=NODE)
    cluster.sh("mkdir", "-p", f"/srv/{SHELF}", node=NODE)
    offer = pool(NODE)
    offer["metadata"]["name"] = f"{NODE}-{SHELF}"
    offer["spec"]["storage"] |= {"pool": SHELF, "root": f"{SHELF}/dsg", "mountRoot": f"/srv/{SHELF}"}
    offer["spec"]["thresholds"] = {"capacityPercent": 80}
    cluster.apply(offer)
    cluster.wait_reason(f"{NODE}-{SHELF}", "Reconciled", kind="storagepool")
    made = Scraped(cluster, port)
    wait("the data plane's first sign of life", lambda: "dsg_plane_silence_seconds" in made.operator(), 60)
    wait("the monitor's first look", lambda: f'dsg_node="{NODE}"' in made.monitor(), 60)
    made.well = made.pages()
    # Its silence lasts while other causes are made.
    node.stop_data_plane("KILL")
    try:
        yield made
    finally:
        monitor.end()
        for name in ("watched", "leaving", "late"):
            cluster.api.kubectl("admin", "delete", "repository", name, "-n", NAMESPACE, "--ignore-not-found")
        cluster.api.kubectl("admin", "delete", "storagepool", f"{NODE}-{SHELF}")
        node.stop_operator()
        node.stop_data_plane()
        cluster.sh("zpool", "destroy", "-f", SHELF, node=NODE)
        cluster.sh("rm", *disks, node=NODE)
        cluster.lab.start_operator(NODE, QUICK)


def in_shelf(name: str, **spec: Any) -> dict[str, Any]:
    storage = {"pool": SHELF, "dataset": f"{SHELF}/dsg/{name}", "mountpoint": f"/srv/{SHELF}/{name}"}
    made = repository(name, node=NODE, storage=storage, **spec)
    made["spec"]["storage"]["properties"] |= {"quota": "16Mi", "refquota": "16Mi"}
    return made


@dataclass(frozen=True)
class Cause:
    """What makes an alert fire, and what ends it. Its sample says on the operator's page whether it is there."""

    alert: str
    sample: str
    labels: Mapping[str, str]
    make: Callable[[], object]
    mend: Callable[[], object]

    def there(self, scraped: Scraped) -> bool:
        return value(scraped.operator(), self.sample, self.labels) > 0


def course(scraped: Scraped, causes: Sequence[Cause]) -> list[Scenario]:
    """Make some causes together and mend them; return what their alerts should have done meanwhile."""
    before = scraped.pages()
    for one in causes:
        assert not one.there(scraped), f"{one.alert}: its cause is there before it was made"
    for one in causes:
        one.make()
    for one in causes:
        wait(f"{one.alert}: the cause to show", lambda one=one: one.there(scraped), 120)  # type: ignore[misc]
    during = scraped.pages()
    for one in causes:
        one.mend()
    for one in causes:
        wait(f"{one.alert}: the cause to go", lambda one=one: not one.there(scraped), 120)  # type: ignore[misc]
    after = scraped.pages()
    scenarios = []
    for one in causes:
        seen = [(HEALTHY, before), (HOLD[one.alert] + 2, during)]
        scenarios.append(Scenario(f"{one.alert} fires", seen, frozenset([one.alert]), one.alert))
        scenarios.append(Scenario(f"{one.alert} ends", [*seen, (REPAIRED, after)], frozenset(), one.alert))
    return scenarios


def test_causes_made_on_real_parts_fire_and_end(scraped: Scraped, tmp_path: Path) -> None:
    cluster, began = scraped.cluster, time.monotonic()

    def sh(*argv: str) -> Callable[[], object]:
        return lambda: cluster.sh(*argv, node=NODE)

    cluster.apply(in_shelf("watched", driftPolicy="Report"), in_shelf("leaving", deletionPolicy="Delete"))
    cluster.wait_ready("watched", "leaving", timeout=120)
    head = f"/srv/{SHELF}/.watched/g1"
    # A MiB of chance, many times: no record of it compresses, and an emulated node makes it quickly.
    block = "head -c 1M /dev/urandom > /tmp/block && for i in $(seq 15); do cat /tmp/block; done"
    write = f"mount -o remount,rw {head} && ({block}) > {head}/big && zpool sync {SHELF}"
    unquoted = in_shelf("watched", driftPolicy="Report")
    unquoted["spec"]["storage"]["properties"] |= {"quota": "32Mi", "refquota": "32Mi"}
    late = in_shelf("late")
    late["spec"]["storage"]["dataset"] = f"{SHELF}/dsg/watched"

    def delete_late() -> None:
        cluster.delete("late")
        cluster.wait_gone("late")

    def export() -> None:
        wait("the export", lambda: scraped.node.run("zpool", "export", SHELF, check=False).returncode == 0, 30)

    causes = [
        Cause(
            "DsgPoolDegraded",
            "dsg_pool_health",
            {"pool": f"{NODE}-{SHELF}", "health": "DEGRADED"},
            sh("zpool", "offline", SHELF, f"/var/tmp/{SHELF}-2"),
            sh("zpool", "online", SHELF, f"/var/tmp/{SHELF}-2"),
        ),
        Cause(
            "DsgDrift",
            "dsg_objects_condition",
            {"kind": "Repository", "type": "Drifted"},
            sh("zfs", "set", "compression=off", f"{SHELF}/dsg/watched"),
            sh("zfs", "set", "compression=lz4", f"{SHELF}/dsg/watched"),
        ),
        Cause(
            "DsgRepositoryStalled",
            "dsg_objects",
            {"kind": "Repository", "ready": "False"},
            lambda: cluster.apply(late),
            delete_late,
        ),
        Cause(
            "DsgUnexpectedData",
            "dsg_objects_condition",
            {"kind": "Repository", "type": "UnexpectedData"},
            sh("zfs", "create", f"{SHELF}/dsg/watched/notes"),
            sh("zfs", "destroy", f"{SHELF}/dsg/watched/notes"),
        ),
        Cause(
            "DsgDeletionBlocked",
            "dsg_objects_condition",
            {"kind": "Repository", "type": "DeletionBlocked"},
            lambda: cluster.delete("leaving"),
            lambda: cluster.annotate("leaving", confirm_delete="leaving"),
        ),
    ]
    # Takes the rest along, so it comes alone.
    unusable = Cause(
        "DsgPoolUnusable",
        "dsg_objects_unready",
        {"kind": "StoragePool", "reason": "PoolUnavailable"},
        export,
        sh("zpool", "import", "-d", "/var/tmp", SHELF),
    )
    seen = [*course(scraped, causes), *course(scraped, [unusable])]

    cluster.wait_ready("watched", timeout=90)
    nearly_full = scraped.pages()
    assert value(nearly_full[OPERATOR], "dsg_quota_used_ratio", {}) < 0.9
    scraped.node.run("sh", "-c", write, timeout=180)
    wait("the quota to show", lambda: value(scraped.operator(), "dsg_quota_used_ratio", {}) > 0.9, 120)
    full = scraped.pages()
    cluster.apply(unquoted)
    wait("the larger quota to show", lambda: value(scraped.operator(), "dsg_quota_used_ratio", {}) < 0.9, 120)
    quota = [
        Scenario(
            "DsgQuotaNearFull fires", [(60, nearly_full), (32, full)], frozenset(["DsgQuotaNearFull"]), "DsgQuota.+"
        ),
        Scenario(
            "DsgQuotaNearFull ends",
            [(60, nearly_full), (32, full), (REPAIRED, scraped.pages())],
            frozenset(),
            "DsgQuota.+",
        ),
    ]
    judge(promtool(), [*quota, *seen], tmp_path)
    print(f"{len(causes) + 2} causes made and mended in {time.monotonic() - began:.0f} s")


def test_the_operator_tells_more_when_it_is_asked_to_and_no_secret(scraped: Scraped) -> None:
    node, kept = scraped.node, len(scraped.node.operator_log())
    pid = node.daemon_pid("dsg-operator")
    for number, level in (("USR1", "debug"), ("USR2", "info")):
        scraped.cluster.sh("kill", f"-{number}", str(pid), node=NODE)
        words = f"log level changed to {level}"
        wait(words, lambda words=words: words in node.operator_log()[kept:], 30)  # type: ignore[misc]
        time.sleep(14 if level == "debug" else 0)
    log = node.operator_log()[kept:]
    told = [
        line for text in log.splitlines() if text.startswith("{") and (line := json.loads(text))["level"] == "debug"
    ]
    assert any(line["event"] == "pass ended" for line in told), "one was taken meanwhile"
    assert scraped.cluster.api.credentials.token("operator") not in log


def test_a_silent_data_plane_and_then_a_silent_operator(scraped: Scraped, tmp_path: Path) -> None:
    began, node, healthy = time.monotonic(), scraped.node, scraped.well
    assert healthy.keys() == {OPERATOR, OTHER, MONITOR, PLANE}
    about = "DsgDataPlane.+|DsgNodeLost|DsgOperatorNotScraped|DsgNoMetrics|DsgMonitorSilent|DsgClockSkew"
    wait(
        "the data plane's silence to show", lambda: value(scraped.operator(), "dsg_plane_silence_seconds", {}) > 60, 120
    )
    no_plane = scraped.pages()
    assert PLANE not in no_plane
    node.stop_operator("KILL")
    wait(
        "the operator's silence to show",
        lambda: value(scraped.monitor(), "dsg_node_lease_age_seconds", {"dsg_node": NODE}) > 45,
        120,
    )
    lost = scraped.pages()
    assert lost.keys() == {OTHER, MONITOR}
    judge(
        promtool(),
        [
            Scenario("all well", [(120, healthy)], frozenset(), about),
            Scenario("no data plane", [(60, healthy), (5, no_plane)], frozenset(["DsgDataPlaneDown"]), about),
            Scenario("no operator", [(60, healthy), (5, lost)], frozenset(["DsgNodeLost"]), about),
        ],
        tmp_path,
    )
    start(scraped.cluster)
    wait("the node to be back", lambda: value(scraped.operator(), "dsg_objects", {"kind": "StoragePool"}) >= 2, 60)
    wait(
        "the Lease to be renewed",
        lambda: value(scraped.monitor(), "dsg_node_lease_age_seconds", {"dsg_node": NODE}) < 20,
        60,
    )
    back = scraped.pages()
    judge(promtool(), [Scenario("well again", [(60, healthy), (5, lost), (60, back)], frozenset(), about)], tmp_path)
    print(f"data plane and operator killed, seen, and back in {time.monotonic() - began:.0f} s")
