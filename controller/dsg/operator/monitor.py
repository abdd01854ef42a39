"""Says on behalf of nodes that no longer can that they are lost: the only writer beside a node's own operator.

A node is lost when its Lease has not been renewed for as long as it says. Ages are measured on our own clock,
from when a renewal was first seen here, so that clocks that differ do no harm. It never says that something is well.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from dsg.api.reasons import POOL, REPOSITORY, ConditionType
from dsg.operator.kubernetes_cluster import KubernetesCluster
from dsg.operator.leases import LEASE_SECONDS, Leases
from dsg.reconcile.cluster import ClusterError, EventDraft, Raw
from dsg.reconcile.conditions import build, readiness
from dsg.reconcile.repository_status import old_condition
from dsg.reconcile.times import rfc3339

INTERVAL = 10.0
"""Seconds between two looks at the Leases."""

_log = structlog.get_logger("dsg.monitor")


@dataclass(slots=True)
class LeaseAges:
    """When each node's Lease was last seen to be renewed, by our own clock (seconds)."""

    limit: float = float(LEASE_SECONDS)
    _seen: dict[str, tuple[str, float]] = field(default_factory=dict)

    def since(self) -> dict[str, float]:
        """Return when each node's Lease was last seen to be renewed."""
        return {node: since for node, (_, since) in self._seen.copy().items()}

    def lost(self, renewals: Mapping[str, str], now: float) -> set[str]:
        """Take the renewal times as they are now, and return the nodes whose operators have fallen silent."""
        for node, renewed in renewals.items():
            known = self._seen.get(node)
            if known is None or known[0] != renewed:
                self._seen[node] = (renewed, now)
        for node in self._seen.keys() - renewals.keys():
            # A Lease that was removed says nothing; whoever removed it has taken the node away.
            del self._seen[node]
        return {node for node, (_, since) in self._seen.items() if now - since > self.limit}


def lost_status(obj: Raw, node: str, now: str) -> dict[str, Any] | None:
    """Return the status that says the node is lost; None when it says so already, or was never looked at."""
    status = dict(obj.get("status") or {})
    if not status.get("conditions") or old_condition(status, ConditionType.READY).get("reason") == "NodeLost":
        return None
    text = f"the operator of node {node} has not shown itself for more than {LEASE_SECONDS} s"
    generation = max(0, int(status.get("observedGeneration", 0)))
    built = build(readiness("NodeLost", text), status["conditions"], generation, now)
    changed = {c.type: c.model_dump(mode="json", by_alias=True, exclude_none=True) for c in built}
    status["conditions"] = [changed.pop(c["type"], c) for c in status["conditions"]] + list(changed.values())
    return status


class Monitor:
    """Looks at the Leases again and again."""

    def __init__(
        self,
        cluster: KubernetesCluster,
        leases: Leases,
        clock: Callable[[], float] = time.monotonic,
        on_look: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_look` is told whenever all Leases have been read."""
        self._on_look = on_look
        self._cluster = cluster
        self._leases = leases
        self._clock = clock
        self._ages = LeaseAges()

    def lease_ages(self) -> dict[str, float]:
        """Return the seconds since each node's Lease was last seen to be renewed; from any thread."""
        now = self._clock()
        return {node: now - since for node, since in self._ages.since().items()}

    def run(self, stop: threading.Event) -> None:
        """Look until told to stop."""
        while not stop.is_set():
            try:
                self.look()
            except ClusterError as error:
                _log.warning("nodes could not be looked at", error=str(error))
            stop.wait(INTERVAL)

    def look(self) -> set[str]:
        """Mark the objects of lost nodes; return the nodes. Raises ClusterError."""
        lost = self._ages.lost(self._leases.renewals(), self._clock())
        self._on_look()
        for node in sorted(lost):
            for kind in (POOL, REPOSITORY):
                for obj in self._cluster.list_objects(kind, node):
                    self._mark(obj, node)
        return lost

    def _mark(self, obj: Raw, node: str) -> None:
        status = lost_status(obj, node, rfc3339(datetime.now(UTC)))
        if status is None:
            return
        try:
            self._cluster.put_status(obj, status)
            message = str(old_condition(status, ConditionType.READY)["message"])
            self._cluster.post_event(obj, EventDraft("NodeLost", message))
        except ClusterError as error:
            # A conflict means that the operator has just written: the node is not lost after all.
            _log.info("object not marked", name=obj["metadata"]["name"], error=str(error))
