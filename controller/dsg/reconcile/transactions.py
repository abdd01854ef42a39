"""SyncTransactions of one node: each is taken as far as it can go, and its status says how far that is.

Level-triggered like everything else: what to do follows from the object and from what is on disk. Many transactions may
be looked at by several threads at once, each transaction by one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

import structlog
from opentelemetry import trace

from dsg.api import access
from dsg.api.durations import seconds
from dsg.api.reasons import REPOSITORY, TRANSACTION, ConditionType
from dsg.api.repository import Repository
from dsg.api.sizes import to_bytes
from dsg.api.synctransaction import SyncTransaction, SyncTransactionStatus, Timing
from dsg.audit.auditor import Audit, NoAudit
from dsg.audit.errors import AuditError
from dsg.manifests.history import HistoryError
from dsg.manifests.nodes import NodeError, NodeMissing
from dsg.reconcile import audit_entries, failures, transaction_status
from dsg.reconcile.cluster import Cluster, ClusterError, Conflict, Gone, Key, Raw
from dsg.reconcile.data_plane import Admission, DataPlane, DataPlaneError
from dsg.reconcile.keeping import ENDS, Keeping, over
from dsg.reconcile.ledger import Ledger
from dsg.reconcile.locks import Locks
from dsg.reconcile.parsing import Parsed, Parser, target
from dsg.reconcile.repository_status import old_condition
from dsg.reconcile.store import Store
from dsg.reconcile.times import rfc3339
from dsg.reconcile.transaction_status import Phase, Report
from dsg.reconcile.transaction_trace import context_of
from dsg.reconcile.writer import Writer
from dsg.storage.errors import QuotaExceeded, StorageError
from dsg.storage.repository_type import Target
from dsg.transactions.metadata import INCOMING
from dsg.transactions.transactor import Clashes, Done, Operation, Result, Stopped, Transaction, Transactor, Waiting

FIRST_RETRY, LAST_RETRY = 1.0, 30.0
"""Seconds until something that failed is tried again: twice as long each time."""
WAIT_FOR_REPOSITORY = 5.0

_tracer = trace.get_tracer("dsg.reconcile")
_log = structlog.get_logger("dsg.reconcile")


class Recorder(Protocol):
    """Takes what is measured (`dsg.telemetry.metrics.ReconcileMetrics`)."""

    def transaction_ended(self, operation: str, outcome: str, reason: str) -> None:
        """Count a transaction that is over; `outcome` is the phase in which it ended."""

    def transaction_step(self, step: str, seconds: float) -> None:
        """Record how long a step took."""


@dataclass(slots=True)
class _Work:
    """One transaction on its way."""

    key: Key
    obj: Raw
    model: SyncTransaction
    target: Target
    repository: Raw
    transaction: Transaction
    transactor: Transactor
    timings: list[Timing] = field(default_factory=list)
    place: str = ""
    """Directory that content is sent to, where the stage was made just now."""

    @property
    def status(self) -> SyncTransactionStatus:
        return self.model.status or SyncTransactionStatus()


class Transactions:
    """Advances the SyncTransactions of one node. Safe for threads, but for the same transaction at the same time."""

    def __init__(
        self,
        node: str,
        transactors: Mapping[str, Transactor],
        cluster: Cluster,
        store: Store,
        locks: Locks,
        ledger: Ledger,
        keeping: Keeping,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_change: Callable[[Key], None] = lambda key: None,
        recorder: Recorder | None = None,
        data_plane: DataPlane | None = None,
        audit: Audit | None = None,
    ) -> None:
        """`transactors` are by storage type; `on_change` is told of Repositories whose status has changed by this.

        Without a data plane, content gets into a stage on the node itself.
        """
        self._recorder = recorder
        self._audit = audit if audit is not None else NoAudit()
        self._data_plane = data_plane
        self._node = node
        self._transactors = transactors
        self._cluster = cluster
        self._store = store
        self._locks = locks
        self._ledger = ledger
        self._keeping = keeping
        self._clock = clock
        self.on_change = on_change
        self._writer = Writer(cluster, store)
        self._parser = Parser()
        self._lock = threading.Lock()
        self._staged: set[str] = set()
        """Uids whose stage this process has made accessible."""
        self._retries: dict[str, float] = {}

    def advance(self, key: Key) -> float | None:
        """Take one transaction as far as it goes; return the seconds until the next look, None for none."""
        obj = self._store.get(key)
        if obj is None:
            return None
        if obj["metadata"].get("deletionTimestamp") is not None:
            return None
        try:
            with _tracer.start_as_current_span(
                "advance SyncTransaction", context=context_of(obj), attributes={"dsg.transaction": str(key)}
            ) as span:
                return self._advance(key, obj, span)
        except Gone:
            return None
        except Conflict:
            # A newer object is on its way; in case it has come already, look soon.
            return FIRST_RETRY
        except (ClusterError, AuditError) as error:
            _log.info("transaction not advanced; it is tried again", transaction=str(key), error=str(error))
            return self._retry(str(obj["metadata"]["uid"]))

    def forget(self, uid: str) -> None:
        """Forget a transaction that is gone."""
        with self._lock:
            self._staged.discard(uid)
            self._retries.pop(uid, None)
        self._withdraw(uid)
        self._parser.forget(set(self._store.world().objects))

    def withdraw_unknown(self) -> None:
        """Have the data plane forget transactions that are over or gone, when all objects have been listed."""
        if self._data_plane is None:
            return
        known = {str(obj["metadata"]["uid"]) for obj in self._store.of_kind(TRANSACTION) if not over(obj)}
        try:
            admitted = self._data_plane.admitted()
        except DataPlaneError as error:
            _log.warning("the data plane's grants can't be read", error=str(error))
            return
        for uid in admitted - known:
            self._withdraw(uid)

    def abandoned(self, repository: Key) -> None:
        """Have a repository put in order: a transaction of it was deleted."""
        obj = self._store.get(repository)
        if obj is not None:
            self._ledger.stale(str(obj["metadata"]["uid"]))

    # ---- what to do

    def _advance(self, key: Key, obj: Raw, span: trace.Span) -> float | None:
        parsed = self._parser.parse(obj)
        model = parsed.model
        if not isinstance(model, SyncTransaction):
            self._report_invalid(key, obj, parsed)
            return None
        status = model.status or SyncTransactionStatus()
        if status.phase in ENDS:
            return self._retire(key, obj, model, status)
        work = self._work(key, obj, model)
        if isinstance(work, Report):
            return self._not_now(key, obj, model, work)
        try:
            return self._go(work)
        except QuotaExceeded as error:
            span.set_status(trace.StatusCode.ERROR, str(error))
            text = (
                f"{error}. What limits it is spec.transactions.sizeLimit, or quota and refquota in "
                "spec.storage.properties of the Repository"
            )
            return self._end(work, transaction_status.stopped(Stopped("TransactionQuota", text)))
        except (HistoryError, NodeError, NodeMissing) as error:
            return self._failed(work, span, f"the metadata of a version is damaged: {error}")
        except StorageError as error:
            return self._failed(work, span, str(error))
        except DataPlaneError as error:
            return self._failed(work, span, str(error))
        except AuditError as error:
            if work.status.phase in {None, "Pending"}:
                # Nobody is to use what could not be recorded to be open.
                self.forget(work.transaction.uid)
            return self._failed(work, span, str(error), "AuditUnavailable")
        except ClusterError:
            raise
        except Exception as error:  # one transaction's fault must not stop the others
            return self._failed(work, span, failures.fault(error).message)

    def _failed(self, work: _Work, span: trace.Span, message: str, reason: str = "StagingFailed") -> float:
        """Say that a step failed, and try it again later."""
        span.set_status(trace.StatusCode.ERROR, message)
        self._report(work, Report(work.status.phase or "Pending", reason, f"{message}; it is tried again"))
        return self._retry(work.transaction.uid)

    def _go(self, work: _Work) -> float | None:
        spec, phase = work.model.spec, work.status.phase
        left = self._left(work.obj, work.model)
        if spec.operation != "Read" and (phase in {"Verifying", "Committing"} or spec.intent != "Stage" or left <= 0):
            # Whatever is asked for now: what was committed is committed, also where its caller died in it.
            with self._locked(work):
                done = work.transactor.committed(work.target, work.transaction)
            if done is not None:
                return self._committed(work, done)
        if spec.operation == "Read":
            return self._read(work, left)
        if spec.intent == "Abort":
            return self._end(work, Report("Aborted", "Aborted", "aborted as asked; nothing was committed"))
        if left <= 0:
            text = f"not committed within its timeout of {spec.timeout}; nothing was committed. Open a new transaction"
            return self._end(work, Report("Expired", "Expired", text))
        if (refused := self._refused(work)) is not None:
            return self._end(work, refused)
        if work.transaction.uid not in self._staged:
            with self._locked(work), self._timed(work, "stage"):
                place = work.transactor.stage(work.target, work.transaction)
            if isinstance(place, Stopped):
                return self._end(work, transaction_status.stopped(place))
            with self._lock:
                self._staged.add(work.transaction.uid)
            work.place = place
        if spec.intent == "Stage":
            return self._staged_for(work, left)
        return self._commit(work)

    def _staged_for(self, work: _Work, left: float) -> float:
        """Let the client send; what is already reported is not reported again."""
        if self._data_plane is None:
            if work.status.phase in {None, "Pending"}:
                text = f"content goes to {work.place}; then set intent to Commit"
                self._report(work, Report("Staging", "Staged", text))
            return left
        if work.place:
            root = work.place.removesuffix(f"/{INCOMING}")
            self._admit(work, root, "write")
        return self._offer(
            work, "Staging", "Staged", "send the content to the endpoint, then set intent to Commit", left
        )

    def _read(self, work: _Work, left: float) -> float | None:
        """Let the client read a version until it has enough."""
        version = work.model.spec.base
        if work.model.spec.intent != "Stage":
            return self._end(
                work, Report("Closed", "Closed", f"closed as asked; {version} can't be read by it any more")
            )
        if left <= 0:
            text = f"open for its timeout of {work.model.spec.timeout}. Open a new transaction to read on"
            return self._end(work, Report("Expired", "Expired", text))
        if (refused := self._refused(work)) is not None:
            return self._end(work, refused)
        if self._data_plane is None:
            text = f"the operator of node {self._node} has no data plane (--grants and --endpoint)"
            return self._end(work, Report("Failed", "DataPlaneMissing", text))
        if work.transaction.uid not in self._staged:
            with self._locked(work), self._timed(work, "open"):
                place = work.transactor.read(work.target, work.transaction)
            if isinstance(place, Stopped):
                return self._end(work, transaction_status.stopped(place))
            self._admit(work, place, "read")
            with self._lock:
                self._staged.add(work.transaction.uid)
        return self._offer(work, "Serving", "Serving", f"{version} can be read from the endpoint", left)

    def _admit(self, work: _Work, root: str, mode: Literal["read", "write"]) -> None:
        if self._data_plane is None:
            return
        limits, spec = work.target.spec.transactions, work.model.spec
        limit = limits.size_limit if limits is not None else "none"
        opened = _time(work.obj["metadata"]["creationTimestamp"])
        admission = Admission(
            uid=work.transaction.uid,
            repository=work.target.identity,
            author=spec.author,
            client_key=spec.client_key,
            mode=mode,
            root=root,
            expires=opened + timedelta(seconds=seconds(spec.timeout)),
            size_limit=None if limit == "none" else to_bytes(limit),
            version=spec.base,
        )
        try:
            self._data_plane.admit(admission)
        except DataPlaneError:
            with self._lock:
                self._staged.discard(work.transaction.uid)
            raise

    def _offer(self, work: _Work, phase: Phase, reason: str, message: str, left: float) -> float:
        """Say where content is sent to or read from, once that is known."""
        endpoint = self._data_plane.endpoint() if self._data_plane is not None else None
        if endpoint is None:
            text = f"the data plane of node {self._node} has not started yet; the transaction waits for it"
            self._report(work, Report("Pending", "DataPlaneNotReady", text))
            return min(left, self._retry(work.transaction.uid))
        if work.status.phase != phase or work.status.endpoint != endpoint:
            self._report(work, Report(phase, reason, message, endpoint=endpoint))
        return left

    def _withdraw(self, uid: str) -> None:
        if self._data_plane is None:
            return
        try:
            self._data_plane.withdraw(uid)
        except DataPlaneError as error:
            _log.warning("a grant could not be withdrawn", uid=uid, error=str(error))

    def _commit(self, work: _Work) -> float | None:
        if self._data_plane is not None:
            # Whoever still sends is shut out before anything is verified.
            self._data_plane.withdraw(work.transaction.uid)
        self._report(work, Report("Verifying", "Verifying", "what was sent is verified and put in place"))
        with self._timed(work, "verify"):
            result: Result | None = work.transactor.build(work.target, work.transaction)
        if result is None:
            # On disk with the record of its outcome; here it shows that there is room for both.
            self._audit.require(audit_entries.committing_entry(work.obj), durable=False)
            self._report(work, Report("Committing", "Committing", "the head is about to move to it"))
            with self._locked(work):
                result = work.transactor.commit(work.target, work.transaction, lambda step: self._timed(work, step))
                if isinstance(result, Done) and result.header is not None:
                    with self._timed(work, "reveal"):
                        work.transactor.reveal(work.target)
        match result:
            case Done():
                return self._committed(work, result)
            case Clashes():
                return self._end(work, transaction_status.clashes(result))
            case Stopped():
                return self._end(work, transaction_status.stopped(result))
            case Waiting():
                self._report(work, transaction_status.waiting(result, work.status.phase or "Verifying"))
                return self._retry(work.transaction.uid)

    def _committed(self, work: _Work, done: Done) -> float | None:
        if done.header is not None:
            with self._locked(work):
                work.transactor.reveal(work.target)
        return self._end(work, transaction_status.done(done))

    # ---- ends

    def _end(self, work: _Work, report: Report) -> float | None:
        """Say that a transaction is over, then clean up after it; whoever dies in between leaves that to the keeper."""
        self._report(work, report)
        self._count(work.model.spec.operation, report)
        uid = work.transaction.uid
        self.forget(uid)
        try:
            with self._locked(work), self._timed(work, "clean"):
                work.transactor.discard(work.target, work.transaction)
                work.transactor.clean(work.target, self._keeping.live(work.target).uids)
        except StorageError as error:
            _log.info("left to the keeper", transaction=str(work.key), error=str(error))
        self.on_change(Key(REPOSITORY, work.target.namespace, work.target.name))
        self._report(work, report)
        return seconds(work.model.spec.ttl_after_finished)

    def _retire(self, key: Key, obj: Raw, model: SyncTransaction, status: SyncTransactionStatus) -> float | None:
        """Delete a transaction that has been over for long enough."""
        ended = status.finished_at or str(obj["metadata"].get("creationTimestamp", ""))
        left = (
            _time(ended) + timedelta(seconds=seconds(model.spec.ttl_after_finished)) - self._clock()
        ).total_seconds()
        if left > 0:
            return left
        self._cluster.delete_object(obj)
        _log.info("transaction deleted after its ttlAfterFinished", transaction=str(key))
        return None

    # ---- reasons not to

    def _work(self, key: Key, obj: Raw, model: SyncTransaction) -> _Work | Report:
        """Return what is needed to act, or why that can't be now."""
        spec = model.spec
        repository = self._store.get(Key(REPOSITORY, key.namespace, spec.repository_ref.name))
        name = f"{key.namespace}/{spec.repository_ref.name}"
        if repository is None:
            text = f"there is no Repository {name} on node {self._node}; the transaction waits for it until its timeout"
            return Report("Pending", "RepositoryNotFound", text)
        parsed = self._parser.parse(repository)
        found = target(parsed)
        if found is None or not isinstance(parsed.model, Repository):
            return Report("Pending", "RepositoryNotReady", f"Repository {name} has an invalid spec")
        transactor = self._transactors.get(found.spec.storage.type)
        ready = old_condition(parsed.status, ConditionType.READY)
        if transactor is None or parsed.deleting or found.spec.suspend or ready.get("status") != "True":
            why = "is being deleted" if parsed.deleting else "is suspended" if found.spec.suspend else "is not ready"
            said = f": {ready['message']}" if ready.get("message") and why == "is not ready" else ""
            return Report(
                model.status.phase if model.status and model.status.phase else "Pending",
                "RepositoryNotReady",
                f"Repository {name} {why}{said}",
            )
        transaction = Transaction(
            uid=str(obj["metadata"]["uid"]),
            operation=Operation(spec.operation),
            author=spec.author,
            message=spec.message,
            base=spec.base or "",
            restore=spec.restore or "",
            tree=spec.changes.manifest_digest if spec.changes is not None else None,
        )
        return _Work(key, obj, model, found, repository, transaction, transactor)

    def _refused(self, work: _Work) -> Report | None:
        if work.model.spec.node != work.target.spec.storage.node:
            node = work.target.spec.storage.node
            text = f"the repository is on node {node}, the transaction names {work.model.spec.node}"
            return Report("Failed", "WrongNode", text)
        since, opened = (_time(obj["metadata"]["creationTimestamp"]) for obj in (work.repository, work.obj))
        asked = work.model.spec
        refusal = access.refusal(work.target.spec, since, asked.author, asked.operation, opened)
        return Report("Failed", "AccessDenied", f"{refusal}. Nothing was committed") if refusal is not None else None

    def _not_now(self, key: Key, obj: Raw, model: SyncTransaction, report: Report) -> float | None:
        """Wait for the repository; a transaction that never began may be given up without it."""
        status = model.status or SyncTransactionStatus()
        left = self._left(obj, model)
        if status.phase in {None, "Pending"} and (model.spec.intent == "Abort" or left <= 0):
            if model.spec.intent == "Abort":
                report = Report("Aborted", "Aborted", "aborted as asked; nothing was committed")
            else:
                report = Report("Expired", "Expired", f"not begun within its timeout: {report.message}")
        self._write(key, obj, model, report)
        if report.phase not in ENDS:
            return min(max(left, 1.0), WAIT_FOR_REPOSITORY)
        self._count(model.spec.operation, report)
        return None

    def _report_invalid(self, key: Key, obj: Raw, parsed: Parsed) -> None:
        if (obj.get("status") or {}).get("phase") not in ENDS:
            report = Report("Failed", "InvalidSpec", "; ".join(parsed.problems))
            status = transaction_status.new_status(obj, SyncTransactionStatus(), report, self._now())
            self._record(obj, report)
            if self._writer.status(obj, status):
                self._count(str((obj.get("spec") or {}).get("operation", "")), report)

    # ---- telling

    def _count(self, operation: str, report: Report) -> None:
        if self._recorder is not None:
            self._recorder.transaction_ended(operation, report.phase, report.reason)

    def _report(self, work: _Work, report: Report) -> None:
        """Write where a transaction stands. Raises ClusterError; the newest object is worked with from then on."""
        report = replace(report, timings=tuple(work.timings))
        work.timings.clear()
        work.obj, work.model = self._write(work.key, work.obj, work.model, report)

    def _write(self, key: Key, obj: Raw, model: SyncTransaction, report: Report) -> tuple[Raw, SyncTransaction]:
        status = transaction_status.new_status(obj, model.status or SyncTransactionStatus(), report, self._now())
        self._record(obj, report)
        if not self._writer.status(obj, status):
            return obj, model
        self._writer.events(obj, transaction_status.events(obj, report))
        new = self._store.get(key)
        parsed = self._parser.parse(new) if new is not None else None
        if new is None or parsed is None or not isinstance(parsed.model, SyncTransaction):
            raise Gone("the transaction is gone")
        return new, parsed.model

    def _record(self, obj: Raw, report: Report) -> None:
        """Record another phase before anybody is told of it; who dies in between does it again. Raises AuditError."""
        entry = audit_entries.phase_entry(obj, report)
        if entry is not None:
            self._audit.require(entry)

    # ---- small things

    @contextmanager
    def _locked(self, work: _Work) -> Iterator[None]:
        with self._locks.held(work.target.identity):
            yield

    @contextmanager
    def _timed(self, work: _Work, step: str) -> Iterator[None]:
        began = time.monotonic()
        with _tracer.start_as_current_span(step, attributes={"dsg.repository": work.target.identity}):
            yield
        took = time.monotonic() - began
        work.timings.append(Timing(step=step, milliseconds=round(1000 * took)))
        if self._recorder is not None:
            self._recorder.transaction_step(step, took)

    def _retry(self, uid: str) -> float:
        with self._lock:
            delay = self._retries.get(uid, FIRST_RETRY)
            self._retries[uid] = min(2 * delay, LAST_RETRY)
            return delay

    def _left(self, obj: Raw, model: SyncTransaction) -> float:
        """Return the seconds until a transaction's timeout."""
        deadline = _time(obj["metadata"]["creationTimestamp"]) + timedelta(seconds=seconds(model.spec.timeout))
        return (deadline - self._clock()).total_seconds()

    def _now(self) -> str:
        return rfc3339(self._clock())


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
