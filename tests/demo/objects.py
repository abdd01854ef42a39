"""Objects that the API servers accept."""

from __future__ import annotations

from typing import Any

API = "dsg.hrdag.org/v1alpha1"


def repository(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    """Return a Repository; keyword arguments replace fields of its spec, `storage` of its storage."""
    storage = {
        "type": "xfs",
        "node": "node-a",
        "directory": f"/data/dsg/{name}",
        "mountpoint": f"/srv/dsg/{name}",
        **spec.pop("storage", {}),
    }
    return {
        "apiVersion": API,
        "kind": "Repository",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "storage": storage,
            "owner": {"uid": 2000, "gid": 2000, "mode": "2770"},
            "dataDirs": ["input"],
            **spec,
        },
    }


def storage_pool(name: str, **spec: Any) -> dict[str, Any]:
    """Return a StoragePool."""
    storage = {"type": "xfs", "node": "node-a", "directory": "/data/dsg", "mountRoot": "/srv/dsg"}
    return {
        "apiVersion": API,
        "kind": "StoragePool",
        "metadata": {"name": name},
        "spec": {
            "storage": {**storage, **spec.pop("storage", {})},
            "namespaceSelector": {},
            "thresholds": {"capacityPercent": 80},
            **spec,
        },
    }


CONDITION = {
    "type": "Ready",
    "status": "True",
    "reason": "Reconciled",
    "message": "as declared",
    "lastTransitionTime": "2026-01-02T03:04:05Z",
    "observedGeneration": 1,
}
