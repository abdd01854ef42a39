"""Watches: the changes of one resource from some revision on, as one watcher sees them through its selectors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from demo.embedded.failures import ApiFailure, Cause, bad_request, invalid
from demo.embedded.kinds import Kind
from demo.embedded.registry import Registry
from demo.embedded.selectors import ObjectTest
from demo.embedded.store import Change, Obj

INITIAL_END = "k8s.io/initial-events-end"


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What a watcher asks for."""

    resource_version: str = ""
    resource_version_match: str = ""
    send_initial: str = ""
    bookmarks: bool = False
    timeout: float = 3600.0
    """Seconds until the stream ends by itself."""
    bookmark_interval: float = 30.0


Event = tuple[str, Obj]
"""Type and object of one watch event; the object of an ERROR is a Status, that of a BOOKMARK has only a version."""


def check(options: WatchOptions) -> None:
    """Raise ApiFailure (422, 400) for options that make no watch."""
    if options.send_initial and options.resource_version_match != "NotOlderThan":
        text = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        raise invalid("ListOptions", "meta.k8s.io", "", [Cause("resourceVersionMatch", text, "FieldValueForbidden")])
    if options.resource_version and not options.resource_version.isdigit():
        raise bad_request(f"Invalid value: {options.resource_version!r}: resourceVersion is a number")


def _seen(change: Change, test: ObjectTest) -> Event | None:
    was = change.old is not None and test(change.old)
    if change.type == "DELETED":
        return ("DELETED", change.obj) if was else None
    now = test(change.obj)
    if now:
        return ("MODIFIED" if was else "ADDED"), change.obj
    return ("DELETED", change.obj) if was else None


def _bookmark(kind: Kind, revision: int, *, initial_end: bool = False) -> Event:
    metadata: dict[str, Any] = {"resourceVersion": str(revision), "creationTimestamp": None}
    if initial_end:
        metadata["annotations"] = {INITIAL_END: "true"}
    return "BOOKMARK", {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}


def _begin(registry: Registry, kind: Kind, namespace: str, test: ObjectTest, options: WatchOptions) -> Iterator[Event]:
    store = registry.store
    wanted = int(options.resource_version or 0)
    if wanted > store.revision:
        text = f"Too large resource version: {wanted}, current: {store.revision}"
        raise ApiFailure(HTTPStatus.GATEWAY_TIMEOUT, "Timeout", text)
    if options.send_initial != "false" and (options.send_initial or not wanted):
        for obj in registry.objects(kind, namespace):
            if test(obj):
                yield "ADDED", obj
        if options.send_initial and options.bookmarks:
            yield _bookmark(kind, store.revision, initial_end=True)
        return
    for change in store.since(kind.resource, wanted or store.revision):
        if event := _seen(change, test):
            yield event


async def watch(
    registry: Registry, kind: Kind, namespace: str, selected: ObjectTest, options: WatchOptions
) -> AsyncIterator[Event]:
    """Yield the events of a watch until its time is over.

    A version that is too old, or newer than anything, is an event of type ERROR, as it is on the real server.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + options.timeout

    def test(obj: Any) -> bool:
        return (not namespace or obj["metadata"].get("namespace") == namespace) and selected(obj)

    queue = registry.store.follow(kind.resource)
    try:
        try:
            # No await up to here: what happened before the queue is in the beginning, what comes after is in the queue.
            beginning = list(_begin(registry, kind, namespace, test, options))
        except ApiFailure as failure:
            yield "ERROR", failure.status()
            return
        for event in beginning:
            yield event
        while (left := deadline - loop.time()) > 0:
            try:
                async with asyncio.timeout(min(left, options.bookmark_interval)):
                    change = await queue.get()
            except TimeoutError:
                if options.bookmarks and loop.time() < deadline:
                    yield _bookmark(kind, registry.store.revision)
                continue
            if seen := _seen(change, test):
                yield seen
    finally:
        registry.store.unfollow(kind.resource, queue)
