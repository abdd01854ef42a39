"""Encryption with the key in a Secret, on real OpenZFS: rights, mistakes, rotation, locks; and where no key is seen."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping

import pytest

from tests.e2e.cluster import NAMESPACE, Cluster, repository, wait
from tests.e2e.test_e2e_telemetry import all_spans
from tests.telemetry.collector import Collector

pytestmark = [pytest.mark.lab, pytest.mark.lot]

NAME, DATASET, ENTRY = "vault", "tank/dsg/vault", "vault"
MOUNT = "/srv/dsg/.vault/g1"


def put_secret(cluster: Cluster, entries: Mapping[str, bytes]) -> None:
    data = {entry: base64.b64encode(value).decode() for entry, value in entries.items()}
    metadata = {"name": "dsg-keys", "namespace": NAMESPACE}
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})


TRY = """
import subprocess, sys
command = ["zfs", "load-key", "-n", "-L", "prompt", sys.argv[1]]
print(subprocess.run(command, input=bytes.fromhex(sys.stdin.read()), capture_output=True).returncode)
"""


def opens(cluster: Cluster, key: bytes) -> bool:
    """Whether a key is the dataset's, as its administrator tries it by hand."""
    done = cluster.node().run("/opt/dsg/bin/python", "-c", TRY, DATASET, input=key.hex())
    return done.stdout.strip() == "0"


def lock(cluster: Cluster) -> None:
    """As after a reboot: unmounted, and the key gone from memory."""
    cluster.sh("umount", MOUNT)
    cluster.sh("zfs", "unload-key", DATASET)


@pytest.fixture
def leaving_nothing(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.annotate(NAME, confirm_delete=NAME)
    cluster.delete(NAME)
    cluster.wait_gone(NAME)
    for thing in ("rolebinding/dsg-operator-secrets", "secret/dsg-keys"):
        cluster.api.kubectl("admin", "delete", thing, "-n", NAMESPACE)


@pytest.mark.usefixtures("leaving_nothing")
def test_a_key_in_a_secret(cluster: Cluster, traces: Collector) -> None:
    keys = first, second, third = (os.urandom(32), os.urandom(32), os.urandom(32))
    mark = cluster.api.audit_mark()
    created(cluster, first)
    # Evidence, as a commit would leave it: readers see the head read-only.
    cluster.sh("mount", "-o", "remount,rw", MOUNT)
    cluster.sh("sh", "-c", f"echo irreplaceable > {MOUNT}/evidence; sync; mount -o remount,ro {MOUNT}")
    replaced_while_loaded(cluster, first, second)
    locked_and_opened(cluster, second, third)
    gone_while_people_work(cluster, third)
    nothing_shows(cluster, traces, keys)
    of_secrets = [r for r in cluster.api.requests("operator", mark) if r.resource == "secrets"]
    assert {(r.verb, r.namespace, r.name) for r in of_secrets} == {("get", NAMESPACE, "dsg-keys")}


def created(cluster: Cluster, key: bytes) -> None:
    """First the right to read it, then the Secret, then a key of the right length."""
    reference = {"name": "dsg-keys", "key": ENTRY}
    storage = {"encryption": {"algorithm": "aes-256-gcm", "secretRef": reference}}
    cluster.apply(repository(NAME, storage=storage, deletionPolicy="Delete"))
    told = cluster.wait_reason(NAME, "KeyForbidden")
    assert f"{NAMESPACE}/dsg-keys" in told["message"]
    bind = ("--clusterrole=dsg-operator-secrets", "--serviceaccount=dsg-system:dsg-operator")
    cluster.api.kubectl("admin", "create", "rolebinding", "dsg-operator-secrets", "-n", NAMESPACE, *bind)

    def noticed() -> bool:
        cluster.look_now(NAME)
        return bool(cluster.condition(NAME, "Ready")["reason"] == "KeyUnavailable")

    wait("the right to be noticed", noticed)
    put_secret(cluster, {ENTRY: key + b"\n"})
    cluster.look_now(NAME)
    assert "33 bytes" in cluster.wait_reason(NAME, "KeyInvalid")["message"]
    put_secret(cluster, {ENTRY: key})
    cluster.look_now(NAME)
    cluster.wait_ready(NAME)
    assert cluster.value("encryption", f"{DATASET}/g1")[0] == "aes-256-gcm"
    assert cluster.value("encryptionroot", f"{DATASET}/g1")[0] == DATASET
    assert cluster.value("keylocation", DATASET) == ("prompt", "local")
    assert opens(cluster, key)


def replaced_while_loaded(cluster: Cluster, old: bytes, new: bytes) -> None:
    """Nobody notices but the administrator."""
    put_secret(cluster, {ENTRY: new})
    cluster.look_now(NAME)
    cluster.wait_event(NAME, "Updated", "have the key that Secret")
    assert (opens(cluster, old), opens(cluster, new)) == (False, True)
    assert cluster.sh("cat", "/srv/dsg/vault/evidence") == "irreplaceable"


def locked_and_opened(cluster: Cluster, old: bytes, new: bytes) -> None:
    """With a key that opens nothing, that is said everywhere; with the one before beside it, it opens."""
    put_secret(cluster, {ENTRY: new})
    lock(cluster)
    cluster.look_now(NAME)
    assert ".previous" in cluster.wait_reason(NAME, "KeyWrong")["message"]
    assert cluster.condition(NAME, "Unlocked")["reason"] == "KeyLocked"
    columns = cluster.api.kubectl("admin", "get", "repository", NAME, "-n", NAMESPACE, "-o", "wide").stdout
    assert "KeyWrong" in columns
    assert "Locked" in columns
    put_secret(cluster, {ENTRY: new, f"{ENTRY}.previous": old})
    cluster.look_now(NAME)
    cluster.wait_ready(NAME)
    assert (opens(cluster, old), opens(cluster, new)) == (False, True)
    assert cluster.sh("cat", "/srv/dsg/vault/evidence") == "irreplaceable"


def gone_while_people_work(cluster: Cluster, key: bytes) -> None:
    """They go on, and the danger is told."""
    cluster.api.kubectl("admin", "delete", "secret", "dsg-keys", "-n", NAMESPACE)
    cluster.look_now(NAME)
    assert cluster.wait_reason(NAME, "KeyAtRisk", "Unlocked")["status"] == "True"
    cluster.wait_ready(NAME)
    put_secret(cluster, {ENTRY: key})
    cluster.look_now(NAME)
    cluster.wait_reason(NAME, "KeyLoaded", "Unlocked")


SEARCH = """
import os, sys
keys = [bytes.fromhex(line) for line in sys.stdin.read().split()]
read = 0
for top in ("/etc", "/root", "/run", "/srv", "/tmp", "/var"):
    for directory, _, files in os.walk(top):
        for name in files:
            path = os.path.join(directory, name)
            if os.path.islink(path) or not os.path.isfile(path):
                continue
            try:
                with open(path, "rb") as file:
                    content = file.read()
            except OSError:
                continue
            read += 1
            if any(key in content for key in keys):
                print("found in", path)
print(read, "files")
"""


def nothing_shows(cluster: Cluster, traces: Collector, keys: tuple[bytes, ...]) -> None:
    """No key is in any log, span, event, status, property, history, argument vector or file of the node's system."""
    processes = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'"
    texts = {
        "log": cluster.node().operator_log(),
        "spans": "\n".join(str(span) for span in all_spans(traces)),
        "objects": cluster.api.kubectl("admin", "get", "repository,event", "-n", NAMESPACE, "-o", "json").stdout,
        "properties": cluster.sh("zfs", "get", "-Hr", "all", DATASET),
        "history": cluster.sh("zpool", "history", "-il", "tank"),
        "processes": cluster.sh("sh", "-c", processes, check=False),
    }
    assert "load the key of" in texts["log"]
    assert "let tank/dsg/vault have the key" in texts["objects"]
    assert "zfs change-key" in texts["spans"]
    assert "dsg-operator" in texts["processes"]
    for key in keys:
        forms = (key.hex(), base64.b64encode(key).decode(), json.dumps(key.decode("latin-1"))[1:-1], repr(key)[2:-1])
        for place, text in texts.items():
            assert not any(form in text for form in forms), place
    found = cluster.node().run("/opt/dsg/bin/python", "-c", SEARCH, input="\n".join(key.hex() for key in keys)).stdout
    assert "found in" not in found
    assert int(found.split()[0]) > 100
