"""What the reconciler and the operator's loops need of the Kubernetes API: status, finalizers, Events, lists."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from dsg.api.names import API_VERSION, FIELD_NODE, FIELD_TRANSACTION_NODE, GROUP, VERSION
from dsg.api.reasons import POOL, REPOSITORY, TRANSACTION
from dsg.operator.api_server import MERGE_PATCH, ApiServer, path
from dsg.reconcile.cluster import EventDraft, Raw

PAGE = 500
"""Objects in one answer to a list."""
PLURALS = {REPOSITORY: "repositories", POOL: "storagepools", TRANSACTION: "synctransactions"}
NODE_FIELDS = {REPOSITORY: FIELD_NODE, POOL: FIELD_NODE, TRANSACTION: FIELD_TRANSACTION_NODE}
"""By kind: the field that names the node (selectableFields of the CRDs)."""
_MOST_OF_A_MESSAGE = 1024
"""The API server refuses Events with longer messages."""


def _url(obj: Raw, *more: str) -> str:
    metadata, plural = obj["metadata"], PLURALS[obj["kind"]]
    namespace = metadata.get("namespace")
    where = ("namespaces", namespace) if namespace else ()
    return path("apis", GROUP, VERSION, *where, plural, metadata["name"], *more)


class KubernetesCluster:
    """Implements `dsg.reconcile.cluster.Cluster` and `Secrets`, and the lists of the resync. Safe for threads."""

    def __init__(self, server: ApiServer, instance: str) -> None:
        """`instance` is who reports, in Events: the node's name."""
        self._server = server
        self._instance = instance

    def put_status(self, obj: Raw, status: Mapping[str, Any]) -> Raw:
        """Replace an object's status if the object has not changed since it was read."""
        resource = f"{PLURALS[obj['kind']]}/status"
        return self._server.request("PUT", _url(obj, "status"), resource=resource, body={**obj, "status": dict(status)})

    def set_finalizers(self, obj: Raw, finalizers: list[str]) -> Raw:
        """Replace an object's finalizers if the object has not changed since it was read."""
        body = {"metadata": {"finalizers": finalizers, "resourceVersion": obj["metadata"]["resourceVersion"]}}
        return self._server.request(
            "PATCH", _url(obj), resource=PLURALS[obj["kind"]], body=body, content_type=MERGE_PATCH
        )

    def delete_object(self, obj: Raw) -> None:
        """Delete an object if it is still the one that was read, unchanged (DeleteOptions, preconditions)."""
        metadata = obj["metadata"]
        preconditions = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        self._server.request("DELETE", _url(obj), resource=PLURALS[obj["kind"]], body=body)

    def post_event(self, obj: Raw, event: EventDraft) -> None:
        """Post an Event (v1) about an object; those of cluster-scoped objects go to the namespace `default`."""
        metadata = obj["metadata"]
        namespace = metadata.get("namespace") or "default"
        now = datetime.now(UTC)
        seconds = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        about = {
            "apiVersion": obj["apiVersion"],
            "kind": obj["kind"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "resourceVersion": metadata.get("resourceVersion", ""),
        }
        if metadata.get("namespace"):
            about["namespace"] = metadata["namespace"]
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}", "namespace": namespace},
            "involvedObject": about,
            "type": event.entry.event or "Normal",
            "reason": event.reason,
            "message": event.message[:_MOST_OF_A_MESSAGE],
            "action": event.reason,
            "reportingComponent": f"{GROUP}/operator",
            "reportingInstance": self._instance,
            "source": {"component": "dsg-operator", "host": self._instance},
            "firstTimestamp": seconds,
            "lastTimestamp": seconds,
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "count": 1,
        }
        self._server.request("POST", path("api", "v1", "namespaces", namespace, "events"), resource="events", body=body)

    def secret(self, namespace: str, name: str) -> Mapping[str, str]:
        """Return the entries of a Secret, in base64 (`dsg.reconcile.cluster.Secrets`)."""
        url = path("api", "v1", "namespaces", namespace, "secrets", name)
        data = self._server.request("GET", url, resource="secrets").get("data") or {}
        return {str(entry): str(value) for entry, value in data.items()}

    def list_objects(self, kind: str, node: str | None = None) -> list[Raw]:
        """Return all objects of a kind, or those of one node."""
        query = {"limit": str(PAGE)}
        if node is not None:
            query["fieldSelector"] = f"{NODE_FIELDS[kind]}={node}"
        found: list[Raw] = []
        while True:
            url = path("apis", GROUP, VERSION, PLURALS[kind])
            answer = self._server.request("GET", url, resource=PLURALS[kind], query=query)
            found += [{"apiVersion": API_VERSION, "kind": kind, **item} for item in answer["items"]]
            token = answer.get("metadata", {}).get("continue")
            if not token:
                return found
            query["continue"] = token

    def list_namespaces(self) -> dict[str, dict[str, str]]:
        """Return the labels of every namespace."""
        answer = self._server.request("GET", path("api", "v1", "namespaces"), resource="namespaces")
        return {item["metadata"]["name"]: dict(item["metadata"].get("labels") or {}) for item in answer["items"]}
