"""A directory of contents, each named by its digest, and of halves of large ones. Used by descriptor."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from blake3 import blake3

from dsg.transfer.client.errors import LocalProblem, NoSpace
from dsg.transfer.wire import is_digest

MODE = 0o600
_NEW = ".new-"
"""A content that is being written; whoever writes it again writes it from the beginning."""
_PART = ".part-"
"""The beginning of a large one."""
_CHUNKS = ".chunks-"
"""A large one of which some chunks are there."""
_BUFFER = 1 << 22
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Store:
    """Contents in a directory. A context manager; methods raise LocalProblem and NoSpace, and any thread may call them.

    No two threads may write the same content.
    """

    def __init__(self, directory: Path) -> None:
        """Open the directory, which must be there and be no link."""
        self._directory = directory
        with self._told("open", ""):
            self._descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.scandir(self._descriptor) as entries:
                self._was_empty = next(entries, None) is None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def verified(self, digest: str, size: int) -> bool:
        """Return whether the content was there before. What has its name and is another is removed."""
        if self._was_empty:
            return False
        with self._told("read", digest):
            try:
                descriptor = os.open(_name(digest), _READ, dir_fd=self._descriptor)
            except FileNotFoundError:
                return False
            try:
                found = os.fstat(descriptor)
                right = stat.S_ISREG(found.st_mode) and found.st_size == size and hash_file(descriptor) == digest
            finally:
                os.close(descriptor)
            if not right:
                os.unlink(digest, dir_fd=self._descriptor)
            return right

    def put(self, digest: str, content: bytes | bytearray) -> None:
        """Store a content that is in memory and was verified."""
        new = _NEW + _name(digest)
        try:
            descriptor = os.open(new, _WRITE | os.O_TRUNC, MODE, dir_fd=self._descriptor)
            try:
                write_all(descriptor, memoryview(content), None)
            finally:
                os.close(descriptor)
            os.rename(new, digest, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        except OSError as error:
            raise self._problem("write", digest, error) from error

    @contextmanager
    def part(self, digest: str, *, chunks: bool) -> Iterator[int]:
        """Open what is there of a large content, for reading and writing."""
        with self._told("write", digest):
            name = (_CHUNKS if chunks else _PART) + _name(digest)
            descriptor = os.open(name, _WRITE, MODE, dir_fd=self._descriptor)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def keep(self, digest: str, *, chunks: bool) -> None:
        """Give a part that is whole and was verified its name."""
        with self._told("rename", digest):
            name = (_CHUNKS if chunks else _PART) + _name(digest)
            os.rename(name, digest, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        self.drop(digest)

    def drop(self, digest: str) -> None:
        """Remove what is there of a large content, but not a whole one."""
        for prefix in (_PART, _CHUNKS):
            with self._told("remove", digest), suppress(FileNotFoundError):
                os.unlink(prefix + _name(digest), dir_fd=self._descriptor)

    @contextmanager
    def writing(self, digest: str) -> Iterator[None]:
        """Tell of what goes wrong with a part."""
        with self._told("write", digest):
            yield

    @contextmanager
    def _told(self, does: str, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._problem(does, name, error) from error

    def _problem(self, does: str, name: str, error: OSError) -> NoSpace | LocalProblem:
        where = str(self._directory / name) if name else str(self._directory)
        if error.errno in _FULL:
            return NoSpace(
                f"cannot {does} {where}: {error.strerror}. What was fetched stays there. Free space, then give the "
                "same command again; it goes on where it stopped"
            )
        return LocalProblem(does, where, error)


_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_WRITE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def hash_file(descriptor: int) -> str:
    """Return the BLAKE3 of an open file."""
    size = os.fstat(descriptor).st_size
    # Of a large one, by all processors: nothing else is done meanwhile.
    hasher = blake3(max_threads=blake3.AUTO) if size >= _BUFFER else blake3()
    buffer = memoryview(bytearray(min(_BUFFER, size + 1)))
    offset = 0
    while count := os.preadv(descriptor, [buffer], offset):
        hasher.update(buffer[:count])
        offset += count
    return hasher.hexdigest()


def write_all(descriptor: int, content: memoryview, offset: int | None) -> None:
    """Write the whole of it, at an offset or where the file stands."""
    while content:
        count = os.write(descriptor, content) if offset is None else os.pwrite(descriptor, content, offset)
        content = content[count:]
        if offset is not None:
            offset += count


def _name(digest: str) -> str:
    if not is_digest(digest):
        raise ValueError(f"{digest!r} is no digest: 64 lower-case hexadecimal digits")
    return digest
