"""A storage node in memory with all three processes' real metrics: what breaks there shows on their pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry

from dsg.operator.monitor import LeaseAges
from dsg.reconcile.cluster import Key, Raw
from dsg.telemetry.health import Heartbeats
from dsg.telemetry.metrics import MonitorMetrics, ReconcileMetrics
from dsg.telemetry.setup import Settings, exposition, resource
from dsg.transfer.server.hanging import Hanging
from dsg.transfer.server.metrics import PrometheusRecorder
from tests.operations.promtool import Pages
from tests.reconcile.world import MemoryDataPlane, World
from tests.telemetry.support import Clock

OPERATOR, MONITOR, PLANE = "node-a:8080", "monitor:8080", "node-a:8081"


class Scene:
    """One node: its world, and what its operator, the monitor and its data plane show."""

    def __init__(self, *objects: Raw, world: World | None = None) -> None:
        self.world = world if world is not None else World()
        self.world.data_plane = self.world.data_plane or MemoryDataPlane()
        self.clock = Clock()
        self.hearts, self.monitor_hearts = Heartbeats(self.clock), Heartbeats(self.clock)
        self.plane_sign = 0.0
        """Seconds since the data plane's last sign of life."""
        self._providers: list[tuple[MeterProvider, CollectorRegistry]] = []
        self.metrics = ReconcileMetrics(
            self.hearts,
            self._objects,
            plane_seen=lambda: self.world.now.timestamp() - self.plane_sign,
            now=self.world.clock,
            meter=self._meter(Settings("node-a")),
        )
        self.world.recorder = self.metrics
        self.world.restart()
        self.leases = LeaseAges()
        self.monitor = MonitorMetrics(self.monitor_hearts, meter=self._meter(Settings("", service="dsg-monitor")))
        self.monitor.watch(lambda: {node: self.clock() - since for node, since in self.leases.since().items()})
        self.plane = PrometheusRecorder()
        self.calls = ExitStack()
        """Calls to the storage that do not return."""
        self.hanging = Hanging(lambda root: "the pool tank")
        self.plane.watch(lambda: 2, lambda: 3, lambda: self.hanging.calls)
        self._renewals = 0
        self.quiet: set[str] = set()
        """Addresses that are not scraped."""
        self.world.apply(*objects)
        self.beat()
        self.run()

    def _meter(self, settings: Settings) -> Any:
        registry = CollectorRegistry()
        reader = PrometheusMetricReader(scope_info_enabled=False, registry=registry)
        provider = MeterProvider([reader], resource(settings), shutdown_on_exit=False)
        self._providers.append((provider, registry))
        return provider.get_meter("dsg")

    def _objects(self) -> Iterable[Raw]:
        return self.world.store.objects()

    def beat(self, *, lease: bool = True) -> None:
        """Let everything that shows life by itself do so."""
        self.hearts.watch_heard("repositories.dsg.hrdag.org")
        self.hearts.resync_finished()
        self.hearts.clock_compared(0.3)
        self.monitor_hearts.resync_finished()
        self._renewals += lease
        self.leases.lost({"node-a": str(self._renewals)}, self.clock())

    def run(self, keys: Iterable[Key] | None = None) -> None:
        """Let the operator take a pass."""
        result = self.world.run(keys)
        self.metrics.passed(result, 0.1, 0)
        self.world.watch()

    def pages(self) -> Pages:
        """Return what is scraped now."""
        (_, operator), (_, monitor) = self._providers
        found = {
            OPERATOR: exposition(operator).decode(),
            MONITOR: exposition(monitor).decode(),
            PLANE: self.plane.page().decode(),
        }
        return {address: text for address, text in found.items() if address not in self.quiet}

    def close(self) -> None:
        """End it."""
        for provider, _ in self._providers:
            provider.shutdown()


Break = Callable[[Scene], None]
