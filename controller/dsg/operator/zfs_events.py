"""What happens in the pools, as a reason to look at the repositories it concerns."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import structlog

from dsg.api.reasons import POOL, REPOSITORY
from dsg.reconcile.cluster import Key, Raw
from dsg.reconcile.store import Store
from dsg.storage.errors import StorageError
from dsg.storage.zfs.interface import EventStream, Zfs, ZfsEvent

RESTART_DELAY = 15.0
"""Seconds until a stream that ended is opened again; the resync covers the gap."""

_log = structlog.get_logger("dsg.operator")


def concerned(event: ZfsEvent, objects: Iterable[Raw]) -> set[Key]:
    """Return the objects that an event is about: by dataset where it names one, else everything in the pool."""
    found = set()
    dataset = event.dataset.partition("@")[0]
    for obj in objects:
        storage = obj.get("spec", {}).get("storage", {})
        if storage.get("pool") != event.pool:
            continue
        kind, metadata = obj["kind"], obj["metadata"]
        key = Key(kind, metadata.get("namespace", ""), metadata["name"])
        if kind == REPOSITORY:
            place = str(storage.get("dataset", ""))
            if not dataset or dataset == place or dataset.startswith(place + "/") or place.startswith(dataset + "/"):
                found.add(key)
        elif kind == POOL and not dataset:
            found.add(key)
    return found


class ZfsEventWatch:
    """A thread that follows the pools' events and asks for looks."""

    def __init__(self, zfs: Zfs, store: Store, ask: Callable[[set[Key]], None]) -> None:
        self._zfs = zfs
        self._store = store
        self._ask = ask
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._stream: EventStream | None = None
        self._thread = threading.Thread(target=self._run, name="dsg-zfs-events", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; waits a moment for the thread."""
        self._ended.set()
        with self._lock:
            if self._stream is not None:
                self._stream.close()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                stream = self._zfs.events()
                with self._lock:
                    self._stream = stream
                    if self._ended.is_set():
                        stream.close()
                for event in stream:
                    world = self._store.world()
                    if keys := concerned(event, world.objects.values()):
                        self._ask(keys)
            except StorageError as error:
                _log.info("zfs events are not followed for now; the resync looks anyway", error=str(error))
            except Exception:  # the thread must outlive whatever comes
                _log.exception("zfs events are not followed for now; the resync looks anyway")
            self._ended.wait(RESTART_DELAY)
