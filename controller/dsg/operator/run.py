"""One node's operator as a process: kopf's watches, our loops, and the probes, on one event loop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import kopf
import kubernetes.client
import structlog

from dsg.operator import handlers
from dsg.operator.api_server import ApiServer
from dsg.operator.kubernetes_cluster import KubernetesCluster
from dsg.operator.leases import LEASE_SECONDS, Leases
from dsg.operator.node import NodeOperator, NodeSettings
from dsg.reconcile.cluster import Raw
from dsg.reconcile.engine import Engine
from dsg.reconcile.store import Store
from dsg.storage.local_host import LocalHost
from dsg.storage.pool_type import PoolType
from dsg.storage.process import Runner
from dsg.storage.repository_type import RepositoryType
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

_log = structlog.get_logger("dsg.operator")


@dataclass(frozen=True, slots=True)
class Storage:
    """What the node stores repositories on."""

    repository_types: Mapping[str, RepositoryType]
    pool_types: Mapping[str, PoolType]
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
    return Storage(repositories, pools, zfs)


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
) -> None:
    """Run one node's operator until it is told to stop (SIGTERM, SIGINT, or `stop` where it runs in a thread)."""
    heartbeats, store = Heartbeats(), Store()
    for resource in handlers.WATCHED:
        heartbeats.expect(resource)
    metrics = ReconcileMetrics(heartbeats, store.objects)
    server = ApiServer(client, heartbeats, metrics.request)
    cluster = KubernetesCluster(server, settings.node)
    engine = Engine(settings.node, storage.repository_types, storage.pool_types, cluster, store)
    receiver = _Receiver()
    lease = float(LEASE_SECONDS) if settings.lease else None
    limits = Limits(lease=lease, resync=max(1800.0, 5 * settings.resync_seconds))
    endpoints = Endpoints(heartbeats, limits) if listen is not None else None
    # Our own lines say what was done; kopf's say only that a handler ran.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    registry = kopf.OperatorRegistry()
    handlers.register(registry, receiver)

    async def start(**_: Any) -> None:
        leases = Leases(server, lease_namespace)
        operator = NodeOperator(settings, engine, store, cluster, leases, storage.zfs, heartbeats, metrics.passed)
        receiver.operator = operator
        port = None
        if endpoints is not None and listen is not None:
            try:
                port = await endpoints.start(listen.host, listen.port)
            except OSError as error:
                text = f"--listen {listen.host}:{listen.port} can't be had: {error.strerror or error}"
                raise kopf.PermanentError(text) from error
        operator.start()
        _log.info("operator started", node=settings.node, port=port)

    async def cleanup(**_: Any) -> None:
        if receiver.operator is not None:
            await receiver.operator.stop()
        if endpoints is not None:
            await endpoints.stop()

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
