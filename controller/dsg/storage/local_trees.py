"""Files of a generation's tree on this machine: the implementation of `Trees` that runs on storage nodes."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import suppress

from blake3 import blake3

from dsg.storage import confined
from dsg.storage.confined import told
from dsg.storage.copying import copy_content
from dsg.storage.errors import AlreadyExists, CommandFailed, HasDependents, InvalidValue
from dsg.storage.looking import entries, facts_at, facts_of
from dsg.storage.tree_paths import inner, parts, require_target
from dsg.storage.trees import LEFT_OUT, Facts, FileKind, Owning

_CHUNK = 1 << 20
_ABSENT = (FileNotFoundError, NotADirectoryError)
_libc = ctypes.CDLL(None, use_errno=True)


class LocalTrees:
    """This machine's files (`dsg.storage.trees.Trees`). Any number of threads and processes may call.

    Calls wait for as long as the kernel does; on a suspended pool that is for ever.
    """

    def __init__(self, *, share_blocks: bool = True) -> None:
        """`share_blocks` allows FICLONE and copy_file_range(2); to be false on OpenZFS before 2.3.7.

        Block cloning after a truncate could read holes there, and SEEK_HOLE missed data before 2.1.14; without it
        content is copied by read(2) and write(2) alone.
        """
        self._share_blocks = share_blocks

    # ---- looking

    def facts(self, root: str, path: str) -> Facts | None:
        """Return what stands at a path."""
        names = parts(path)
        with told("look at", root, path):
            try:
                with confined.opened_root(root) as top:
                    if not names:
                        return facts_of(os.fstat(top))
                    with confined.directory(top, names[:-1]) as parent:
                        return facts_at(parent, names[-1])
            except _ABSENT:
                return None

    def names(self, root: str, path: str) -> frozenset[str]:
        """Return the names in a directory."""
        names = parts(path)
        with told("list", root, path):
            try:
                with (
                    confined.opened_root(root) as top,
                    confined.directory(top, names) as found,
                    confined.listable(found) as listing,
                ):
                    return frozenset(os.listdir(listing))  # noqa: PTH208  (a descriptor)
            except _ABSENT:
                return frozenset()

    def walk(self, root: str) -> Iterator[tuple[str, Facts]]:
        """Yield everything below a root but directories; what goes away meanwhile is left out.

        Raises NotFound for a root that is not there: it is no empty tree.
        """
        with told("walk through", root, ""), confined.opened_root(root) as top:
            # Directories are opened anew from the root, so that no depth runs out of descriptors.
            waiting = [""]
            while waiting:
                path = waiting.pop()
                try:
                    with confined.directory(top, parts(path)) as here, confined.listable(here) as listing:
                        for name, found in entries(listing):
                            if not path and name in LEFT_OUT:
                                continue
                            below = f"{path}/{name}" if path else name
                            if found.kind is FileKind.DIRECTORY:
                                waiting.append(below)
                            else:
                                yield below, found
                except _ABSENT:
                    continue

    # ---- reading

    def digest(self, root: str, path: str) -> str:
        """Return the BLAKE3 digest of a file's content."""
        hasher = blake3()
        buffer = bytearray(_CHUNK)
        view = memoryview(buffer)
        with (
            told("read", root, path),
            confined.opened_root(root) as top,
            confined.regular_file(top, path) as descriptor,
        ):
            while count := os.readv(descriptor, [view]):
                hasher.update(view[:count])
        return hasher.hexdigest()

    def read(self, root: str, path: str, *, limit: int = 1 << 26) -> bytes | None:
        """Return a small file's content."""
        with told("read", root, path):
            try:
                with (
                    confined.opened_root(root) as top,
                    confined.regular_file(top, path) as descriptor,
                    os.fdopen(descriptor, "rb", closefd=False) as file,
                ):
                    content = file.read(limit + 1)
            except _ABSENT:
                return None
        if len(content) > limit:
            raise InvalidValue(f"{root}/{path} is larger than {limit} bytes", subject=path)
        return content

    def read_lines(self, root: str, path: str) -> Iterator[bytes]:
        """Yield a file's lines with their newlines."""
        with (
            told("read", root, path),
            confined.opened_root(root) as top,
            confined.regular_file(top, path) as descriptor,
            os.fdopen(descriptor, "rb", closefd=False, buffering=_CHUNK) as file,
        ):
            yield from file

    def written_by_nobody(self, root: str, path: str) -> bool:
        """Return whether no process has a regular file open for writing.

        Raises CommandFailed where the file system knows no leases: nothing can be told then.
        """
        with (
            told("see who writes", root, path),
            confined.opened_root(root) as top,
            confined.regular_file(top, path) as descriptor,
        ):
            # Whoever opens it for writing meanwhile makes the kernel send a signal. The usual one would end this
            # process; this one is ignored unless somebody asks for it (signal(7)).
            fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
            try:
                fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                text = f"cannot see who writes {root}/{path}: the file system knows no leases (F_SETLEASE of fcntl(2))"
                raise CommandFailed(text, subject=path) from error
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            return True

    # ---- placing

    def write(self, root: str, path: str, content: bytes, *, mode: int, owning: Owning) -> None:
        """Put a small file in place of what is there."""
        with (
            told("write", root, path),
            confined.opened_root(root) as top,
            confined.placing(top, path, owning) as (aside, name),
            os.fdopen(confined.create(aside, name), "wb") as file,
        ):
            file.write(content)
            file.flush()
            confined.own(file.fileno(), os.fstat(file.fileno()), owning)
            os.fchmod(file.fileno(), mode)

    def make_directory(self, root: str, path: str, *, owning: Owning) -> None:
        """Make a directory and its missing parents."""
        names = parts(path)
        with (
            told("make the directory", root, path),
            confined.opened_root(root) as top,
            confined.directory(top, names[:-1], owning=owning) as parent,
        ):
            try:
                with confined.directory(parent, names[-1:], owning=owning):
                    return
            except NotADirectoryError as error:
                raise AlreadyExists(f"{root}/{path} is no directory; it is left as it is", subject=path) from error

    def move(self, root: str, source: str, path: str, *, owning: Owning) -> None:
        """Move a file or link to a path of the same root."""
        above, name = inner(source)
        with (
            told(f"move {source} to", root, path),
            confined.opened_root(root) as top,
            confined.directory(top, above) as parent,
        ):
            moved = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(moved.st_mode):
                raise InvalidValue(f"{root}/{source} is a directory; only files and links are moved", subject=source)
            confined.refuse_directory(top, path)
            confined.rename(parent, name, top, path, owning)
            if source != path:
                # rename(2) leaves both names where they are links to one file.
                with suppress(FileNotFoundError):
                    left = os.stat(name, dir_fd=parent, follow_symlinks=False)
                    if os.path.samestat(left, moved):
                        os.unlink(name, dir_fd=parent)

    def copy(self, source_root: str, source: str, root: str, path: str, *, owning: Owning) -> None:
        """Put a copy of a regular file at a path."""
        with (
            told(f"copy {source_root}/{source} to", root, path),
            confined.opened_root(source_root) as source_top,
            confined.regular_file(source_top, source) as original,
            confined.opened_root(root) as top,
            confined.placing(top, path, owning) as (aside, name),
        ):
            made = confined.create(aside, name)
            try:
                copy_content(original, made, share=self._share_blocks)
                confined.own(made, os.fstat(made), owning)
            finally:
                os.close(made)

    def link(self, root: str, path: str, target: str, *, owning: Owning) -> None:
        """Put a symbolic link at a path."""
        require_target(target)
        with (
            told("make the link", root, path),
            confined.opened_root(root) as top,
            confined.placing(top, path, owning) as (aside, name),
        ):
            os.symlink(target, name, dir_fd=aside)
            made = os.stat(name, dir_fd=aside, follow_symlinks=False)
            if (made.st_uid, made.st_gid) != (owning.uid, owning.gid):
                os.chown(name, owning.uid, owning.gid, dir_fd=aside, follow_symlinks=False)

    def set_attributes(self, root: str, path: str, *, mode: int, mtime: int, owning: Owning) -> None:
        """Set permission bits, time of last modification and owner of a regular file, where they differ."""
        with (
            told("set the attributes of", root, path),
            confined.opened_root(root) as top,
            confined.regular_file(top, path) as descriptor,
        ):
            found = os.fstat(descriptor)
            # A new owner takes bits away (chown(2)).
            if confined.own(descriptor, found, owning) or stat.S_IMODE(found.st_mode) != mode:
                os.fchmod(descriptor, mode)
            if found.st_mtime_ns != mtime:
                os.utime(descriptor, ns=(found.st_atime_ns, mtime))

    # ---- removing

    def remove(self, root: str, path: str) -> None:
        """Remove a file or link, and the directories above it that it leaves empty."""
        above, name = inner(path)
        with told("remove", root, path), confined.opened_root(root) as top:
            try:
                with confined.directory(top, above) as parent:
                    # On a read-only mount unlink(2) fails even where there is nothing to remove.
                    os.stat(name, dir_fd=parent, follow_symlinks=False)
                    os.unlink(name, dir_fd=parent)
            except _ABSENT:
                return
            except IsADirectoryError as error:
                raise HasDependents(f"{root}/{path} is a directory; it is left as it is", subject=path) from error
            while above:
                *above, name = above
                try:
                    with confined.directory(top, above) as parent:
                        os.rmdir(name, dir_fd=parent)
                except OSError as error:
                    if error.errno in _STAYS:
                        return
                    raise

    def remove_tree(self, root: str, path: str) -> None:
        """Remove a directory with everything in it, or a file. Links are removed, never followed."""
        inner(path)
        with told("remove", root, path), confined.opened_root(root) as top:
            # shutil.rmtree needs a descriptor for each level, and on Python 3.11 a stack frame.
            waiting = [path]
            while waiting:
                above, name = inner(waiting[-1])
                below: list[str] = []
                with suppress(*_ABSENT), confined.directory(top, above) as parent:
                    below = _remove_or_empty(parent, name)
                if below:
                    directory = waiting[-1]
                    waiting.extend(f"{directory}/{one}" for one in below)
                else:
                    waiting.pop()

    def sync(self, root: str) -> None:
        """Make everything below a root durable."""
        with (
            told("make durable what is below", root, ""),
            confined.opened_root(root) as top,
            confined.listable(top) as descriptor,
        ):
            # Python has no syncfs(2); os.sync() tells of no error.
            if _libc.syncfs(descriptor) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))


_STAYS = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.ENOENT, errno.ENOTDIR})
"""Why a directory above a removed file is left: others use it, or it is gone."""


def _remove_or_empty(parent: int, name: str) -> list[str]:
    """Remove what stands at a name, unless directories are in it: then all else in it, and their names are returned."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=parent)
        return []
    below: list[str] = []
    with confined.directory(parent, [name]) as here, confined.listable(here) as listing:
        for one in os.listdir(listing):  # noqa: PTH208  (a descriptor)
            try:
                os.unlink(one, dir_fd=here)
            except IsADirectoryError:
                below.append(one)
            except FileNotFoundError:
                continue
    if not below:
        os.rmdir(name, dir_fd=parent)
    return below
