"""The stat cache: digests of files that did not change since they were hashed. Safe to delete at any time.

A file of blocks in path order, each with a checksum; docs/scan.md says why this and no database. It is read and written
beside the walk, in one pass, and replaced with rename(2) when something differs.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from blake3 import blake3

from dsg.manifests.entries import MAX_PATH, to_name

FORMAT = b"dsg-scan-cache/1\n"
"""The file's first line."""
COARSE = 2_000_000_000
"""Nanoseconds within which two changes may get one time: FAT keeps two seconds, HFS+ and ext3 one."""
YOUNG = 60_000_000_000
"""Nanoseconds before a scan within which a file's times prove nothing about what comes. COARSE would do for write(2).
Through mmap(2), the times are set when a page is first written, and again only after the kernel wrote the page back,
which it does within 35 seconds unless told otherwise (dirty_expire_centisecs and dirty_writeback_centisecs).
"""

_FAMILY = FORMAT.partition(b"/")[0]
_BLOCK = 512
"""Records in a block."""
_HEAD = struct.Struct(">I32s")
_FIXED = struct.Struct(">HQqqQQ32s")
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells that a file is the one that was hashed; fields as in stat(2)."""

    size: int
    mtime: int
    ctime: int
    inode: int
    device: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Return the stamp of a file."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


@dataclass(frozen=True, slots=True)
class Known:
    """A file's digest as the cache has it."""

    number: int
    """Its place in the cache, from 0."""
    key: bytes
    stamp: Stamp
    digest: bytes


class _Damaged(Exception):
    """The cache file can't be read on; the message says why."""


class Reader:
    """Reads a cache file. Each block is checked before anything of it is used."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def records(self) -> Iterator[Known]:
        """Yield the records in order, _Damaged where it is not what a writer made."""
        head = os.pread(self._descriptor, len(FORMAT), 0)
        if head != FORMAT:
            other = head.startswith(_FAMILY + b"/") and head.endswith(b"\n")
            raise _Damaged("another version of dsg wrote it" if other else "its first line is damaged")
        at, chain, last, number = len(FORMAT), blake3(FORMAT).digest(), b"", 0
        while True:
            length, checksum = _HEAD.unpack(self._exactly(_HEAD.size, at))
            if length > _BLOCK * (_FIXED.size + MAX_PATH):
                raise _Damaged(f"a block at byte {at} is damaged")
            payload = self._exactly(length, at + _HEAD.size)
            chain = blake3(chain + payload).digest()
            if chain != checksum:
                raise _Damaged(f"a block at byte {at} is damaged")
            if not length:
                return
            at += _HEAD.size + length
            here = 0
            while here < length:
                size, *stamp, digest = _FIXED.unpack_from(payload, here)
                here += _FIXED.size
                key = payload[here : here + size]
                here += size
                if key <= last:
                    raise _Damaged(f"its order is broken at {to_name(key)!r}")
                yield Known(number, key, Stamp(*stamp), digest)
                last = key
                number += 1

    def _exactly(self, count: int, at: int) -> bytes:
        found = os.pread(self._descriptor, count, at) if count else b""
        if len(found) != count:
            raise _Damaged("it ends early")
        return found


class _Writer:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        # Where the next block goes, and the checksum before it. Changed together, after the block is written: Ctrl-C
        # can come between any two steps, and the block is then written once more in the same place.
        self._end = (len(FORMAT), blake3(FORMAT).digest())
        self._held: list[bytes] = []

    def add(self, key: bytes, stamp: Stamp, digest: bytes) -> None:
        fixed = _FIXED.pack(len(key), stamp.size, stamp.mtime, stamp.ctime, stamp.inode, stamp.device, digest)
        self._held.append(fixed + key)
        if len(self._held) >= _BLOCK:
            self._flush()

    def finish(self) -> None:
        if self._held:
            self._flush()
        self._flush()
        os.ftruncate(self._descriptor, self._end[0])

    def _flush(self) -> None:
        at, chain = self._end
        block = b"".join(self._held)
        chain = blake3(chain + block).digest()
        _write(self._descriptor, _HEAD.pack(len(block), chain) + block, at)
        self._end, self._held = (at + _HEAD.size + len(block), chain), []


def _write(descriptor: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, at)
        view, at = view[count:], at + count


class Cache:
    """The cache during one scan: `find`, then `keep` or `add`, both in path order; then `save` or `close`.

    Errors of the cache are no errors of the scan: they end in `notes`, and files are hashed.
    """

    def __init__(self, file: Path | None, *, young: int = YOUNG) -> None:
        """Open the cache; its directory must exist. Without a file, nothing is known and nothing kept.

        `young`: nanoseconds before now within which times prove nothing.
        """
        self.notes: list[str] = []
        """What was wrong with the cache."""
        self.settled_before = time.time_ns() - young
        """Nanoseconds since 1970. A file that changed at this time or later may change again without any of its times
        changing, so it is not kept (git calls such an entry racily clean).
        """
        self._file = file
        self._young = young
        self._old = self._new = -1
        self._ahead: Iterator[Known] = iter(())
        self._next: Known | None = None
        self._unread = False
        # Records of the old cache that were read; the first of them that are kept, without a gap.
        self._total = self._kept = 0
        self._writer: _Writer | None = None
        if file is not None:
            self._open(file)

    def find(self, key: bytes, status: os.stat_result) -> Known | None:
        """Return what is known of a file that has not changed. Keys must come in order."""
        while self._next is not None and self._next.key < key:
            self._advance()
        known = self._next
        if known is None or known.key != key or known.stamp != Stamp.of(status):
            return None
        return known

    def keep(self, known: Known) -> None:
        """Keep what `find` returned."""
        if self._writer is None and known.number == self._kept:
            self._kept += 1
        else:
            self._put(known.key, known.stamp, known.digest)

    def add(self, key: bytes, status: os.stat_result, digest: bytes) -> None:
        """Take a file that was hashed, if its times tell it from any later content."""
        stamp = Stamp.of(status)
        if (
            max(stamp.mtime, stamp.ctime) < self.settled_before
            and stamp.mtime in _INT64
            and stamp.ctime in _INT64
            and len(key) <= MAX_PATH
        ):
            self._put(key, stamp, digest)

    def save(self, *, after: bytes | None = None) -> None:
        """Put the cache in place, if it differs from the old one.

        After a scan that was interrupted, `after` is the last path that it came to: what the old cache knows of later
        ones stays.
        """
        if self._new < 0 or self._file is None:
            return
        try:
            if after is not None:
                self._keep_rest(after)
            if self._writer is None and self._is_all():
                return
            self._start().finish()
            # Not fsynced: after a power cut, checksums tell what is missing, and only time is lost.
            self._beside(self._file).replace(self._file)
        except (_Damaged, OSError) as error:
            self._forget(error)

    def close(self) -> None:
        """Close the files; what was not saved is gone."""
        if self._new >= 0 and self._file is not None:
            # Gone already if it was saved. A new one is another scan's only once our lock is gone.
            with suppress(OSError):
                beside = self._beside(self._file)
                if os.path.samestat(beside.lstat(), os.fstat(self._new)):
                    beside.unlink()
        for descriptor in (self._old, self._new):
            if descriptor >= 0:
                os.close(descriptor)
        self._old = self._new = -1

    # ---- inside

    @staticmethod
    def _beside(file: Path) -> Path:
        return file.with_name(file.name + ".new")

    def _open(self, file: Path) -> None:
        try:
            self._new = _locked(self._beside(file))
        except OSError as error:
            busy = isinstance(error, BlockingIOError)
            why = "another scan is writing it" if busy else error.strerror or str(error)
            self.notes.append(f"the scan cache {file.name} is not updated: {why}")
        else:
            # Whichever clock is behind: the file system's may be a server's.
            self.settled_before = min(self.settled_before, os.fstat(self._new).st_mtime_ns - self._young)
        try:
            self._old = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError as error:
            self._rebuilt(error.strerror or str(error))
            return
        self._ahead = Reader(self._old).records()
        self._advance()

    def _advance(self) -> None:
        try:
            self._next = next(self._ahead, None)
        except (_Damaged, OSError) as error:
            self._next = None
            self._rebuilt(str(error))
        if self._next is not None:
            self._total = self._next.number + 1

    def _rebuilt(self, why: str) -> None:
        self._unread = True
        name = "" if self._file is None else f" {self._file.name}"
        self.notes.append(f"the scan cache{name} is rebuilt: {why}; files are hashed again")

    def _keep_rest(self, after: bytes) -> None:
        # Read anew: what was interrupted may be the reading.
        self._next, self._ahead = None, iter(())
        if self._old < 0:
            return
        try:
            for known in Reader(self._old).records():
                self._total = known.number + 1
                if known.key > after:
                    self.keep(known)
        except _Damaged as error:
            if not self._unread:
                self._rebuilt(str(error))

    def _is_all(self) -> bool:
        """Tell whether what was kept is all of the old cache."""
        if self._old < 0 or self._unread:
            return False
        while self._next is not None:
            self._advance()
        return self._total == self._kept and not self._unread

    def _put(self, key: bytes, stamp: Stamp, digest: bytes) -> None:
        if self._new < 0:
            return
        try:
            self._start().add(key, stamp, digest)
        except (_Damaged, OSError) as error:
            self._forget(error)

    def _start(self) -> _Writer:
        """Return the writer; the first time, write what was kept as it was."""
        if self._writer is None:
            writer = _Writer(self._new)
            if self._kept:
                # Not one more: what follows may be damaged.
                for known in islice(Reader(self._old).records(), self._kept):
                    writer.add(known.key, known.stamp, known.digest)
            self._writer = writer
        return self._writer

    def _forget(self, error: Exception) -> None:
        name = "" if self._file is None else f" {self._file.name}"
        self.notes.append(f"the scan cache{name} is not updated: {getattr(error, 'strerror', None) or error}")
        os.close(self._new)
        self._new = -1


def _locked(path: Path) -> int:
    """Create a file for this process alone, with the first line in it. BlockingIOError when another one has it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between open and lock it may have become the cache, or gone.
            if path.exists() and os.path.samestat(path.lstat(), os.fstat(descriptor)):
                os.ftruncate(descriptor, 0)
                _write(descriptor, FORMAT, 0)
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
