"""The status of a Repository, and the Events that tell of its changes, as pure functions of what happened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dsg.api.names import RECONCILE_REQUESTED
from dsg.api.reasons import ConditionType
from dsg.api.repository import DriftStatus, HeadStatus, LastDrift, RepositoryStatus, RetentionStatus, StorageStatus
from dsg.reconcile.cluster import EventDraft, Raw
from dsg.reconcile.conditions import State, build, readiness
from dsg.reconcile.ledger import Entry
from dsg.reconcile.times import rfc3339
from dsg.storage.repository_type import Cause, Finding, Problem, Step

MOST = 50
"""How many entries a status lists."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one reconciliation of a Repository came to."""

    problem: Problem | None = None
    taken: tuple[Step, ...] = ()
    """Steps that were taken, in order."""
    reported: tuple[Finding, ...] = ()
    """Hand-made differences that stand."""
    pending: tuple[str, ...] = ()
    """Steps that were not taken because the repository is suspended."""
    storage: StorageStatus | None = None
    """What is there; None when it could not be seen."""
    suspended: bool = False
    ready_message: str = ""
    entry: Entry = field(default_factory=Entry)
    """What is known of its versions."""
    open_transactions: int = 0
    blocked: Problem | None = None
    """Why a deletion does not go on."""
    lock: State | None = None
    """Whether the key of an encrypted repository is loaded; None when that is not known now."""

    @property
    def corrected(self) -> tuple[Finding, ...]:
        """Return the hand-made differences that were set back."""
        return tuple(finding for step in self.taken for finding in step.findings)


def old_condition(status: Mapping[str, Any], type_: ConditionType) -> Mapping[str, Any]:
    """Return a condition of a raw status; empty when it is absent."""
    found = (c for c in status.get("conditions") or [] if c.get("type") == type_)
    return next(found, {})


def _ready(outcome: Outcome, status: Mapping[str, Any]) -> list[State]:
    if outcome.problem is not None:
        return readiness(outcome.problem.reason, outcome.problem.message)
    if outcome.pending:
        # Suspended: keep what was last said (Flux does the same), unless nothing was ever said.
        before = old_condition(status, ConditionType.READY)
        if before.get("reason") == "Reconciled":
            return readiness("Reconciled", str(before.get("message", "")))
        return readiness("NotYetCreated", "suspended; status.plan lists what would be done")
    return readiness("Reconciled", outcome.ready_message)


def _drifted(outcome: Outcome) -> State:
    if outcome.reported:
        text = "; ".join(f"{f.field} of {f.subject} is {f.found}, declared {f.wanted}" for f in outcome.reported[:MOST])
        return State(ConditionType.DRIFTED, True, "DriftReported", text)
    if outcome.storage is None:
        return State(ConditionType.DRIFTED, None, "InSync", "the storage could not be looked at")
    return State(ConditionType.DRIFTED, False, "InSync", "policy on the node is what was declared")


def _states(outcome: Outcome, status: Mapping[str, Any]) -> list[State]:
    suspended = (
        State(ConditionType.SUSPENDED, True, "SuspendedBySpec", "the operator looks and changes nothing")
        if outcome.suspended
        else State(ConditionType.SUSPENDED, False, "Active", "the operator keeps the repository as declared")
    )
    states = [*_ready(outcome, status), _drifted(outcome), suspended, _unexpected(outcome.entry, status)]
    if (lock := outcome.lock or _as_before(ConditionType.UNLOCKED, status)) is not None:
        states.append(lock)
    if outcome.blocked is not None:
        states.append(State(ConditionType.DELETION_BLOCKED, True, outcome.blocked.reason, outcome.blocked.message))
    return states


def _as_before(type_: ConditionType, status: Mapping[str, Any]) -> State | None:
    """Return what a condition says now; None where it is absent."""
    before = old_condition(status, type_)
    if not before:
        return None
    holds = {"True": True, "False": False}.get(str(before.get("status")))
    return State(type_, holds, str(before.get("reason")), str(before.get("message", "")))


def _unexpected(entry: Entry, status: Mapping[str, Any]) -> State:
    if entry.kept is None:
        # An operator that has just started has not looked yet; what was found stands until it has.
        if (before := _as_before(ConditionType.UNEXPECTED_DATA, status)) is not None:
            return before
        return State(ConditionType.UNEXPECTED_DATA, None, "NothingUnexpected", "versions were not looked at yet")
    held = entry.counted.held if entry.counted is not None else ()
    kept = [*entry.kept.cleaned.kept, *(f"kept although retention would prune it: {v.held}" for v in held)]
    if not kept:
        text = "all that lies in the repository was made by transactions"
        return State(ConditionType.UNEXPECTED_DATA, False, "NothingUnexpected", text)
    return State(ConditionType.UNEXPECTED_DATA, True, "KeptForeign", "; ".join(kept[:MOST]))


def _retention(entry: Entry, old: RetentionStatus | None) -> RetentionStatus | None:
    counted = entry.counted
    if counted is None or counted.plan is None:
        return old
    held = {version.name for version in counted.held}
    left = [name for name in counted.plan.pruned if name not in counted.pruned and name not in held]
    return RetentionStatus(
        versions=counted.versions,
        prune_total=len(left),
        prune=left[:MOST],
        held=[f"{version.name}: {version.held}"[:1024] for version in counted.held[:MOST]],
        last_pruned=len(entry.pruned),
        last_pruned_at=entry.pruned_at or None,
    )


def _head(entry: Entry) -> HeadStatus | None:
    header = entry.kept.head if entry.kept is not None else None
    if header is None:
        return None
    said = header.commit
    return HeadStatus(version=said.version, digest=header.chain, author=said.author, time=rfc3339(said.time))


def _drift(finding: Finding) -> dict[str, str]:
    return {"subject": finding.subject, "field": finding.field, "wanted": finding.wanted, "found": finding.found}


def _last_drift(outcome: Outcome, old: RepositoryStatus, now: str) -> LastDrift | None:
    if outcome.corrected:
        return LastDrift(**_drift(outcome.corrected[-1]), time=now, corrected=True)
    if outcome.reported:
        newest = _drift(outcome.reported[-1])
        if old.last_drift is None or old.last_drift.model_dump(exclude={"time", "corrected"}) != newest:
            return LastDrift(**newest, time=now, corrected=False)
    return old.last_drift


def new_status(obj: Raw, old: RepositoryStatus, outcome: Outcome, now: str) -> dict[str, Any]:
    """Return the status to write, as the API has it; equal to the old one when nothing has changed."""
    metadata, raw = obj["metadata"], obj.get("status") or {}
    status = RepositoryStatus(
        observed_generation=int(metadata.get("generation", 0)),
        conditions=list(
            build(_states(outcome, raw), raw.get("conditions") or [], int(metadata.get("generation", 0)), now)
        ),
        storage=outcome.storage if outcome.storage is not None else old.storage,
        head=_head(outcome.entry) or old.head,
        retention=_retention(outcome.entry, old.retention),
        open_transactions=outcome.open_transactions,
        drift=[DriftStatus(**_drift(f)) for f in outcome.reported[:MOST]],
        last_drift=_last_drift(outcome, old, now),
        plan=[text[:1024] for text in outcome.pending[:MOST]],
        last_handled_reconcile_at=(metadata.get("annotations") or {}).get(RECONCILE_REQUESTED, ""),
    )
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


_TOLD_BY_STEPS = {Cause.CREATE: "Created", Cause.ADOPT: "Adopted", Cause.CHANGE: "Updated", Cause.REVEAL: "Revealed"}


def step_events(steps: Iterable[Step]) -> list[EventDraft]:
    """Return the Events that tell what was done: one for each correction, one for all steps of another cause."""
    by_cause: dict[Cause, list[Step]] = {}
    for step in steps:
        by_cause.setdefault(step.cause, []).append(step)
    events = [
        EventDraft("DriftCorrected", str(finding))
        for step in by_cause.get(Cause.DRIFT, [])
        for finding in step.findings
    ]
    for cause, name in _TOLD_BY_STEPS.items():
        if taken := by_cause.get(cause):
            events.append(EventDraft(name, "; ".join(step.describe() for step in taken)))
    return events


def transition_events(old: Mapping[str, Any], new: Mapping[str, Any], *, told: bool) -> list[EventDraft]:
    """Return the Events for conditions whose reason is new; `told`: other Events say already why it is ready."""
    events = []
    for type_ in (
        ConditionType.READY,
        ConditionType.DRIFTED,
        ConditionType.SUSPENDED,
        ConditionType.UNLOCKED,
        ConditionType.DELETION_BLOCKED,
    ):
        before, after = old_condition(old, type_), old_condition(new, type_)
        if not after:
            continue
        draft = EventDraft(str(after["reason"]), str(after["message"]))
        changed = before.get("reason") != after["reason"]
        if type_ in {ConditionType.DRIFTED, ConditionType.DELETION_BLOCKED}:
            changed = changed or before.get("message") != after["message"]
        if changed and draft.entry.event is not None and not (told and draft.reason == "Reconciled"):
            events.append(draft)
    return events
