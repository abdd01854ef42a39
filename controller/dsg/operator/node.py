"""The loops of one node's operator: passes, resync, heartbeat. Everything that blocks runs in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import structlog

from dsg.api.reasons import POOL, REPOSITORY, TRANSACTION
from dsg.audit.auditor import Auditor
from dsg.audit.errors import AuditError
from dsg.operator.kubernetes_cluster import KubernetesCluster
from dsg.operator.leases import Leases
from dsg.operator.queue import KeyQueue
from dsg.operator.transaction_loop import TransactionLoop
from dsg.operator.zfs_events import ZfsEventWatch
from dsg.reconcile.cluster import ClusterError, Key, Raw, key_of
from dsg.reconcile.engine import Engine, PassResult
from dsg.reconcile.keeping import over, repository_of
from dsg.reconcile.store import Store
from dsg.reconcile.transactions import Transactions
from dsg.storage.zfs.interface import Zfs
from dsg.telemetry.health import Heartbeats

LEASE_INTERVAL = 10.0
"""Seconds between heartbeats."""
TELL_HEAD_EVERY = 300.0
"""Seconds between two log lines that tell where the audit log ends."""
RELIST_EVERY = 5
"""Every so many resyncs the objects are listed anew: kopf trusts its watch alone."""

_log = structlog.get_logger("dsg.operator")


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What the command line says."""

    node: str
    resync_seconds: float = 60.0
    lease: bool = True


async def _again_and_again(loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a loop that should never end, and begin it anew when a fault ends it."""
    while True:
        try:
            await loop()
        except Exception:  # a fault in the program itself must not end the operator
            _log.exception("a loop of the operator failed and begins anew", loop=loop.__name__)
        await asyncio.sleep(5)


class NodeOperator:
    """Feeds the engine. Lives on one event loop."""

    def __init__(
        self,
        settings: NodeSettings,
        engine: Engine,
        store: Store,
        cluster: KubernetesCluster,
        leases: Leases,
        zfs: Zfs | None,
        heartbeats: Heartbeats,
        transactions: Transactions,
        on_pass: Callable[[PassResult, float, int], None] = lambda result, seconds, waiting: None,
        audit: Auditor | None = None,
    ) -> None:
        """`on_pass` is told of each pass: result, seconds, keys that wait."""
        self._audit = audit
        self._settings = settings
        self._engine = engine
        self._store = store
        self._cluster = cluster
        self._leases = leases
        self._heartbeats = heartbeats
        self._on_pass = on_pass
        self._queue = KeyQueue()
        self._passes = ThreadPoolExecutor(1, thread_name_prefix="dsg-pass")
        self._tasks: list[asyncio.Task[None]] = []
        self._events = ZfsEventWatch(zfs, store, self._queue.add_threadsafe) if zfs is not None else None
        self._transactions = transactions
        self._transaction_loop = TransactionLoop(transactions.advance)
        transactions.on_change = lambda key: self._queue.add_threadsafe([key])
        self._listed = False
        self._told_head, self._told_at = "", float("-inf")

    def start(self) -> None:
        """Begin all loops."""
        loops: list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]] = [
            ("dsg passes", self._pass_loop),
            ("dsg resync", self._resync_loop),
        ]
        if self._settings.lease:
            loops.append(("dsg lease", self._lease_loop))
        self._tasks = [asyncio.create_task(_again_and_again(loop), name=name) for name, loop in loops]
        if self._events is not None:
            self._events.start()

    async def stop(self) -> None:
        """End all loops; a pass that runs is finished first, so that no step is cut short."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._transaction_loop.stop()
        self._queue.close()
        if self._events is not None:
            await asyncio.to_thread(self._events.stop)
        await asyncio.to_thread(self._passes.shutdown)
        await asyncio.to_thread(self._engine.close)

    # --- what comes from the watches

    def seen(self, obj: Raw, *, deleted: bool) -> None:
        """Take an event about a Repository, StoragePool or SyncTransaction."""
        key = key_of(obj)
        if key.kind == TRANSACTION:
            self._transaction_seen(key, obj, deleted=deleted)
        elif deleted:
            self._store.remove(key, obj["metadata"].get("uid"))
            # Places, and the pool's count of repositories, are free now.
            self._ask_all()
        elif self._store.put(obj):
            if key.kind == POOL:
                self._ask_all()
            else:
                if self._listed:
                    self._ask_transactions(key)
                self._ask({key, *self._keys(POOL)})

    def _transaction_seen(self, key: Key, obj: Raw, *, deleted: bool) -> None:
        repository = Key(REPOSITORY, key.namespace, str(obj["spec"]["repositoryRef"]["name"]))
        if deleted:
            self._store.remove(key, obj["metadata"].get("uid"))
            self._transactions.forget(str(obj["metadata"].get("uid")))
            # What it had staged is over now.
            self._transactions.abandoned(repository)
            self._ask({repository})
        elif self._store.put(obj) and self._listed:
            self._transaction_loop.ask(key)

    def _ask_transactions(self, repository: Key) -> None:
        """Look at the transactions of a repository that has changed."""
        identity = f"{repository.namespace}/{repository.name}"
        for obj in self._store.of_kind(TRANSACTION):
            if repository_of(obj) == identity and not over(obj):
                self._transaction_loop.ask(key_of(obj))

    def seen_namespace(self, name: str, labels: dict[str, str] | None) -> None:
        """Take an event about a namespace."""
        if self._store.put_namespace(name, labels):
            self._ask({key for key in self._keys(REPOSITORY) if key.namespace == name})

    def _keys(self, kind: str) -> set[Key]:
        return {key_of(obj) for obj in self._store.of_kind(kind)}

    def _ask_all(self) -> None:
        self._ask(self._keys(REPOSITORY) | self._keys(POOL))

    def _ask(self, keys: set[Key]) -> None:
        # Before everything has been listed once, a repository would be judged without its pool or its namespace.
        if self._listed:
            self._queue.add(keys)

    # --- loops

    async def _pass_loop(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            keys = await self._queue.take()
            began = loop.time()
            running = loop.run_in_executor(self._passes, self._engine.reconcile, keys)
            try:
                result = await asyncio.shield(running)
            except asyncio.CancelledError:
                await asyncio.wait([running])
                raise
            except Exception:  # a fault in the program itself must not end the operator
                _log.exception("a pass failed", objects=len(keys))
                self._queue.retry(keys)
                continue
            self._queue.settled(keys - result.again)
            self._queue.retry(result.again)
            took = loop.time() - began
            self._on_pass(result, took, len(self._queue))
            _log.debug("pass ended", objects=len(keys), again=len(result.again), seconds=round(took, 3))
            if keys >= self._keys(REPOSITORY) | self._keys(POOL):
                self._heartbeats.resync_finished()

    async def _resync_loop(self) -> None:
        count = 0
        delay = 1.0
        while True:
            if not self._listed or count % RELIST_EVERY == 0:
                try:
                    await asyncio.to_thread(self._list)
                except ClusterError as error:
                    _log.warning("objects could not be listed", error=str(error))
                    if not self._listed:
                        await asyncio.sleep(delay)
                        delay = min(delay * 2, 30.0)
                        continue
                self._listed = True
            count += 1
            self._ask_all()
            for key in self._keys(TRANSACTION):
                self._transaction_loop.ask(key)
            if not self._keys(REPOSITORY) | self._keys(POOL):
                self._heartbeats.resync_finished()
            await asyncio.sleep(self._settings.resync_seconds)

    def _list(self) -> None:
        """Bring the store to what the API server has; what the watch missed is looked at with everything else."""
        for name, labels in self._cluster.list_namespaces().items():
            self._store.put_namespace(name, labels)
        present = set()
        before = set(self._store.world().objects)
        for kind in (POOL, REPOSITORY, TRANSACTION):
            for obj in self._cluster.list_objects(kind, self._settings.node):
                self._store.put(obj)
                present.add(key_of(obj))
        # Only what was known before the lists were read: a newer object may come through the watch meanwhile.
        for key in before - present:
            self._store.remove(key)
        self._transactions.withdraw_unknown()

    async def _audit_head(self) -> str:
        """Make the audit log durable and return where it ends, for those who keep that elsewhere; "" without one."""
        if self._audit is None:
            return ""
        try:
            head = str(await asyncio.to_thread(self._audit.flush))
        except AuditError:
            return ""
        now = asyncio.get_running_loop().time()
        if head != self._told_head and now - self._told_at >= TELL_HEAD_EVERY:
            _log.info("audit log", head=head)
            self._told_head, self._told_at = head, now
        return head

    async def _lease_loop(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._leases.renew, self._settings.node, await self._audit_head())
                self._heartbeats.lease_renewed()
            except ClusterError as error:
                _log.warning("the Lease was not renewed", error=str(error))
            await asyncio.sleep(LEASE_INTERVAL)
