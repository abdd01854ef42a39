"""The status of a SyncTransaction, as a pure function of what happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dsg.api.reasons import Readiness, reason
from dsg.api.synctransaction import Conflict, Conflicts, Endpoint, SyncTransactionStatus, Timing
from dsg.reconcile.cluster import EventDraft, Raw
from dsg.reconcile.conditions import build, readiness
from dsg.reconcile.keeping import ENDS
from dsg.transactions.merge import EXPLANATIONS
from dsg.transactions.transactor import Clashes, Done, Stopped, Waiting

MOST_TIMINGS = 50

Phase = Literal[
    "Pending",
    "Staging",
    "Serving",
    "Verifying",
    "Committing",
    "Committed",
    "Closed",
    "Conflict",
    "Aborted",
    "Expired",
    "Failed",
]


@dataclass(frozen=True, slots=True)
class Report:
    """Where a transaction stands, as it is told."""

    phase: Phase
    reason: str
    message: str
    version: str | None = None
    onto: str | None = None
    digest: str | None = None
    """Chain digest of the version that was committed, for the audit log."""
    conflicts: Conflicts | None = None
    endpoint: Endpoint | None = None
    """Where the transaction's content is sent to or read from."""
    timings: tuple[Timing, ...] = ()
    """Steps that were taken since the last report."""


def done(result: Done) -> Report:
    """Return the report of a transaction that has its version."""
    if result.header is None:
        text = f"{result.version} already is what the transaction leads to; no version was made"
        return Report("Committed", "NothingToChange", text, version=result.version)
    onto = f" on top of {result.onto}, which was committed meanwhile" if result.onto else ""
    text = f"committed as {result.version}{onto}; readers see it"
    return Report(
        "Committed", "Committed", text, version=result.version, onto=result.onto or None, digest=result.header.chain
    )


def clashes(result: Clashes) -> Report:
    """Return the report of a transaction whose paths were changed by others."""
    items = [Conflict(path=clash.path, state=clash.state) for clash in result.first]
    first = result.first[0]
    more = f" and {result.total - 1} more" if result.total > 1 else ""
    text = (
        f"{result.head} changed the same paths: {first.path!r} ({EXPLANATIONS[first.state]}){more}. Nothing was "
        "committed; resolve them on top of the head and open a new transaction"
    )
    return Report("Conflict", "PathsConflict", text, conflicts=Conflicts(total=result.total, items=items))


def stopped(result: Stopped) -> Report:
    """Return the report of a transaction that can't be committed."""
    return Report("Failed", result.reason, f"{result.message}. Nothing was committed")


def waiting(result: Waiting, phase: Phase) -> Report:
    """Return the report of a transaction that goes on later by itself."""
    return Report(phase, result.reason, result.message)


def new_status(obj: Raw, old: SyncTransactionStatus, report: Report, now: str) -> dict[str, Any]:
    """Return the status to write, as the API has it; equal to the old one when nothing has changed."""
    metadata, raw = obj["metadata"], obj.get("status") or {}
    generation = int(metadata.get("generation", 0))
    ended = report.phase in ENDS
    timings: Sequence[Timing] = [*old.timings, *report.timings][-MOST_TIMINGS:]
    status = SyncTransactionStatus(
        observed_generation=generation,
        phase=report.phase,
        conditions=list(build(readiness(report.reason, report.message), raw.get("conditions") or [], generation, now)),
        endpoint=report.endpoint,
        version=report.version,
        rebased_onto=report.onto,
        conflicts=report.conflicts,
        opened_at=old.opened_at or now if report.phase != "Pending" else old.opened_at,
        finished_at=(old.finished_at or now) if ended else None,
        timings=list(timings),
    )
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def events(before: Raw, report: Report) -> list[EventDraft]:
    """Return the Event that tells of a reason that is new."""
    conditions = (before.get("status") or {}).get("conditions") or []
    told = next((c.get("reason") for c in conditions if c.get("type") == "Ready"), None)
    if told == report.reason or reason(report.reason).event is None:
        return []
    return [EventDraft(report.reason, report.message)]


def works_on(report: Report) -> bool:
    """Return whether the operator goes on by itself."""
    return reason(report.reason).readiness is Readiness.WORKING
