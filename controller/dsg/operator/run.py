"""One node's operator as a process: kopf's watches, our loops, and the probes, on one event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from typing import Any, cast

import kopf
import kubernetes.client
import structlog

from dsg.audit.actions import Action
from dsg.audit.auditor import Auditor
from dsg.audit.errors import AuditError
from dsg.audit.record import Entry
from dsg.operator import handlers
from dsg.operator.api_server import ApiServer
from dsg.operator.kubernetes_cluster import KubernetesCluster
from dsg.operator.leases import LEASE_SECONDS, Leases
from dsg.operator.node import NodeOperator, NodeSettings
from dsg.reconcile.cluster import Raw
from dsg.reconcile.data_plane import DataPlane
from dsg.reconcile.engine import Engine
from dsg.reconcile.keeping import Keeping
from dsg.reconcile.ledger import Ledger
from dsg.reconcile.locks import Locks
from dsg.reconcile.store import Store
from dsg.reconcile.transactions import Transactions
from dsg.storage.local_host import LocalHost
from dsg.storage.local_trees import LocalTrees
from dsg.storage.pool_type import PoolType
from dsg.storage.process import Runner
from dsg.storage.repository_type import RepositoryType
from dsg.storage.trees import Trees
from dsg.storage.xfs.files import LocalFiles
from dsg.storage.xfs.pool import XfsPools
from dsg.storage.xfs.repository import XfsRepositories
from dsg.storage.zfs.command_line import CommandLineZfs, Timeouts
from dsg.storage.zfs.interface import Zfs
from dsg.storage.zfs.pool import ZfsPools
from dsg.storage.zfs.repository import ZfsRepositories
from dsg.telemetry.endpoints import Endpoints
from dsg.telemetry.health import Heartbeats, Limits
from dsg.telemetry.login import login_function
from dsg.telemetry.metrics import ReconcileMetrics
from dsg.transactions.keeper import Keeper
from dsg.transactions.on_xfs import XfsTransactions
from dsg.transactions.on_zfs import ZfsTransactions
from dsg.transactions.repository import TransactionType
from dsg.transactions.transactor import Transactor

_log = structlog.get_logger("dsg.operator")


@dataclass(frozen=True, slots=True)
class Storage:
    """What the node stores repositories on."""

    repository_types: Mapping[str, RepositoryType]
    pool_types: Mapping[str, PoolType]
    transaction_types: Mapping[str, TransactionType]
    trees: Trees
    ordered: Mapping[str, bool]
    """By storage type: whether a power cut keeps all that was written before anything that it keeps."""
    zfs: Zfs | None
    """Whose events are followed; None where there is no ZFS to follow."""


def local_storage(command_timeout: float = 60.0) -> Storage:
    """Return this machine's own storage: OpenZFS by its command line, and POSIX file systems.

    `command_timeout` is in seconds, for commands that only read; those that change something get twice as long.
    """
    runner = Runner()
    timeouts = Timeouts(read=command_timeout, change=2 * command_timeout)
    zfs, host, files = CommandLineZfs(runner, timeouts), LocalHost(runner, timeout=command_timeout), LocalFiles()
    repositories: dict[str, RepositoryType] = {"zfs": ZfsRepositories(zfs, host), "xfs": XfsRepositories(host, files)}
    pools: dict[str, PoolType] = {"zfs": ZfsPools(zfs, host), "xfs": XfsPools(host, files)}
    trees = LocalTrees()
    transactions: dict[str, TransactionType] = {
        "zfs": ZfsTransactions(zfs, host),
        "xfs": XfsTransactions(host, files, trees),
    }
    return Storage(repositories, pools, transactions, trees, {"zfs": True, "xfs": False}, zfs)


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the probes and metrics are served; port 0 takes any free one."""

    host: str
    port: int


class _Receiver:
    """Hands on what the watches bring, once the operator stands."""

    def __init__(self) -> None:
        self.operator: NodeOperator | None = None

    def seen(self, obj: Raw, *, deleted: bool) -> None:
        if self.operator is not None:
            self.operator.seen(obj, deleted=deleted)

    def seen_namespace(self, name: str, labels: dict[str, str] | None) -> None:
        if self.operator is not None:
            self.operator.seen_namespace(name, labels)


def serve(
    settings: NodeSettings,
    storage: Storage,
    client: kubernetes.client.ApiClient,
    *,
    lease_namespace: str,
    listen: Listen | None,
    stop: threading.Event | None = None,
    data_plane: DataPlane | None = None,
    receiver: tuple[int, int] | None = None,
    audit: Auditor | None = None,
) -> None:
    """Run one node's operator until it is told to stop (SIGTERM, SIGINT, or `stop` where it runs in a thread).

    `receiver`: see `Transactor`.
    """
    heartbeats, store = Heartbeats(), Store()
    for resource in handlers.WATCHED:
        heartbeats.expect(resource)
    metrics = ReconcileMetrics(
        heartbeats, store.objects, plane_seen=data_plane.last_sign if data_plane is not None else None
    )
    server = ApiServer(client, heartbeats, metrics.request)
    cluster = KubernetesCluster(server, settings.node)
    locks, ledger = Locks(), Ledger()
    keepers = {name: Keeper(kind, storage.trees) for name, kind in storage.transaction_types.items()}
    keeping = Keeping(keepers, store, ledger, audit)
    engine = Engine(
        settings.node,
        storage.repository_types,
        storage.pool_types,
        cluster,
        store,
        locks=locks,
        keeping=keeping,
        ledger=ledger,
        audit=audit,
        secrets=cluster,
    )
    transactors = {
        name: Transactor(kind, storage.trees, ordered=storage.ordered[name], receiver=receiver)
        for name, kind in storage.transaction_types.items()
    }
    transactions = Transactions(
        settings.node,
        transactors,
        cluster,
        store,
        locks,
        ledger,
        keeping,
        recorder=metrics,
        data_plane=data_plane,
        audit=audit,
    )
    watched = _Receiver()
    lease = float(LEASE_SECONDS) if settings.lease else None
    limits = Limits(lease=lease, resync=max(1800.0, 5 * settings.resync_seconds))
    endpoints = Endpoints(heartbeats, limits) if listen is not None else None
    # Our own lines say what was done; kopf's say only that a handler ran.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    registry = kopf.OperatorRegistry()
    handlers.register(registry, watched)

    async def start(**_: Any) -> None:
        leases = Leases(server, lease_namespace)
        operator = NodeOperator(
            settings, engine, store, cluster, leases, storage.zfs, heartbeats, transactions, metrics.passed, audit
        )
        watched.operator = operator
        port = None
        if endpoints is not None and listen is not None:
            try:
                port = await endpoints.start(listen.host, listen.port)
            except OSError as error:
                text = f"--listen {listen.host}:{listen.port} can't be had: {error.strerror or error}"
                raise kopf.PermanentError(text) from error
        if audit is not None:
            try:
                started = Entry(Action.STARTED, details={"version": installed_version("dsg")})
                await asyncio.to_thread(audit.require, started)
            except AuditError as error:
                raise kopf.PermanentError(str(error)) from error
        operator.start()
        _log.info("operator started", node=settings.node, port=port)

    async def cleanup(**_: Any) -> None:
        if watched.operator is not None:
            await watched.operator.stop()
        if endpoints is not None:
            await endpoints.stop()
        if audit is not None:
            await asyncio.to_thread(audit.tell, Entry(Action.STOPPED))
            await asyncio.to_thread(audit.close)

    kopf.on.startup(registry=registry, id="start")(start)
    kopf.on.cleanup(registry=registry, id="cleanup")(cleanup)
    kopf.on.login(registry=registry, id="login")(login_function(client, heartbeats))
    kopf.run(
        registry=registry,
        settings=handlers.settings_for(settings.node),
        # kopf's own guess asks for the user's name, and a container's user may have none.
        identity=cast("Any", f"dsg-operator-{settings.node}"),
        standalone=True,
        clusterwide=True,
        stop_flag=stop,
    )
