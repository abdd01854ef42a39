"""A directory and what lies below it, by descriptor: nothing is opened through a link, nothing that stands is replaced.

Paths are relative to the root, in bytes. Raises OSError.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from blake3 import blake3

from dsg.manifests.entries import Entry, File, FileState, State, to_bytes
from dsg.scan.listing import open_directory, open_file
from dsg.storage.copying import copy_content

_CHUNK = 1 << 20
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})
"""Why link(2) can't be used: the file system has no such links, or the file is another user's (proc(5),
protected_hardlinks)."""
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_STAYS = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.ENOENT, errno.ENOTDIR, errno.EINVAL})


class Files:
    """An open root. Use it as a context manager."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Files:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self.descriptor)

    @contextmanager
    def parent(self, path: bytes, *, make: bool = False) -> Iterator[tuple[int, bytes]]:
        """Open the directory of a path; with `make`, missing ones are made. Yields it with the last component."""
        *above, name = path.split(b"/")
        at = os.dup(self.descriptor)
        try:
            for one in above:
                try:
                    below = open_directory(one, at)
                except FileNotFoundError:
                    if not make:
                        raise
                    with suppress(FileExistsError):
                        os.mkdir(one, 0o777, dir_fd=at)
                    below = open_directory(one, at)
                os.close(at)
                at = below
            yield at, name
        finally:
            os.close(at)

    def look(self, path: bytes) -> os.stat_result | None:
        """Return what stands at a path, None when nothing does or something on the way is no directory."""
        try:
            with self.parent(path) as (above, name):
                return os.stat(name, dir_fd=above, follow_symlinks=False)
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise

    def target(self, path: bytes) -> bytes:
        """Return the text of a link."""
        with self.parent(path) as (above, name):
            return os.readlink(name, dir_fd=above)

    def open(self, path: bytes) -> BinaryIO:
        """Open a regular file for reading; OSError for anything else."""
        with self.parent(path) as (above, name):
            return regular_file(open_file(name, above), path)

    def digest(self, path: bytes) -> str:
        """Return the BLAKE3 of a regular file."""
        with self.open(path) as file:
            return digest_of(file)

    def holds(self, path: bytes, what: Entry | State, *, settled_before: int, times: bool = True) -> bool:
        """Tell whether a file or link stands at a path. Its content is read only where its times prove nothing.

        `settled_before`: nanoseconds since 1970; a file whose ctime is older was not touched since it was scanned.
        """
        found = self.look(path)
        if found is None:
            return False
        if not isinstance(what, File | FileState):
            return stat.S_ISLNK(found.st_mode) and self.target(path) == to_bytes(what.target)
        if not stat.S_ISREG(found.st_mode) or found.st_size != what.size:
            return False
        if times and (found.st_mtime_ns, found.st_mode & 0o777) != (what.mtime, what.mode):
            return False
        return (times and found.st_ctime_ns < settled_before) or self.digest(path) == what.digest

    def move(self, old: bytes, new: bytes) -> None:
        """Give something another name, at which nothing stands: FileExistsError where something does.

        link(2) and unlink(2), as rename(2) would replace; interrupted between the two, it has both names, and the same
        call goes on.
        """
        with self.parent(old) as (source, name), self.parent(new, make=True) as (target, to):
            try:
                os.link(name, to, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
            except FileExistsError:
                one = os.stat(name, dir_fd=source, follow_symlinks=False)
                if not os.path.samestat(one, os.stat(to, dir_fd=target, follow_symlinks=False)):
                    raise
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                self._move_without_links(source, name, target, to)
                return
            os.unlink(name, dir_fd=source)

    @staticmethod
    def _move_without_links(source: int, name: bytes, target: int, to: bytes) -> None:
        try:
            os.stat(to, dir_fd=target, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(name, to, src_dir_fd=source, dst_dir_fd=target)
            return
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fsdecode(to))

    def set_aside(self, path: bytes, new: bytes) -> None:
        """Move something to a name in `.dsg`, where nobody else works and nothing stands."""
        with self.parent(path) as (source, name), self.parent(new, make=True) as (target, to):
            os.rename(name, to, src_dir_fd=source, dst_dir_fd=target)

    def link(self, path: bytes, target: bytes) -> None:
        """Make a symbolic link where nothing stands."""
        with self.parent(path, make=True) as (above, name):
            os.symlink(target, name, dir_fd=above)

    def make_empty(self, path: bytes) -> None:
        """Make an empty file in `.dsg`, likewise."""
        os.close(self.make(path))

    def make(self, path: bytes) -> int:
        """Make an empty file in `.dsg`, in place of what an interrupted call left, and open it for writing."""
        with self.parent(path, make=True) as (above, name):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=above)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.open(name, flags, 0o600, dir_fd=above)

    def copy(self, path: bytes, new: bytes) -> None:
        """Copy a regular file's content to a new file in `.dsg`; blocks are shared where the file system can."""
        with self.open(path) as source:
            target = self.make(new)
            try:
                copy_content(source.fileno(), target, share=True)
            finally:
                os.close(target)

    def remove(self, path: bytes) -> None:
        """Remove a file or link; nothing where nothing stands."""
        with suppress(FileNotFoundError), self.parent(path) as (above, name):
            os.unlink(name, dir_fd=above)

    def remove_empty_above(self, path: bytes) -> None:
        """Remove the directories of a path that are empty."""
        while b"/" in path:
            path = path.rpartition(b"/")[0]
            try:
                with self.parent(path) as (above, name):
                    os.rmdir(name, dir_fd=above)
            except OSError as error:
                if error.errno in _STAYS or error.errno in _GONE:
                    return
                raise

    def remove_empty_below(self, path: bytes) -> bool:
        """Remove a directory in which there are only directories; tell whether it is gone."""
        try:
            with self.parent(path) as (above, name):
                return _remove_empty(above, name)
        except OSError as error:
            if error.errno in _GONE:
                return False
            raise

    def remove_tree(self, path: bytes) -> None:
        """Remove a directory of `.dsg` with all that is in it; nothing where nothing stands."""
        with suppress(FileNotFoundError), self.parent(path) as (above, name):
            _remove_tree(above, name)

    def files(self, path: bytes) -> Iterator[bytes]:
        """Yield the paths, relative to a directory, of all that is below it and no directory."""
        waiting = [b""]
        while waiting:
            at = waiting.pop()
            here = b"/".join(part for part in (path, at) if part)
            try:
                with self.parent(here + b"/x") as (directory, _), os.scandir(directory) as found:
                    entries = [(os.fsencode(one.name), one.is_dir(follow_symlinks=False)) for one in found]
            except FileNotFoundError:
                continue
            for name, is_directory in sorted(entries):
                below = at + b"/" + name if at else name
                if is_directory:
                    waiting.append(below)
                else:
                    yield below


def regular_file(descriptor: int, path: bytes, *, buffering: int = -1) -> BinaryIO:
    """Take an open regular file for reading, buffered as by open(); OSError, and it is closed, for anything else."""
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.fdopen(descriptor, "rb", buffering)
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    raise OSError(errno.EINVAL, "is no regular file", os.fsdecode(path))


def set_attributes(descriptor: int, mode: int, mtime: int) -> None:
    """Set permission bits and time of modification of an open file."""
    os.fchmod(descriptor, mode)
    os.utime(descriptor, ns=(mtime, mtime))


def digest_of(file: BinaryIO) -> str:
    """Return the BLAKE3 of what is left of an open file."""
    hasher = blake3()
    while piece := file.read(_CHUNK):
        hasher.update(piece)
    return hasher.hexdigest()


def _remove_empty(above: int, name: bytes) -> bool:
    here = open_directory(name, above)
    try:
        with os.scandir(here) as found:
            entries = [(os.fsencode(one.name), one.is_dir(follow_symlinks=False)) for one in found]
        # All that are empty go, also where one is not.
        removed = [is_directory and _remove_empty(here, one) for one, is_directory in entries]
        if not all(removed):
            return False
    finally:
        os.close(here)
    try:
        os.rmdir(name, dir_fd=above)
    except OSError as error:
        if error.errno in _STAYS:
            return False
        raise
    return True


def _remove_tree(above: int, name: bytes) -> None:
    here = open_directory(name, above)
    try:
        with os.scandir(here) as found:
            entries = [(os.fsencode(one.name), one.is_dir(follow_symlinks=False)) for one in found]
        for one, is_directory in entries:
            if is_directory:
                _remove_tree(here, one)
            else:
                with suppress(FileNotFoundError):
                    os.unlink(one, dir_fd=here)
    finally:
        os.close(here)
    os.rmdir(name, dir_fd=above)
