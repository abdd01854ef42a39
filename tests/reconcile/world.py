"""A whole world for tests: a cluster of objects in memory, a storage node, and the engine between them.

A test states the world, lets the engine look, and states the world after it. After every pass all conditions are
checked against the laws, and no status may have been written without a change.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from dsg.api.base import Condition
from dsg.reconcile.cluster import Conflict, EventDraft, Gone, Key, Raw, key_of
from dsg.reconcile.conditions import check
from dsg.reconcile.engine import Engine, PassResult
from dsg.reconcile.store import Store
from dsg.storage.zfs.model import ModelHost, ModelNode, ModelZfs
from dsg.storage.zfs.pool import ZfsPools
from dsg.storage.zfs.repository import ZfsRepositories
from tests.reconcile.specs import pool, repository

START = datetime(2026, 1, 1, tzinfo=UTC)


class MemoryCluster:
    """The API server as far as the reconciler sees it: optimistic concurrency, finalizers, Events."""

    def __init__(self) -> None:
        self.objects: dict[Key, dict[str, Any]] = {}
        self.events: list[tuple[Key, EventDraft]] = []
        self.writes: list[str] = []
        self._versions = itertools.count(1)
        self._uids = itertools.count(1)
        self.down = False

    def apply(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object, or replace its spec and annotations."""
        new = copy.deepcopy(dict(obj))
        key = key_of(new)
        old = self.objects.get(key)
        metadata = new["metadata"]
        if old is None:
            number = next(self._uids)
            metadata.update(uid=f"uid-{number}", generation=1)
            metadata["creationTimestamp"] = (START + timedelta(seconds=number)).strftime("%Y-%m-%dT%H:%M:%SZ")
            new["status"] = {"observedGeneration": -1}
        else:
            kept = ("uid", "creationTimestamp", "finalizers", "deletionTimestamp", "generation")
            metadata.update({k: old["metadata"][k] for k in kept if k in old["metadata"]})
            metadata["generation"] += old["spec"] != new["spec"]
            new["status"] = old["status"]
        return self._keep(new)

    def _keep(self, obj: dict[str, Any]) -> dict[str, Any]:
        obj["metadata"]["resourceVersion"] = str(next(self._versions))
        self.objects[key_of(obj)] = obj
        return copy.deepcopy(obj)

    def delete(self, key: Key) -> None:
        """Ask for a deletion: at once without finalizers, else by a timestamp."""
        obj = copy.deepcopy(self.objects[key])
        if not obj["metadata"].get("finalizers"):
            del self.objects[key]
            return
        obj["metadata"]["deletionTimestamp"] = START.strftime("%Y-%m-%dT%H:%M:%SZ")
        self._keep(obj)

    def _current(self, obj: Raw) -> dict[str, Any]:
        if self.down:
            raise Conflict("the API server is away")
        current = self.objects.get(key_of(obj))
        if current is None or current["metadata"]["uid"] != obj["metadata"]["uid"]:
            raise Gone("no such object")
        if current["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
            raise Conflict("changed since it was read")
        return copy.deepcopy(current)

    def put_status(self, obj: Raw, status: Mapping[str, Any]) -> Raw:
        current = self._current(obj)
        assert current["status"] != status, f"status of {key_of(obj)} written without a change"
        self.writes.append(f"status {key_of(obj)}")
        return self._keep({**current, "status": copy.deepcopy(dict(status))})

    def set_finalizers(self, obj: Raw, finalizers: list[str]) -> Raw:
        current = self._current(obj)
        self.writes.append(f"finalizers {key_of(obj)}")
        current["metadata"]["finalizers"] = list(finalizers)
        kept = self._keep(current)
        if not finalizers and current["metadata"].get("deletionTimestamp"):
            del self.objects[key_of(obj)]
        return kept

    def post_event(self, obj: Raw, event: EventDraft) -> None:
        assert event.entry.event is not None, f"{event.reason} is not announced by Events"
        self.writes.append(f"event {event.reason}")
        self.events.append((key_of(obj), event))


class World:
    """One cluster, one node, one operator."""

    def __init__(self, node: ModelNode | None = None, cluster: MemoryCluster | None = None) -> None:
        self.cluster = cluster or MemoryCluster()
        if node is None:
            node = ModelNode(seed=1)
            node.add_pool("tank")
        self.node = node
        self.zfs, self.host = ModelZfs(node), ModelHost(node)
        self.namespaces: dict[str, Mapping[str, str]] = {"research": {"team": "data"}}
        self.now = START
        self.restart()

    def restart(self) -> None:
        """End the operator and start a new one that remembers nothing."""
        self.store = Store()
        self.engine = Engine(
            "node-a",
            {"zfs": ZfsRepositories(self.zfs, self.host)},
            {"zfs": ZfsPools(self.zfs, self.host)},
            self.cluster,
            self.store,
            lambda: self.now,
        )

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Apply objects, as kubectl would."""
        for obj in objects:
            self.cluster.apply(obj)

    def run(self, keys: Iterable[Key] | None = None) -> PassResult:
        """Let the operator look at objects, at all of them unless some are named; check what must always hold."""
        for key in set(self.store.world().objects) - set(self.cluster.objects):
            self.store.remove(key)
        for obj in self.cluster.objects.values():
            self.store.put(copy.deepcopy(obj))
        for name, labels in self.namespaces.items():
            self.store.put_namespace(name, labels)
        result = self.engine.reconcile(self.cluster.objects if keys is None else keys)
        for key, obj in self.cluster.objects.items():
            if obj["status"]["observedGeneration"] >= 0:
                conditions = [Condition.model_validate(c) for c in obj["status"]["conditions"]]
                assert check(key.kind, conditions) == [], key
        return result

    def quiet(self) -> None:
        """Assert that another pass writes nothing to the API and changes nothing on the node."""
        writes, calls = len(self.cluster.writes), dict(self.node.calls)
        self.run()
        assert self.cluster.writes[writes:] == []
        changing = {n: c - calls.get(n, 0) for n, c in self.node.calls.items() if c != calls.get(n, 0)}
        assert set(changing) <= {"zfs.pools", "zfs.read", "zfs.holds", "host.mounts", "host.stat"}, changing

    def get(self, name: str = "justice", namespace: str = "research") -> dict[str, Any]:
        return self.cluster.objects[Key("Repository", namespace, name)]

    def condition(self, type_: str, name: str = "justice") -> dict[str, Any]:
        return next(c for c in self.get(name)["status"]["conditions"] if c["type"] == type_)

    def pool_condition(self, type_: str, name: str = "node-a-tank") -> dict[str, Any]:
        obj = self.cluster.objects[Key("StoragePool", "", name)]
        return next(c for c in obj["status"]["conditions"] if c["type"] == type_)

    def ready(self, name: str = "justice") -> tuple[str, str]:
        found = self.condition("Ready", name)
        return found["status"], found["reason"]

    def told(self, reason: str) -> list[str]:
        """Return the messages of all Events with a reason."""
        return [event.message for _, event in self.cluster.events if event.reason == reason]

    def local(self, dataset: str, name: str) -> str | None:
        """Return a property where it is set on the dataset itself."""
        return self.zfs.read([dataset], [name], depth=0)[dataset].local(name)

    def value(self, dataset: str, name: str) -> str | None:
        """Return a property's value from whatever source."""
        return self.zfs.read([dataset], [name], depth=0)[dataset].value(name)

    def datasets(self) -> set[str]:
        return set(self.zfs.read(["tank"], ["type"]))


def running(*objects: Mapping[str, Any]) -> World:
    """Return a world with a pool and a converged repository (or the given objects)."""
    world = World()
    world.apply(pool(), *(objects or [repository()]))
    world.run()
    return world
