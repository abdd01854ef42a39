"""What the audit log says of what the operator does, as pure functions of objects and reports.

No messages: they may name files of the data. The reason, the transaction's uid and the version lead to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from dsg.api.reasons import REPOSITORY, TRANSACTION
from dsg.audit.actions import Action
from dsg.audit.record import Entry, Value
from dsg.reconcile.cluster import Raw
from dsg.storage.repository_type import Cause, Step, Target

if TYPE_CHECKING:
    from dsg.reconcile.transaction_status import Report

_REFUSALS = frozenset({"AccessDenied", "InvalidSpec", "WrongNode"})
_PHASES: Mapping[str, Action] = {
    "Staging": Action.TRANSACTION_OPENED,
    "Serving": Action.READ_ADMITTED,
    "Committed": Action.TRANSACTION_COMMITTED,
    "Closed": Action.READ_CLOSED,
    "Conflict": Action.TRANSACTION_CONFLICT,
    "Aborted": Action.TRANSACTION_ABORTED,
    "Expired": Action.TRANSACTION_EXPIRED,
    "Failed": Action.TRANSACTION_FAILED,
}
_CAUSES: Mapping[Cause, Action] = {
    Cause.CREATE: Action.REPOSITORY_CREATED,
    Cause.ADOPT: Action.REPOSITORY_ADOPTED,
    Cause.CHANGE: Action.REPOSITORY_CHANGED,
    Cause.DRIFT: Action.DRIFT_CORRECTED,
    Cause.REVEAL: Action.REPOSITORY_REVEALED,
}


def phase_entry(obj: Raw, report: Report) -> Entry | None:
    """Return the record of a SyncTransaction that comes to another phase; None where there is nothing to record."""
    if (obj.get("status") or {}).get("phase") == report.phase or report.phase not in _PHASES:
        return None
    action = _PHASES[report.phase]
    if report.phase == "Failed" and report.reason in _REFUSALS:
        action = Action.TRANSACTION_REFUSED
    details: dict[str, Value] = {**_request(obj), "reason": report.reason}
    for name, value in (("version", report.version), ("onto", report.onto), ("digest", report.digest)):
        if value:
            details[name] = value
    if report.conflicts is not None:
        details["conflicts"] = report.conflicts.total
    return _about_transaction(action, obj, details)


def committing_entry(obj: Raw) -> Entry:
    """Return the record that comes before a commit."""
    return _about_transaction(Action.TRANSACTION_COMMITTING, obj, _request(obj))


def _about_transaction(action: Action, obj: Raw, details: Mapping[str, Value]) -> Entry:
    metadata, spec = obj["metadata"], obj.get("spec") or {}
    return Entry(
        action,
        kind=TRANSACTION,
        namespace=str(metadata.get("namespace", "")),
        name=str(metadata.get("name", "")),
        uid=str(metadata.get("uid", "")),
        who=str(spec.get("author", "")),
        details=details,
    )


def _request(obj: Raw) -> dict[str, Value]:
    """Return what a transaction asks for. It may be an invalid one."""
    spec = obj.get("spec") or {}
    found: dict[str, Value] = {"repository": str((spec.get("repositoryRef") or {}).get("name", ""))}
    for name in ("operation", "base", "restore", "clientKey"):
        if spec.get(name):
            found[name] = str(spec[name])
    changes = spec.get("changes") or {}
    for name in ("manifestDigest", "files", "size"):
        if isinstance(changes.get(name), str | int):
            found[name] = changes[name]
    return found


def step_entries(target: Target, steps: Iterable[Step]) -> Iterator[Entry]:
    """Yield the records of steps that were taken, one for each cause."""
    by_cause: dict[Cause, list[Step]] = {}
    for step in steps:
        by_cause.setdefault(step.cause, []).append(step)
    for cause, taken in by_cause.items():
        if cause not in _CAUSES:
            continue
        details: dict[str, Value] = {"steps": [step.describe() for step in taken]}
        findings = [str(finding) for step in taken for finding in step.findings]
        if findings:
            details["corrected"] = findings
        yield about_repository(_CAUSES[cause], target, details)


def about_repository(action: Action, target: Target, details: Mapping[str, Value]) -> Entry:
    """Return a record about a Repository."""
    return Entry(action, REPOSITORY, target.namespace, target.name, target.uid, details=details)


def versions_entry(action: Action, target: Target, versions: Sequence[str]) -> Entry:
    """Return a record of versions that are destroyed."""
    return about_repository(action, target, {"versions": list(versions), "count": len(versions)})
