"""The procedures of docs/procedures.md, carried out as they are written there; their times are printed."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from dsg.operator.leases import AUDIT_HEAD
from lab.controlplane import ControlPlane
from lab.node import DATA_PLANE_PORT
from tests.e2e.cluster import NAMESPACE, Cluster, pool, repository, wait
from tests.e2e.conftest import QUICK, SLOW, environment
from tests.e2e.test_e2e_researchers import Researcher
from tests.telemetry.collector import Collector

pytestmark = [pytest.mark.lab, pytest.mark.lot]

NODE, OTHER = "node-b", "node-a"
ACCESS = {"writers": {"users": ["alice"]}, "admins": {"users": ["bob"]}}
"""By name: groups count only for transactions that are some seconds younger than their Repository."""
OPERATOR_LOG = "/var/log/dsg/operator.jsonl"
DATA_PLANE_LOG = "/var/lib/dsg-data-plane/audit.jsonl"
PROGRAM = "/opt/dsg/bin/dsg-operator"


@contextmanager
def measured(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"measured: {what}: {time.monotonic() - began:.1f} s")


@dataclass
class Site:
    """The lab with a data plane and audit logs on both nodes."""

    cluster: Cluster
    traces: Collector

    def start(self, node: str, api: ControlPlane | None = None) -> None:
        """Start a node's data plane, where it does not run, and its operator."""
        machine = self.cluster.node(node)
        self.cluster.sh("mkdir", "-p", "/var/log/dsg", node=node)
        if machine.daemon_pid("dsg-data-plane") is None:
            state = "/var/lib/dsg-data-plane"
            grants = machine.data_plane_arguments()[1]
            machine.start_data_plane(
                (
                    *("--grants", grants, "--state", state, "--listen", f"0.0.0.0:{DATA_PLANE_PORT}"),
                    *("--audit", DATA_PLANE_LOG, "--node", node),
                )
            )
        options = (*QUICK, *machine.data_plane_arguments(), "--audit", OPERATOR_LOG)
        # Not by `Lab.start_operator`: that would stop the data plane where the tree has changed meanwhile.
        kubeconfig = (api or self.cluster.api).kubeconfig("operator", for_guest=True)
        machine.start_operator(node, kubeconfig, options)

    def stop(self, node: str) -> None:
        self.cluster.node(node).stop_operator()

    def head(self, name: str) -> dict[str, Any]:
        return dict(self.cluster.get(name).get("status", {}).get("head") or {})

    def audit(self, node: str, log: str, *options: str) -> str:
        return self.cluster.sh(PROGRAM, "audit", "verify", log, *options, node=node)

    def records(self, node: str, log: str, action: str) -> list[dict[str, Any]]:
        lines = self.cluster.sh("cat", log, node=node).splitlines()
        return [record for line in lines if (record := json.loads(line))["action"] == action]


@pytest.fixture(scope="module")
def site(cluster: Cluster, researchers: str, traces: Collector) -> Iterator[Site]:
    made = Site(cluster, traces)
    for node in (NODE, OTHER):
        cluster.lab.install(node)
        made.stop(node)
        made.start(node)
    try:
        yield made
    finally:
        for node, options in ((NODE, QUICK), (OTHER, SLOW)):
            made.stop(node)
            cluster.node(node).stop_data_plane()
            cluster.lab.start_operator(node, options, environment(traces) if node == OTHER else None)


def people(site: Site, tmp_path: Path, name: str, **spec: Any) -> tuple[Researcher, Researcher]:
    """Return alice, with a first version made of her directory, and bob, with a clone."""
    site.cluster.apply(repository(name, node=NODE, access=ACCESS, **spec))
    # An operator that has just started on a slow node needs a while for its first look.
    site.cluster.wait_ready(name, timeout=180)
    alice, bob = (Researcher(site.cluster, user, tmp_path / user) for user in ("alice", "bob"))
    alice.copy.mkdir()
    alice.write("input/a.csv", "one\n")
    alice.write("input/b.csv", "two\n")
    alice.dsg("init", name, "-n", NAMESPACE, "-m", "first")
    # The Repository's status follows the commit with the next pass.
    wait("the first version to be told", lambda: site.head(name), 120)
    bob.dsg("clone", name, str(bob.copy), "-n", NAMESPACE)
    return alice, bob


@pytest.fixture(scope="module")
def day(site: Site, tmp_path_factory: pytest.TempPathFactory) -> tuple[Researcher, Researcher]:
    """A repository and two who work on it, for the procedures that lose nothing."""
    return people(site, tmp_path_factory.mktemp("day"), "care-day")


def ended(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=180)
    assert process.returncode == 0, said
    return said


def received(site: Site, node: str) -> int:
    """Return how many bytes lie in what is being sent to a node."""
    text = site.cluster.sh("sh", "-c", "du -cb /srv/*/.*/.open/*/.dsg/incoming 2>/dev/null | tail -n 1", node=node)
    return int(text.split()[0]) if text else 0


@pytest.mark.lot
def test_the_operator_is_upgraded_while_a_client_sends(site: Site, day: tuple[Researcher, Researcher]) -> None:
    cluster, (alice, _) = site.cluster, day
    (alice.copy / "input" / "large.bin").write_bytes(os.urandom(48 << 20))
    sending = alice.start("sync", "-m", "large")
    wait("content to come in", lambda: received(site, NODE) > 1 << 20, 120)
    with measured("operator stopped and another started, while content comes in"):
        site.stop(NODE)
        # The data plane goes on, and so do readers.
        assert cluster.sh("cat", "/srv/dsg/care-day/input/a.csv", node=NODE) == "one"
        site.start(NODE)
    with measured("rest of the sync that was under way"):
        ended(sending)
    wait("the second version to be told", lambda: site.head("care-day").get("version") == "s2", 120)
    # What it has recorded goes on where the one before ended, and its Lease says where that is.
    lease = json.loads(
        cluster.api.kubectl("admin", "get", "lease", f"dsg-operator-{NODE}", "-n", "dsg-system", "-o", "json").stdout
    )
    said = site.audit(NODE, OPERATOR_LOG, "--expect", lease["metadata"]["annotations"][AUDIT_HEAD])
    assert "holds what was expected" in said
    done = site.records(NODE, OPERATOR_LOG, "transaction.committed")[-1]
    assert (done["who"], done["details"]["version"]) == ("alice", "s2")
    assert done["details"]["digest"] == site.head("care-day")["digest"]
    moved = [
        r for r in site.records(NODE, DATA_PLANE_LOG, "transfer.begun") if r["object"]["uid"] == done["object"]["uid"]
    ]
    assert [record["who"] for record in moved] == ["alice"]
    # A copy that somebody has changed.
    cluster.sh("sh", "-c", f"sed s/alice/mallo/ {OPERATOR_LOG} > /root/changed.jsonl", node=NODE)
    broken = cluster.node(NODE).run(PROGRAM, "audit", "verify", "/root/changed.jsonl", check=False)
    assert (broken.returncode, "broken: " in broken.stdout) == (1, True)


@pytest.mark.lot
def test_a_node_is_maintained_and_what_waited_goes_on(site: Site, day: tuple[Researcher, Researcher]) -> None:
    cluster, (_, bob) = site.cluster, day
    before = site.head("care-day")["version"]
    cluster.api.kubectl("admin", *_suspend("care-day", "true"))
    cluster.wait_reason("care-day", "SuspendedBySpec", "Suspended")
    bob.write("output/count.txt", "2\n")
    waiting = bob.start("sync", "-m", "counted")
    time.sleep(3)
    assert waiting.poll() is None
    assert site.head("care-day")["version"] == before
    node = cluster.node(NODE)
    with measured("node rebooted, from shutdown to Ready with a sync that had waited"):
        site.stop(NODE)
        node.stop_data_plane()
        node.stop()
        node.boot()
        site.start(NODE)
        cluster.api.kubectl("admin", *_suspend("care-day", "false"))
        cluster.wait_ready("care-day", timeout=120)
        if waiting.poll() is not None:
            # It had waited for as long as a client waits; its directory is as it was, and it is said again.
            print(f"the sync that waited has ended: {waiting.communicate()[0][-600:]}")
            bob.dsg("sync", "-m", "counted")
        else:
            ended(waiting)
    after = f"s{int(before[1:]) + 1}"
    wait(f"{after} to be told", lambda: site.head("care-day").get("version") == after, 120)
    assert "chain holds" in site.audit(NODE, OPERATOR_LOG)
    assert "chain holds" in site.audit(NODE, DATA_PLANE_LOG)


def _suspend(name: str, value: str) -> list[str]:
    patch = f'{{"spec":{{"suspend":{value}}}}}'
    return ["patch", "repository", name, "-n", NAMESPACE, "--type=merge", "-p", patch]


@pytest.mark.lot
def test_a_repository_that_was_deleted_by_mistake_is_taken_up_again(
    site: Site, day: tuple[Researcher, Researcher]
) -> None:
    cluster, (alice, bob) = site.cluster, day
    bob.dsg("sync")
    known = site.head("care-day")
    cluster.delete("care-day")
    cluster.wait_gone("care-day")
    assert "tank/dsg/care-day" in cluster.wait_event("care-day", "Retained")
    with measured("deleted by mistake: from apply to Ready"):
        cluster.apply(repository("care-day", node=NODE, access=ACCESS, storage={"adopt": True}))
        cluster.wait_ready("care-day", timeout=120)
    assert site.head("care-day") == known
    alice.write("input/a.csv", "one, after\n")
    alice.dsg("sync", "-m", "after")
    bob.dsg("sync")
    assert bob.read("input/a.csv") == "one, after\n"


VAULT = "vault"


@pytest.mark.lot
def test_a_pool_is_lost_and_its_repository_restored_on_another_node(site: Site, tmp_path: Path) -> None:
    cluster = site.cluster
    source = cluster.node(NODE)
    source.create_pool(VAULT, disks=(1,))
    vault = pool(NODE)
    vault["metadata"]["name"] = f"{NODE}-{VAULT}"
    vault["spec"]["storage"].update(pool=VAULT, root=f"{VAULT}/dsg", mountRoot="/srv/vault")
    cluster.apply(vault)
    storage = {"pool": VAULT, "dataset": f"{VAULT}/dsg/care-lost", "mountpoint": "/srv/vault/care-lost"}
    alice, bob = people(site, tmp_path, "care-lost", storage=storage)
    bob.write("input/b.csv", "two, corrected\n")
    bob.dsg("sync", "-m", "second")
    alice.dsg("sync")
    wait("the second version to be told", lambda: site.head("care-lost").get("version") == "s2", 120)
    known = site.head("care-lost")
    # The backup, as a scheduled job makes it.
    with measured("backup by zfs send"):
        cluster.sh("zfs", "snapshot", "-r", f"{VAULT}/dsg/care-lost@backup", node=NODE)
        cluster.sh("sh", "-c", f"zfs send -R {VAULT}/dsg/care-lost@backup > /root/care-lost.zfs", node=NODE)
        cluster.sh("zfs", "destroy", "-r", f"{VAULT}/dsg/care-lost@backup", node=NODE)
    source.copy_out("/root/care-lost.zfs", tmp_path / "care-lost.zfs")
    # A version after it, which is lost with the pool, but for who has it in a working copy.
    alice.write("input/late.csv", "after the backup\n")
    alice.dsg("sync", "-m", "late")
    wait("the pool to be gone", lambda: not _destroyed(cluster), 60)
    cluster.look_now("care-lost")
    cluster.wait_reason("care-lost", "PoolUnavailable")

    began = time.monotonic()
    restore(site, tmp_path, known)
    print(f"measured: pool lost: from deletion to Ready on another node: {time.monotonic() - began:.1f} s")
    assert site.head("care-lost") == known
    assert cluster.events("care-lost", "DriftCorrected") == []
    adopted = site.records(OTHER, OPERATOR_LOG, "repository.adopted")
    assert "care-lost" in {record["object"]["name"] for record in adopted}
    go_on(cluster, tmp_path, alice, bob)


def _destroyed(cluster: Cluster) -> str:
    """Destroy the pool, however it is used; return what is left of it."""
    cluster.sh("zpool", "destroy", "-f", VAULT, node=NODE, check=False)
    return cluster.sh("zpool", "list", "-H", "-o", "name", VAULT, node=NODE, check=False)


def restore(site: Site, tmp_path: Path, known: dict[str, Any]) -> None:
    cluster, target = site.cluster, site.cluster.node(OTHER)
    # The object can't go while its data can't be seen; a person who knows better lets it go.
    cluster.delete("care-lost")
    cluster.wait_reason("care-lost", "StorageFailed", "DeletionBlocked")
    gone = '{"metadata":{"finalizers":null}}'
    cluster.api.kubectl("admin", "patch", "repository", "care-lost", "-n", NAMESPACE, "--type=merge", "-p", gone)
    cluster.wait_gone("care-lost")
    cluster.api.kubectl("admin", "delete", "storagepool", f"{NODE}-{VAULT}")
    target.copy_in(tmp_path / "care-lost.zfs", "/root/care-lost.zfs")
    cluster.sh("sh", "-c", "zfs receive -u tank/dsg/care-lost < /root/care-lost.zfs", node=OTHER)
    cluster.sh("zfs", "destroy", "-r", "tank/dsg/care-lost@backup", node=OTHER)
    with measured("every version read anew and proved"):
        expect = f"{known['version']}:{known['digest']}"
        proved = cluster.sh(PROGRAM, "verify", "tank/dsg/care-lost", "--expect", expect, "-o", "json", node=OTHER)
    assert [one["version"] for one in json.loads(proved)["versions"]] == ["s1", "s2"]
    assert "dsg-verify" not in cluster.sh("cat", "/proc/mounts", node=OTHER)
    cluster.apply(repository("care-lost", node=OTHER, access=ACCESS, storage={"adopt": True}))
    cluster.wait_ready("care-lost", timeout=120)


def go_on(cluster: Cluster, tmp_path: Path, alice: Researcher, bob: Researcher) -> None:
    # Who has what the backup has goes on as before; who has more is told to keep it.
    bob.write("input/a.csv", "one, after\n")
    bob.dsg("sync", "-m", "after the loss")
    refused = alice.dsg("sync", code=1)
    assert "Keep this copy" in refused
    assert alice.read("input/late.csv") == "after the backup\n"
    again = Researcher(cluster, "alice", tmp_path / "alice-again")
    again.dsg("clone", "care-lost", str(again.copy), "-n", NAMESPACE)
    again.write("input/late.csv", alice.read("input/late.csv"))
    again.dsg("sync", "-m", "late, again")
    bob.dsg("sync")
    assert bob.read("input/late.csv") == "after the backup\n"


@pytest.mark.lot
def test_the_cluster_is_lost_and_made_anew_from_its_yaml(site: Site, tmp_path: Path) -> None:
    cluster = site.cluster
    alice, bob = people(site, tmp_path, "care-etcd")
    bob.write("input/b.csv", "two, corrected\n")
    bob.dsg("sync", "-m", "second")
    wait("the second version to be told", lambda: site.head("care-etcd").get("version") == "s2", 120)
    known = site.head("care-etcd")
    declared = [pool(NODE), repository("care-etcd", node=NODE, access=ACCESS, storage={"adopt": True})]
    began = time.monotonic()
    site.stop(NODE)
    with ControlPlane(tmp_path / "api-anew") as api:
        anew = Cluster(cluster.lab, api)
        real = cluster.lab.api
        try:
            cluster.lab.api = api
            cluster.lab.apply_manifests()
        finally:
            cluster.lab.api = real
        print(f"measured: cluster lost: an empty one with CRDs and rights: {time.monotonic() - began:.1f} s")
        api.kubectl("admin", "create", "namespace", NAMESPACE)
        api.kubectl("admin", "label", "namespace", NAMESPACE, "team=data")
        role = ("--clusterrole=dsg-researcher", "--group=researchers")
        api.kubectl("admin", "create", "rolebinding", "researchers", "-n", NAMESPACE, *role)
        with measured("cluster lost: from the operator's start and apply to Ready"):
            site.start(NODE, api)
            api.kubectl("admin", "apply", "-f", "-", input=yaml.safe_dump_all(declared))
            anew.wait_ready("care-etcd", timeout=180)
        assert anew.get("care-etcd")["status"]["head"] == known
        for person in (alice, bob):
            person.environment["KUBECONFIG"] = str(api.kubeconfig(person.user))
        alice.dsg("sync")
        assert alice.read("input/b.csv") == "two, corrected\n"
        alice.write("input/a.csv", "one, in the new cluster\n")
        alice.dsg("sync", "-m", "third")
        bob.dsg("sync")
        assert bob.read("input/a.csv") == "one, in the new cluster\n"
        assert [one["version"] for one in json.loads(bob.dsg("log", "-o", "json"))["versions"]] == ["s3", "s2", "s1"]
        site.stop(NODE)
    site.start(NODE)
