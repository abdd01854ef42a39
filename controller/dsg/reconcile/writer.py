"""Writes of one object in one reconciliation: each at most once, and only when something has changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dsg.reconcile.cluster import Cluster, EventDraft, Raw
from dsg.reconcile.store import Store


class Writer:
    """Sends writes and keeps the store at what the API server answered."""

    def __init__(self, cluster: Cluster, store: Store) -> None:
        self._cluster = cluster
        self._store = store

    def status(self, obj: Raw, status: Mapping[str, Any]) -> bool:
        """Write a status unless the object has it already; return whether a write was needed. Raises ClusterError."""
        if (obj.get("status") or {}) == status:
            return False
        self._store.put(self._cluster.put_status(obj, status))
        return True

    def add_finalizer(self, obj: Raw, name: str) -> Raw:
        """Return the object with a finalizer, written when it was missing. Raises ClusterError."""
        finalizers = list(obj["metadata"].get("finalizers") or [])
        if name in finalizers:
            return obj
        new = self._cluster.set_finalizers(obj, [*finalizers, name])
        self._store.put(new)
        return new

    def remove_finalizer(self, obj: Raw, name: str) -> None:
        """Remove a finalizer. Raises ClusterError."""
        finalizers = list(obj["metadata"].get("finalizers") or [])
        if name in finalizers:
            self._store.put(self._cluster.set_finalizers(obj, [f for f in finalizers if f != name]))

    def events(self, obj: Raw, events: Iterable[EventDraft]) -> None:
        """Post Events. Raises ClusterError."""
        for event in events:
            self._cluster.post_event(obj, event)
