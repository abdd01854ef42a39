"""The status of a StoragePool as a pure function of what was found and of the declared thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dsg.api.names import RECONCILE_REQUESTED
from dsg.api.reasons import ConditionType
from dsg.api.sizes import from_bytes
from dsg.api.storagepool import StoragePoolStatus, Thresholds
from dsg.reconcile.cluster import EventDraft, Raw
from dsg.reconcile.conditions import State, build, readiness
from dsg.reconcile.repository_status import old_condition
from dsg.storage.pool_type import PoolFacts
from dsg.storage.repository_type import Problem

_SECONDS_A_DAY = 86400


@dataclass(frozen=True, slots=True)
class PoolOutcome:
    """What one reconciliation of a StoragePool came to."""

    facts: PoolFacts | None
    problem: Problem | None = None
    thresholds: Thresholds | None = None
    """None when the spec could not be read."""
    repositories: int = 0


def _healthy(outcome: PoolOutcome) -> State:
    facts = outcome.facts
    if facts is None:
        return State(ConditionType.HEALTHY, None, "NotKnown", "the pool could not be looked at")
    if outcome.problem is not None and outcome.problem.reason in {"PoolFaulted", "PoolSuspended"}:
        return State(ConditionType.HEALTHY, False, "NotUsable", outcome.problem.message)
    if facts.healthy:
        return State(ConditionType.HEALTHY, True, "PoolOnline", f"{facts.health}, no known errors")
    name = "PoolDegraded" if facts.health == "DEGRADED" else "ErrorsFound"
    errors = facts.errors
    counts = f"read {errors.read}, write {errors.write}, checksum {errors.checksum}, data {errors.data}"
    return State(ConditionType.HEALTHY, False, name, f"{facts.health}; errors: {counts}. {facts.trouble}".strip())


def _measured(type_: ConditionType, what: str, value: int | None, threshold: int | None) -> State:
    """Return a condition about a percentage.

    Its message names the threshold and not the value, which moves all the time and stands in the status itself.
    """
    if threshold is None:
        return State(type_, False, "NoThreshold", f"no threshold is declared for {what}")
    if value is None:
        return State(type_, None, "NotKnown", f"{what} could not be measured")
    if value >= threshold:
        return State(type_, True, "AboveThreshold", f"{what} has reached the threshold of {threshold}%")
    return State(type_, False, "WithinThreshold", f"{what} is below the threshold of {threshold}%")


def _scrub(outcome: PoolOutcome, now: datetime) -> State:
    type_ = ConditionType.SCRUB_OVERDUE
    days = outcome.thresholds.scrub_age_days if outcome.thresholds is not None else None
    if days is None:
        return State(type_, False, "NoThreshold", "no threshold is declared for the age of the last scrub")
    facts = outcome.facts
    if facts is None or not facts.scrubs:
        return State(type_, None, "NotKnown", "this storage tells nothing about scrubs")
    if facts.scan_ended is None:
        running = facts.scan is not None and facts.scan.state == "scanning"
        text = "the first scrub is running" if running else "no scrub has finished yet; run zpool scrub"
        return State(type_, True, "AboveThreshold", text)
    if now.timestamp() - facts.scan_ended > days * _SECONDS_A_DAY:
        return State(type_, True, "AboveThreshold", f"the last scrub ended more than {days} days ago; run zpool scrub")
    return State(type_, False, "WithinThreshold", f"the last scrub ended within {days} days")


def _states(outcome: PoolOutcome, now: datetime) -> list[State]:
    facts, thresholds = outcome.facts, outcome.thresholds
    if outcome.problem is not None:
        ready = readiness(outcome.problem.reason, outcome.problem.message)
    else:
        ready = readiness("Reconciled", "the pool may hold repositories")
    return [
        *ready,
        _healthy(outcome),
        _measured(
            ConditionType.CAPACITY_PRESSURE,
            "capacity",
            facts.capacity_percent if facts else None,
            thresholds.capacity_percent if thresholds else None,
        ),
        _measured(
            ConditionType.FRAGMENTED,
            "fragmentation",
            facts.fragmentation_percent if facts else None,
            thresholds.fragmentation_percent if thresholds else None,
        ),
        _scrub(outcome, now),
    ]


def new_status(obj: Raw, outcome: PoolOutcome, now: datetime, now_text: str) -> dict[str, Any]:
    """Return the status to write, as the API has it; equal to the old one when nothing has changed."""
    metadata, raw = obj["metadata"], obj.get("status") or {}
    generation, facts = int(metadata.get("generation", 0)), outcome.facts
    requested = (metadata.get("annotations") or {}).get(RECONCILE_REQUESTED, "")
    conditions = list(build(_states(outcome, now), raw.get("conditions") or [], generation, now_text))
    if facts is None:
        old = StoragePoolStatus.model_validate(raw)
        status = old.model_copy(
            update={
                "observed_generation": generation,
                "conditions": conditions,
                "repositories": outcome.repositories,
                "last_handled_reconcile_at": requested,
            }
        )
    else:
        status = StoragePoolStatus(
            observed_generation=generation,
            conditions=conditions,
            guid=facts.guid,
            health=facts.health,
            size=from_bytes(facts.size),
            free=from_bytes(facts.free, digits=2),
            capacity_percent=facts.capacity_percent,
            fragmentation_percent=facts.fragmentation_percent,
            scan=facts.scan,
            errors=facts.errors,
            repositories=outcome.repositories,
            last_handled_reconcile_at=requested,
        )
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def transition_events(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[EventDraft]:
    """Return the Events for conditions whose status or reason is new and worth an Event."""
    events = []
    for type_ in (
        ConditionType.READY,
        ConditionType.HEALTHY,
        ConditionType.CAPACITY_PRESSURE,
        ConditionType.FRAGMENTED,
        ConditionType.SCRUB_OVERDUE,
    ):
        before, after = old_condition(old, type_), old_condition(new, type_)
        if after and before.get("reason") != after["reason"]:
            draft = EventDraft(str(after["reason"]), str(after["message"]))
            if draft.entry.event is not None:
                events.append(draft)
    return events
