"""The node's view of the cluster: the newest known state of its objects and of the namespaces' labels."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from dsg.reconcile.cluster import Key, Raw, key_of


def _version(obj: Raw) -> int:
    """Return the resource version as a number (Kubernetes: comparable since 1.35; before, by etcd's revision)."""
    text = str(obj["metadata"].get("resourceVersion", "0"))
    return int(text) if text.isdigit() else 0


@dataclass(frozen=True, slots=True)
class World:
    """One moment of the store."""

    objects: Mapping[Key, Raw]
    namespaces: Mapping[str, Mapping[str, str]]
    """Labels of each namespace."""


class Store:
    """Holds the newest state of each object. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[Key, Raw] = {}
        self._by_kind: dict[str, dict[Key, Raw]] = {}
        """The same objects, so that those of one kind are found without looking at all."""
        self._namespaces: dict[str, Mapping[str, str]] = {}

    def put(self, obj: Raw) -> bool:
        """Keep an object if it is newer than the one that is known; return whether it was."""
        key = key_of(obj)
        with self._lock:
            known = self._objects.get(key)
            same = known is not None and known["metadata"].get("uid") == obj["metadata"].get("uid")
            if same and known is not None and _version(obj) <= _version(known):
                return False
            self._objects[key] = obj
            self._by_kind.setdefault(key.kind, {})[key] = obj
            return True

    def put_last(self, obj: Raw) -> None:
        """Keep the state in which we let an object go.

        Its version is that of the state before it: the API server writes an object that goes no more. Until the watch
        tells that it is gone, nothing that the watch still brings may pass for newer.
        """
        key = key_of(obj)
        with self._lock:
            known = self._objects.get(key)
            if known is not None and known["metadata"].get("uid") == obj["metadata"].get("uid"):
                self._objects[key] = obj
                self._by_kind.setdefault(key.kind, {})[key] = obj

    def remove(self, key: Key, uid: str | None = None) -> None:
        """Forget an object; with `uid`, only if it is still that one."""
        with self._lock:
            known = self._objects.get(key)
            if known is not None and (uid is None or known["metadata"].get("uid") == uid):
                del self._objects[key]
                del self._by_kind[key.kind][key]

    def put_namespace(self, name: str, labels: Mapping[str, str] | None) -> bool:
        """Keep a namespace's labels, or forget it when they are None; return whether something changed."""
        with self._lock:
            if labels is None:
                return self._namespaces.pop(name, None) is not None
            changed = self._namespaces.get(name) != labels
            self._namespaces[name] = dict(labels)
            return changed

    def get(self, key: Key) -> Raw | None:
        """Return an object as it is known now."""
        with self._lock:
            return self._objects.get(key)

    def objects(self) -> list[Raw]:
        """Return the objects as they are known now."""
        with self._lock:
            return list(self._objects.values())

    def of_kind(self, kind: str) -> list[Raw]:
        """Return the objects of one kind as they are known now; costs what there are of it."""
        with self._lock:
            return list(self._by_kind.get(kind, {}).values())

    def world(self) -> World:
        """Return the present moment."""
        with self._lock:
            return World(dict(self._objects), dict(self._namespaces))
