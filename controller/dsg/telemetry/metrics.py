"""Records the metrics of the operator and of the monitor (`dsg.telemetry.table`)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from opentelemetry import metrics
from opentelemetry.metrics import Meter, Observation

from dsg.api.reasons import REASONS, TRANSACTION, Readiness, Reason
from dsg.reconcile.cluster import Key, Raw
from dsg.telemetry import observed, table
from dsg.telemetry.health import Heartbeats
from dsg.telemetry.tracing import SCOPE
from dsg.transfer.metric import Metric

_Observe = Callable[[], Iterable[Observation]]


_OPERATIONS = ("Init", "Sync", "Restore", "Read")
_ENDS = {"Closed": "Closed", "PathsConflict": "Conflict", "Aborted": "Aborted", "Expired": "Expired"}


def _end(entry: Reason) -> str:
    """Return the phase in which a transaction ends with a reason."""
    return _ENDS.get(entry.name, "Committed" if entry.readiness is Readiness.READY else "Failed")


class Pass(Protocol):
    """What a pass came to, as `dsg.reconcile.engine.PassResult` tells it."""

    @property
    def again(self) -> Collection[Key]:
        """Objects to look at again soon."""

    @property
    def outcomes(self) -> Mapping[Key, str]:
        """The reason that each object's Ready has now."""

    @property
    def corrected(self) -> int:
        """Changes by hand that were set back."""

    @property
    def steps(self) -> Sequence[str]:
        """Kinds of the steps that were taken."""


def _nothing() -> Iterable[Raw]:
    return ()


class ReconcileMetrics:
    """Records the table; from any thread.

    Counters and durations are recorded as things happen. What is a state is read when metrics are collected, so that an
    object that is gone is no longer shown.
    """

    def __init__(
        self,
        heartbeats: Heartbeats | None = None,
        objects: Callable[[], Iterable[Raw]] = _nothing,
        *,
        plane_seen: Callable[[], float | None] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        meter: Meter | None = None,
    ) -> None:
        """Create the instruments, on the process's meter.

        `objects` returns the node's objects as last seen; their statuses become gauges. Ages of watches and resyncs
        come from `heartbeats`. `plane_seen` returns when the node's data plane last said that it lives, in seconds
        since 1970; None where there is none.
        """
        meter = metrics.get_meter(SCOPE) if meter is None else meter
        self._lock = threading.Lock()
        self._waiting = 0
        self._objects = objects
        self._heartbeats = heartbeats
        self._plane_seen = plane_seen
        self._now = now
        self._started = now().timestamp()
        self._durations, self._transaction_steps = (
            meter.create_histogram(metric.name, unit=metric.unit, description=metric.description)
            for metric in (table.PASS_DURATION, table.TRANSACTION_STEPS)
        )
        counters = (table.RECONCILED, table.STEPS, table.DRIFT_CORRECTED, table.API_REQUESTS, table.TRANSACTIONS)
        self._reconciled, self._steps, self._corrected, self._requests, self._transactions = (
            meter.create_counter(metric.name, unit=metric.unit, description=metric.description) for metric in counters
        )
        self._begin_at_zero()
        gauges: tuple[tuple[Metric, _Observe], ...] = (
            (table.QUEUE_DEPTH, self._observe_queue),
            (table.OBJECTS, lambda: observed.by_ready(self._objects())),
            (table.OBJECTS_UNREADY, lambda: observed.by_reason(self._objects())),
            (table.CONDITIONS, lambda: observed.by_condition(self._objects())),
            (table.POOL_CAPACITY, lambda: observed.ratios(self._objects(), "capacityPercent")),
            (table.POOL_FRAGMENTATION, lambda: observed.ratios(self._objects(), "fragmentationPercent")),
            (table.POOL_HEALTH, lambda: observed.healths(self._objects())),
            (table.POOL_ERRORS, lambda: observed.errors(self._objects())),
            (table.TRANSACTIONS_OPEN, lambda: observed.open_phases(self._objects())),
            (table.TRANSACTIONS_AGE, lambda: observed.oldest(self._objects(), self._now())),
            (table.TRANSACTIONS_OVERDUE, lambda: observed.overdue(self._objects(), self._now())),
            (table.LAST_COMMIT, lambda: observed.last_commit(self._objects())),
            (table.QUOTA_USED, lambda: observed.quota_used(self._objects())),
            (table.RETENTION_BACKLOG, lambda: observed.backlog(self._objects())),
            (table.WATCH_AGE, self._observe_watches),
            (table.RESYNC_AGE, self._observe_resync),
            (table.LEASE_AGE, self._observe_lease),
            (table.CLOCK_OFFSET, self._observe_clock),
            (table.PLANE_SILENCE, self._observe_plane),
        )
        for metric, observe in gauges:
            gauge(meter, metric, observe)

    def _begin_at_zero(self) -> None:
        """Show what is seldom counted from the start: a series that begins with 1 has no increase to alert on."""
        self._corrected.add(0)
        for entry in REASONS:
            if TRANSACTION in entry.kinds and entry.readiness not in {None, Readiness.WORKING}:
                for operation in _OPERATIONS:
                    labels = {"operation": operation, "outcome": _end(entry), "reason": entry.name}
                    self._transactions.add(0, labels)

    def passed(self, result: Pass, seconds: float, waiting: int) -> None:
        """Record a pass: what it came to, how long it took, and how many objects wait for the next."""
        self._durations.record(seconds, {"outcome": "again" if result.again else "settled"})
        for key, reason in result.outcomes.items():
            self._reconciled.add(1, {"kind": key.kind, "outcome": observed.outcome(reason)})
        for step, count in Counter(result.steps).items():
            self._steps.add(count, {"step": step})
        if result.corrected:
            self._corrected.add(result.corrected)
        with self._lock:
            self._waiting = waiting

    def transaction_ended(self, operation: str, outcome: str, reason: str) -> None:
        """Count a SyncTransaction that is over."""
        self._transactions.add(1, {"operation": operation, "outcome": outcome, "reason": reason})

    def transaction_step(self, step: str, seconds: float) -> None:
        """Record how long a step of a SyncTransaction took."""
        self._transaction_steps.record(seconds, {"step": step})

    def request(self, resource: str, verb: str, outcome: str) -> None:
        """Count a request to the API; `outcome` is ok or the class of the failure (`dsg.reconcile.cluster`)."""
        self._requests.add(1, {"resource": resource, "verb": verb, "outcome": _answer(outcome)})

    def _observe_queue(self) -> list[Observation]:
        with self._lock:
            return [Observation(self._waiting)]

    def _observe_watches(self) -> list[Observation]:
        if self._heartbeats is None:
            return []
        beats = self._heartbeats.beats()
        return [Observation(beats.watch_age(resource), {"resource": resource}) for resource in beats.watches]

    def _observe_resync(self) -> list[Observation]:
        return [] if self._heartbeats is None else [Observation(self._heartbeats.beats().resync_age())]

    def _observe_lease(self) -> list[Observation]:
        return [] if self._heartbeats is None else [Observation(self._heartbeats.beats().lease_age())]

    def _observe_clock(self) -> list[Observation]:
        offset = self._heartbeats.beats().clock_offset if self._heartbeats is not None else None
        return [] if offset is None else [Observation(offset)]

    def _observe_plane(self) -> list[Observation]:
        if self._plane_seen is None:
            return []
        seen = self._plane_seen()
        return [Observation(max(0.0, self._now().timestamp() - (self._started if seen is None else seen)))]


class MonitorMetrics:
    """Records what the monitor shows; from any thread."""

    def __init__(self, heartbeats: Heartbeats, *, meter: Meter | None = None) -> None:
        """Create the instruments, on the process's meter. A look of the monitor is a resync of `heartbeats`."""
        self._meter = metrics.get_meter(SCOPE) if meter is None else meter
        wanted = table.API_REQUESTS
        self._requests = self._meter.create_counter(wanted.name, unit=wanted.unit, description=wanted.description)
        gauge(self._meter, table.MONITOR_LOOK_AGE, lambda: [Observation(heartbeats.beats().resync_age())])

    def watch(self, lease_ages: Callable[[], Mapping[str, float]]) -> None:
        """Show the ages of the nodes' Leases, in seconds by node."""
        gauge(
            self._meter,
            table.NODE_LEASE_AGE,
            lambda: [Observation(age, {"dsg_node": node}) for node, age in lease_ages().items()],
        )

    def request(self, resource: str, verb: str, outcome: str) -> None:
        """Count a request to the API; `outcome` is ok or the class of the failure (`dsg.reconcile.cluster`)."""
        self._requests.add(1, {"resource": resource, "verb": verb, "outcome": _answer(outcome)})


def _answer(outcome: str) -> str:
    return {"ok": "ok", "Conflict": "conflict", "Gone": "gone"}.get(outcome, "error")


def gauge(meter: Meter, metric: Metric, observe: Callable[[], Iterable[Observation]]) -> None:
    """Show a metric of the table whose values are looked up when metrics are collected."""
    meter.create_observable_gauge(
        metric.name, [lambda _options: observe()], unit=metric.unit, description=metric.description
    )
