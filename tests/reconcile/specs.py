"""Valid objects to begin from, as the API would send them."""

from __future__ import annotations

import copy
from typing import Any

POLICY: dict[str, Any] = {
    "compression": "lz4",
    "recordsize": "128Ki",
    "atime": False,
    "xattr": "sa",
    "quota": "10Gi",
    "refquota": "8Gi",
    "reservation": "none",
}


def repository(name: str = "justice", namespace: str = "research", **storage: Any) -> dict[str, Any]:
    """Return a Repository on ZFS; keyword arguments replace fields of its storage."""
    return {
        "apiVersion": "dsg.hrdag.org/v1alpha1",
        "kind": "Repository",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "storage": {
                "type": "zfs",
                "node": "node-a",
                "pool": "tank",
                "dataset": f"tank/dsg/{name}",
                "mountpoint": f"/srv/dsg/{name}",
                "properties": copy.deepcopy(POLICY),
                **storage,
            },
            "owner": {"uid": 2000, "gid": 2000, "mode": "2770"},
            "dataDirs": ["input", "output"],
        },
    }


def pool(name: str = "node-a-tank", **spec: Any) -> dict[str, Any]:
    """Return a StoragePool on ZFS; keyword arguments replace fields of its spec."""
    return {
        "apiVersion": "dsg.hrdag.org/v1alpha1",
        "kind": "StoragePool",
        "metadata": {"name": name},
        "spec": {
            "storage": {
                "type": "zfs",
                "node": "node-a",
                "pool": "tank",
                "root": "tank/dsg",
                "mountRoot": "/srv/dsg",
            },
            "namespaceSelector": {"matchLabels": {"team": "data"}},
            "thresholds": {"capacityPercent": 80},
            **spec,
        },
    }
