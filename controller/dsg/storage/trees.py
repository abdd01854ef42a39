"""What a transaction needs of files: to look at, place, change and remove them in a generation's tree.

Every path is relative to a root directory and can't leave it: no call follows a symbolic link in any component of a
path, whatever others do meanwhile. Two implementations keep one contract (tests/contract): `LocalTrees` on this
machine, and the model's, beside its pools. Nothing is durable before `sync` has returned, or a ZFS change of the same
pool. Errors are those of `dsg.storage.errors`; `NotFound` also where a component on the way is no directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

OWN_DIRECTORY = ".dsg"
"""The directory in a root that holds this project's own files. What is below `.dsg/tmp` belongs to the implementation:
things are made there before they take their place, and what interrupted calls have left goes away with later ones."""
LEFT_OUT = frozenset({OWN_DIRECTORY, ".zfs"})
"""Names in a root that hold no data of a version."""


class FileKind(StrEnum):
    """What stands at a path."""

    FILE = "file"
    LINK = "link"
    DIRECTORY = "directory"
    OTHER = "other"
    """A device, socket or fifo; no version holds one."""


@dataclass(frozen=True, slots=True)
class Facts:
    """A path as lstat(2) sees it: bytes, nanoseconds since 1970, permission bits; `target` is a link's text.

    A directory's size is given as 0; its time is whatever the file system says.
    Names and link texts are `str` as os.fsdecode makes them (surrogates for bytes that are not UTF-8).
    """

    kind: FileKind
    size: int = 0
    mtime: int = 0
    mode: int = 0
    target: str = ""
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class Owning:
    """Whose the files of a tree are, and the mode of directories that are made in it."""

    uid: int
    gid: int
    directory_mode: int


class Trees(Protocol):
    """Files below root directories. `root` is absolute; `path` is relative, "" the root itself.

    A root that is not there, or is a link, is an error (NotFound) to everything but `facts` and `names`. Any call may
    raise InvalidValue (a path with an empty component, `.`, `..` or a zero byte) and PermissionDenied, those that
    change something ReadOnlyPool too. A call that is refused or interrupted leaves what was there, and at most
    directories that are missing a file; it can be repeated.
    """

    def facts(self, root: str, path: str) -> Facts | None:
        """Return what stands at a path; None where nothing does, or something on the way is no directory."""

    def names(self, root: str, path: str) -> frozenset[str]:
        """Return the names in a directory; none where there is no directory."""

    def walk(self, root: str) -> Iterator[tuple[str, Facts]]:
        """Yield everything below a root but directories, in no order; `.dsg` and `.zfs` in the root are left out.

        Memory is bounded by the depth and the largest directory.
        """

    def digest(self, root: str, path: str) -> str:
        """Return the BLAKE3 digest of a file's content as hexadecimal, read in bounded memory.

        Raises NotFound, InvalidValue where it is no regular file.
        """

    def read(self, root: str, path: str, *, limit: int = 1 << 26) -> bytes | None:
        """Return a small file's content; None where there is none.

        Raises InvalidValue where it is no regular file, or larger than `limit` bytes.
        """

    def read_lines(self, root: str, path: str) -> Iterator[bytes]:
        """Yield a file's lines with their newlines, in bounded memory but for the longest line.

        Raises NotFound, InvalidValue where it is no regular file.
        """

    def write(self, root: str, path: str, content: bytes, *, mode: int, owning: Owning) -> None:
        """Put a small file in place of what is there, in one rename(2); missing directories are made.

        Raises AlreadyExists where a directory stands there, OutOfSpace, QuotaExceeded.
        """

    def make_directory(self, root: str, path: str, *, owning: Owning) -> None:
        """Make a directory and its missing parents; one already there is left as it is. Raises AlreadyExists."""

    def move(self, root: str, source: str, path: str, *, owning: Owning) -> None:
        """Move a file or link to a path of the same root, in one rename(2), in place of a file or link that is there.

        Missing directories are made with `owning`; those that the file leaves empty stay. Raises NotFound,
        InvalidValue for a directory, AlreadyExists where a directory stands there.
        """

    def copy(self, source_root: str, source: str, root: str, path: str, *, owning: Owning) -> None:
        """Put a copy of a regular file at a path, in place of a file or link that is there, in one rename(2).

        Blocks are shared where the file system can (FICLONE of ioctl_ficlone(2), else copy_file_range(2)); holes stay
        holes. The roots may lie in different file systems. Attributes are not copied: only the owner may read the copy
        (0600) until `set_attributes`.
        Raises NotFound, InvalidValue (no regular file), AlreadyExists (a directory), OutOfSpace, QuotaExceeded.
        """

    def link(self, root: str, path: str, target: str, *, owning: Owning) -> None:
        """Put a symbolic link at a path, in place of a file or link that is there, in one rename(2)."""

    def set_attributes(self, root: str, path: str, *, mode: int, mtime: int, owning: Owning) -> None:
        """Set permission bits, time of last modification (nanoseconds) and owner of a regular file, by descriptor.

        Raises NotFound, InvalidValue where it is no regular file.
        """

    def written_by_nobody(self, root: str, path: str) -> bool:
        """Return whether no process has a regular file open for writing (F_SETLEASE of fcntl(2)).

        A writable mapping counts. Who opens it the moment after is not seen. Raises NotFound, InvalidValue where it is
        no regular file, CommandFailed where the file system knows no leases.
        """

    def remove(self, root: str, path: str) -> None:
        """Remove a file or link, and then every directory above it, below the root, that it leaves empty.

        Nothing happens when it is gone already. Raises HasDependents where a directory stands there.
        """

    def remove_tree(self, root: str, path: str) -> None:
        """Remove a directory with everything in it, or a file; nothing happens when it is gone already.

        Raises InvalidValue for the root itself.
        """

    def sync(self, root: str) -> None:
        """Make everything below a root durable (syncfs(2)). Raises OutOfSpace, CommandFailed."""
