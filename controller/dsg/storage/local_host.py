"""This machine's file namespace: the implementation of `Host` that runs on storage nodes.

Mounts are made by mount(8) and umount(8), in a process of their own that can run out of time. Everything else is in
`file_paths`, in a thread of its own that can be left behind: a directory on a suspended pool answers to nobody.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dsg.storage import file_paths
from dsg.storage.errors import (
    Busy,
    CommandFailed,
    InvalidValue,
    KeyUnavailable,
    NotFound,
    PermissionDenied,
    ReadOnlyPool,
    StorageError,
    ZfsUnavailable,
)
from dsg.storage.guarded import Guard
from dsg.storage.host import Mount, PathKind, PathState, is_snapshot
from dsg.storage.mountinfo import PATH, MountEntry, parse_mountinfo
from dsg.storage.process import Completed, Runner


@dataclass(frozen=True, slots=True)
class _Said:
    """A message of mount(8), mount.zfs(8) or umount(8), and the error it means."""

    pattern: re.Pattern[str]
    error: type[StorageError]


_MESSAGES = (
    # OpenZFS 2.1 says the latter; whoever may not mount at all is told otherwise, by mount(8) itself.
    _Said(re.compile("encryption key not loaded|can not be mounted: Permission denied"), KeyUnavailable),
    _Said(re.compile("The ZFS modules are not loaded|cannot be auto-loaded|unknown filesystem type"), ZfsUnavailable),
    _Said(re.compile("is busy|already mounted|directory is not empty"), Busy),
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
        path_timeout: float = 15.0,
        mountinfo: Path = PATH,
        mount: str = "mount",
        umount: str = "umount",
    ) -> None:
        """Act on this machine: `timeout` is for one mount or unmount, `path_timeout` for any other call, in seconds.

        `mount` and `umount` are the programs.
        """
        self._runner = runner if runner is not None else Runner()
        self._timeout = timeout
        self._guard = Guard(path_timeout)
        self._mountinfo = mountinfo
        self._mount = mount
        self._umount = umount

    # ---- mounts

    def _entries(self) -> list[MountEntry]:
        try:
            return parse_mountinfo(self._mountinfo.read_bytes())
        except OSError as error:
            raise file_paths.typed(error, "read the mounts from", str(self._mountinfo)) from error

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
        """Mount a dataset with mountpoint=legacy, or a snapshot, at an existing directory."""
        file_paths.require_absolute(directory)
        if dataset.startswith("-"):
            raise InvalidValue(f"'{dataset}' is not the name of a dataset", subject=dataset)
        state = self.stat(directory)
        if state is None or state.kind is not PathKind.DIRECTORY:
            raise NotFound(f"cannot mount {dataset}: {directory} is no directory; create it first", subject=directory)
        covering = self._on_top(directory)
        if covering is not None:
            what = f"cannot mount {dataset} at {directory}: {covering.source} is mounted there"
            raise Busy(what, subject=directory)
        options = f"{'ro' if read_only or is_snapshot(dataset) else 'rw'},nodev,nosuid"
        self._call(
            # Not canonicalized: a dataset's name would be read as a path where a directory has the same name.
            (self._mount, "--no-canonicalize", "-t", "zfs", "-o", options, "--", dataset, directory),
            f"mount {dataset} at {directory}",
            dataset,
        )

    def remount(self, directory: str, *, read_only: bool) -> None:
        """Change a mount between read-only and writable."""
        mounted = self._require_mounted(directory, "remount")
        if is_snapshot(mounted.source) and not read_only:
            what = f"cannot make the mount at {directory} writable: {mounted.source} is a snapshot"
            raise InvalidValue(what, subject=directory)
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
        file_paths.require_absolute(directory)
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
        return self._guard.call(lambda: file_paths.stat_path(path), f"look at {path}", path)

    def make_directory(self, path: str, *, mode: int) -> None:
        """Create a directory and its missing parents, durably."""
        does = f"create the directory {path}"
        self._guard.call(lambda: file_paths.make_directory(path, mode), does, path)

    def remove_directory(self, path: str) -> None:
        """Remove an empty directory."""
        self._guard.call(lambda: file_paths.remove_directory(path), f"remove the directory {path}", path)

    def set_owner(self, path: str, *, uid: int, gid: int, mode: int) -> None:
        """Set owner, group and permission bits of a directory."""
        does = f"set the owner of {path}"
        self._guard.call(lambda: file_paths.set_owner(path, uid, gid, mode), does, path)

    def point_link(self, path: str, target: str) -> None:
        """Make `path` a symbolic link to `target`."""
        self._guard.call(lambda: file_paths.point_link(path, target), f"point {path} to {target}", path)

    def remove_link(self, path: str) -> None:
        """Remove a symbolic link."""
        self._guard.call(lambda: file_paths.remove_link(path), f"remove the link {path}", path)


def _mount_error(completed: Completed, does: str, subject: str) -> StorageError:
    said = "; ".join(line.strip() for line in completed.message.splitlines() if line.strip())
    kind = next((row.error for row in _MESSAGES if row.pattern.search(completed.message)), CommandFailed)
    program = completed.argv[0]
    return kind(
        f"cannot {does}: `{program}` said: {said or f'nothing (exit code {completed.exit_code})'}", subject=subject
    )
