"""Directories, owners and links, each call by descriptor.

A path is opened once, without following a link in its last component, and what was opened is looked at and changed.
What must outlive a power cut is fsynced. Errors are those of `dsg.storage.errors`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dsg.storage.errors import (
    AlreadyExists,
    Busy,
    CommandFailed,
    HasDependents,
    InvalidValue,
    NotFound,
    OutOfSpace,
    PermissionDenied,
    QuotaExceeded,
    ReadOnlyPool,
    StorageError,
)
from dsg.storage.host import PathKind, PathState

_PARENT_MODE = 0o755


def stat_path(path: str) -> PathState | None:
    """Return what stands at a path."""
    require_absolute(path)
    try:
        with _opened(path, os.O_PATH | os.O_NOFOLLOW) as descriptor:
            return _state(descriptor)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise typed(error, "look at", path) from error


def make_directory(path: str, mode: int) -> None:
    """Create a directory and its missing parents, durably."""
    state = stat_path(path)
    if state is not None and state.kind is PathKind.DIRECTORY:
        return
    if state is not None:
        raise AlreadyExists(f"cannot create the directory {path}: a {_word(state.kind)} is there", subject=path)
    above, name = _split(path)
    if not Path(above).is_dir():
        make_directory(above, _PARENT_MODE)
    try:
        with _opened(above, os.O_DIRECTORY) as parent:
            os.mkdir(name, mode=mode, dir_fd=parent)
            # The umask may have taken bits away.
            made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                os.fchmod(made, mode)
            finally:
                os.close(made)
            os.fsync(parent)
    except FileExistsError as error:
        # Another thread may have made it meanwhile, as the parent of its own.
        state = stat_path(path)
        if state is None or state.kind is not PathKind.DIRECTORY:
            raise typed(error, "create the directory", path) from error
    except OSError as error:
        raise typed(error, "create the directory", path) from error


def remove_directory(path: str) -> None:
    """Remove an empty directory."""
    require_absolute(path)
    above, name = _split(path)
    try:
        with _opened(above, os.O_DIRECTORY) as parent:
            os.rmdir(name, dir_fd=parent)
            os.fsync(parent)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
            raise HasDependents(f"cannot remove the directory {path}: it is not empty", subject=path) from error
        raise typed(error, "remove the directory", path) from error


def set_owner(path: str, uid: int, gid: int, mode: int) -> None:
    """Set owner, group and permission bits of a directory."""
    require_absolute(path)
    try:
        with _opened(path, os.O_DIRECTORY | os.O_NOFOLLOW) as descriptor:
            os.fchown(descriptor, uid, gid)
            os.fchmod(descriptor, mode)
    except NotADirectoryError as error:
        raise InvalidValue(f"cannot set the owner of {path}: it is no directory", subject=path) from error
    except OSError as error:
        raise typed(error, "set the owner of", path) from error


def point_link(path: str, target: str) -> None:
    """Make `path` a symbolic link to `target`."""
    state = stat_path(path)
    if state is not None and state.kind is not PathKind.LINK:
        what = f"cannot point {path} to {target}: a {_word(state.kind)} is there, which is left as it is"
        raise AlreadyExists(what, subject=path)
    above, name = _split(path)
    try:
        with _opened(above, os.O_DIRECTORY) as parent:
            if state is None:
                # symlink(2) replaces nothing that came meanwhile; rename(2) would replace a file.
                os.symlink(target, name, dir_fd=parent)
            elif state.target != target:
                _replace_link(parent, name, target)
            os.fsync(parent)
    except OSError as error:
        raise typed(error, f"point a link to {target} at", path) from error


def remove_link(path: str) -> None:
    """Remove a symbolic link."""
    state = stat_path(path)
    if state is None:
        return
    if state.kind is not PathKind.LINK:
        raise AlreadyExists(f"cannot remove the link {path}: it is a {_word(state.kind)}", subject=path)
    above, name = _split(path)
    try:
        with _opened(above, os.O_DIRECTORY) as parent:
            os.unlink(name, dir_fd=parent)
            os.fsync(parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise typed(error, "remove the link", path) from error


def _replace_link(parent: int, name: str, target: str) -> None:
    """Put a new link in place of an old one; a leftover of an interrupted call is used up."""
    temporary = f".{name}.dsg-new"
    with suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=parent)
    os.symlink(target, temporary, dir_fd=parent)
    os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)


@contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _state(descriptor: int) -> PathState:
    found = os.fstat(descriptor)
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISLNK(found.st_mode):
        target = os.readlink("", dir_fd=descriptor)
        return PathState(PathKind.LINK, found.st_uid, found.st_gid, mode, target=target)
    if not stat.S_ISDIR(found.st_mode):
        return PathState(PathKind.OTHER, found.st_uid, found.st_gid, mode)
    listing = _open_to_list(descriptor)
    try:
        with os.scandir(listing) as entries:
            empty = next(entries, None) is None
    finally:
        os.close(listing)
    return PathState(PathKind.DIRECTORY, found.st_uid, found.st_gid, mode, empty=empty)


def _open_to_list(directory: int) -> int:
    """Open a directory for reading without touching its access time, which would count as a change of the dataset."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        return os.open(".", flags | os.O_NOATIME, dir_fd=directory)
    except PermissionError:
        # Only the owner and root may ask for that (open(2)).
        return os.open(".", flags, dir_fd=directory)


def _word(kind: PathKind) -> str:
    return {PathKind.LINK: "symbolic link", PathKind.DIRECTORY: "directory", PathKind.OTHER: "file"}[kind]


def _split(path: str) -> tuple[str, str]:
    above, name = os.path.split(path.rstrip("/"))
    return above or "/", name


def require_absolute(path: str) -> None:
    """Raise InvalidValue for a path that is not absolute."""
    if not path.startswith("/") or "\0" in path:
        raise InvalidValue(f"'{path}' is no absolute path", subject=path)


_BY_NUMBER: dict[int, type[StorageError]] = {
    errno.ENOENT: NotFound,
    errno.ENOTDIR: AlreadyExists,
    errno.ELOOP: InvalidValue,
    errno.EEXIST: AlreadyExists,
    errno.EISDIR: AlreadyExists,
    errno.ENOTEMPTY: HasDependents,
    errno.EBUSY: Busy,
    errno.EACCES: PermissionDenied,
    errno.EPERM: PermissionDenied,
    errno.EROFS: ReadOnlyPool,
    errno.ENOSPC: OutOfSpace,
    errno.EDQUOT: QuotaExceeded,
    errno.ENAMETOOLONG: InvalidValue,
    errno.EINVAL: InvalidValue,
}


def typed(error: OSError, does: str, path: str) -> StorageError:
    """Return the typed error of a system call about a path."""
    kind = _BY_NUMBER.get(error.errno or 0, CommandFailed)
    return kind(f"cannot {does} {path}: {error.strerror}", subject=path)
