"""A Repository declared in YAML becomes a dataset on real OpenZFS, is kept so, and tells so."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import yaml

from tests.e2e.cluster import NAMESPACE, Cluster, kstatus, repository, wait

pytestmark = pytest.mark.lab


def test_apply_and_converge(cluster: Cluster) -> None:
    cluster.apply(repository("justice"))
    cluster.wait_ready("justice")
    dataset = "tank/dsg/justice"
    assert cluster.value("compression", dataset) == ("lz4", "local")
    assert cluster.value("quota", dataset) == (str(1 << 30), "local")
    assert cluster.value("refquota", f"{dataset}/g1") == (str(512 << 20), "local")
    assert cluster.value("org.hrdag.dsg:head", dataset) == ("g1", "local")
    assert cluster.value("org.hrdag.dsg:repository", dataset) == ("research/justice", "local")
    assert cluster.sh("readlink", "/srv/dsg/justice") == ".justice/g1"
    assert cluster.sh("stat", "-L", "-c", "%u:%g %a", "/srv/dsg/justice") == "2000:2000 2770"
    mounts = cluster.sh("cat", "/proc/self/mounts").splitlines()
    (line,) = [m for m in mounts if m.startswith(f"{dataset}/g1 ")]
    assert "/srv/dsg/.justice/g1 zfs ro,nosuid,nodev" in line
    assert "tank/dsg/justice/g1" in cluster.wait_event("justice", "Created")
    status = cluster.get("justice")["status"]
    assert status["storage"]["location"] == dataset
    assert status["storage"]["usedPercent"] == 0


def test_what_people_see(cluster: Cluster) -> None:
    cluster.apply(repository("seen"))
    cluster.wait_ready("seen")
    shown = cluster.api.kubectl("admin", "get", "repositories", "-n", NAMESPACE).stdout
    head, *rows = shown.splitlines()
    row = next(row for row in rows if row.startswith("seen "))
    assert "READY" in head and "NODE" in head, head
    assert "True" in row and "node-a" in row, row
    described = cluster.api.kubectl("admin", "describe", "repository", "seen", "-n", NAMESPACE).stdout
    assert "Created" in described
    pools = cluster.api.kubectl("admin", "get", "storagepools").stdout
    assert "node-a-tank" in pools and "ONLINE" in pools
    taught = cluster.api.kubectl("admin", "explain", "repository.spec.storage.dataset").stdout
    assert "generations" in taught


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"datset": "tank/dsg/x"}, "datset"),
        ({"type": "ipfs"}, "type ipfs is not offered"),
        ({"type": "rclone"}, "type rclone is not offered"),
        ({"dataset": "rpool/x"}, "dataset must lie in pool"),
        ({"node": None}, "node"),
        ({"mountpoint": "srv/dsg/x"}, "a path is absolute"),
    ],
)
def test_bad_specs_are_refused_when_they_are_applied(
    cluster: Cluster, change: dict[str, str | None], words: str
) -> None:
    obj = repository("bad")
    for field, value in change.items():
        if value is None:
            del obj["spec"]["storage"][field]
        else:
            obj["spec"]["storage"][field] = value
    refused = cluster.try_apply(obj)
    assert refused.returncode != 0
    assert words in refused.stderr
    assert not cluster.exists("bad")


def test_what_cannot_be_reconciled_cannot_be_changed(cluster: Cluster) -> None:
    cluster.apply(repository("fixed"))
    cluster.wait_ready("fixed")
    for field, value in (("dataset", "tank/dsg/other"), ("node", "node-b"), ("mountpoint", "/srv/dsg/other")):
        refused = cluster.try_apply(repository("fixed", storage={field: value}))
        assert refused.returncode != 0
        assert f"{field} can't be changed" in refused.stderr


def test_a_property_changed_by_hand_is_set_back_at_once(cluster: Cluster) -> None:
    """node-a resyncs every ten minutes: what comes within seconds comes by ZFS's own events."""
    cluster.apply(repository("drift"))
    cluster.wait_ready("drift")
    cluster.sh("zfs", "set", "compression=off", "tank/dsg/drift")
    message = cluster.wait_event("drift", "DriftCorrected", "compression", timeout=30)
    assert "off → lz4" in message
    assert cluster.value("compression", "tank/dsg/drift") == ("lz4", "local")
    cluster.sh("zfs", "inherit", "atime", "tank/dsg/drift")
    cluster.wait_event("drift", "DriftCorrected", "atime", timeout=30)
    assert cluster.value("atime", "tank/dsg/drift") == ("off", "local")
    # The Event is posted as soon as the step is taken, the status at the end of the pass.
    last = wait("the drift in the status", lambda: cluster.get("drift")["status"].get("lastDrift"), 30)
    assert last["corrected"] is True


def test_drift_that_makes_no_event_is_found_by_a_look(cluster: Cluster) -> None:
    cluster.apply(repository("chmod"), repository("chmod-b", node="node-b"))
    cluster.wait_ready("chmod", "chmod-b")
    for node, name in (("node-a", "chmod"), ("node-b", "chmod-b")):
        path = f"/srv/dsg/.{name}/g1"
        # In one go: node-b's operator may look between any two commands.
        cluster.sh("sh", "-c", f"mount -o remount,rw {path} && chmod 0777 {path} && chown 0:0 {path}", node=node)
    # node-b looks every ten seconds by itself, node-a when it is asked.
    cluster.look_now("chmod")
    for node, name in (("node-a", "chmod"), ("node-b", "chmod-b")):
        message = cluster.wait_event(name, "DriftCorrected", "owner", timeout=30)
        # chmod(1) keeps set-group-ID of a directory under an octal mode.
        assert "0:0 2777 → 2000:2000 2770" in message
        assert cluster.sh("stat", "-L", "-c", "%u:%g %a", f"/srv/dsg/{name}", node=node) == "2000:2000 2770"
        assert cluster.sh("touch", f"/srv/dsg/{name}/x", node=node, check=False) == ""
        assert cluster.sh("ls", f"/srv/dsg/{name}/", node=node) == "", "read-only again"


def test_under_report_drift_is_told_and_left(cluster: Cluster) -> None:
    cluster.apply(repository("report", driftPolicy="Report"))
    cluster.wait_ready("report")
    cluster.sh("zfs", "set", "compression=off", "tank/dsg/report")
    cluster.wait_reason("report", "DriftReported", "Drifted", timeout=30)
    assert cluster.value("compression", "tank/dsg/report") == ("off", "local")
    assert cluster.get("report")["status"]["drift"][0]["found"] == "off"
    assert kstatus(cluster.get("report")) == "Current"
    cluster.apply(repository("report", driftPolicy="Correct"))
    cluster.wait_event("report", "DriftCorrected", "off → lz4")


def test_suspended_it_is_looked_at_and_left_alone(cluster: Cluster) -> None:
    obj = repository("suspended")
    cluster.apply(obj)
    cluster.wait_ready("suspended")
    changed = copy.deepcopy(obj)
    changed["spec"]["suspend"] = True
    changed["spec"]["storage"]["properties"]["compression"] = "zstd"
    cluster.apply(changed)
    cluster.wait_reason("suspended", "SuspendedBySpec", "Suspended")
    assert cluster.value("compression", "tank/dsg/suspended") == ("lz4", "local")
    assert any("compression=zstd" in step for step in cluster.get("suspended")["status"]["plan"])
    changed["spec"]["suspend"] = False
    cluster.apply(changed)
    cluster.wait_reason("suspended", "Active", "Suspended")
    wait("the change", lambda: cluster.value("compression", "tank/dsg/suspended") == ("zstd", "local"), 30)


def test_a_killed_and_restarted_operator_writes_nothing(cluster: Cluster, restart_a: Callable[[], None]) -> None:
    cluster.apply(repository("steady"))
    cluster.wait_ready("steady")
    cluster.look_now("steady")
    before = cluster.get("steady")
    history = cluster.sh("zpool", "history", "-i", "tank")
    mark = cluster.api.audit_mark()
    cluster.node().stop_operator("KILL")
    restart_a()
    wait("the operator to be ready", lambda: _ready(cluster), 60)
    writes = [
        f"{r.verb} {r.resource} {r.name}"
        for r in cluster.api.requests("operator", mark)
        if r.write and r.resource != "leases" and "node-b" not in r.user_agent and r.name in {"steady", ""}
    ]
    assert writes == []
    assert cluster.get("steady") == before
    assert cluster.sh("zpool", "history", "-i", "tank") == history, "no change of the pool"


def _ready(cluster: Cluster) -> bool:
    answer = cluster.sh(
        "/opt/dsg/bin/python",
        "-c",
        "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/readyz').status)",
        check=False,
    )
    return answer == "200"


def test_retained_and_adopted(cluster: Cluster) -> None:
    cluster.apply(repository("kept"))
    cluster.wait_ready("kept")
    path = "/srv/dsg/.kept/g1"
    cluster.sh("sh", "-c", f"mount -o remount,rw {path} && echo irreplaceable > {path}/evidence")
    cluster.delete("kept")
    cluster.wait_gone("kept")
    last = cluster.events("kept")[-1]
    assert "data kept: dataset tank/dsg/kept on node node-a" in last
    assert cluster.value("org.hrdag.dsg:released", "tank/dsg/kept")[1] == "local"
    assert cluster.sh("ls", "/srv/dsg/kept", check=False) == ""
    cluster.apply(repository("kept"))
    cluster.wait_reason("kept", "DatasetForeign")
    assert kstatus(cluster.get("kept")) == "Failed"
    cluster.apply(repository("kept", storage={"adopt": True}))
    cluster.wait_ready("kept")
    assert cluster.sh("cat", "/srv/dsg/kept/evidence") == "irreplaceable"


def test_a_foreign_dataset_is_not_touched(cluster: Cluster) -> None:
    cluster.sh("zfs", "create", "-o", "compression=gzip", "tank/dsg/foreign")
    cluster.apply(repository("foreign", storage={"adopt": True}))
    cluster.wait_reason("foreign", "DatasetForeign")
    assert cluster.value("compression", "tank/dsg/foreign") == ("gzip", "local")
    cluster.delete("foreign")
    cluster.wait_gone("foreign")
    assert cluster.value("compression", "tank/dsg/foreign") == ("gzip", "local")


def test_two_repositories_cannot_claim_one_dataset(cluster: Cluster) -> None:
    cluster.apply(repository("first"))
    cluster.wait_ready("first")
    cluster.apply(repository("second", storage={"dataset": "tank/dsg/first"}))
    found = cluster.wait_reason("second", "PathConflict")
    assert "research/first" in found["message"]
    cluster.delete("second")
    cluster.wait_gone("second")
    cluster.wait_ready("first")


def test_destroyed_only_when_confirmed_and_never_what_is_foreign(cluster: Cluster) -> None:
    cluster.apply(repository("gone", deletionPolicy="Delete"))
    cluster.wait_ready("gone")
    cluster.sh("zfs", "snapshot", "tank/dsg/gone/g1@mine")
    cluster.delete("gone")
    blocked = wait("a blocked deletion", lambda: cluster.condition("gone", "DeletionBlocked"))
    assert blocked["reason"] == "NotConfirmed"
    cluster.annotate("gone", confirm_delete="gone")
    wait(
        "the snapshot to be named",
        lambda: cluster.condition("gone", "DeletionBlocked").get("reason") == "ForeignData",
    )
    assert "tank/dsg/gone/g1@mine" in cluster.condition("gone", "DeletionBlocked")["message"]
    assert cluster.value("mounted", "tank/dsg/gone/g1")[0] == "yes"
    cluster.sh("zfs", "destroy", "tank/dsg/gone/g1@mine")
    cluster.wait_gone("gone")
    assert "dataset does not exist" in cluster.node().run("zfs", "list", "tank/dsg/gone", check=False).stderr
    assert "destroyed" in cluster.events("gone")[-1]


def test_the_operators_rights_are_no_more_than_it_needs(cluster: Cluster) -> None:
    def can(verb: str, resource: str, *more: str) -> bool:
        answer = cluster.api.kubectl("operator", "auth", "can-i", verb, resource, *more, check=False)
        return answer.stdout.strip() == "yes"

    for verb, resource in (
        ("create", "repositories"),
        ("delete", "repositories"),
        ("update", "repositories"),
        ("create", "storagepools"),
        ("patch", "storagepools"),
        ("get", "secrets"),
        ("list", "pods"),
        ("update", "namespaces"),
        ("list", "customresourcedefinitions"),
    ):
        assert not can(verb, resource, "-n", NAMESPACE), f"{verb} {resource}"
    assert can("watch", "repositories", "--all-namespaces")
    asked = {
        (r.verb, f"{r.resource}.{r.group}" if r.group else r.resource, r.namespace)
        for r in cluster.api.requests("operator")
        # A Secret that a Repository names may be asked for anywhere; whether it may be had is its namespace's affair.
        if r.code == 403 and r.group != "authorization.k8s.io" and (r.verb, r.resource) != ("get", "secrets")
    }
    # A kube-apiserver that has just started refuses what it allows a second later, until it has read its roles.
    refused = [
        (verb, resource, namespace)
        for verb, resource, namespace in asked
        if not can(verb, resource, *(("-n", namespace) if namespace else ("--all-namespaces",)))
    ]
    assert refused == [], "the operator asks for nothing that it may not"


def test_every_example_is_accepted_by_the_server(cluster: Cluster) -> None:
    from lab.paths import TREE

    for file in sorted((TREE / "examples").glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            if document["metadata"].get("namespace"):
                document["metadata"]["namespace"] = NAMESPACE
            text = yaml.safe_dump(document)
            # A transaction is made in one's own name.
            author = document["spec"].get("author")
            person = ("--as", author, "--as-group", "system:masters") if author else ()
            apply = ("apply", "--dry-run=server", "--validate=strict", *person, "-f", "-")
            cluster.api.kubectl("admin", *apply, input=text)


def test_an_encrypted_repository_with_its_key_on_the_node(cluster: Cluster) -> None:
    encryption = {"algorithm": "aes-256-gcm", "keyFile": "/etc/dsg/keys/secret"}
    cluster.apply(repository("secret", storage={"encryption": encryption}))
    cluster.wait_reason("secret", "KeyUnavailable")
    cluster.sh("sh", "-c", "umask 077; mkdir -p /etc/dsg/keys; head -c 32 /dev/urandom > /etc/dsg/keys/secret")
    cluster.look_now("secret")
    cluster.wait_ready("secret")
    assert cluster.value("encryption", "tank/dsg/secret/g1")[0] == "aes-256-gcm"
    # As after a reboot: unmounted, and the key gone from memory.
    cluster.sh("umount", "/srv/dsg/.secret/g1")
    cluster.sh("zfs", "unload-key", "tank/dsg/secret")
    cluster.look_now("secret")
    cluster.wait_ready("secret")
    wait("the key", lambda: cluster.value("keystatus", "tank/dsg/secret")[0] == "available", 30)
    assert cluster.sh("readlink", "-e", "/srv/dsg/secret") == "/srv/dsg/.secret/g1"
