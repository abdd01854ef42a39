"""Directories by descriptor: opened without following links, listed in the order of a manifest."""

from __future__ import annotations

import heapq
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from blake3 import blake3

RUN = 65536
"""Names that a listing holds in memory at once, some 6 MB; more pass through a temporary file."""
_BLOCK = 65536
_NOATIME = getattr(os, "O_NOATIME", 0)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a pipe that somebody put in a file's place would wait for a writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_directory(name: bytes, above: int) -> int:
    """Open a directory in another one; never a link. Raises OSError."""
    return _quietly(name, _DIRECTORY, above)


def open_file(name: bytes, above: int) -> int:
    """Open what a name in a directory stands for, to read; never through a link, never waiting. Raises OSError."""
    return _quietly(name, _FILE, above)


def _quietly(name: bytes, flags: int, above: int) -> int:
    # Only the owner may leave the access time alone (O_NOATIME of open(2)).
    try:
        return os.open(name, flags | _NOATIME, dir_fd=above)
    except PermissionError:
        return os.open(name, flags, dir_fd=above)


def open_below(root: int, path: bytes) -> int:
    """Open the directory of a path below a root, component by component, never through a link. Raises OSError."""
    at = os.dup(root)
    try:
        for name in path.split(b"/") if path else ():
            below = open_directory(name, at)
            os.close(at)
            at = below
    except OSError:
        os.close(at)
        raise
    return at


class Directory:
    """An open directory that several threads use; closed when the last lets go."""

    _lock = threading.Lock()

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._users = 1

    def hold(self) -> None:
        """Use it too."""
        with self._lock:
            self._users += 1

    def release(self) -> None:
        """Use it no more."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            os.close(self.descriptor)


class Listing:
    """Names of a directory, by iterating once: in the order that all paths below them have in a manifest.

    Directories end with a slash and are sorted by that name, for what lies below them is: 'a-b' comes before 'a/c'.
    Raises OSError from the directory, or from the temporary file that more than `run` names pass through.
    """

    def __init__(
        self,
        descriptor: int,
        keep: Callable[[bytes, bool], bool],
        *,
        folder: Path | None = None,
        run: int = RUN,
    ) -> None:
        """List the names for which `keep`, told name and whether it is a directory, holds."""
        self._hasher = blake3()
        self._folder = folder
        self.left_out = 0
        """Number of names that were not kept."""
        held: list[bytes] = []
        self._runs: list[tuple[int, int]] = []
        self._file: IO[bytes] | None = None
        with os.scandir(descriptor) as found:
            for item in found:
                name = os.fsencode(item.name)
                directory = item.is_dir(follow_symlinks=False)
                if not keep(name, directory):
                    self.left_out += 1
                    continue
                held.append(name + b"/" if directory else name)
                if len(held) == run:
                    self._spill(held)
                    held = []
        if self._file is not None:
            self._spill(held)
            self._keys: Iterator[bytes] = heapq.merge(*(self._read(start, end) for start, end in self._runs))
        else:
            held.sort()
            self._keys = iter(held)

    def __iter__(self) -> Iterator[bytes]:
        update = self._hasher.update
        last = b""
        for key in self._keys:
            # readdir(3) may name twice what is renamed meanwhile.
            if key == last:
                continue
            last = key
            update(key + b"\0")
            yield key
        if self._file is not None:
            self._file.close()

    def digest(self) -> bytes:
        """Return a digest of the names that have come; equal for equal listings when all have."""
        return self._hasher.digest()

    def _spill(self, held: list[bytes]) -> None:
        if self._file is None:
            # Closed when all names have come or nobody holds the listing any more.
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
        held.sort()
        start = self._file.tell()
        self._file.writelines(key + b"\0" for key in held)
        self._file.flush()
        self._runs.append((start, self._file.tell()))

    def _read(self, start: int, end: int) -> Iterator[bytes]:
        if self._file is None:
            raise RuntimeError("a listing in memory has no runs to read")
        rest = b""
        while start < end:
            block = os.pread(self._file.fileno(), min(_BLOCK, end - start), start)
            if not block:
                raise OSError(f"the temporary file of a listing ends at byte {start}, {end - start} bytes early")
            start += len(block)
            *keys, rest = (rest + block).split(b"\0")
            yield from keys


def kind_of(mode: int) -> str:
    """Return what a special file is, in words."""
    kinds = {
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFBLK: "a block device",
        stat.S_IFCHR: "a character device",
    }
    return kinds.get(stat.S_IFMT(mode), "of an unknown kind")
