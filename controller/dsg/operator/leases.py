"""The Leases by which node operators show that they are alive (coordination.k8s.io/v1), as kubelets do for nodes."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime

from dsg.api.names import GROUP, lease_name
from dsg.operator.api_server import MERGE_PATCH, ApiServer, path
from dsg.reconcile.cluster import Gone

LEASE_SECONDS = 40
"""For how long a Lease speaks for its operator."""
NODE_LABEL = f"{GROUP}/node"
"""Label of an operator's Lease: the node it speaks for."""
AUDIT_HEAD = f"{GROUP}/audit-head"
"""Annotation of an operator's Lease: the last durable record of its audit log, as `dsg.audit.record.Head` writes it."""
_COMPONENT = {"app.kubernetes.io/name": "dsg", "app.kubernetes.io/component": "operator"}


class Leases:
    """Renews and reads Leases in one namespace. Raises ClusterError."""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        self._server = server
        self._namespace = namespace
        self._identity = f"{socket.gethostname()}_{os.getpid()}"

    def _url(self, *name: str) -> str:
        return path("apis", "coordination.k8s.io", "v1", "namespaces", self._namespace, "leases", *name)

    def renew(self, node: str, audit_head: str = "") -> None:
        """Renew a node's Lease; create it when there is none. `audit_head`: where the node's audit log ends."""
        name = lease_name(node)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": self._identity, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now}
        try:
            annotations = {"metadata": {"annotations": {AUDIT_HEAD: audit_head}}} if audit_head else {}
            self._server.request(
                "PATCH",
                self._url(name),
                resource="leases",
                body={"spec": spec, **annotations},
                content_type=MERGE_PATCH,
            )
        except Gone:
            metadata = {"name": name, "namespace": self._namespace, "labels": {**_COMPONENT, NODE_LABEL: node}}
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
            self._server.request("POST", self._url(), resource="leases", body=body)

    def renewals(self) -> dict[str, str]:
        """Return the time of the last renewal, as text, of each node that has a Lease."""
        selector = ",".join(f"{key}={value}" for key, value in _COMPONENT.items())
        answer = self._server.request("GET", self._url(), resource="leases", query={"labelSelector": selector})
        return {
            item["metadata"]["labels"][NODE_LABEL]: str(item["spec"].get("renewTime", ""))
            for item in answer["items"]
            if NODE_LABEL in (item["metadata"].get("labels") or {})
        }
