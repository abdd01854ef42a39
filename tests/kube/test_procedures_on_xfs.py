"""Procedures of docs/procedures.md that need no OpenZFS: the real processes, a real API server, type xfs on this disk.

With OpenZFS, and with a pool that is lost: tests/e2e/test_e2e_procedures.py.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dsg.operator.leases import AUDIT_HEAD
from lab.controlplane import ControlPlane
from lab.paths import TREE
from tests.e2e.cluster import NAMESPACE, Objects, wait
from tests.e2e.test_e2e_researchers import Researcher

pytestmark = pytest.mark.kube

NODE = "node-a"


class Site:
    """A node's two processes, here, and the cluster that they work for."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("grants", "state", "data", "srv"):
            (directory / name).mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.operator_log, self.plane_log = directory / "operator.jsonl", directory / "data-plane.jsonl"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start_operator(self, api: ControlPlane) -> None:
        options = ("--node", NODE, "--kubeconfig", str(api.kubeconfig("operator")), "--listen", "127.0.0.1:0")
        grants = ("--grants", str(self.directory / "grants"), "--endpoint", f"https://127.0.0.1:{self.port}")
        self._start("dsg.operator", "run", *options, *grants, "--resync", "3", "--audit", str(self.operator_log))

    def start_data_plane(self) -> None:
        where = ("--grants", str(self.directory / "grants"), "--state", str(self.directory / "state"))
        options = ("--listen", f"127.0.0.1:{self.port}", "--audit", str(self.plane_log), "--node", NODE)
        self._start("dsg.transfer.server.main", *where, *options)

    def _start(self, module: str, *arguments: str) -> None:
        with (self.directory / f"{module}.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=log, stderr=log)
        self._processes[module] = process

    def stop(self, *modules: str) -> None:
        for module in modules or tuple(self._processes):
            process = self._processes.pop(module, None)
            if process is not None:
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == 0, (self.directory / f"{module}.log").read_text()[-3000:]

    def kill(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()

    def repository(self, **storage: Any) -> dict[str, Any]:
        data, link = self.directory / "data" / "justice", self.directory / "srv" / "justice"
        return {
            "apiVersion": "dsg.hrdag.org/v1alpha1",
            "kind": "Repository",
            "metadata": {"name": "justice", "namespace": NAMESPACE},
            "spec": {
                "storage": {"type": "xfs", "node": NODE, "directory": str(data), "mountpoint": str(link), **storage},
                "owner": {"uid": os.getuid(), "gid": os.getgid(), "mode": "2770"},
                "dataDirs": ["*"],
                # By name: groups count only for transactions that are some seconds younger than their Repository.
                "access": {"writers": {"users": ["alice"]}, "admins": {"users": ["bob"]}},
            },
        }

    def pool(self) -> dict[str, Any]:
        places = {"directory": str(self.directory / "data"), "mountRoot": str(self.directory / "srv")}
        return {
            "apiVersion": "dsg.hrdag.org/v1alpha1",
            "kind": "StoragePool",
            "metadata": {"name": "disk"},
            "spec": {
                "storage": {"type": "xfs", "node": NODE, **places},
                "namespaceSelector": {"matchLabels": {"team": "data"}},
                "thresholds": {"capacityPercent": 99},
            },
        }


def cluster_of(api: ControlPlane) -> Objects:
    """Install into an empty cluster what the documentation says."""
    api.kubectl("admin", "apply", "--server-side", "-k", str(TREE / "crds"))
    api.kubectl("admin", "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    api.kubectl("admin", "apply", "--server-side", "-k", str(TREE / "manifests" / "base"))
    api.kubectl("admin", "create", "namespace", NAMESPACE)
    api.kubectl("admin", "label", "namespace", NAMESPACE, "team=data")
    role = ("--clusterrole=dsg-researcher", "--group=researchers")
    api.kubectl("admin", "create", "rolebinding", "researchers", "-n", NAMESPACE, *role)
    return Objects(api)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "node").mkdir()
    made = Site(tmp_path / "node")
    yield made
    made.kill()


def command(*arguments: str) -> str:
    argv = [sys.executable, "-m", "dsg.operator", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def head(cluster: Objects) -> dict[str, Any]:
    return dict(cluster.get("justice")["status"]["head"])


def ended(process: subprocess.Popen[str]) -> None:
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said


def test_upgrade_maintenance_deletion_by_mistake_and_a_lost_cluster(site: Site, tmp_path: Path) -> None:
    with ControlPlane(tmp_path / "api") as api:
        cluster = cluster_of(api)
        site.start_data_plane()
        site.start_operator(api)
        cluster.apply(site.pool(), site.repository())
        cluster.wait_ready("justice")
        alice, bob = (Researcher(cluster, user, tmp_path / user) for user in ("alice", "bob"))
        alice.copy.mkdir()
        alice.write("input/a.csv", "one\n")
        alice.dsg("init", "justice", "-n", NAMESPACE, "-m", "first")
        bob.dsg("clone", "justice", str(bob.copy), "-n", NAMESPACE)
        upgrade(site, cluster, alice)
        maintenance(site, cluster, bob)
        by_mistake(site, cluster, alice, bob)
        known = head(cluster)
        site.stop("dsg.operator")
    with ControlPlane(tmp_path / "api-anew") as anew:
        again = cluster_of(anew)
        for person in (alice, bob):
            person.environment["KUBECONFIG"] = str(anew.kubeconfig(person.user))
        began = time.monotonic()
        site.start_operator(anew)
        again.apply(site.pool(), site.repository(adopt=True))
        again.wait_ready("justice")
        print(f"measured: cluster lost: from the operator's start and apply to Ready: {time.monotonic() - began:.1f} s")
        assert head(again) == known
        bob.write("input/a.csv", "in the new cluster\n")
        bob.dsg("sync", "-m", "last")
        alice.dsg("sync")
        assert alice.read("input/a.csv") == "in the new cluster\n"
        versions = [one["version"] for one in json.loads(bob.dsg("log", "-o", "json"))["versions"]]
        assert versions == ["s5", "s4", "s3", "s2", "s1"]
        site.stop()
    for log in (site.operator_log, site.plane_log):
        assert "The chain holds" in command("audit", "verify", str(log))
    records = [json.loads(line) for line in site.operator_log.read_text().splitlines()]
    committed = [r["details"]["version"] for r in records if r["action"] == "transaction.committed"]
    assert committed == ["s1", "s2", "s3", "s4", "s5"]
    moved = {json.loads(line)["object"]["uid"] for line in site.plane_log.read_text().splitlines()}
    assert {r["object"]["uid"] for r in records if r["action"] == "transaction.committed"} <= moved


def upgrade(site: Site, cluster: Objects, alice: Researcher) -> None:
    (alice.copy / "input" / "large").write_bytes(os.urandom(100 << 20))
    sending = alice.start("sync", "-m", "large")
    incoming = f"{site.directory}/data/justice"
    wait("content to come in", lambda: _size(incoming) > 1 << 20, 120)
    began = time.monotonic()
    site.stop("dsg.operator")
    site.start_operator(cluster.api)
    print(f"measured: operator stopped and another started: {time.monotonic() - began:.1f} s")
    ended(sending)
    assert head(cluster)["version"] == "s2"

    def told() -> str | None:
        where = ("lease", f"dsg-operator-{NODE}", "-n", "dsg-system", "-o", "json")
        lease = json.loads(cluster.api.kubectl("admin", "get", *where).stdout)
        return str(lease["metadata"].get("annotations", {}).get(AUDIT_HEAD, "")) or None

    expect = wait("the Lease to tell the head", told, 60)
    assert "holds what was expected" in command("audit", "verify", str(site.operator_log), "--expect", expect)
    known = head(cluster)
    place = str((site.directory / "srv" / "justice").resolve())
    proved = command("verify", place, "--expect", f"{known['version']}:{known['digest']}")
    assert "all is as it should be" in proved


def _size(folder: str) -> int:
    found = subprocess.run(["du", "-sb", folder], capture_output=True, text=True, check=False).stdout
    return int(found.split()[0]) if found else 0


def maintenance(site: Site, cluster: Objects, bob: Researcher) -> None:
    suspend = ("patch", "repository", "justice", "-n", NAMESPACE, "--type=merge", "-p")
    cluster.api.kubectl("admin", *suspend, '{"spec":{"suspend":true}}')
    cluster.wait_reason("justice", "SuspendedBySpec", "Suspended")
    bob.write("output/count.txt", "2\n")
    waiting = bob.start("sync", "-m", "counted")
    time.sleep(3)
    site.stop()
    assert waiting.poll() is None
    site.start_data_plane()
    site.start_operator(cluster.api)
    cluster.api.kubectl("admin", *suspend, '{"spec":{"suspend":false}}')
    ended(waiting)
    assert head(cluster)["version"] == "s3"


def by_mistake(site: Site, cluster: Objects, alice: Researcher, bob: Researcher) -> None:
    known = head(cluster)
    cluster.delete("justice")
    cluster.wait_gone("justice")
    began = time.monotonic()
    cluster.apply(site.repository(adopt=True))
    cluster.wait_ready("justice")
    print(f"measured: deleted by mistake: from apply to Ready: {time.monotonic() - began:.1f} s")
    assert head(cluster) == known
    alice.write("input/a.csv", "one, after\n")
    alice.dsg("sync", "-m", "after")
    bob.dsg("sync")
    assert bob.read("input/a.csv") == "one, after\n"
