"""What this project needs of a storage node's file namespace: mounts, directories, owners, links.

Two implementations: `LocalHost` acts on this machine; the model has one of its own beside its pools. Synchronous, like
the ZFS interface. No call follows a symbolic link in the last component of a path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo (proc_pid_mountinfo(5)) that shows a ZFS dataset or a snapshot of one."""

    dataset: str
    """The filesystem's name as it is now, or `filesystem@snapshot`: a rename shows at once."""
    directory: str
    read_only: bool


def is_snapshot(name: str) -> bool:
    """Return whether a name is a snapshot's, `dataset@name`."""
    return "@" in name


class PathKind(StrEnum):
    """What stands at a path."""

    DIRECTORY = "directory"
    LINK = "link"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class PathState:
    """A path as lstat(2) sees it; `mode` holds the permission bits, `target` a link's text."""

    kind: PathKind
    uid: int
    gid: int
    mode: int
    target: str = ""
    empty: bool = True
    """For a directory: whether it has no entries."""


class Host(Protocol):
    """The file namespace of one node. Paths are absolute. Errors are those of `dsg.storage.errors`."""

    def mounts(self) -> Sequence[Mount]:
        """Return every mounted ZFS dataset, in mount order. Starts no process."""

    def mount(self, dataset: str, directory: str, *, read_only: bool) -> None:
        """Mount a dataset with mountpoint=legacy, without devices or set-user-id, at an existing directory.

        A snapshot (`dataset@name`) is always mounted read-only, whatever `mountpoint` says, and at an empty directory.
        While it is mounted it can't be destroyed, and no promote can move it: both raise Busy.
        Raises NotFound, Busy (something is mounted there, or a snapshot's directory is not empty), KeyUnavailable.
        """

    def remount(self, directory: str, *, read_only: bool) -> None:
        """Change a mount between read-only and writable.

        Raises NotFound, Busy (open for writing), InvalidValue (a snapshot is never writable).
        """

    def unmount(self, directory: str) -> None:
        """Unmount; never lazily and never by force. Raises NotFound, Busy."""

    def stat(self, path: str) -> PathState | None:
        """Return what stands at a path; None where nothing does."""

    def make_directory(self, path: str, *, mode: int) -> None:
        """Create a directory and its missing parents (0755, root). A directory already there is left as it is.

        Raises AlreadyExists when something else stands there.
        """

    def remove_directory(self, path: str) -> None:
        """Remove an empty directory; nothing happens when it is gone already. Raises HasDependents, Busy.

        The containing directory is fsynced: what was mounted there may be gone for good right afterwards.
        """

    def set_owner(self, path: str, *, uid: int, gid: int, mode: int) -> None:
        """Set owner, group and permission bits of a directory."""

    def point_link(self, path: str, target: str) -> None:
        """Make `path` a symbolic link to `target`, replacing a link by rename(2): readers see the old or the new one.

        The containing directory is fsynced. Raises AlreadyExists when something other than a link stands there.
        """

    def remove_link(self, path: str) -> None:
        """Remove a symbolic link; nothing happens when it is gone already. Raises AlreadyExists when it is no link.

        The containing directory is fsynced.
        """
