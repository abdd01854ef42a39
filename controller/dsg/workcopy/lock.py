"""One process at a time works with a working copy."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from dsg.workcopy.errors import Busy
from dsg.workcopy.layout import Layout
from dsg.workcopy.writing import write_all


@contextmanager
def locked(layout: Layout) -> Iterator[None]:
    """Hold the lock. It ends with the process, however that ends (flock(2)). Raises Busy, OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(layout.lock, flags, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(layout.root, os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()) from None
        os.ftruncate(descriptor, 0)
        write_all(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)
