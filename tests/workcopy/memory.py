"""A directory in memory where there is one: for tests that are not about disks, and make and remove much."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def directory_in_memory() -> Iterator[Path]:
    """Yield a directory, and remove it."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as directory:
        yield Path(directory)
