"""kopf's part: watches of this node's objects and of the namespaces, each event handed on as it is."""

from __future__ import annotations

from typing import Any, Protocol

import kopf

from dsg.api.names import GROUP, VERSION, finalizer
from dsg.api.reasons import POOL, REPOSITORY, TRANSACTION
from dsg.operator.kubernetes_cluster import NODE_FIELDS, PLURALS
from dsg.reconcile.cluster import Raw

WATCHED = (*(f"{plural}.{GROUP}" for plural in PLURALS.values()), "namespaces")
"""What is watched, as `plural.group`: the silence of any of these means that the operator hears nothing."""


class Receiver(Protocol):
    """Takes what the watches bring."""

    def seen(self, obj: Raw, *, deleted: bool) -> None:
        """Take an event about a Repository, StoragePool or SyncTransaction."""

    def seen_namespace(self, name: str, labels: dict[str, str] | None) -> None:
        """Take an event about a namespace; labels are None when it is gone."""


def register(registry: kopf.OperatorRegistry, receiver: Receiver) -> None:
    """Register event handlers. They put no finalizer, annotation or status on anything."""

    def handler_for(kind: str) -> Any:
        async def handle(event: dict[str, Any], **_: Any) -> None:
            obj = {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, **event["object"]}
            receiver.seen(obj, deleted=event["type"] == "DELETED")

        return handle

    for kind in (REPOSITORY, POOL, TRANSACTION):
        kopf.on.event(GROUP, VERSION, PLURALS[kind], registry=registry, id=kind.lower())(handler_for(kind))

    async def namespace(event: dict[str, Any], **_: Any) -> None:
        metadata = event["object"]["metadata"]
        gone = event["type"] == "DELETED"
        receiver.seen_namespace(metadata["name"], None if gone else dict(metadata.get("labels") or {}))

    on_namespace: Any = kopf.on.event("", "v1", "namespaces", registry=registry, id="namespace")
    on_namespace(namespace)


def settings_for(node: str) -> kopf.OperatorSettings:
    """Return kopf's settings for one node's operator (docs: neighbours' outages taught each of them)."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    # kopf removes a finalizer of its own name wherever it needs none, which is everywhere here: it must not be ours.
    settings.persistence.finalizer = f"{finalizer(node)}.kopf"
    prefix = finalizer(node).replace("/", ".")
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=prefix, v1=False)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=prefix, v1=False)
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 310
    settings.watching.connect_timeout = 30
    settings.watching.reconnect_backoff = 1
    settings.networking.request_timeout = 30
    settings.posting.enabled = False
    # Needs no rights on CustomResourceDefinitions; namespaces are watched as a resource like any other.
    settings.scanning.disabled = True
    for kind, plural in PLURALS.items():
        settings.watching.field_selectors[GROUP, VERSION, plural] = f"{NODE_FIELDS[kind]}={node}"
    return settings
