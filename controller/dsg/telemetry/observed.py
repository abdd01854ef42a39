"""Gauges that are read from the objects of a node, as pure functions of their statuses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from opentelemetry.metrics import Observation

from dsg.api.durations import seconds
from dsg.api.reasons import BY_NAME, CONDITION_TYPES, POOL, REPOSITORY, TRANSACTION, Readiness
from dsg.reconcile.cluster import Raw
from dsg.reconcile.keeping import over

READY_STATUSES = ("True", "False", "Unknown")
POOL_HEALTHS = ("ONLINE", "DEGRADED", "FAULTED", "OFFLINE", "UNAVAIL", "REMOVED", "SUSPENDED")
OPEN_PHASES = ("Pending", "Staging", "Serving", "Verifying", "Committing")
UNREPORTED = "Unreported"
"""Reason shown for an object that no operator has written a status for yet."""

Now = Callable[[], datetime]


def outcome(reason: str) -> str:
    """Return what a reason of Ready makes of a reconciled object: ready, working or stalled."""
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


def by_ready(objects: Iterable[Raw]) -> list[Observation]:
    """Count objects by the status of Ready."""
    counts = {(kind, status): 0 for kind in (REPOSITORY, POOL, TRANSACTION) for status in READY_STATUSES}
    for obj in objects:
        counts[obj["kind"], _ready(obj)] += 1
    return [Observation(count, {"kind": kind, "ready": status}) for (kind, status), count in counts.items()]


def by_reason(objects: Iterable[Raw]) -> list[Observation]:
    """Count objects that are not ready by the reason."""
    counts = Counter(
        (obj["kind"], str(_conditions(obj).get("Ready", {}).get("reason") or UNREPORTED))
        for obj in objects
        if _ready(obj) != "True"
    )
    return [Observation(count, {"kind": kind, "reason": reason}) for (kind, reason), count in counts.items()]


def by_condition(objects: Iterable[Raw]) -> list[Observation]:
    """Count objects by the conditions that are True."""
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


def ratios(objects: Iterable[Raw], name: str) -> list[Observation]:
    """Return a percentage of the pools' statuses, from 0 to 1."""
    return [
        Observation(percent / 100, {"pool": pool})
        for pool, status in _pools(objects)
        if isinstance(percent := status.get(name), int)
    ]


def healths(objects: Iterable[Raw]) -> list[Observation]:
    """Return the state that each pool is in as 1, the others as 0."""
    return [
        Observation(int(health == status["health"]), {"pool": pool, "health": health})
        for pool, status in _pools(objects)
        if status.get("health")
        # A word that other storage uses, or a later OpenZFS, is shown as it is.
        for health in dict.fromkeys((*POOL_HEALTHS, str(status["health"])))
    ]


def errors(objects: Iterable[Raw]) -> list[Observation]:
    """Return the pools' errors by type."""
    return [
        Observation(int((status["errors"]).get(type_, 0)), {"pool": pool, "type": type_})
        for pool, status in _pools(objects)
        if status.get("errors")
        for type_ in ("read", "write", "checksum", "data")
    ]


def _open(objects: Iterable[Raw]) -> list[Raw]:
    return [obj for obj in objects if obj["kind"] == TRANSACTION and not over(obj)]


def _age(obj: Raw, now: datetime) -> float | None:
    """Return the seconds since an object was made; None where it does not say when that was."""
    made = obj["metadata"].get("creationTimestamp")
    return (now - _time(str(made))).total_seconds() if made else None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def open_phases(objects: Iterable[Raw]) -> list[Observation]:
    """Count open transactions by phase."""
    counts = dict.fromkeys(OPEN_PHASES, 0)
    for obj in _open(objects):
        counts[str(_status(obj).get("phase") or "Pending")] += 1
    return [Observation(count, {"phase": phase}) for phase, count in counts.items()]


def oldest(objects: Iterable[Raw], now: datetime) -> list[Observation]:
    """Return the age of the oldest open transaction."""
    ages = [age for obj in _open(objects) if (age := _age(obj, now)) is not None]
    return [Observation(max(0.0, *ages) if ages else 0.0)]


def overdue(objects: Iterable[Raw], now: datetime) -> list[Observation]:
    """Return how far the latest of the open transactions is beyond its timeout."""
    late = [0.0]
    for obj in _open(objects):
        timeout, age = (obj.get("spec") or {}).get("timeout"), _age(obj, now)
        if timeout and age is not None:
            late.append(age - seconds(str(timeout)))
    return [Observation(max(late))]


def last_commit(objects: Iterable[Raw]) -> list[Observation]:
    """Return when the newest version was committed; nothing where there is none."""
    heads = (_status(obj).get("head") for obj in objects if obj["kind"] == REPOSITORY)
    times = [_time(str(head["time"])).timestamp() for head in heads if head]
    return [Observation(max(times))] if times else []


def quota_used(objects: Iterable[Raw]) -> list[Observation]:
    """Return the used part of the quota that is used most; nothing where no repository has a quota."""
    stored = (_status(obj).get("storage") for obj in objects if obj["kind"] == REPOSITORY)
    found = [percent for one in stored if one and isinstance(percent := one.get("usedPercent"), int)]
    return [Observation(max(found) / 100)] if found else []


def backlog(objects: Iterable[Raw]) -> list[Observation]:
    """Count the versions that retention would prune: those that are due, and those that something holds."""
    due = held = 0
    for obj in objects:
        if obj["kind"] == REPOSITORY and (found := _status(obj).get("retention")):
            due += int(found.get("pruneTotal", 0))
            held += len(found.get("held") or ())
    return [Observation(due, {"state": "due"}), Observation(held, {"state": "held"})]
