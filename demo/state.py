"""What is really so in the API, read directly and not from what kubectl prints: the story's own eyes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from demo.narrator import Unexpected
from demo.world import World
from dsg.api.names import GROUP, VERSION, lease_name
from dsg.operator.api_server import ApiServer, load_client, path
from dsg.reconcile.cluster import Gone

T = TypeVar("T")
NAMESPACE = "research"
PATIENCE = 120.0
"""Seconds that anything may take, on an emulated node as well."""


def until(what: str, look: Callable[[], T | None], patience: float = PATIENCE) -> T:
    """Return what `look` returns once there is something. Raises Unexpected after `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        if found := look():
            return found
        if time.monotonic() > deadline:
            raise Unexpected(f"{what}: not so after {patience:.0f} s")
        time.sleep(0.1)


def expect(what: str, so: bool, found: object = "") -> None:
    """Raise Unexpected unless something is so."""
    if not so:
        raise Unexpected(f"expected that {what}" + (f"; found: {found}" if found != "" else ""))


class State:
    """Reads one world's API."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._server = ApiServer(load_client(str(world.api.kubeconfig("admin"))))

    def _get(self, url: str, query: Mapping[str, str] | None = None) -> dict[str, Any] | None:
        try:
            return self._server.request("GET", url, resource=url.rpartition("/")[2], query=query)
        except Gone:
            return None

    def repository(self, name: str) -> dict[str, Any] | None:
        """Return a Repository; None where there is none."""
        return self._get(path("apis", GROUP, VERSION, "namespaces", NAMESPACE, "repositories", name))

    def any_phase(self, *phases: str) -> bool:
        """Return whether a SyncTransaction is in one of some phases."""
        found = self._get(path("apis", GROUP, VERSION, "namespaces", NAMESPACE, "synctransactions")) or {}
        return any((item.get("status") or {}).get("phase") in phases for item in found.get("items", []))

    def pool(self, name: str) -> dict[str, Any] | None:
        """Return a StoragePool; None where there is none."""
        return self._get(path("apis", GROUP, VERSION, "storagepools", name))

    def lease(self, node: str) -> dict[str, Any] | None:
        """Return the Lease of a node's operator; None where there is none."""
        return self._get(
            path("apis", "coordination.k8s.io", "v1", "namespaces", "dsg-system", "leases", lease_name(node))
        )

    def condition(self, name: str, type_: str) -> dict[str, Any]:
        """Return a Repository's condition, if it describes the present spec; empty when there is none."""
        obj = self.repository(name) or {}
        status = obj.get("status") or {}
        if status.get("observedGeneration") != obj.get("metadata", {}).get("generation"):
            return {}
        return next((c for c in status.get("conditions", []) if c["type"] == type_), {})

    def wait_reason(self, name: str, reason: str, type_: str = "Ready") -> dict[str, Any]:
        """Wait until a condition has a reason, and return the condition. Raises Unexpected."""

        def look() -> dict[str, Any] | None:
            found = self.condition(name, type_)
            return found if found.get("reason") == reason else None

        try:
            return until(f"{type_} of {name} has the reason {reason}", look)
        except Unexpected as error:
            raise Unexpected(f"{error}; it is {self.condition(name, type_)}") from None

    def events(self, name: str, reason: str) -> list[str]:
        """Return the messages of a Repository's Events with a reason, oldest first."""
        selector = f"involvedObject.name={name},reason={reason}"
        answer = self._get(path("api", "v1", "namespaces", NAMESPACE, "events"), {"fieldSelector": selector}) or {}
        found = sorted(answer.get("items", []), key=lambda event: str(event.get("eventTime")))
        return [str(event["message"]) for event in found]

    def wait_head(self, name: str, version: str) -> None:
        """Wait until a Repository's status names a version as its head. Raises Unexpected."""

        def look() -> bool:
            return (((self.repository(name) or {}).get("status") or {}).get("head") or {}).get("version") == version

        until(f"the head of {name} is {version}", look)

    def wait_event(self, name: str, reason: str, more_than: int = 0) -> str:
        """Wait until there are more Events with a reason than there were, and return the newest one's message."""

        def look() -> str | None:
            found = self.events(name, reason)
            return found[-1] if len(found) > more_than else None

        return until(f"an Event {reason} about {name}", look)

    def operator_requests(self, since: int) -> Counter[str]:
        """Return how often the operator has asked for what (`list repositories`) since a mark of the API's log."""
        counted: Counter[str] = Counter()
        for request in self._world.api.requests("operator", since):
            if request.resource:
                what = f"{request.resource}/{request.subresource}" if request.subresource else request.resource
                counted[f"{request.verb} {what}"] += 1
        return counted
