"""Content of files: read once, whole, and from one moment, or named as changing."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import sys
import threading
import time
from dataclasses import dataclass

from blake3 import blake3

from dsg.manifests.entries import to_name
from dsg.scan.cache import COARSE
from dsg.scan.listing import open_file
from dsg.scan.problems import Problem, changing, from_error
from dsg.scan.walk import Found

ATTEMPTS = 3
"""How often a file that changes meanwhile is read."""
WHOLE = 1 << 20
"""Bytes up to which a file is read in one piece."""
CHUNK = 1 << 22
"""Bytes of a larger file that are read at once: enough for BLAKE3 to use all processors."""
PARALLEL = 1 << 24
"""Bytes from which a file is hashed by several threads. Smaller ones are many, and shared out among threads whole."""

QUIET = 20_000_000
"""Nanoseconds a file must have been left alone before it is read: Linux stamps changes with the time of its last tick,
up to 10 ms ago, so a write that comes right after fstat(2) could leave the times as they are. Where times show no
fractions of a second, COARSE stands in for it.
"""
OPEN_QUIET = 1_000_000_000
"""The same while somebody has the file open for writing, or that can't be told: a write(2) sets the times when it
begins, and on a busy machine its end may be long after.
"""

_SECOND = 1_000_000_000


class Stopped(Exception):
    """The scan is being given up."""


@dataclass(frozen=True, slots=True)
class Hashed:
    """A file's content, and what stat(2) said before and after it was read."""

    status: os.stat_result
    digest: bytes


class Hasher:
    """Hashes files in one or more threads. Counts what it reads."""

    def __init__(self, *, parallel: bool = True) -> None:
        """With `parallel`, large files are hashed by as many threads as BLAKE3 finds useful."""
        self.stopped = threading.Event()
        """Set it to make all threads stop at the next piece."""
        self.hashed = 0
        """Bytes read and hashed so far, those of attempts that failed included."""
        self._parallel = parallel
        self._lock = threading.Lock()
        self._own = threading.local()

    def hash(self, found: Found) -> Hashed | Problem:
        """Return the digest of a file, or what is wrong with it. Raises Stopped."""
        path = to_name(found.key)
        try:
            for _ in range(ATTEMPTS):
                hashed = self._attempt(found)
                if hashed is not None:
                    return hashed
        except OSError as error:
            return from_error(path, "read", error)
        return changing(path, f"changed each of the {ATTEMPTS} times that it was read")

    def _attempt(self, found: Found) -> Hashed | None:
        """Read a file once; None when it changed meanwhile, or is no regular file any more."""
        above = found.directory.descriptor
        descriptor = open_file(found.name, above)
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                return None
            self._settle(descriptor, before.st_ctime_ns)
            count, digest = self._content(descriptor, before.st_size)
            # By name, for what was read may have been replaced and live on without one; that it is the same file now
            # says that it is what it was before.
            after = os.stat(found.name, dir_fd=above, follow_symlinks=False)
        finally:
            os.close(descriptor)
        if count != before.st_size or not _same(before, after):
            return None
        return Hashed(after, digest)

    def _settle(self, descriptor: int, changed: int) -> None:
        """Wait until a change that comes now would show in the times."""
        quiet = QUIET if changed % _SECOND else COARSE
        if time.time_ns() >= changed + max(quiet, OPEN_QUIET):
            return
        self._wait(changed, quiet)
        if not _nobody_writes(descriptor):
            self._wait(changed, max(quiet, OPEN_QUIET))

    def _wait(self, changed: int, quiet: int) -> None:
        left = changed + quiet - time.time_ns()
        # A clock that is ahead of ours is not waited for.
        if left > 0 and self.stopped.wait(min(left, quiet) / _SECOND):
            raise Stopped

    def _content(self, descriptor: int, size: int) -> tuple[int, bytes]:
        if size < WHOLE:
            # One byte more than there should be: then a full answer tells that there is more.
            content = os.read(descriptor, size + 1)
            if len(content) == size:
                self._count(size)
                return size, blake3(content).digest()
            os.lseek(descriptor, 0, os.SEEK_SET)
        hasher = blake3(max_threads=blake3.AUTO) if self._parallel and size >= PARALLEL else blake3()
        buffer = self._buffer()
        total = 0
        while count := os.readv(descriptor, [buffer]):
            if self.stopped.is_set():
                raise Stopped
            hasher.update(buffer[:count])
            total += count
            self._count(count)
        return total, hasher.digest()

    def _buffer(self) -> memoryview:
        found: memoryview | None = getattr(self._own, "buffer", None)
        if found is None:
            found = self._own.buffer = memoryview(bytearray(CHUNK))
        return found

    def _count(self, count: int) -> None:
        with self._lock:
            self.hashed += count


def _nobody_writes(descriptor: int) -> bool:
    """Tell whether it is certain that no process has a file open for writing.

    That is what a read lease is refused for (F_SETLEASE of fcntl(2)). Only Linux has leases, for a file's owner and not
    on all file systems.
    """
    if sys.platform != "linux":
        return False
    try:
        # Whoever opens it for writing meanwhile makes the kernel send a signal. The usual one would end this process;
        # this one is ignored unless somebody asks for it (signal(7)).
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    return True


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (
        one.st_ino == other.st_ino
        and one.st_dev == other.st_dev
        and one.st_size == other.st_size
        and one.st_mtime_ns == other.st_mtime_ns
        and one.st_ctime_ns == other.st_ctime_ns
        and one.st_mode == other.st_mode
    )
