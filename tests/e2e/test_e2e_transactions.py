"""SyncTransactions on the real parts: opened with kubectl as a researcher, committed on OpenZFS, told to everybody."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import pytest

from dsg.api.access import CERTAIN_AFTER
from lab.node import PYTHON
from tests.e2e.cluster import NAMESPACE, Cluster, repository, wait
from tests.e2e.test_e2e_telemetry import all_spans
from tests.reconcile.test_transactions import transaction
from tests.telemetry.collector import Collector
from tests.transactions.ground import change_list

pytestmark = pytest.mark.lab

Text = Mapping[str, str]
FIRST: Text = {"input/a": "one", "input/b": "two"}
SECOND: Text = {"input/a": "one, corrected", "input/c": "three"}

SEND = """
import json, os, sys
from dsg.storage.local_trees import LocalTrees
from dsg.storage.trees import Owning
place, files = sys.argv[1], json.loads(sys.argv[2])
root = place.removesuffix("/.dsg/incoming")
trees, owning = LocalTrees(), Owning(0, 0, 0o700)
for name, text in files.items():
    trees.write(root, f".dsg/incoming/{name}", text.encode(), mode=0o600, owning=owning)
trees.sync(root)
"""
"""What the data plane will do: content by its digest, and the list of changes, durable before the client hears so."""


def in_bytes(content: Text) -> dict[str, bytes | str]:
    return {path: text.encode() for path, text in content.items()}


def opened(cluster: Cluster, name: str, operation: str, content: Text, **spec: Any) -> dict[str, Any]:
    """Open a transaction as alice and return it when it takes content."""
    obj = transaction(name, operation, content=in_bytes(content), **{"repositoryRef": {"name": "tx"}, **spec})
    cluster.apply(obj, user="alice")
    return wait(f"{name} staged", lambda: _in(cluster, name, "Staging"))


def _in(cluster: Cluster, name: str, *phases: str) -> dict[str, Any] | None:
    obj = cluster.get(name, "synctransaction")
    return obj if (obj.get("status") or {}).get("phase") in phases else None


def _gone(cluster: Cluster, name: str) -> bool:
    found = cluster.api.kubectl("admin", "get", "synctransaction", name, "-n", NAMESPACE, check=False)
    return "NotFound" in found.stderr


def place_of(obj: Mapping[str, Any]) -> str:
    return f"/srv/dsg/.tx/.open/stage-{obj['metadata']['uid']}/.dsg/incoming"


def send(cluster: Cluster, obj: Mapping[str, Any], before: Text, wanted: Text) -> None:
    from blake3 import blake3

    from dsg.manifests.changes import encode_change

    files = {blake3(text.encode()).hexdigest(): text for text in wanted.values()}
    changes = change_list(in_bytes(before), in_bytes(wanted))
    files["changes"] = b"".join(encode_change(change) for change in changes).decode()
    cluster.sh(PYTHON, "-c", SEND, place_of(obj), json.dumps(files))


def intend(cluster: Cluster, name: str, intent: str, user: str = "alice") -> None:
    patch = json.dumps({"spec": {"intent": intent}})
    cluster.api.kubectl(user, "patch", "synctransaction", name, "-n", NAMESPACE, "--type=merge", "-p", patch)


def committed(cluster: Cluster, name: str, operation: str, before: Text, wanted: Text, **spec: Any) -> dict[str, Any]:
    obj = opened(cluster, name, operation, wanted, **spec)
    send(cluster, obj, before, wanted)
    intend(cluster, name, "Commit")
    return wait(f"{name} committed", lambda: _in(cluster, name, "Committed", "Failed", "Conflict"))


def seen(cluster: Cluster) -> dict[str, str]:
    listed = cluster.sh("find", "/srv/dsg/tx/", "-path", "*/.dsg", "-prune", "-o", "-type", "f", "-print").splitlines()
    return {path.removeprefix("/srv/dsg/tx/"): cluster.sh("cat", path) for path in listed}


@pytest.fixture(scope="module")
def repository_tx(cluster: Cluster, researchers: str) -> str:
    access = {"writers": {"groups": [researchers]}, "admins": {"users": ["bob"]}}
    cluster.apply(repository("tx", access=access))
    cluster.wait_ready("tx")
    # Groups count for transactions that are certainly younger than their Repository.
    time.sleep(CERTAIN_AFTER.seconds)
    return "tx"


def test_from_init_to_the_second_version(cluster: Cluster, repository_tx: str) -> None:
    first = committed(cluster, "tx-first", "Init", {}, FIRST)
    assert (first["status"]["phase"], first["status"]["version"]) == ("Committed", "s1")
    assert seen(cluster) == FIRST
    second = committed(cluster, "tx-second", "Sync", FIRST, SECOND, base="s1")
    assert second["status"]["version"] == "s2"
    assert seen(cluster) == SECOND
    assert {t["step"] for t in second["status"]["timings"]} >= {"stage", "verify", "commit", "reveal"}
    head = wait("the head in status", lambda: _head(cluster, "s2"))
    assert head["author"] == "alice"
    datasets = wait("one generation left", lambda: _one_generation(cluster))
    assert cluster.value("org.hrdag.dsg:version", "tank/dsg/tx")[0] == "s2"
    snapshots = cluster.sh("zfs", "list", "-H", "-t", "snapshot", "-o", "name", "-r", datasets).splitlines()
    assert [name.rpartition("@")[2] for name in snapshots] == ["s1", "s2"]
    shown = cluster.api.kubectl("alice", "get", "synctransactions", "-n", NAMESPACE).stdout
    assert "Committed" in shown and "s2" in shown


def _head(cluster: Cluster, version: str) -> dict[str, Any] | None:
    head: dict[str, Any] | None = cluster.get("tx")["status"].get("head")
    return head if head is not None and head["version"] == version else None


def _one_generation(cluster: Cluster) -> str | None:
    names = cluster.sh("zfs", "list", "-H", "-d", "1", "-o", "name", "tank/dsg/tx").splitlines()[1:]
    return names[0] if len(names) == 1 else None


def _names(traces: Collector, trace_id: str) -> set[str]:
    return {span.name for span in all_spans(traces) if span.trace_id.hex() == trace_id}


def test_the_transactions_steps_are_one_trace(cluster: Cluster, repository_tx: str, traces: Collector) -> None:
    obj = committed(cluster, "tx-traced", "Sync", SECOND, {**SECOND, "traced": "x"}, base="s2")
    trace_id = obj["metadata"]["uid"].replace("-", "")
    names = {"advance SyncTransaction", "stage", "verify", "commit", "reveal", "clean"}
    wait("the trace", lambda: _names(traces, trace_id) >= names, timeout=60)


def test_conflict_rebase_restore_and_abort(cluster: Cluster, repository_tx: str) -> None:
    base: Text = {**SECOND, "traced": "x"}
    ours = opened(cluster, "tx-ours", "Sync", {**base, "input/a": "ours"}, base="s3")
    apart = opened(cluster, "tx-apart", "Sync", {**base, "apart": "apart"}, base="s3")
    send(cluster, ours, base, {**base, "input/a": "ours"})
    send(cluster, apart, base, {**base, "apart": "apart"})
    theirs = committed(cluster, "tx-theirs", "Sync", base, {**base, "input/a": "theirs"}, base="s3")
    assert theirs["status"]["version"] == "s4"
    for name in ("tx-ours", "tx-apart"):
        intend(cluster, name, "Commit")
    ended = wait("ours ended", lambda: _in(cluster, "tx-ours", "Conflict", "Committed", "Failed"))
    assert ended["status"]["conflicts"] == {"total": 1, "items": [{"path": "input/a", "state": "sLCR__all_ne"}]}
    ended = wait("apart ended", lambda: _in(cluster, "tx-apart", "Conflict", "Committed", "Failed"))
    assert (ended["status"]["version"], ended["status"]["rebasedOnto"]) == ("s5", "s4")
    assert seen(cluster) == {**base, "input/a": "theirs", "apart": "apart"}

    back = transaction("tx-back", "Restore", repositoryRef={"name": "tx"}, base="s5", restore="s1", intent="Commit")
    refused = cluster.api.kubectl("alice", "create", "-f", "-", input=json.dumps(back), check=False)
    assert "is not among the admins" in refused.stderr
    binding = ("create", "rolebinding", "bob", "-n", NAMESPACE, "--clusterrole=dsg-researcher", "--user=bob")
    cluster.api.kubectl("admin", *binding)
    back["spec"]["author"] = "bob"
    cluster.api.kubectl("bob", "create", "-f", "-", input=json.dumps(back))
    wait("restored", lambda: _in(cluster, "tx-back", "Committed"))
    assert seen(cluster) == FIRST

    given_up = opened(cluster, "tx-given-up", "Sync", SECOND, base="s6", ttlAfterFinished="10s")
    send(cluster, given_up, FIRST, SECOND)
    intend(cluster, "tx-given-up", "Abort")
    wait("aborted", lambda: _in(cluster, "tx-given-up", "Aborted"))
    wait("deleted after its ttlAfterFinished", lambda: _gone(cluster, "tx-given-up"))
    wait("one generation left", lambda: _one_generation(cluster))
    assert seen(cluster) == FIRST


def test_an_operator_killed_in_the_middle_goes_on(cluster: Cluster, repository_tx: str, restart_a: Any) -> None:
    obj = opened(cluster, "tx-killed", "Sync", SECOND, base="s6")
    send(cluster, obj, FIRST, SECOND)
    intend(cluster, "tx-killed", "Commit")
    wait("it works on it", lambda: _in(cluster, "tx-killed", "Verifying", "Committing", "Committed"))
    cluster.node().stop_operator("KILL")
    assert seen(cluster) in (FIRST, SECOND)
    restart_a()
    ended = wait("committed", lambda: _in(cluster, "tx-killed", "Committed", "Failed"), timeout=120)
    assert ended["status"]["version"] == "s7"
    assert seen(cluster) == SECOND
    wait("one generation left", lambda: _one_generation(cluster))


def test_what_is_written_by_hand_is_kept_and_named(cluster: Cluster, repository_tx: str) -> None:
    former = wait("one generation", lambda: _one_generation(cluster))
    directory = f"/srv/dsg/.tx/{former.rpartition('/')[2]}"
    cluster.sh("mount", "-o", "remount,rw", directory)
    cluster.sh("sh", "-c", f"echo evidence > {directory}/by-hand && sync && mount -o remount,ro {directory}")
    committed(cluster, "tx-after-hand", "Sync", SECOND, FIRST, base="s7")
    assert seen(cluster) == FIRST
    told = cluster.wait_event("tx", "KeptForeign", "by-hand")
    assert former in told
    assert cluster.condition("tx", "UnexpectedData")["status"] == "True"
    assert cluster.sh("zfs", "list", "-H", "-o", "name", former) == former
