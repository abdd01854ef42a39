"""Objects in memory, each change with its own revision, and the recent changes for watches.

Objects are never changed in place: whoever holds one holds a moment. Used on one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from demo.embedded.failures import too_old

Obj = dict[str, Any]
FIRST_REVISION = 100
"""The first revision is above small numbers, so that those are too old, as on a server that has lived."""


@dataclass(frozen=True, slots=True, order=True)
class Where:
    """Names one object within its resource."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one object; `old` is None when it is new."""

    revision: int
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    obj: Obj
    old: Obj | None


class Store:
    """Everything that the server knows. `remembered` is how many changes of one resource a watch can go back."""

    def __init__(self, remembered: int = 1000) -> None:
        self.revision = FIRST_REVISION
        self._remembered = remembered
        self._objects: dict[str, dict[Where, Obj]] = {}
        self._changes: dict[str, deque[Change]] = {}
        self._floor = FIRST_REVISION
        self._floors: dict[str, int] = {}
        self._followers: dict[str, set[asyncio.Queue[Change]]] = {}

    def get(self, resource: str, where: Where) -> Obj | None:
        """Return an object; None where there is none."""
        return self._objects.get(resource, {}).get(where)

    def all(self, resource: str) -> Iterator[tuple[Where, Obj]]:
        """Yield the objects of a resource in the order of lists: by namespace and name."""
        yield from sorted(self._objects.get(resource, {}).items())

    def put(self, resource: str, where: Where, obj: Obj) -> Obj:
        """Keep an object under a new revision; return it as it is kept."""
        old = self.get(resource, where)
        kept = self._stamped(obj)
        self._objects.setdefault(resource, {})[where] = kept
        self._tell(resource, Change(self.revision, "ADDED" if old is None else "MODIFIED", kept, old))
        return kept

    def remove(self, resource: str, where: Where, last: Obj) -> Obj:
        """Forget an object whose last state is `last`; return that with the revision of its end."""
        old = self._objects[resource].pop(where)
        gone = self._stamped(last)
        self._tell(resource, Change(self.revision, "DELETED", gone, old))
        return gone

    def _stamped(self, obj: Obj) -> Obj:
        self.revision += 1
        return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.revision)}}

    def _tell(self, resource: str, change: Change) -> None:
        changes = self._changes.setdefault(resource, deque())
        changes.append(change)
        if len(changes) > self._remembered:
            self._floors[resource] = changes.popleft().revision
        for follower in self._followers.get(resource, ()):
            follower.put_nowait(change)

    def since(self, resource: str, revision: int) -> list[Change]:
        """Return the changes of a resource after a revision. Raises ApiFailure (410) when they are not all known."""
        oldest = self._floors.get(resource, self._floor)
        if revision < oldest:
            raise too_old(revision, oldest)
        return [change for change in self._changes.get(resource, ()) if change.revision > revision]

    def follow(self, resource: str) -> asyncio.Queue[Change]:
        """Return a queue that gets every change of a resource from now on, until `unfollow`."""
        queue: asyncio.Queue[Change] = asyncio.Queue()
        self._followers.setdefault(resource, set()).add(queue)
        return queue

    def unfollow(self, resource: str, queue: asyncio.Queue[Change]) -> None:
        """End a queue."""
        self._followers[resource].discard(queue)

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state for `restore`, fit for JSON. Recent changes are not part of it."""
        objects = {resource: list(found.values()) for resource, found in self._objects.items()}
        return {"revision": self.revision, "objects": objects}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a state; older revisions are too old from now on."""
        self.revision = self._floor = int(snapshot["revision"])
        for resource, objects in snapshot["objects"].items():
            self._objects[resource] = {
                Where(obj["metadata"].get("namespace", ""), obj["metadata"]["name"]): obj for obj in objects
            }
