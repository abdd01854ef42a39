"""1,000 Repositories on the model of OpenZFS with a real kube-apiserver: converging, a restart, a change, resyncs.

Counts requests to the API server (from its audit log) and runs of zfs and zpool (calls of the model's interface, each
of which is one process on a real node). Counts are exact and repeat; times are for orientation only.

    python -m benchmarks.reconcile [--repositories 1000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dsg.api.reasons import REPOSITORY
from dsg.operator.api_server import ApiServer, load_client, path
from dsg.operator.kubernetes_cluster import KubernetesCluster
from dsg.operator.node import NodeSettings
from dsg.operator.run import Storage, serve
from dsg.storage.zfs.model import ModelHost, ModelNode, ModelTrees, ModelZfs
from dsg.storage.zfs.pool import ZfsPools
from dsg.storage.zfs.repository import ZfsRepositories
from dsg.telemetry.logs import configure
from dsg.transactions.on_zfs import ZfsTransactions
from lab.controlplane import ControlPlane
from lab.paths import TREE

NAMESPACE = "research"
GROUP = "/apis/dsg.hrdag.org/v1alpha1"
ZFS_PROCESSES: dict[str, int] = {"zfs.pools": 2}
"""Processes that a call of the interface costs, where that is not one."""
MOUNT_PROCESSES = {"host.mount", "host.remount", "host.unmount"}


@dataclass
class Phase:
    """What one phase cost."""

    name: str
    seconds: float
    requests: dict[str, int] = field(default_factory=dict)
    """Requests of the operator, by verb and resource."""
    writes: int = 0
    """Requests that may change something, Leases apart."""
    lease_writes: int = 0
    zfs_processes: int = 0
    zfs_changes: int = 0
    """Those that change something."""
    mount_processes: int = 0


def repository(number: int) -> dict[str, Any]:
    """Return one of the repositories."""
    name = f"r{number:05}"
    return {
        "apiVersion": "dsg.hrdag.org/v1alpha1",
        "kind": "Repository",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "storage": {
                "type": "zfs",
                "node": "node-a",
                "pool": "tank",
                "dataset": f"tank/dsg/{name}",
                "mountpoint": f"/srv/dsg/{name}",
                "properties": {
                    "compression": "lz4",
                    "recordsize": "128Ki",
                    "atime": False,
                    "xattr": "sa",
                    "quota": "10Gi",
                    "refquota": "8Gi",
                    "reservation": "none",
                },
            },
            "owner": {"uid": 2000, "gid": 2000, "mode": "2770"},
            "dataDirs": ["*"],
        },
    }


STORAGE_POOL = {
    "apiVersion": "dsg.hrdag.org/v1alpha1",
    "kind": "StoragePool",
    "metadata": {"name": "node-a-tank"},
    "spec": {
        "storage": {"type": "zfs", "node": "node-a", "pool": "tank", "root": "tank/dsg", "mountRoot": "/srv/dsg"},
        "namespaceSelector": {},
        "thresholds": {"capacityPercent": 80},
    },
}


class Bench:
    """A control plane, a model node, and an operator that is started and stopped in this process."""

    def __init__(self, api: ControlPlane, count: int) -> None:
        self.api = api
        self.count = count
        self.node = ModelNode(seed=1)
        self.node.add_pool("tank", size=1 << 44)
        self.admin = ApiServer(load_client(str(api.kubeconfig("admin"))))
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def prepare(self) -> None:
        """Install CRDs, access rules and the namespace."""
        self.api.kubectl("admin", "apply", "--server-side", "-k", str(TREE / "manifests" / "base"))
        self.api.kubectl("admin", "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        self.api.kubectl("admin", "create", "namespace", NAMESPACE)

    def create(self) -> None:
        """Create the pool and all repositories."""
        self.admin.request("POST", f"{GROUP}/storagepools", resource="storagepools", body=STORAGE_POOL)
        url = path("apis", "dsg.hrdag.org", "v1alpha1", "namespaces", NAMESPACE, "repositories")
        with ThreadPoolExecutor(4) as workers:
            bodies = [repository(number) for number in range(self.count)]
            list(workers.map(lambda b: self.admin.request("POST", url, resource="repositories", body=b), bodies))

    def start(self, resync: float = 3600) -> None:
        """Start an operator that remembers nothing."""
        zfs, host = ModelZfs(self.node), ModelHost(self.node)
        storage = Storage(
            {"zfs": ZfsRepositories(zfs, host)},
            {"zfs": ZfsPools(zfs, host)},
            {"zfs": ZfsTransactions(zfs, host)},
            ModelTrees(self.node),
            {"zfs": True},
            zfs,
        )
        self._stop = threading.Event()
        client = load_client(str(self.api.kubeconfig("operator")))

        def run() -> None:
            settings = NodeSettings("node-a", resync)
            serve(settings, storage, client, lease_namespace="dsg-system", listen=None, stop=self._stop)

        self._thread = threading.Thread(target=run, name="operator")
        self._thread.start()

    def stop(self) -> None:
        """Stop the operator in order."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def ready(self) -> int:
        """Return how many repositories are as declared."""
        objects = KubernetesCluster(self.admin, "bench").list_objects(REPOSITORY)
        return sum(
            any(c["type"] == "Ready" and c["status"] == "True" for c in (o.get("status") or {}).get("conditions", []))
            for o in objects
        )

    def settled(self, quiet: float = 3.0) -> None:
        """Wait until the node's calls have stopped changing for a while."""
        last, since = -1, time.monotonic()
        while time.monotonic() - since < quiet:
            now = sum(self.node.calls.values())
            if now != last:
                last, since = now, time.monotonic()
            time.sleep(0.1)

    def phase(self, name: str, act: Callable[[], None]) -> Phase:
        """Run something and count what it cost."""
        mark, calls = self.api.audit_mark(), Counter(self.node.calls)
        began = time.monotonic()
        act()
        seconds = time.monotonic() - began
        spent = Counter(self.node.calls) - calls
        requests = list(self.api.requests("operator", mark))
        writes = [r for r in requests if r.write]
        leases = [r for r in writes if r.resource == "leases"]
        zfs = {n: c * ZFS_PROCESSES.get(n, 1) for n, c in spent.items() if n.startswith("zfs.")}
        reading = {"zfs.pools", "zfs.read", "zfs.version", "zfs.holds", "zfs.events"}
        return Phase(
            name,
            round(seconds, 1),
            dict(
                sorted(
                    Counter(f"{r.verb} {'/'.join(filter(None, (r.resource, r.subresource)))}" for r in requests).items()
                )
            ),
            len(writes) - len(leases),
            len(leases),
            sum(zfs.values()),
            sum(count for n, count in zfs.items() if n not in reading),
            sum(count for n, count in spent.items() if n in MOUNT_PROCESSES),
        )


def measure(count: int) -> list[Phase]:
    """Run all phases."""
    with tempfile.TemporaryDirectory() as directory, ControlPlane(Path(directory) / "api") as api:
        bench = Bench(api, count)
        bench.prepare()
        bench.create()
        phases = []

        def converge() -> None:
            bench.start()
            while bench.ready() < count:
                time.sleep(1)
            bench.settled()

        def restart() -> None:
            bench.stop()
            bench.start()
            bench.settled(6.0)

        def resync() -> None:
            bench.stop()
            bench.start(resync=5)
            bench.settled(3.0)
            time.sleep(12)

        def one_change() -> None:
            body = {"spec": {"storage": {"properties": {"compression": "zstd"}}}}
            url = path("apis", "dsg.hrdag.org", "v1alpha1", "namespaces", NAMESPACE, "repositories", "r00000")
            merge = "application/merge-patch+json"
            bench.admin.request("PATCH", url, resource="repositories", body=body, content_type=merge)
            dataset = bench.node.dataset("tank/dsg/r00000")
            while dataset.setting("compression") != "zstd":
                time.sleep(0.2)
            bench.settled()

        try:
            phases.append(bench.phase(f"{count} repositories from nothing", converge))
            phases.append(bench.phase("restart of the operator", restart))
            phases.append(bench.phase("one property of one repository changed", one_change))
            phases.append(bench.phase("restart, then two or three resyncs of everything", resync))
        finally:
            bench.stop()
        return phases


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repositories", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    configure("error", "json", "node-a")
    phases = measure(arguments.repositories)
    for phase in phases:
        print(f"\n{phase.name}: {phase.seconds} s")
        print(f"  API writes {phase.writes} (and {phase.lease_writes} of the Lease); {phase.requests}")
        print(f"  zfs/zpool processes {phase.zfs_processes}, of which {phase.zfs_changes} change something", end="; ")
        print(f"mount processes {phase.mount_processes}")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(p) for p in phases], indent=2) + "\n")


if __name__ == "__main__":
    main()
