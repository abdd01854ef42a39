"""The monitor as a process: its looks in a thread, its probes and metrics on an event loop."""

from __future__ import annotations

import asyncio
import threading

import kubernetes.client

from dsg.operator.api_server import ApiServer
from dsg.operator.kubernetes_cluster import KubernetesCluster
from dsg.operator.leases import Leases
from dsg.operator.monitor import Monitor
from dsg.telemetry.endpoints import Endpoints
from dsg.telemetry.health import Heartbeats, Limits
from dsg.telemetry.metrics import MonitorMetrics

LIMITS = Limits(resync=300.0)
"""A monitor that has not seen all Leases for so long is restarted."""


def serve(
    client: kubernetes.client.ApiClient, lease_namespace: str, listen: tuple[str, int] | None, stop: threading.Event
) -> None:
    """Run a monitor until told to stop. Raises OSError when `listen`, host and port of its probes, can't be had."""
    heartbeats = Heartbeats()
    recorder = MonitorMetrics(heartbeats)
    server = ApiServer(client, heartbeats, recorder.request)
    monitor = Monitor(
        KubernetesCluster(server, "monitor"), Leases(server, lease_namespace), on_look=heartbeats.resync_finished
    )
    recorder.watch(monitor.lease_ages)
    asyncio.run(_serve(monitor, Endpoints(heartbeats, LIMITS), listen, stop))


async def _serve(monitor: Monitor, endpoints: Endpoints, listen: tuple[str, int] | None, stop: threading.Event) -> None:
    if listen is not None:
        await endpoints.start(*listen)
    try:
        await asyncio.to_thread(monitor.run, stop)
    finally:
        await endpoints.stop()
