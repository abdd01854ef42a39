"""Conditions: built from reasons of the registry, with the time of each change of state.

Laws (checked over every object in tests, `check`): every type of the kind is present; reasons are in the registry; at
most one of Reconciling and Stalled is True; Ready agrees with both (kstatus).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dsg.api.base import Condition
from dsg.api.reasons import BY_NAME, CONDITION_TYPES, ConditionType, Readiness, reason

_STATUS = {True: "True", False: "False", None: "Unknown"}


@dataclass(frozen=True, slots=True)
class State:
    """What is to be said under one condition type; `holds` None is Unknown."""

    type: ConditionType
    holds: bool | None
    reason: str
    message: str


def readiness(reason_name: str, message: str) -> list[State]:
    """Return Ready, Reconciling and Stalled for a reason of Ready. Raises ValueError when it is no such reason."""
    entry = reason(reason_name)
    if entry.readiness is None:
        raise ValueError(f"{reason_name} says nothing about readiness")
    holds = {Readiness.READY: True, Readiness.WORKING: None, Readiness.STALLED: False}[entry.readiness]
    return [
        State(ConditionType.READY, holds, reason_name, message),
        State(ConditionType.RECONCILING, entry.readiness is Readiness.WORKING, reason_name, message),
        State(ConditionType.STALLED, entry.readiness is Readiness.STALLED, reason_name, message),
    ]


def build(
    states: Iterable[State], old: Iterable[Mapping[str, Any]], generation: int, now: str
) -> tuple[Condition, ...]:
    """Return conditions; `lastTransitionTime` stays where the status is what it was (Kubernetes API conventions)."""
    before = {str(c.get("type")): c for c in old}
    built = []
    for state in states:
        status = _STATUS[state.holds]
        previous = before.get(state.type, {})
        since = previous.get("lastTransitionTime") if previous.get("status") == status else None
        built.append(
            Condition(
                type=state.type,
                status=status,  # type: ignore[arg-type]  # one of the three by construction
                observed_generation=generation,
                last_transition_time=str(since or now),
                reason=state.reason,
                message=state.message[:32768],
            )
        )
    return tuple(built)


def check(kind: str, conditions: Iterable[Condition]) -> list[str]:
    """Return what is wrong with an object's conditions, a sentence each; empty when all laws hold."""
    by_type = {c.type: c for c in conditions}
    wrong = []
    for type_, (kinds, _) in CONDITION_TYPES.items():
        optional = type_ in {ConditionType.DELETION_BLOCKED, ConditionType.UNLOCKED}
        if kind in kinds and type_ not in by_type and not optional:
            wrong.append(f"{kind} has no condition {type_}")
    for condition in by_type.values():
        if condition.reason not in BY_NAME:
            wrong.append(f"{condition.type} has reason {condition.reason}, which is not in the registry")
        elif kind not in BY_NAME[condition.reason].kinds:
            wrong.append(f"{condition.type} has reason {condition.reason}, which is not for {kind}")
    status = {name: c.status for name, c in by_type.items()}
    shape = (status.get("Ready"), status.get("Reconciling"), status.get("Stalled"))
    if shape not in {("True", "False", "False"), ("Unknown", "True", "False"), ("False", "False", "True")}:
        wrong.append(f"Ready, Reconciling, Stalled are {shape}, which kstatus reads wrongly")
    return wrong
