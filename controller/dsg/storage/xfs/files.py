"""Small files, space and removal on a POSIX file system, beside what `dsg.storage.host` offers."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dsg.storage import errors

_MOST = 1 << 20
"""Bytes of the largest file that is read: records are a few hundred bytes."""


@dataclass(frozen=True, slots=True)
class Space:
    """Space of the file system that holds a path, in bytes, and what identifies it."""

    size: int
    free: int
    identity: str


class Files(Protocol):
    """What the xfs type needs of a file system. Errors are those of `dsg.storage.errors`."""

    def read(self, path: str) -> bytes | None:
        """Return the content of a regular file; None where there is none. Raises InvalidValue (too large, no file)."""

    def write(self, path: str, content: bytes) -> None:
        """Replace a file in one rename(2), after fsync(2) of the content; the directory is fsynced too."""

    def names(self, directory: str) -> frozenset[str]:
        """Return the names in a directory; none where there is no directory."""

    def space(self, path: str) -> Space | None:
        """Return the space where a path is; None where there is no such path."""

    def remove_tree(self, path: str) -> None:
        """Remove a directory with all its content, or a file; nothing happens when it is gone already."""

    def rename(self, path: str, new: str) -> None:
        """Rename a directory within one file system, durably: both containing directories are fsynced.

        Raises NotFound, AlreadyExists where something stands there.
        """


@contextlib.contextmanager
def translated(path: str) -> Iterator[None]:
    """Raise the storage layer's errors in place of the operating system's."""
    try:
        yield
    except PermissionError as error:
        raise errors.PermissionDenied(
            f"{path}: the operator may not do this ({error.strerror})", subject=path
        ) from error
    except OSError as error:
        text = f"{path}: {error.strerror or error}"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise errors.OutOfSpace(f"{text}; free space on that file system", subject=path) from error
        if error.errno == errno.EBUSY:
            raise errors.Busy(text, subject=path) from error
        if error.errno == errno.EROFS:
            raise errors.ReadOnlyPool(f"{text}; remount it writable", subject=path) from error
        raise errors.CommandFailed(text, subject=path) from error


class LocalFiles:
    """This machine's file systems (`Files`)."""

    def read(self, path: str) -> bytes | None:
        """Return the content of a regular file; links are not followed."""
        with translated(path):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                return None
            with os.fdopen(descriptor, "rb") as file:
                content = file.read(_MOST + 1)
        if len(content) > _MOST:
            raise errors.InvalidValue(f"{path} is larger than {_MOST} bytes and can't be a record", subject=path)
        return content

    def write(self, path: str, content: bytes) -> None:
        """Replace a file whole, durably."""
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
        with translated(path):
            try:
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            _fsync_directory(target.parent)

    def names(self, directory: str) -> frozenset[str]:
        """Return the names in a directory."""
        with translated(directory):
            try:
                return frozenset(entry.name for entry in Path(directory).iterdir())
            except (FileNotFoundError, NotADirectoryError):
                return frozenset()

    def space(self, path: str) -> Space | None:
        """Return the space of the file system that holds a path."""
        with translated(path):
            try:
                found, device = os.statvfs(path), Path(path).stat().st_dev
            except FileNotFoundError:
                return None
        identity = f"{found.f_fsid:x}" if found.f_fsid else f"device {device:x}"
        return Space(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize, identity)

    def remove_tree(self, path: str) -> None:
        """Remove a tree; links in it are removed, never followed (shutil.rmtree works by descriptor here)."""
        with translated(path), contextlib.suppress(FileNotFoundError):
            if Path(path).is_dir() and not Path(path).is_symlink():
                shutil.rmtree(path)
            else:
                Path(path).unlink()

    def rename(self, path: str, new: str) -> None:
        """Rename a directory; the operator is the only one who makes names there, so looking first is enough."""
        source, target = Path(path), Path(new)
        with translated(path):
            if target.is_symlink() or target.exists():
                raise errors.AlreadyExists(f"cannot rename {path} to {new}: something is there", subject=new)
            try:
                source.rename(target)
            except FileNotFoundError as error:
                raise errors.NotFound(f"cannot rename {path}: it is not there", subject=path) from error
            _fsync_directory(target.parent)
            if source.parent != target.parent:
                _fsync_directory(source.parent)


def _fsync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
