"""The operator's metrics: one table of them, and what records them.

Names follow OpenTelemetry's conventions; the Prometheus endpoint shows the same ones with dots as underscores, the unit
and `_total` at the end. Labels are few and bounded: no metric carries the name of a repository, because a node may hold
thousands and every label set is kept for ever by whoever collects them. Which repository is unwell is what conditions,
Events, logs and traces say. StoragePools are the exception: a node has a handful of them.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from dsg.api.reasons import BY_NAME, CONDITION_TYPES, POOL, REPOSITORY, Readiness
from dsg.reconcile.cluster import Key, Raw
from dsg.telemetry.health import Heartbeats
from dsg.telemetry.tracing import SCOPE

DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds in seconds of the buckets of every duration: from a quick `zfs list` to a command that times out."""


class Instrument(StrEnum):
    """What can be done with a metric's values."""

    COUNTER = "counter"
    """Only grows, from 0 at the operator's start."""
    HISTOGRAM = "histogram"
    """Distribution of values, in buckets."""
    GAUGE = "gauge"
    """A value as it is now."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: everything that is known about it before it has a value."""

    name: str
    instrument: Instrument
    unit: str
    """In UCUM, as OpenTelemetry writes units; in braces where only a word says what is counted."""
    description: str
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Names of the attributes (Prometheus: labels) and what their values are."""

    @property
    def prometheus_name(self) -> str:
        """The name at the Prometheus endpoint, without the `_bucket`, `_sum` and `_count` of histograms."""
        words = self.name.replace(".", "_")
        if self.unit == "s":
            words = f"{words}_seconds"
        return f"{words}_total" if self.instrument is Instrument.COUNTER else words


_KIND = "Repository or StoragePool"
_POOL_NAME = "name of the StoragePool object"

PASS_DURATION = Metric(
    "dsg.reconcile.duration",
    Instrument.HISTOGRAM,
    "s",
    "Time that one pass took. A pass reconciles, against one look at the storage, all objects that were asked for.",
    {"outcome": "settled, or again where an object is to be looked at again soon"},
)
RECONCILED = Metric(
    "dsg.reconcile.objects",
    Instrument.COUNTER,
    "{object}",
    "Objects reconciled, by what their Ready condition says afterwards.",
    {"kind": _KIND, "outcome": "ready, working or stalled"},
)
QUEUE_DEPTH = Metric("dsg.queue.depth", Instrument.GAUGE, "{object}", "Objects that wait for the next pass.")
STEPS = Metric(
    "dsg.steps",
    Instrument.COUNTER,
    "{step}",
    "Steps of plans that were taken on the node. A node that is as declared takes none.",
    {"step": "kind of the step, such as CreateParent"},
)
DRIFT_CORRECTED = Metric(
    "dsg.drift.corrected", Instrument.COUNTER, "{difference}", "Changes made by hand on the node that were set back."
)
OBJECTS = Metric(
    "dsg.objects",
    Instrument.GAUGE,
    "{object}",
    "Objects of this node by the status of their Ready condition; every status is there, with 0 where none has it.",
    {"kind": _KIND, "ready": "True, False or Unknown"},
)
OBJECTS_UNREADY = Metric(
    "dsg.objects.unready",
    Instrument.GAUGE,
    "{object}",
    "Objects of this node whose Ready condition is not True, by its reason.",
    {"kind": _KIND, "reason": "a reason out of docs/reference/conditions.md, or Unreported"},
)
CONDITIONS = Metric(
    "dsg.objects.condition",
    Instrument.GAUGE,
    "{object}",
    "Objects of this node for which a condition is True: how many have drifted, are suspended, are short of space.",
    {"kind": _KIND, "type": "type of the condition"},
)
POOL_CAPACITY = Metric(
    "dsg.pool.capacity.ratio", Instrument.GAUGE, "1", "Part of a pool's space that is taken.", {"pool": _POOL_NAME}
)
POOL_FRAGMENTATION = Metric(
    "dsg.pool.fragmentation.ratio",
    Instrument.GAUGE,
    "1",
    "Fragmentation of a pool's free space, from 0 to 1.",
    {"pool": _POOL_NAME},
)
POOL_HEALTH = Metric(
    "dsg.pool.health",
    Instrument.GAUGE,
    "{pool}",
    "1 for the state that a pool is in, 0 for the others.",
    {"pool": _POOL_NAME, "health": "ONLINE, DEGRADED, FAULTED, OFFLINE, UNAVAIL, REMOVED or SUSPENDED"},
)
POOL_ERRORS = Metric(
    "dsg.pool.errors",
    Instrument.GAUGE,
    "{error}",
    "Errors that a pool's status shows; `zpool clear` sets them back.",
    {"pool": _POOL_NAME, "type": "read, write, checksum or data"},
)
WATCH_AGE = Metric(
    "dsg.watch.age",
    Instrument.GAUGE,
    "s",
    "Time since a Kubernetes watch last brought anything; /healthz fails beyond its limit.",
    {"resource": "plural.group of what is watched"},
)
RESYNC_AGE = Metric(
    "dsg.resync.age", Instrument.GAUGE, "s", "Time since a pass over all objects last ended, or since the start."
)
API_REQUESTS = Metric(
    "dsg.api.requests",
    Instrument.COUNTER,
    "{request}",
    "Requests to the Kubernetes API other than watches. A quiet node makes no writes but those of its Lease.",
    {
        "resource": "plural of the resource, with /status where only that is written",
        "verb": "HTTP method",
        "outcome": "ok, conflict, gone or error",
    },
)

TABLE: tuple[Metric, ...] = (
    PASS_DURATION,
    RECONCILED,
    QUEUE_DEPTH,
    STEPS,
    DRIFT_CORRECTED,
    OBJECTS,
    OBJECTS_UNREADY,
    CONDITIONS,
    POOL_CAPACITY,
    POOL_FRAGMENTATION,
    POOL_HEALTH,
    POOL_ERRORS,
    WATCH_AGE,
    RESYNC_AGE,
    API_REQUESTS,
)
"""What is recorded here."""

_COMMAND = {
    "program": "zfs, zpool, mount …",
    "verb": "what the program was to do, such as list",
    "outcome": "success, failure, timeout, overflow, missing or refused",
}
STORAGE_TABLE: tuple[Metric, ...] = (
    Metric(
        "dsg.storage.command.duration",
        Instrument.HISTOGRAM,
        "s",
        "How long the commands of the storage node ran",
        _COMMAND,
    ),
    Metric("dsg.storage.commands", Instrument.COUNTER, "", "Commands of the storage node, by outcome", _COMMAND),
    Metric("dsg.storage.commands.stuck", Instrument.GAUGE, "", "Commands that ran out of time and cannot be killed"),
)
"""What `dsg.storage.process` records, which knows nothing of this module."""

READY_STATUSES = ("True", "False", "Unknown")
POOL_HEALTHS = ("ONLINE", "DEGRADED", "FAULTED", "OFFLINE", "UNAVAIL", "REMOVED", "SUSPENDED")
UNREPORTED = "Unreported"
"""Reason shown for an object that no operator has written a status for yet."""

_Observe = Callable[[], Iterable[Observation]]


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
        meter: Meter | None = None,
    ) -> None:
        """Create the instruments, on the process's meter.

        `objects` returns the node's Repositories and StoragePools as last seen; their statuses become gauges. Ages of
        watches and resyncs come from `heartbeats`.
        """
        meter = metrics.get_meter(SCOPE) if meter is None else meter
        self._lock = threading.Lock()
        self._waiting = 0
        self._objects = objects
        self._heartbeats = heartbeats
        self._durations = meter.create_histogram(
            PASS_DURATION.name, unit=PASS_DURATION.unit, description=PASS_DURATION.description
        )
        self._reconciled, self._steps, self._corrected, self._requests = (
            meter.create_counter(metric.name, unit=metric.unit, description=metric.description)
            for metric in (RECONCILED, STEPS, DRIFT_CORRECTED, API_REQUESTS)
        )
        observed: tuple[tuple[Metric, _Observe], ...] = (
            (QUEUE_DEPTH, self._observe_queue),
            (OBJECTS, lambda: _by_ready(self._objects())),
            (OBJECTS_UNREADY, lambda: _by_reason(self._objects())),
            (CONDITIONS, lambda: _by_condition(self._objects())),
            (POOL_CAPACITY, lambda: _ratios(self._objects(), "capacityPercent")),
            (POOL_FRAGMENTATION, lambda: _ratios(self._objects(), "fragmentationPercent")),
            (POOL_HEALTH, lambda: _healths(self._objects())),
            (POOL_ERRORS, lambda: _errors(self._objects())),
            (WATCH_AGE, self._observe_watches),
            (RESYNC_AGE, self._observe_resync),
        )
        for metric, observe in observed:
            meter.create_observable_gauge(
                metric.name, [_callback(observe)], unit=metric.unit, description=metric.description
            )

    def passed(self, result: Pass, seconds: float, waiting: int) -> None:
        """Record a pass: what it came to, how long it took, and how many objects wait for the next."""
        self._durations.record(seconds, {"outcome": "again" if result.again else "settled"})
        for key, reason in result.outcomes.items():
            self._reconciled.add(1, {"kind": key.kind, "outcome": _outcome(reason)})
        for step, count in Counter(result.steps).items():
            self._steps.add(count, {"step": step})
        if result.corrected:
            self._corrected.add(result.corrected)
        with self._lock:
            self._waiting = waiting

    def request(self, resource: str, verb: str, outcome: str) -> None:
        """Count a request to the API; `outcome` is ok or the class of the failure (`dsg.reconcile.cluster`)."""
        shown = {"ok": "ok", "Conflict": "conflict", "Gone": "gone"}.get(outcome, "error")
        self._requests.add(1, {"resource": resource, "verb": verb, "outcome": shown})

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


def _callback(observe: _Observe) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _options: observe()


def _outcome(reason: str) -> str:
    entry = BY_NAME.get(reason)
    # Reasons that are not of Ready are those of a deletion that something holds up: a person must act.
    return str(entry.readiness or Readiness.STALLED) if entry is not None else str(Readiness.STALLED)


def _status(obj: Raw) -> Mapping[str, Any]:
    status = obj.get("status")
    return status if isinstance(status, Mapping) else {}


def _conditions(obj: Raw) -> dict[str, Mapping[str, Any]]:
    return {condition["type"]: condition for condition in _status(obj).get("conditions") or ()}


def _ready(obj: Raw) -> str:
    status = str(_conditions(obj).get("Ready", {}).get("status", ""))
    return status if status in READY_STATUSES else "Unknown"


def _by_ready(objects: Iterable[Raw]) -> list[Observation]:
    counts = {(kind, status): 0 for kind in (REPOSITORY, POOL) for status in READY_STATUSES}
    for obj in objects:
        counts[obj["kind"], _ready(obj)] += 1
    return [Observation(count, {"kind": kind, "ready": status}) for (kind, status), count in counts.items()]


def _by_reason(objects: Iterable[Raw]) -> list[Observation]:
    counts = Counter(
        (obj["kind"], str(_conditions(obj).get("Ready", {}).get("reason") or UNREPORTED))
        for obj in objects
        if _ready(obj) != "True"
    )
    return [Observation(count, {"kind": kind, "reason": reason}) for (kind, reason), count in counts.items()]


def _by_condition(objects: Iterable[Raw]) -> list[Observation]:
    counts = {(kind, str(type_)): 0 for type_, (kinds, _) in CONDITION_TYPES.items() for kind in kinds}
    for obj in objects:
        for type_, condition in _conditions(obj).items():
            key = (obj["kind"], type_)
            if condition.get("status") == "True" and key in counts:
                counts[key] += 1
    return [Observation(count, {"kind": kind, "type": type_}) for (kind, type_), count in counts.items()]


def _pools(objects: Iterable[Raw]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for obj in objects:
        if obj["kind"] == POOL:
            yield obj["metadata"]["name"], _status(obj)


def _ratios(objects: Iterable[Raw], name: str) -> list[Observation]:
    return [
        Observation(percent / 100, {"pool": pool})
        for pool, status in _pools(objects)
        if isinstance(percent := status.get(name), int)
    ]


def _healths(objects: Iterable[Raw]) -> list[Observation]:
    return [
        Observation(int(health == status["health"]), {"pool": pool, "health": health})
        for pool, status in _pools(objects)
        if status.get("health")
        # A word that other storage uses, or a later OpenZFS, is shown as it is.
        for health in dict.fromkeys((*POOL_HEALTHS, str(status["health"])))
    ]


def _errors(objects: Iterable[Raw]) -> list[Observation]:
    return [
        Observation(int((status["errors"]).get(type_, 0)), {"pool": pool, "type": type_})
        for pool, status in _pools(objects)
        if status.get("errors")
        for type_ in ("read", "write", "checksum", "data")
    ]


def reference(table: Iterable[Metric] = (*TABLE, *STORAGE_TABLE)) -> str:
    """Return docs/reference/metrics.md: every metric of a table, as Markdown."""
    lines = [
        "# Metrics",
        "",
        "<!-- Generated from dsg.telemetry.metrics; do not edit. -->",
        "",
        "The operator serves these at `/metrics` (Prometheus text format) and, where the standard",
        "`OTEL_EXPORTER_OTLP_*` variables name a collector, sends the same ones there. No metric carries the name of a",
        "repository: see conditions, Events, logs and traces for that.",
        "",
    ]
    for metric in sorted(table, key=lambda metric: metric.name):
        unit = f", unit `{metric.unit}`" if metric.unit else ""
        lines += [
            f"## `{metric.prometheus_name}`",
            "",
            metric.description.rstrip(".") + ".",
            "",
            f"- OpenTelemetry: `{metric.name}`, {metric.instrument}{unit}",
        ]
        lines += [f"- `{name}`: {meaning}" for name, meaning in metric.attributes.items()]
        if metric.instrument is Instrument.HISTOGRAM:
            lines.append(f"- buckets: {', '.join(f'{bound:g}' for bound in DURATION_BUCKETS)}")
        lines.append("")
    return "\n".join(lines)
