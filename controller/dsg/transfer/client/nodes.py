"""Where a reader keeps nodes of manifests, which never change: in memory, or in a directory that outlives it."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Protocol

from blake3 import blake3

from dsg.transfer.client.errors import LocalProblem
from dsg.transfer.client.store import Store
from dsg.transfer.wire import is_digest

MEMORY = 64 << 20
"""Bytes of nodes in memory."""


class NodeCache(Protocol):
    """Keeps nodes. Any thread may call it. What it gives need not be right: who asks checks."""

    def get(self, digest: str) -> bytes | None:
        """Return a node, None when it is not kept."""
        ...

    def put(self, digest: str, node: bytes) -> None:
        """Keep a node that has that digest."""
        ...


class MemoryNodes:
    """Keeps the nodes that were used last."""

    def __init__(self, limit: int = MEMORY) -> None:
        """`limit`: bytes of nodes."""
        self._limit = limit
        self._held = 0
        self._nodes: OrderedDict[str, bytes] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, digest: str) -> bytes | None:
        """Return a node, None when it is not kept."""
        with self._guard:
            found = self._nodes.get(digest)
            if found is not None:
                self._nodes.move_to_end(digest)
            return found

    def put(self, digest: str, node: bytes) -> None:
        """Keep a node."""
        with self._guard:
            if digest in self._nodes:
                return
            self._nodes[digest] = node
            self._held += len(node)
            while self._held > self._limit and len(self._nodes) > 1:
                self._held -= len(self._nodes.popitem(last=False)[1])


class DirectoryNodes:
    """Keeps nodes as files named by their digests. Raises LocalProblem and NoSpace."""

    def __init__(self, directory: Path) -> None:
        """`directory` must be there."""
        self._directory = directory

    def get(self, digest: str) -> bytes | None:
        """Return a node, None when it is not kept, or was damaged."""
        if not is_digest(digest):
            return None
        path = self._directory / digest
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                raw = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LocalProblem("read", str(path), error) from error
        return raw if blake3(raw).hexdigest() == digest else None

    def put(self, digest: str, node: bytes) -> None:
        """Keep a node."""
        with Store(self._directory) as store:
            store.put(digest, node)
