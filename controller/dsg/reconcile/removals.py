"""Deleting Repositories: release or destroy the data, tell where it is, then let the object go.

A deletion that fails is tried again for ever. The finalizer goes last, and only when the data is where the Event says.
"""

from __future__ import annotations

from opentelemetry import trace

from dsg.api.names import CONFIRM_DELETE, finalizer
from dsg.audit.actions import Action
from dsg.audit.errors import AuditError
from dsg.reconcile import failures
from dsg.reconcile.audit_entries import about_repository
from dsg.reconcile.cluster import ClusterError, EventDraft
from dsg.reconcile.repositories import Repositories, Work, take
from dsg.reconcile.writer import Writer
from dsg.storage.errors import StorageError
from dsg.storage.repository_type import Problem

_tracer = trace.get_tracer("dsg.reconcile")


class Removals:
    """Handles Repositories that are being deleted."""

    def __init__(self, node: str, repositories: Repositories, writer: Writer) -> None:
        self._finalizer = finalizer(node)
        self._repositories = repositories
        self._writer = writer

    def waits_for_us(self, work: Work) -> bool:
        """Return whether the object is kept by this node's finalizer."""
        return self._finalizer in (work.obj["metadata"].get("finalizers") or [])

    def remove(self, work: Work, now: str) -> Problem | None:
        """Release or destroy one repository's data and let the object go; return why it has to stay."""
        policy = work.target.spec.deletion_policy
        attributes = {"dsg.repository": work.target.identity, "dsg.deletion_policy": policy}
        with _tracer.start_as_current_span("remove Repository", attributes=attributes) as span:
            try:
                blocked, event = self._destroy(work) if policy == "Delete" else self._release(work, now)
                if blocked is None:
                    self._writer.events(work.obj, [event])
                    self._writer.remove_finalizer(work.obj, self._finalizer)
            except StorageError as error:
                blocked = Problem("StorageFailed", f"{failures.problem(error).reason}: {error}")
            except AuditError as error:
                blocked = Problem("StorageFailed", f"{error}; nothing was released or destroyed")
            except ClusterError as error:
                work.deferred = error
                return None
            except Exception as error:  # one repository's fault must not stop the others
                blocked = Problem("StorageFailed", failures.fault(error).message)
            if blocked is not None:
                span.set_status(trace.StatusCode.ERROR, blocked.message)
            return blocked

    def _release(self, work: Work, now: str) -> tuple[Problem | None, EventDraft]:
        kind = self._repositories.type_of(work.target)
        found = kind.observe([work.target])[work.target.identity]
        if isinstance(found, StorageError):
            raise found
        where = kind.whereabouts(work.target, found)
        if work.target.spec.suspend:
            said = about_repository(Action.REPOSITORY_RELEASED, work.target, {"where": where, "suspended": True})
            self._repositories.audit.require(said)
            return None, EventDraft("Retained", f"data kept, and left mounted as it is (suspended): {where}")
        plan = kind.plan_release(work.target, found, now)
        if plan.problem is not None:
            return plan.problem, EventDraft("Retained", where)
        self._repositories.audit.require(about_repository(Action.REPOSITORY_RELEASING, work.target, {"where": where}))
        take(kind, work.target, plan.steps, work.taken)
        self._repositories.audit.tell(about_repository(Action.REPOSITORY_RELEASED, work.target, {"where": where}))
        return None, EventDraft("Retained", f"data kept: {where}")

    def _destroy(self, work: Work) -> tuple[Problem | None, EventDraft]:
        name = work.target.name
        nothing = EventDraft("Destroyed", "")
        if work.target.spec.suspend:
            text = "deletionPolicy is Delete, and the repository is suspended; nothing was destroyed"
            return Problem("SuspendedDeletion", text), nothing
        if (work.obj["metadata"].get("annotations") or {}).get(CONFIRM_DELETE) != name:
            text = (
                f"deletionPolicy is Delete, and nobody has confirmed it; nothing was destroyed. To destroy the data: "
                f"kubectl annotate repository {name} -n {work.target.namespace} {CONFIRM_DELETE}={name}. "
                f"To keep it, set deletionPolicy to Retain"
            )
            return Problem("NotConfirmed", text), nothing
        kind = self._repositories.type_of(work.target)
        found = kind.inventory(work.target)
        plan = kind.plan_destroy(work.target, found)
        if plan.problem is not None:
            return plan.problem, nothing
        steps = [step.describe() for step in plan.steps]
        self._repositories.audit.require(about_repository(Action.REPOSITORY_DESTROYING, work.target, {"steps": steps}))
        take(kind, work.target, plan.steps, work.taken)
        self._repositories.audit.tell(about_repository(Action.REPOSITORY_DESTROYED, work.target, {}))
        done = "; ".join(step.describe() for step in plan.steps) or "there was no data of this Repository on the node"
        return None, EventDraft("Destroyed", f"data destroyed, as confirmed: {done}")
