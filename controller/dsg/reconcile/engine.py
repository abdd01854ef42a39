"""One pass of the node's operator: a set of objects, reconciled together against one look at the storage.

Level-triggered: it matters what is declared and what is there, not which event came. Events from the cluster, events
from ZFS and the slow resync all end here, as keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog
from opentelemetry import trace

from dsg.api.names import finalizer
from dsg.api.reasons import POOL, REPOSITORY, ConditionType, Readiness, reason
from dsg.api.repository import Repository
from dsg.api.storagepool import StoragePool
from dsg.audit.actions import Action
from dsg.audit.auditor import Audit
from dsg.reconcile import failures
from dsg.reconcile.admission import Offer, contains, patient, refusal, shadowed
from dsg.reconcile.audit_entries import about_repository
from dsg.reconcile.claims import Claimant, overlaps
from dsg.reconcile.cluster import Cluster, ClusterError, Conflict, Gone, Key, Secrets
from dsg.reconcile.keeping import Keeping
from dsg.reconcile.keyring import Keyring, lock_state
from dsg.reconcile.ledger import Entry, Ledger
from dsg.reconcile.locks import Locks
from dsg.reconcile.parsing import Parsed, Parser, repository_status, target
from dsg.reconcile.pools import Pools, PoolWork, pool_target
from dsg.reconcile.removals import Removals
from dsg.reconcile.repositories import Repositories, Work, in_parallel
from dsg.reconcile.repository_status import Outcome, new_status, old_condition, transition_events
from dsg.reconcile.store import Store, World
from dsg.reconcile.times import age, rfc3339
from dsg.reconcile.writer import Writer
from dsg.storage.errors import InvalidValue, StorageError
from dsg.storage.pool_type import PoolType
from dsg.storage.repository_type import Outline, Problem, RepositoryType
from dsg.transactions.keeper import Kept
from dsg.transactions.repository import Cleaned

WORKERS = 4
"""Repositories that are acted on at the same time."""

_tracer = trace.get_tracer("dsg.reconcile")
_log = structlog.get_logger("dsg.reconcile")


@dataclass(slots=True)
class PassResult:
    """What a pass came to, for the queue and for the metrics."""

    again: set[Key] = field(default_factory=set)
    """Objects to look at again soon: something may heal by itself, or a write was not taken."""
    outcomes: dict[Key, str] = field(default_factory=dict)
    """The reason that each object's Ready has now."""
    corrected: int = 0
    """Hand-made changes that were set back."""
    steps: list[str] = field(default_factory=list)
    """Names of the steps that were taken."""


@dataclass(frozen=True, slots=True)
class _Scene:
    """What every object of a pass is judged against."""

    world: World
    repositories: Mapping[Key, Parsed]
    pools: Mapping[Key, Parsed]
    offers: tuple[Offer, ...]
    late: Mapping[str, str]
    """Reasons, by identity, why a place is taken."""


class Engine:
    """Reconciles the objects of one node. Not for use by several threads at once."""

    def __init__(
        self,
        node: str,
        repository_types: Mapping[str, RepositoryType],
        pool_types: Mapping[str, PoolType],
        cluster: Cluster,
        store: Store,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        locks: Locks | None = None,
        keeping: Keeping | None = None,
        ledger: Ledger | None = None,
        audit: Audit | None = None,
        secrets: Secrets | None = None,
    ) -> None:
        """Without `keeping`, versions and transactions are left alone; without `secrets`, no Secret is read."""
        self._node = node
        self._locks = locks if locks is not None else Locks()
        self._keeping = keeping
        self._ledger = ledger if ledger is not None else Ledger()
        self._store = store
        self._clock = clock
        self._parser = Parser()
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="dsg-reconcile")
        self._writer = Writer(cluster, store)
        self._pools = Pools(pool_types, self._writer)
        self._keyring = Keyring(secrets, clock)
        self._repositories = Repositories(
            node, repository_types, self._writer, self._workers, self._locks, self._keyring
        )
        if audit is not None:
            self._repositories.audit = audit
        self._removals = Removals(node, self._repositories, self._writer)

    def close(self) -> None:
        """End the worker threads."""
        self._workers.shutdown()

    def reconcile(self, keys: Iterable[Key]) -> PassResult:
        """Reconcile the named objects; those that are gone are passed over."""
        wanted = frozenset(keys)
        result = PassResult()
        with _tracer.start_as_current_span("reconcile", attributes={"dsg.objects": len(wanted)}):
            scene = self._scene()
            self._reconcile_pools([scene.pools[k] for k in sorted(wanted) if k in scene.pools], scene, result)
            parsed = [scene.repositories[k] for k in sorted(wanted) if k in scene.repositories]
            self._reconcile_repositories(parsed, scene, result)
        return result

    def _scene(self) -> _Scene:
        world = self._store.world()
        self._parser.forget(set(world.objects))
        uids = {str(o["metadata"].get("uid")) for k, o in world.objects.items() if k.kind == REPOSITORY}
        self._ledger.forget(uids)
        self._keyring.forget(uids)
        parsed = {k: self._parser.parse(obj) for k, obj in world.objects.items() if k.kind in {REPOSITORY, POOL}}
        repositories = {k: p for k, p in parsed.items() if k.kind == REPOSITORY}
        pools = {k: p for k, p in parsed.items() if k.kind == POOL}
        offers = tuple(
            Offer(p.model.metadata.name, p.model.metadata.creation_timestamp, p.model.spec)
            for p in pools.values()
            if isinstance(p.model, StoragePool) and not p.deleting
        )
        claimants = [
            Claimant(f"{k.namespace}/{k.name}", m.metadata.uid, m.metadata.creation_timestamp, m.spec)
            for k, p in repositories.items()
            if isinstance(m := p.model, Repository)
        ]
        late = {
            identity: f"{overlap.place} is, contains, or lies in what Repository {overlap.holder} already has"
            for identity, overlap in overlaps(claimants).items()
        }
        return _Scene(world, repositories, pools, offers, late)

    # --- StoragePools

    def _reconcile_pools(self, parsed: list[Parsed], scene: _Scene, result: PassResult) -> None:
        if not parsed:
            return
        late = shadowed(scene.offers)
        targets = [t for p in scene.repositories.values() if (t := target(p)) is not None]
        offers = {offer.name: offer for offer in scene.offers}
        works = []
        for one in parsed:
            name = one.key.name
            count = sum(contains(offers[name], t) for t in targets) if name in offers else 0
            works.append(PoolWork(one, pool_target(one), late.get(name), count))
        self._pools.converge(works)
        now = self._clock()
        for work in works:
            self._note(work.parsed.key, work.problem, result)
            try:
                self._pools.report(work, now, rfc3339(now))
            except Gone:
                continue
            except ClusterError as error:
                _log.warning("status not written", object=str(work.parsed.key), error=str(error))
                result.again.add(work.parsed.key)

    # --- Repositories

    def _reconcile_repositories(self, parsed: list[Parsed], scene: _Scene, result: PassResult) -> None:
        live: list[Work] = []
        for one in parsed:
            wanted = target(one)
            if wanted is None:
                self._report_invalid(one, result)
                continue
            work = Work(one, wanted, one.raw)
            if one.deleting:
                self._remove(work, result)
                continue
            work.refusal = self._refusal(work, scene)
            live.append(work)
        if live:
            self._repositories.converge(live)
            self._keep([work for work in live if work.problem is None and work.deferred is None], result)
            counts = self._keeping.open_counts() if self._keeping is not None else Counter[str]()
            in_parallel(self._workers, lambda work: self._report(work, counts[work.target.identity], result), live)

    def _keep(self, works: list[Work], result: PassResult) -> None:
        """Put those repositories in order in which something has changed beside policy."""
        if self._keeping is None:
            return
        now = self._clock()
        due = []
        for work in works:
            outline = self._repositories.type_of(work.target).outline(work.target, work.observed)
            generation = int(work.parsed.metadata.get("generation", 0))
            if self._keeping.due(work.target, outline, generation, now):
                due.append((work, outline, generation))
        try:
            versions = self._keeping.count([work.target for work, *_ in due], now)
        except StorageError as error:
            _log.warning("versions could not be counted", error=str(error))
            result.again.update(work.parsed.key for work, *_ in due)
            return

        def keep(one: tuple[Work, Outline, int]) -> None:
            work, outline, generation = one
            if self._keeping is None or not self._locks.take(work.target.identity):
                # A transaction commits; what there is to do is there afterwards too.
                result.again.add(work.parsed.key)
                return
            try:
                events = self._keeping.keep(work.target, outline, generation, now, versions.get(work.target.identity))
                self._writer.events(work.obj, events)
            except InvalidValue as error:
                # Something that a version holds can't be read: a person has to look.
                self._ledger.put(
                    work.target.uid, Entry(outline, Kept(None, Cleaned(kept=(str(error),))), generation=generation)
                )
            except (StorageError, ClusterError) as error:
                _log.warning("repository not put in order", repository=work.target.identity, error=str(error))
                result.again.add(work.parsed.key)
            except Exception as error:  # one repository's fault must not stop the others
                failures.fault(error)
                result.again.add(work.parsed.key)
            finally:
                self._locks.free(work.target.identity)

        in_parallel(self._workers, keep, due)

    def _refusal(self, work: Work, scene: _Scene) -> Problem | None:
        labels = scene.world.namespaces.get(work.target.namespace)
        refused = patient(
            refusal(work.target, scene.offers, labels),
            existed=work.target.existed,
            age=age(str(work.parsed.metadata.get("creationTimestamp", "")), self._clock()),
        )
        if refused is None and (taken := scene.late.get(work.target.identity)) is not None:
            return Problem("PathConflict", taken)
        return refused

    def _report(self, work: Work, open_transactions: int, result: PassResult) -> None:
        key = work.parsed.key
        result.steps += [type(step).__name__ for step in work.taken]
        if work.deferred is not None:
            self._defer(key, work.deferred, result)
            return
        suspended = work.target.spec.suspend
        kind = self._repositories.type_of(work.target)
        storage = kind.status(work.target, work.observed) if work.observed is not None else None
        if storage is not None and work.target.existed and not storage.generation:
            # The data is not to be seen now. That it existed must not be forgotten: an empty repository in its place
            # would pass for the data.
            storage = None
        outcome = Outcome(
            problem=work.problem,
            taken=tuple(work.taken),
            reported=tuple(work.plan.drift) if suspended else work.plan.reported,
            pending=tuple(step.describe() for step in work.plan.steps) if suspended else (),
            storage=storage,
            suspended=suspended,
            ready_message=f"as declared; readers see it at {work.target.spec.storage.mountpoint}",
            entry=self._ledger.get(work.target.uid),
            open_transactions=open_transactions,
            lock=lock_state(work.target, storage, self._keyring),
        )
        if (
            work.refusal is not None
            and old_condition(work.parsed.status, ConditionType.READY).get("reason") != work.refusal.reason
        ):
            details = {"reason": work.refusal.reason, "message": work.refusal.message}
            self._repositories.audit.tell(about_repository(Action.REPOSITORY_REFUSED, work.target, details))
        result.corrected += len(outcome.corrected)
        self._note(key, outcome.problem, result)
        self._write(work, outcome, result)

    def _write(self, work: Work, outcome: Outcome, result: PassResult) -> None:
        old = work.obj.get("status") or {}
        status = new_status(work.obj, repository_status(work.parsed), outcome, rfc3339(self._clock()))
        try:
            if self._writer.status(work.obj, status):
                self._writer.events(work.obj, transition_events(old, status, told=bool(outcome.taken)))
        except ClusterError as error:
            self._defer(work.parsed.key, error, result)

    def _remove(self, work: Work, result: PassResult) -> None:
        if not self._removals.waits_for_us(work):
            return
        if not self._locks.take(work.target.identity):
            # A transaction commits; it is over soon, and no other begins on an object that is being deleted.
            result.again.add(work.parsed.key)
            return
        try:
            blocked = self._removals.remove(work, rfc3339(self._clock()))
        finally:
            self._locks.free(work.target.identity)
        result.steps += [type(step).__name__ for step in work.taken]
        if work.deferred is not None:
            self._defer(work.parsed.key, work.deferred, result)
        elif blocked is not None:
            result.again.add(work.parsed.key)
            outcome = Outcome(
                problem=Problem("StorageBusy", "being deleted; DeletionBlocked says what keeps it"),
                blocked=blocked,
                suspended=work.target.spec.suspend,
            )
            result.outcomes[work.parsed.key] = blocked.reason
            self._write(work, outcome, result)

    def _report_invalid(self, parsed: Parsed, result: PassResult) -> None:
        """Report a spec that breaks the schema: it was written before a rule, or past the API server's validation."""
        problem = Problem("InvalidSpec", "; ".join(parsed.problems))
        self._note(parsed.key, problem, result)
        if parsed.deleting and finalizer(self._node) not in (parsed.metadata.get("finalizers") or []):
            return
        old = parsed.status
        status = new_status(parsed.raw, repository_status(parsed), Outcome(problem=problem), rfc3339(self._clock()))
        try:
            if self._writer.status(parsed.raw, status):
                self._writer.events(parsed.raw, transition_events(old, status, told=False))
        except ClusterError as error:
            self._defer(parsed.key, error, result)

    def _defer(self, key: Key, error: ClusterError, result: PassResult) -> None:
        if not isinstance(error, Gone):
            # A conflict is the usual course: somebody else wrote meanwhile, and the newer object is on its way.
            tell = _log.info if isinstance(error, Conflict) else _log.warning
            tell("write not taken; it will be tried again", object=str(key), error=str(error))
            result.again.add(key)

    def _note(self, key: Key, problem: Problem | None, result: PassResult) -> None:
        name = problem.reason if problem is not None else "Reconciled"
        result.outcomes[key] = name
        if reason(name).readiness is Readiness.WORKING:
            result.again.add(key)
