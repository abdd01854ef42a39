"""Reconciling StoragePools: how well each is, and the root below which repositories are placed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from opentelemetry import trace

from dsg.api.storagepool import StoragePool
from dsg.reconcile import failures
from dsg.reconcile.parsing import Parsed
from dsg.reconcile.pool_status import PoolOutcome, new_status, transition_events
from dsg.reconcile.writer import Writer
from dsg.storage.errors import StorageError
from dsg.storage.pool_type import PoolFacts, PoolTarget, PoolType
from dsg.storage.repository_type import Problem

_tracer = trace.get_tracer("dsg.reconcile")
_log = structlog.get_logger("dsg.reconcile")


@dataclass(slots=True)
class PoolWork:
    """One StoragePool on its way through a pass."""

    parsed: Parsed
    target: PoolTarget | None
    shadowed_by: str | None = None
    repositories: int = 0
    problem: Problem | None = None
    facts: PoolFacts | None = None


def pool_target(parsed: Parsed) -> PoolTarget | None:
    """Return the pool that an object declares; None when it is no valid StoragePool."""
    if not isinstance(parsed.model, StoragePool):
        return None
    return PoolTarget(parsed.model.metadata.name, parsed.model.spec)


class Pools:
    """The reconciler of StoragePools on one node."""

    def __init__(self, types: Mapping[str, PoolType], writer: Writer) -> None:
        self._types = types
        self._writer = writer

    def converge(self, works: Sequence[PoolWork]) -> None:
        """Look at every pool, and make the roots that are missing."""
        by_type: dict[str, list[tuple[PoolWork, PoolTarget]]] = {}
        for work in works:
            if work.target is None:
                work.problem = Problem("InvalidSpec", "; ".join(work.parsed.problems))
            else:
                by_type.setdefault(work.target.spec.storage.type, []).append((work, work.target))
        for kind, group in by_type.items():
            try:
                with _tracer.start_as_current_span("observe pools", attributes={"dsg.storage.type": kind}):
                    seen = self._types[kind].observe([target for _, target in group])
                for work, target in group:
                    self._one(self._types[kind], work, target, seen[target.name])
            except Exception as error:  # one type's fault must not stop the others
                problem = failures.fault(error)
                for work, _ in group:
                    work.problem = work.problem or problem

    def _one(self, kind: PoolType, work: PoolWork, target: PoolTarget, found: Any) -> None:
        if isinstance(found, StorageError):
            work.problem = failures.problem(found)
            return
        work.facts = kind.facts(found)
        if work.shadowed_by is not None:
            work.problem = Problem("PoolOverlap", f"StoragePool {work.shadowed_by} already offers this root")
            return
        plan = kind.plan(target, found)
        work.problem = plan.problem
        try:
            for step in plan.steps:
                with _tracer.start_as_current_span(f"step {type(step).__name__}"):
                    kind.apply(step)
                _log.info("step taken", storage_pool=target.name, step=step.describe())
        except StorageError as error:
            work.problem = failures.problem(error)

    def report(self, work: PoolWork, now: datetime, now_text: str) -> None:
        """Write the status if it has changed, and post what is new in it. Raises ClusterError."""
        thresholds = work.target.spec.thresholds if work.target is not None else None
        outcome = PoolOutcome(work.facts, work.problem, thresholds, work.repositories)
        status = new_status(work.parsed.raw, outcome, now, now_text)
        if self._writer.status(work.parsed.raw, status):
            self._writer.events(work.parsed.raw, transition_events(work.parsed.status, status))
