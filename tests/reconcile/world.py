"""A whole world for tests: a cluster of objects in memory, a storage node, and the engine between them.

A test states the world, lets the engine look, and states the world after it. After every pass all conditions are
checked against the laws, and no status may have been written without a change.
"""

from __future__ import annotations

import base64
import copy
import itertools
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from dsg.api.base import Condition
from dsg.api.synctransaction import Endpoint
from dsg.audit.auditor import Audit
from dsg.reconcile.cluster import ClusterError, Conflict, EventDraft, Forbidden, Gone, Key, Raw, key_of
from dsg.reconcile.conditions import check
from dsg.reconcile.data_plane import Admission, DataPlaneError
from dsg.reconcile.engine import Engine, PassResult
from dsg.reconcile.keeping import Keeping
from dsg.reconcile.ledger import Ledger
from dsg.reconcile.locks import Locks
from dsg.reconcile.store import Store
from dsg.reconcile.transactions import Recorder, Transactions
from dsg.storage.zfs.model import ModelHost, ModelNode, ModelTrees, ModelZfs
from dsg.storage.zfs.pool import ZfsPools
from dsg.storage.zfs.repository import ZfsRepositories
from dsg.transactions.keeper import Keeper
from dsg.transactions.on_zfs import ZfsTransactions
from dsg.transactions.transactor import Transactor
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
        self.leaving: set[str] = set()
        """Namespaces that are being deleted: nothing new can be made in them."""
        self.secrets: dict[tuple[str, str], dict[str, bytes]] = {}
        self.forbidden: set[tuple[str, str]] = set()
        self.secrets_read = 0

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

    def delete_object(self, obj: Raw) -> None:
        self.writes.append(f"delete {key_of(obj)}")
        del self.objects[key_of(self._current(obj))]

    def secret(self, namespace: str, name: str) -> Mapping[str, str]:
        if self.down:
            raise ClusterError("the API server is away")
        self.secrets_read += 1
        if (namespace, name) in self.forbidden:
            raise Forbidden(f"secrets {name!r} is forbidden")
        if (namespace, name) not in self.secrets:
            raise Gone("no such Secret")
        data = self.secrets[namespace, name]
        return {entry: base64.b64encode(value).decode() for entry, value in data.items()}

    def set_finalizers(self, obj: Raw, finalizers: list[str]) -> Raw:
        current = self._current(obj)
        self.writes.append(f"finalizers {key_of(obj)}")
        current["metadata"]["finalizers"] = list(finalizers)
        if not finalizers and current["metadata"].get("deletionTimestamp"):
            # It goes without being written once more: the answer has the version that it had.
            del self.objects[key_of(obj)]
            return current
        return self._keep(current)

    def post_event(self, obj: Raw, event: EventDraft) -> None:
        if obj["metadata"].get("namespace") in self.leaving:
            raise Forbidden("unable to create new content in a namespace that is being terminated")
        assert event.entry.event is not None, f"{event.reason} is not announced by Events"
        self.writes.append(f"event {event.reason}")
        self.events.append((key_of(obj), event))


class MemoryDataPlane:
    """The data plane, as the operator sees it."""

    def __init__(self) -> None:
        self.open: dict[str, Admission] = {}
        self.at: Endpoint | None = Endpoint(url="https://node-a.test:8443", certificate_fingerprint="1" * 64)
        self.broken = False

    def _check(self) -> None:
        if self.broken:
            raise DataPlaneError("the directory of grants is read-only")

    def endpoint(self) -> Endpoint | None:
        return self.at

    def last_sign(self) -> float | None:
        return None

    def admit(self, admission: Admission) -> None:
        self._check()
        self.open[admission.uid] = admission

    def withdraw(self, uid: str) -> None:
        self._check()
        self.open.pop(uid, None)

    def admitted(self) -> frozenset[str]:
        self._check()
        return frozenset(self.open)


class World:
    """One cluster, one node, one operator."""

    def __init__(self, node: ModelNode | None = None, cluster: MemoryCluster | None = None) -> None:
        self.cluster = cluster or MemoryCluster()
        self.now = START
        if node is None:
            node = ModelNode(seed=1, clock=lambda: self.now.timestamp())  # noqa: PLW0108  (now changes)
            node.add_pool("tank")
        self.node = node
        self.zfs, self.host = ModelZfs(node), ModelHost(node)
        self.data_plane: MemoryDataPlane | None = None
        self.recorder: Recorder | None = None
        self.audit: Audit | None = None
        self.namespaces: dict[str, Mapping[str, str]] = {"research": {"team": "data"}}
        self.restart()

    def restart(self) -> None:
        """End the operator and start a new one that remembers nothing."""
        self.store = Store()
        locks, ledger = Locks(), Ledger()
        kind, trees = ZfsTransactions(self.zfs, self.host), ModelTrees(self.node)
        keeping = Keeping({"zfs": Keeper(kind, trees)}, self.store, ledger, self.audit)
        self.engine = Engine(
            "node-a",
            {"zfs": ZfsRepositories(self.zfs, self.host)},
            {"zfs": ZfsPools(self.zfs, self.host)},
            self.cluster,
            self.store,
            self.clock,
            locks=locks,
            keeping=keeping,
            ledger=ledger,
            audit=self.audit,
            secrets=self.cluster,
        )
        self.trees = trees
        transactors = {"zfs": Transactor(kind, trees, ordered=True, clock=self.clock)}
        self.transactions = Transactions(
            "node-a",
            transactors,
            self.cluster,
            self.store,
            locks,
            ledger,
            keeping,
            self.clock,
            recorder=self.recorder,
            data_plane=self.data_plane,
            audit=self.audit,
        )

    def clock(self) -> datetime:
        """Return the time, which the test sets."""
        return self.now

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Apply objects, as kubectl would."""
        for obj in objects:
            self.cluster.apply(obj)

    def run(self, keys: Iterable[Key] | None = None) -> PassResult:
        """Let the operator look at objects, at all of them unless some are named; check what must always hold."""
        self.watch()
        result = self.engine.reconcile(self.cluster.objects if keys is None else keys)
        for key, obj in self.cluster.objects.items():
            if obj["status"]["observedGeneration"] >= 0:
                conditions = [Condition.model_validate(c) for c in obj["status"]["conditions"]]
                assert check(key.kind, conditions) == [], key
        return result

    def watch(self) -> None:
        """Let the operator hear of everything that the cluster has."""
        for key in set(self.store.world().objects) - set(self.cluster.objects):
            self.store.remove(key)
        for obj in self.cluster.objects.values():
            self.store.put(copy.deepcopy(obj))
        for name, labels in self.namespaces.items():
            self.store.put_namespace(name, labels)

    def advance(self, name: str) -> float | None:
        """Let the operator take one SyncTransaction as far as it goes; check what must always hold."""
        self.watch()
        key = Key("SyncTransaction", "research", name)
        seconds = self.transactions.advance(key)
        obj = self.cluster.objects.get(key)
        if obj is not None and obj["status"]["observedGeneration"] >= 0:
            conditions = [Condition.model_validate(c) for c in obj["status"]["conditions"]]
            assert check(key.kind, conditions) == [], key
        return seconds

    def quiet(self) -> None:
        """Assert that another pass writes nothing to the API and changes nothing on the node."""
        writes, calls = len(self.cluster.writes), dict(self.node.calls)
        self.run()
        assert self.cluster.writes[writes:] == []
        changing = {n: c - calls.get(n, 0) for n, c in self.node.calls.items() if c != calls.get(n, 0)}
        assert set(changing) <= {
            *("zfs.pools", "zfs.read", "zfs.holds", "host.mounts", "host.stat"),
            *("trees.names", "trees.read", "trees.facts"),
        }, changing

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
