"""What the end-to-end tests do with a cluster, and how they wait: always for a state, never for a time."""

from __future__ import annotations

import base64
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

import urllib3
import yaml

from lab.controlplane import ControlPlane
from lab.library import Lab
from lab.node import StorageNode

T = TypeVar("T")

NAMESPACE = "research"
PLURALS = {"repository": "repositories", "storagepool": "storagepools", "synctransaction": "synctransactions"}


def wait(what: str, check: Callable[[], T | None], timeout: float = 60) -> T:
    """Return what `check` returns once that is true; fails with the last answer after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout:.0f} s; last: {answer!r}")
        time.sleep(0.3)


def kstatus(obj: Mapping[str, Any]) -> str:
    """Return what kstatus computes, by its rules in their order (cli-utils, pkg/kstatus)."""
    status = obj.get("status") or {}
    conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    if "observedGeneration" in status and status["observedGeneration"] != obj["metadata"]["generation"]:
        return "InProgress"
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    return "Current" if conditions.get("Ready", "True") == "True" else "InProgress"


class NotAnswered(Exception):
    """The API server refused; `status` is HTTP's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


class Objects:
    """An API server's objects, as its users see them."""

    def __init__(self, api: ControlPlane) -> None:
        self.api = api
        self._http: urllib3.PoolManager | None = None
        self._server = ""

    def apply(self, *objects: Mapping[str, Any], user: str = "admin") -> None:
        """Apply objects as kubectl users do."""
        self.api.kubectl(user, "apply", "-f", "-", input=yaml.safe_dump_all([dict(o) for o in objects]))

    def try_apply(self, obj: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        return self.api.kubectl("admin", "apply", "-f", "-", input=yaml.safe_dump(dict(obj)), check=False)

    def read(self, path: str, **query: str) -> dict[str, Any]:
        """Return what the API server says to the admin. A kubectl for each look would take the guests' processor."""
        if self._http is None:
            said = yaml.safe_load(self.api.kubeconfig("admin").read_text())
            server, token = said["clusters"][0]["cluster"], said["users"][0]["user"]["token"]
            authority = base64.b64decode(server["certificate-authority-data"]).decode()
            trust = ssl.create_default_context(cadata=authority)
            self._http = urllib3.PoolManager(ssl_context=trust, headers={"Authorization": f"Bearer {token}"})
            self._server = server["server"]
        answer = self._http.request("GET", self._server + path, fields=query, timeout=60)
        if answer.status != HTTPStatus.OK:
            raise NotAnswered(answer.status, answer.data.decode())
        found: dict[str, Any] = answer.json()
        return found

    def get(self, name: str, kind: str = "repository") -> dict[str, Any]:
        where = "" if kind == "storagepool" else f"namespaces/{NAMESPACE}/"
        return self.read(f"/apis/dsg.hrdag.org/v1alpha1/{where}{PLURALS[kind]}/{name}")

    def exists(self, name: str) -> bool:
        try:
            return bool(self.get(name))
        except NotAnswered as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return False

    def condition(self, name: str, type_: str, kind: str = "repository") -> dict[str, Any]:
        conditions = self.get(name, kind).get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == type_), {})

    def wait_reason(
        self, name: str, reason: str, type_: str = "Ready", kind: str = "repository", timeout: float = 60
    ) -> dict[str, Any]:
        """Wait until a condition has a reason for the object's present generation."""

        def look() -> dict[str, Any] | None:
            obj = self.get(name, kind)
            status = obj.get("status", {})
            found: dict[str, Any] = next((c for c in status.get("conditions", []) if c["type"] == type_), {})
            current = status.get("observedGeneration") == obj["metadata"]["generation"]
            return found if current and found.get("reason") == reason else None

        try:
            return wait(f"{kind} {name}: {type_} with reason {reason}", look, timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{yaml.safe_dump(self.get(name, kind).get('status'))}") from None

    def wait_ready(self, *names: str, timeout: float = 60) -> None:
        for name in names:
            self.wait_reason(name, "Reconciled", timeout=timeout)
            assert kstatus(self.get(name)) == "Current"

    def events(self, name: str, reason: str | None = None, namespace: str = NAMESPACE) -> list[str]:
        """Return the messages of an object's Events, oldest first."""
        found = self.read(f"/api/v1/namespaces/{namespace}/events", fieldSelector=f"involvedObject.name={name}")
        items = sorted(found["items"], key=lambda e: e["eventTime"])
        return [e["message"] for e in items if reason in {None, e["reason"]}]

    def wait_event(self, name: str, reason: str, words: str = "", timeout: float = 60) -> str:
        def look() -> str | None:
            return next((m for m in self.events(name, reason) if words in m), None)

        return wait(f"an Event {reason} about {name} with {words!r}", look, timeout)

    def annotate(self, name: str, **annotations: str) -> None:
        pairs = [f"dsg.hrdag.org/{key.replace('_', '-')}={value}" for key, value in annotations.items()]
        self.api.kubectl("admin", "annotate", "--overwrite", "repository", name, "-n", NAMESPACE, *pairs)

    def look_now(self, name: str) -> None:
        """Ask for a look, and wait until it has been taken."""
        stamp = str(time.time())
        pair = f"dsg.hrdag.org/requestedAt={stamp}"
        self.api.kubectl("admin", "annotate", "--overwrite", "repository", name, "-n", NAMESPACE, pair)
        wait(f"a look at {name}", lambda: self.get(name).get("status", {}).get("lastHandledReconcileAt") == stamp, 60)

    def delete(self, name: str) -> None:
        self.api.kubectl("admin", "delete", "repository", name, "-n", NAMESPACE, "--wait=false")

    def wait_gone(self, name: str, timeout: float = 60) -> None:
        wait(f"repository {name} to be gone", lambda: not self.exists(name), timeout)


class Cluster(Objects):
    """The lab as its users see it."""

    def __init__(self, lab: Lab, api: ControlPlane | None = None) -> None:
        """`api` is another API server than the lab's."""
        super().__init__(api or lab.api)
        self.lab = lab

    def node(self, name: str = "node-a") -> StorageNode:
        return self.lab.node(name)

    def sh(self, *argv: str, node: str = "node-a", check: bool = True) -> str:
        """Run a command on a node, as its administrator by hand."""
        return self.node(node).run(*argv, check=check).stdout.strip()

    def value(self, name: str, dataset: str, node: str = "node-a") -> tuple[str, str]:
        """Return a property's value and source as zfs says it."""
        text = self.sh("zfs", "get", "-Hp", "-o", "value,source", name, dataset, node=node)
        value, _, source = text.partition("\t")
        return value, source


def repository(name: str, node: str = "node-a", **spec: Any) -> dict[str, Any]:
    """Return a Repository of the lab's pool; keyword arguments replace fields of its spec, `storage` of its storage."""
    storage = {
        "type": "zfs",
        "node": node,
        "pool": "tank",
        "dataset": f"tank/dsg/{name}",
        "mountpoint": f"/srv/dsg/{name}",
        "properties": {
            "compression": "lz4",
            "recordsize": "128Ki",
            "atime": False,
            "xattr": "sa",
            "quota": "1Gi",
            "refquota": "512Mi",
            "reservation": "none",
        },
        **spec.pop("storage", {}),
    }
    return {
        "apiVersion": "dsg.hrdag.org/v1alpha1",
        "kind": "Repository",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "storage": storage,
            "owner": {"uid": 2000, "gid": 2000, "mode": "2770"},
            "dataDirs": ["*"],
            **spec,
        },
    }


def pool(node: str) -> dict[str, Any]:
    """Return the StoragePool of a node of the lab."""
    return {
        "apiVersion": "dsg.hrdag.org/v1alpha1",
        "kind": "StoragePool",
        "metadata": {"name": f"{node}-tank"},
        "spec": {
            "storage": {"type": "zfs", "node": node, "pool": "tank", "root": "tank/dsg", "mountRoot": "/srv/dsg"},
            "namespaceSelector": {"matchLabels": {"team": "data"}},
            "thresholds": {"capacityPercent": 80, "scrubAgeDays": 30},
        },
    }
