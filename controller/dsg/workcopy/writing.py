"""Small files that are replaced whole, and making things durable."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_NEW = ".new"


def write_whole(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Put a file in place in one step: whoever reads sees the old content or the new. Raises OSError."""
    beside = path.with_name(path.name + _NEW)
    # What an interrupted call left is used up.
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, content)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(beside, path)  # noqa: PTH105
    if durable:
        sync_directory(path.parent)


def write_all(descriptor: int, content: bytes | memoryview) -> None:
    """Write all of it. Raises OSError."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_directory(path: Path) -> None:
    """Make a directory's names durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_filesystem(descriptor: int) -> None:
    """Make durable all that was written to the file system of an open file, as far as the system can."""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        os.sync()
    elif syncfs(descriptor) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"what was written could not be made durable: {os.strerror(code)}")
