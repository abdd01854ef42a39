"""Reconciling many Repositories at once: observe all, plan each, act, look again.

Observing costs a constant number of processes however many there are; what follows costs in terms of what has changed.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import structlog
from opentelemetry import trace

from dsg.api.names import finalizer
from dsg.audit.auditor import Audit, NoAudit
from dsg.reconcile import failures
from dsg.reconcile.audit_entries import step_entries
from dsg.reconcile.cluster import ClusterError, Raw
from dsg.reconcile.cluster import Conflict as ClusterConflict
from dsg.reconcile.keyring import Keyring
from dsg.reconcile.locks import Locks
from dsg.reconcile.parsing import Parsed
from dsg.reconcile.repository_status import step_events
from dsg.reconcile.writer import Writer
from dsg.storage.errors import StorageError
from dsg.storage.keys import KeyNeed, Keys
from dsg.storage.repository_type import Plan, Problem, RepositoryType, Step, Target

ROUNDS = 4
"""How often one pass looks again after it has acted; more would hide two actors that undo each other."""

_tracer = trace.get_tracer("dsg.reconcile")
_log = structlog.get_logger("dsg.reconcile")

T = TypeVar("T")


@dataclass(slots=True)
class Work:
    """One Repository on its way through a pass."""

    parsed: Parsed
    target: Target
    obj: Raw
    """The object as last read or written."""
    refusal: Problem | None = None
    """Why it may not be placed where it says."""
    observed: Any = None
    """What is there; None when it could not be seen."""
    plan: Plan = field(default_factory=Plan)
    taken: list[Step] = field(default_factory=list)
    failure: Problem | None = None
    """What made a step, or looking, fail."""
    deferred: ClusterError | None = None
    """Why the API server did not take a write; the pass leaves the object alone then."""

    @property
    def problem(self) -> Problem | None:
        """Return why it is not as declared, most telling first."""
        return self.refusal or self.failure or self.plan.problem


def in_parallel(workers: ThreadPoolExecutor, act: Callable[[T], None], items: Iterable[T]) -> None:
    """Run `act` on every item in worker threads, each in a copy of this context, so that spans keep their parent."""
    futures = [workers.submit(contextvars.copy_context().run, act, item) for item in items]
    for future in futures:
        future.result()


def take(kind: RepositoryType, target: Target, steps: Iterable[Step], taken: list[Step]) -> None:
    """Take steps in order and note each in `taken`. Raises StorageError at the first that fails."""
    for step in steps:
        name = type(step).__name__
        with _tracer.start_as_current_span(f"step {name}", attributes={"dsg.step": step.describe()}):
            kind.apply(step)
        _log.info("step taken", repository=target.identity, step=step.describe(), cause=str(step.cause))
        taken.append(step)


class Repositories:
    """Converges live Repositories of one node."""

    def __init__(
        self,
        node: str,
        types: Mapping[str, RepositoryType],
        writer: Writer,
        workers: ThreadPoolExecutor,
        locks: Locks,
        keyring: Keyring,
    ) -> None:
        self._keyring = keyring
        self.audit: Audit = NoAudit()
        """Where what was done is recorded."""
        self._finalizer = finalizer(node)
        self._types = types
        self._writer = writer
        self._workers = workers
        self._locks = locks

    def type_of(self, target: Target) -> RepositoryType:
        """Return what implements a target's storage type."""
        return self._types[target.spec.storage.type]

    def observe(self, works: Sequence[Work]) -> None:
        """Look at what is there for each; one that can't be seen gets a failure."""
        by_type: dict[str, list[Work]] = {}
        for work in works:
            by_type.setdefault(work.target.spec.storage.type, []).append(work)
        for kind, group in by_type.items():
            attributes: dict[str, str | int] = {"dsg.storage.type": kind, "dsg.count": len(group)}
            with _tracer.start_as_current_span("observe", attributes=attributes):
                try:
                    seen = self._types[kind].observe([work.target for work in group])
                except Exception as error:  # one type's fault must not stop the others
                    self._blame(group, failures.fault(error))
                    continue
            for work in group:
                found = seen[work.target.identity]
                if isinstance(found, StorageError):
                    work.observed = None
                    work.failure = work.failure or failures.problem(found)
                else:
                    work.observed = found

    @staticmethod
    def _blame(works: Iterable[Work], problem: Problem) -> None:
        for work in works:
            work.observed, work.failure = None, work.failure or problem

    def converge(self, works: Sequence[Work]) -> None:
        """Bring each to what it declares, as far as it may be and as far as it goes."""
        try:
            self._converge(works)
        finally:
            for work in works:
                left = work.failure or work.deferred or work.plan.steps or work.plan.drift
                if work.target.keys is not None and left:
                    self._keyring.unsettled(work.target)
                work.target = replace(work.target, keys=None)

    def _converge(self, works: Sequence[Work]) -> None:
        for work in works:
            self._hold(work)
        self.observe(works)
        busy = [work for work in works if work.failure is None and work.refusal is None and work.deferred is None]
        for _ in range(ROUNDS):
            self._plan(busy)
            busy = [work for work in busy if work.plan.steps and not work.target.spec.suspend]
            if not busy:
                return
            busy = self._acted(busy)
            # What failed is looked at too: some of its steps may have been taken.
            self.observe(busy)
            busy = [work for work in busy if work.failure is None and work.deferred is None]
        self._plan(busy)
        for work in busy:
            if work.plan.steps:
                left = "; ".join(step.describe() for step in work.plan.steps)
                work.failure = Problem("StorageError", f"not as declared after {ROUNDS} rounds; left to do: {left}")

    def _hold(self, work: Work) -> None:
        """Put the finalizer back on an object whose data exists: who replaces an object drops what they don't name."""
        if work.target.existed:
            try:
                work.obj = self._writer.add_finalizer(work.obj, self._finalizer)
            except ClusterError as error:
                work.deferred = error

    def _acted(self, works: Sequence[Work]) -> list[Work]:
        """Act on those whose repository nobody else acts on, by what is there now; return those acted on."""
        taken = []
        for work in works:
            if self._locks.take(work.target.identity):
                taken.append(work)
            else:
                work.deferred = ClusterConflict("a transaction acts on the repository just now")
        try:
            # A commit may have come since it was looked at, and an old plan would show the old head again.
            self.observe(taken)
            seen = [work for work in taken if work.failure is None]
            self._plan(seen)
            in_parallel(self._workers, self._act, [work for work in seen if work.plan.steps])
        finally:
            for work in taken:
                self._locks.free(work.target.identity)
        return [work for work in taken if work.deferred is None]

    def _plan(self, works: Iterable[Work]) -> None:
        for work in works:
            with _tracer.start_as_current_span("plan", attributes={"dsg.repository": work.target.identity}):
                kind = self.type_of(work.target)
                try:
                    if work.target.keys is None:
                        work.target = replace(work.target, keys=self._keys(work, kind))
                    work.plan = kind.plan(work.target, work.observed)
                except ClusterError as error:
                    work.plan, work.deferred = Plan(), error
                except Exception as error:  # one repository's fault must not stop the others
                    work.plan, work.failure = Plan(), failures.fault(error)

    def _keys(self, work: Work, kind: RepositoryType) -> Keys | Problem | None:
        """Return what is to be had of a repository's Secret for this look. Raises ClusterError."""
        need = kind.key_need(work.target, work.observed)
        keys = self._keyring.keys(work.target, work.obj, need)
        if need is KeyNeed.COMPARISON and isinstance(keys, Keys) and self._keyring.trial_due(work.target, work.obj):
            with contextlib.suppress(StorageError):
                return replace(keys, fits=kind.key_fits(work.target, work.observed, keys))
        return keys

    def _act(self, work: Work) -> None:
        attributes: dict[str, str | int] = {"dsg.repository": work.target.identity, "dsg.steps": len(work.plan.steps)}
        with _tracer.start_as_current_span("reconcile Repository", attributes=attributes) as span:
            taken: list[Step] = []
            try:
                # First of all: from now on there is something on the node that a deletion must see.
                work.obj = self._writer.add_finalizer(work.obj, self._finalizer)
                take(self.type_of(work.target), work.target, work.plan.steps, taken)
            except StorageError as error:
                work.failure = failures.problem(error)
                span.set_status(trace.StatusCode.ERROR, str(error))
            except ClusterError as error:
                work.deferred = error
                span.set_status(trace.StatusCode.ERROR, str(error))
            except Exception as error:  # one repository's fault must not stop the others
                work.failure = failures.fault(error)
                span.set_status(trace.StatusCode.ERROR, str(error))
            work.taken += taken
            if isinstance(keys := work.target.keys, Keys):
                # What was found when it was tried is no longer so.
                work.target = replace(work.target, keys=replace(keys, fits=None))
            for entry in step_entries(work.target, taken):
                self.audit.tell(entry)
            if work.deferred is None and taken:
                # Told at once: a correction that nobody hears of would be worse than one told twice.
                try:
                    self._writer.events(work.obj, step_events(taken))
                except ClusterError as error:
                    work.deferred = error
