"""The names under which this project appears in Kubernetes and on disk, each stated once."""

from __future__ import annotations

GROUP = "dsg.hrdag.org"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

CONFIRM_DELETE = f"{GROUP}/confirm-delete"
"""Annotation: repeats a Repository's name, so that `deletionPolicy: Delete` may destroy its data."""

RECONCILE_REQUESTED = f"{GROUP}/requestedAt"
"""Annotation: any new value asks for a reconcile now; it is echoed in `status.lastHandledReconcileAt`."""

TRACEPARENT = f"{GROUP}/traceparent"
"""Annotation on a SyncTransaction: the client's trace (W3C Trace Context, traceparent); the operator continues it."""

FIELD_NODE = "spec.storage.node"
"""The field by which each node's operator selects its own Repositories and StoragePools."""

FIELD_TRANSACTION_NODE = "spec.node"
"""The field by which it selects its own SyncTransactions."""

PROPERTY_PREFIX = "org.hrdag.dsg:"
"""Prefix of ZFS user properties (reverse DNS, as zfsprops(7) advises)."""


def finalizer(node: str) -> str:
    """Return the finalizer that a node's operator puts on its objects.

    The name carries the node: operators that share one finalizer name remove each other's for ever.
    """
    return f"{GROUP}/{node}"


def lease_name(node: str) -> str:
    """Return the name of the Lease by which a node's operator shows that it is alive."""
    return f"dsg-operator-{node}"
