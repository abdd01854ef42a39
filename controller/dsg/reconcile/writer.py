"""Writes of one object in one reconciliation: each at most once, and only when something has changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from dsg.reconcile.cluster import Cluster, EventDraft, Forbidden, Raw, key_of
from dsg.reconcile.store import Store

_log = structlog.get_logger("dsg.reconcile")


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
        if name not in finalizers:
            return
        left = [f for f in finalizers if f != name]
        new = self._cluster.set_finalizers(obj, left)
        if left or new["metadata"].get("deletionTimestamp") is None:
            self._store.put(new)
        else:
            self._store.put_last(new)

    def events(self, obj: Raw, events: Iterable[EventDraft]) -> None:
        """Post Events; what the API server forbids to be posted is told in the log alone. Raises ClusterError.

        Nothing new can be made in a namespace that is being deleted, and a Repository that could not tell of its end
        would keep its namespace for ever.
        """
        for event in events:
            try:
                self._cluster.post_event(obj, event)
            except Forbidden as error:
                told = {"object": str(key_of(obj)), "reason": event.reason, "message": event.message}
                _log.warning("Event not posted", error=str(error), **told)
