"""One lock for each repository: a commit and a reconciliation of the same one never act at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Locks:
    """Locks by repository identity. They guard threads of one operator; a node has one operator."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def _of(self, identity: str) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(identity, threading.Lock())

    @contextmanager
    def held(self, identity: str) -> Iterator[None]:
        """Hold a repository's lock, after waiting for it."""
        with self._of(identity):
            yield

    def take(self, identity: str) -> bool:
        """Take a repository's lock if it is free; return whether it was. `free` gives it back."""
        return self._of(identity).acquire(blocking=False)

    def free(self, identity: str) -> None:
        """Give back a lock that `take` took."""
        self._of(identity).release()
