"""This machine's file namespace: the implementation of `Host` that runs on storage nodes.

Mounts are made by mount(8) and umount(8), in a process of their own that can run out of time. Everything else is done
by descriptor: a path is opened once, without following a link in its last component, and what was opened is looked at
and changed. Those calls run in the calling thread and wait as long as the kernel does.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dsg.storage.errors import (
    AlreadyExists,
    Busy,
    CommandFailed,
    HasDependents,
    InvalidValue,
    KeyUnavailable,
    NotFound,
    OutOfSpace,
    PermissionDenied,
    QuotaExceeded,
    ReadOnlyPool,
    StorageError,
    ZfsUnavailable,
)
from dsg.storage.host import Mount, PathKind, PathState
from dsg.storage.mountinfo import PATH, MountEntry, parse_mountinfo
from dsg.storage.process import Completed, Runner

_PARENT_MODE = 0o755


@dataclass(frozen=True, slots=True)
class _Said:
    """A message of mount(8), mount.zfs(8) or umount(8), and the error it means."""

    pattern: re.Pattern[str]
    error: type[StorageError]


_MESSAGES = (
    _Said(re.compile("encryption key not loaded"), KeyUnavailable),
    _Said(re.compile("The ZFS modules are not loaded|cannot be auto-loaded|unknown filesystem type"), ZfsUnavailable),
    _Said(re.compile("is busy|already mounted"), Busy),
    _Said(re.compile("unable to open the dataset|does not exist|No such file|Not a directory"), NotFound),
    _Said(re.compile("not mounted|no mount point specified|mount point not mounted"), NotFound),
    _Said(re.compile("cannot be mounted using 'mount'"), InvalidValue),
    _Said(re.compile("Read-only file system"), ReadOnlyPool),
    _Said(
        re.compile("Insufficient privileges|[Pp]ermission denied|must be superuser|Operation not permitted"),
        PermissionDenied,
    ),
)


class LocalHost:
    """The file namespace of this machine (`dsg.storage.host.Host`)."""

    def __init__(
        self,
        runner: Runner | None = None,
        *,
        timeout: float = 60.0,
        mountinfo: Path = PATH,
        mount: str = "mount",
        umount: str = "umount",
    ) -> None:
        """`timeout` is for one mount or unmount, in seconds; `mount` and `umount` are the programs."""
        self._runner = runner if runner is not None else Runner()
        self._timeout = timeout
        self._mountinfo = mountinfo
        self._mount = mount
        self._umount = umount

    # ---- mounts

    def _entries(self) -> list[MountEntry]:
        try:
            return parse_mountinfo(self._mountinfo.read_bytes())
        except OSError as error:
            raise _typed(error, "read the mounts from", str(self._mountinfo)) from error

    def mounts(self) -> Sequence[Mount]:
        """Return every mounted dataset; a bind mount of one of its directories is none."""
        return [
            Mount(entry.source, entry.directory, entry.read_only)
            for entry in self._entries()
            if entry.filesystem == "zfs" and entry.root == "/"
        ]

    def _on_top(self, directory: str) -> MountEntry | None:
        """Return what is mounted at a directory; the last one covers the others."""
        return next((entry for entry in reversed(self._entries()) if entry.directory == directory), None)

    def mount(self, dataset: str, directory: str, *, read_only: bool) -> None:
        """Mount a dataset with mountpoint=legacy at an existing directory."""
        _require_absolute(directory)
        if dataset.startswith("-"):
            raise InvalidValue(f"'{dataset}' is not the name of a dataset", subject=dataset)
        state = self.stat(directory)
        if state is None or state.kind is not PathKind.DIRECTORY:
            raise NotFound(f"cannot mount {dataset}: {directory} is no directory; create it first", subject=directory)
        covering = self._on_top(directory)
        if covering is not None:
            what = f"cannot mount {dataset} at {directory}: {covering.source} is mounted there"
            raise Busy(what, subject=directory)
        options = f"{'ro' if read_only else 'rw'},nodev,nosuid"
        self._call(
            # Not canonicalized: a dataset's name would be read as a path where a directory has the same name.
            (self._mount, "--no-canonicalize", "-t", "zfs", "-o", options, "--", dataset, directory),
            f"mount {dataset} at {directory}",
            dataset,
        )

    def remount(self, directory: str, *, read_only: bool) -> None:
        """Change a mount between read-only and writable."""
        mounted = self._require_mounted(directory, "remount")
        options = f"remount,{'ro' if read_only else 'rw'},nodev,nosuid"
        self._call(
            (self._mount, "--no-canonicalize", "-t", "zfs", "-o", options, "--", mounted.source, directory),
            f"make the mount of {mounted.source} at {directory} {'read-only' if read_only else 'writable'}",
            directory,
        )

    def unmount(self, directory: str) -> None:
        """Unmount a dataset."""
        mounted = self._require_mounted(directory, "unmount")
        argv = (self._umount, "--no-canonicalize", "--", directory)
        self._call(argv, f"unmount {mounted.source} from {directory}", directory)

    def _require_mounted(self, directory: str, verb: str) -> MountEntry:
        _require_absolute(directory)
        mounted = self._on_top(directory)
        if mounted is None:
            raise NotFound(f"cannot {verb} {directory}: nothing is mounted there", subject=directory)
        if mounted.filesystem != "zfs":
            over = f"{mounted.source} ({mounted.filesystem}) is mounted over it; unmount that first"
            raise Busy(f"cannot {verb} {directory}: {over}", subject=directory)
        return mounted

    def _call(self, argv: Sequence[str], does: str, subject: str) -> None:
        completed = self._runner.run(argv, timeout=self._timeout)
        if completed.exit_code:
            raise _mount_error(completed, does, subject)

    # ---- paths

    def stat(self, path: str) -> PathState | None:
        """Return what stands at a path."""
        _require_absolute(path)
        try:
            with _opened(path, os.O_PATH | os.O_NOFOLLOW) as descriptor:
                return _state(descriptor)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _typed(error, "look at", path) from error

    def make_directory(self, path: str, *, mode: int) -> None:
        """Create a directory and its missing parents, durably."""
        state = self.stat(path)
        if state is not None and state.kind is PathKind.DIRECTORY:
            return
        if state is not None:
            raise AlreadyExists(f"cannot create the directory {path}: a {_word(state.kind)} is there", subject=path)
        above, name = _split(path)
        if not Path(above).is_dir():
            self.make_directory(above, mode=_PARENT_MODE)
        try:
            with _opened(above, os.O_DIRECTORY) as parent:
                os.mkdir(name, mode=0o700, dir_fd=parent)
                made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
                try:
                    os.fchmod(made, mode)
                finally:
                    os.close(made)
                os.fsync(parent)
        except OSError as error:
            raise _typed(error, "create the directory", path) from error

    def remove_directory(self, path: str) -> None:
        """Remove an empty directory."""
        _require_absolute(path)
        above, name = _split(path)
        try:
            with _opened(above, os.O_DIRECTORY) as parent:
                os.rmdir(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                raise HasDependents(f"cannot remove the directory {path}: it is not empty", subject=path) from error
            raise _typed(error, "remove the directory", path) from error

    def set_owner(self, path: str, *, uid: int, gid: int, mode: int) -> None:
        """Set owner, group and permission bits of a directory."""
        _require_absolute(path)
        try:
            with _opened(path, os.O_DIRECTORY | os.O_NOFOLLOW) as descriptor:
                os.fchown(descriptor, uid, gid)
                os.fchmod(descriptor, mode)
        except NotADirectoryError as error:
            raise InvalidValue(f"cannot set the owner of {path}: it is no directory", subject=path) from error
        except OSError as error:
            raise _typed(error, "set the owner of", path) from error

    def point_link(self, path: str, target: str) -> None:
        """Make `path` a symbolic link to `target`."""
        state = self.stat(path)
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
            raise _typed(error, f"point a link to {target} at", path) from error

    def remove_link(self, path: str) -> None:
        """Remove a symbolic link."""
        state = self.stat(path)
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
            raise _typed(error, "remove the link", path) from error


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
    listing = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=descriptor)
    try:
        with os.scandir(listing) as entries:
            empty = next(entries, None) is None
    finally:
        os.close(listing)
    return PathState(PathKind.DIRECTORY, found.st_uid, found.st_gid, mode, empty=empty)


def _word(kind: PathKind) -> str:
    return {PathKind.LINK: "symbolic link", PathKind.DIRECTORY: "directory", PathKind.OTHER: "file"}[kind]


def _split(path: str) -> tuple[str, str]:
    above, name = os.path.split(path.rstrip("/"))
    return above or "/", name


def _require_absolute(path: str) -> None:
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


def _typed(error: OSError, does: str, path: str) -> StorageError:
    kind = _BY_NUMBER.get(error.errno or 0, CommandFailed)
    return kind(f"cannot {does} {path}: {error.strerror}", subject=path)


def _mount_error(completed: Completed, does: str, subject: str) -> StorageError:
    said = "; ".join(line.strip() for line in completed.message.splitlines() if line.strip())
    kind = next((row.error for row in _MESSAGES if row.pattern.search(completed.message)), CommandFailed)
    program = completed.argv[0]
    return kind(
        f"cannot {does}: `{program}` said: {said or f'nothing (exit code {completed.exit_code})'}", subject=subject
    )
