"""What breaks ends in the right condition, and heals by itself when the cause is gone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from tests.e2e.cluster import Cluster, kstatus, repository, wait

pytestmark = [pytest.mark.lab, pytest.mark.lot]


def test_a_hanging_zfs_times_out_and_heals(cluster: Cluster) -> None:
    cluster.apply(repository("hang"))
    cluster.wait_ready("hang")
    slow = "#!/bin/sh\nexec sleep 1000\n"
    cluster.node().run("sh", "-c", "cat > /usr/local/sbin/zfs && chmod 755 /usr/local/sbin/zfs", input=slow)
    try:
        cluster.look_now("hang")
        found = cluster.wait_reason("hang", "StorageTimeout", timeout=90)
        assert "zfs" in found["message"]
        assert kstatus(cluster.get("hang")) == "InProgress"
    finally:
        cluster.sh("rm", "/usr/local/sbin/zfs")
    cluster.wait_ready("hang", timeout=120)


def test_an_exported_pool_is_told_and_heals_when_it_is_imported(cluster: Cluster) -> None:
    cluster.apply(repository("away", node="node-b"))
    cluster.wait_ready("away")
    # The operator may be looking just now, so the export may find the pool busy for a moment.
    wait("the export", lambda: cluster.node("node-b").run("zpool", "export", "tank", check=False).returncode == 0, 30)
    try:
        cluster.wait_reason("away", "PoolUnavailable", timeout=90)
        cluster.wait_reason("node-b-tank", "PoolUnavailable", kind="storagepool")
    finally:
        cluster.sh("zpool", "import", "tank", node="node-b")
    cluster.wait_ready("away", timeout=90)
    assert cluster.sh("readlink", "-e", "/srv/dsg/away", node="node-b") == "/srv/dsg/.away/g1"
    cluster.wait_reason("node-b-tank", "Reconciled", kind="storagepool")


def test_a_suspended_pool_is_told_and_heals_when_its_disk_is_back(cluster: Cluster) -> None:
    cluster.apply(repository("disk", node="node-b"))
    cluster.wait_ready("disk")
    node = cluster.node("node-b")
    node.break_disk(0)
    try:
        node.start_daemon("writer", ["sh", "-c", "zfs set org.test:x=1 tank; sync"])
        cluster.wait_reason("disk", "PoolSuspended", timeout=120)
        found = cluster.wait_reason("node-b-tank", "PoolSuspended", kind="storagepool", timeout=60)
        assert found["status"] == "Unknown"
    finally:
        node.mend_disk(0)
        cluster.sh("zpool", "clear", "tank", node="node-b")
    cluster.wait_ready("disk", timeout=120)
    cluster.wait_reason("node-b-tank", "Reconciled", kind="storagepool", timeout=60)


def test_the_api_server_may_die_and_come_back(cluster: Cluster) -> None:
    cluster.apply(repository("before"))
    cluster.wait_ready("before")
    cluster.api.kill_api()
    cluster.sh("zfs", "set", "compression=off", "tank/dsg/before")
    # Without an API server the data is kept to its declaration all the same.
    wait("a correction without an API server", lambda: cluster.value("compression", "tank/dsg/before")[0] == "lz4", 60)
    cluster.api.restart()
    cluster.apply(repository("after"))
    cluster.wait_ready("after", timeout=120)
    cluster.wait_ready("before")


def test_a_node_that_loses_power_is_told_lost_and_comes_back_by_itself(cluster: Cluster) -> None:
    cluster.apply(repository("power", node="node-b"))
    cluster.wait_ready("power")
    path = "/srv/dsg/.power/g1"
    # In one go: node-b's operator may look between any two commands.
    cluster.sh("sh", "-c", f"mount -o remount,rw {path} && echo irreplaceable > {path}/evidence && sync", node="node-b")
    node = cluster.node("node-b")
    node.kill()
    wait("the monitor to tell", lambda: cluster.condition("power", "Ready").get("reason") == "NodeLost", 120)
    assert cluster.condition("power", "Ready")["status"] == "Unknown"
    assert kstatus(cluster.get("power")) == "InProgress"
    assert cluster.condition("node-b-tank", "Ready", "storagepool")["reason"] == "NodeLost"
    node.boot()
    from tests.e2e.conftest import QUICK

    cluster.lab.start_operator("node-b", QUICK)
    cluster.wait_ready("power", timeout=120)
    assert cluster.sh("cat", "/srv/dsg/power/evidence", node="node-b") == "irreplaceable"
    assert not [m for m in cluster.events("power", "DriftCorrected") if "owner" in m or "link" in m]


def test_each_operator_sees_its_own_node_alone(cluster: Cluster) -> None:
    cluster.apply(repository("only-a"), repository("only-b", node="node-b"))
    cluster.wait_ready("only-a", "only-b")
    for node, mine, other in (("node-a", "only-a", "only-b"), ("node-b", "only-b", "only-a")):
        datasets = cluster.sh("zfs", "list", "-H", "-o", "name", "-r", "tank/dsg", node=node).splitlines()
        assert f"tank/dsg/{mine}/g1" in datasets
        assert f"tank/dsg/{other}" not in datasets
        assert other not in cluster.node(node).operator_log()
    finalizers = {n: cluster.get(n)["metadata"]["finalizers"] for n in ("only-a", "only-b")}
    assert finalizers == {"only-a": ["dsg.hrdag.org/node-a"], "only-b": ["dsg.hrdag.org/node-b"]}


def test_a_killed_operator_leaves_nothing_half_done(cluster: Cluster, restart_a: Callable[[], None]) -> None:
    """Killed at whatever moment of creating ten repositories, and started again."""
    names = [f"killed-{number}" for number in range(10)]
    cluster.apply(*(repository(name) for name in names))
    wait("the first dataset", lambda: "killed-" in cluster.sh("zfs", "list", "-H", "-o", "name"), 30)
    time.sleep(0.5)
    cluster.node().stop_operator("KILL")
    restart_a()
    cluster.wait_ready(*names, timeout=120)
    listed = cluster.sh("zfs", "list", "-H", "-o", "name", "-r", "tank/dsg").splitlines()
    assert not [name for name in listed if "dsg-new-" in name]
    for name in names:
        assert cluster.events(name, "DriftCorrected") == []


def test_the_operator_is_alive_only_while_it_hears_its_watches(cluster: Cluster) -> None:
    def probe(path: str) -> tuple[int, dict[str, object]]:
        code = (
            "import urllib.request as u, urllib.error as e, sys\n"
            f"try: r = u.urlopen('http://127.0.0.1:8080{path}')\n"
            "except e.HTTPError as x: r = x\n"
            "print(r.status); print(r.read().decode())"
        )
        status, _, body = cluster.sh("/opt/dsg/bin/python", "-c", code, check=False).partition("\n")
        return int(status or 0), json.loads(body or "{}")

    wait("the operator is alive", lambda: probe("/healthz")[0] == 200)
    _, body = probe("/healthz")
    watches = body["watches"]
    assert isinstance(watches, dict)
    ours = {f"{plural}.dsg.hrdag.org" for plural in ("repositories", "storagepools", "synctransactions")}
    assert set(watches) == {*ours, "namespaces"}
    assert all(watch["ageSeconds"] < 180 for watch in watches.values())
    assert probe("/readyz")[0] == 200
