"""Opening many files of a working copy to read them, mostly one after the other from the same directory."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import BinaryIO, Self

from dsg.scan.listing import open_below, open_file
from dsg.workcopy.files import Files, regular_file


class Nearby:
    """Opens regular files, never through a link. A context manager, at whose end no thread may use it any more.

    The directory of a thread's last file stays open, which saves half of what opening costs. It is read from also when
    it was moved meanwhile: that a file is the one that was scanned, its digest tells.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._guard = threading.Lock()
        self._open: dict[int, tuple[bytes, int]] = {}
        """By thread: the directory's path and descriptor."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._guard:
            while self._open:
                os.close(self._open.popitem()[1][1])

    def open(self, path: bytes) -> BinaryIO:
        """Open a file for reading, unbuffered; OSError for anything else."""
        above, _, name = path.rpartition(b"/")
        return regular_file(open_file(name, self._directory(above)), path, buffering=0)

    def _directory(self, path: bytes) -> int:
        thread = threading.get_ident()
        last = self._open.get(thread)
        if last is not None and last[0] == path:
            return last[1]
        descriptor = open_below(self._files.descriptor, path)
        with self._guard:
            self._open[thread] = (path, descriptor)
        if last is not None:
            os.close(last[1])
        return descriptor
