"""The steps by which a repository on a POSIX file system is reconciled."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from dsg.storage import errors
from dsg.storage.host import Host
from dsg.storage.repository_type import Cause, Finding
from dsg.storage.xfs.files import Files


@dataclass(frozen=True, slots=True)
class XfsStep(ABC):
    """What all steps share."""

    cause: Cause
    findings: tuple[Finding, ...] = field(default=(), kw_only=True)

    @abstractmethod
    def describe(self) -> str:
        """Return what the step does, in one line."""

    @abstractmethod
    def apply(self, host: Host, files: Files) -> None:
        """Take the step."""


@dataclass(frozen=True, slots=True)
class MakeDirectory(XfsStep):
    """Make a directory and its missing parents."""

    path: str

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"make the directory {self.path}"

    def apply(self, host: Host, files: Files) -> None:
        """Make it."""
        host.make_directory(self.path, mode=0o755)


@dataclass(frozen=True, slots=True)
class WriteRecord(XfsStep):
    """Write the record of whose the directory is."""

    path: str
    content: bytes

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"write {self.path}: {self.content.decode(errors='replace').strip()}"

    def apply(self, host: Host, files: Files) -> None:
        """Write it."""
        files.write(self.path, self.content)


@dataclass(frozen=True, slots=True)
class SetOwner(XfsStep):
    """Set owner and mode of a generation's root."""

    directory: str
    uid: int
    gid: int
    mode: int

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"make {self.uid}:{self.gid} the owner of {self.directory}, mode {self.mode:04o}"

    def apply(self, host: Host, files: Files) -> None:
        """Set them."""
        host.set_owner(self.directory, uid=self.uid, gid=self.gid, mode=self.mode)


@dataclass(frozen=True, slots=True)
class PointLink(XfsStep):
    """Make a path a link, in one rename."""

    path: str
    target: str

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"point {self.path} to {self.target}"

    def apply(self, host: Host, files: Files) -> None:
        """Swap it."""
        host.point_link(self.path, self.target)


@dataclass(frozen=True, slots=True)
class RemoveLink(XfsStep):
    """Take a link away."""

    path: str

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"remove the link {self.path}"

    def apply(self, host: Host, files: Files) -> None:
        """Remove it."""
        host.remove_link(self.path)


@dataclass(frozen=True, slots=True)
class RemoveTree(XfsStep):
    """Remove a generation or the record."""

    path: str

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"remove {self.path} with all its content"

    def apply(self, host: Host, files: Files) -> None:
        """Remove it."""
        files.remove_tree(self.path)


@dataclass(frozen=True, slots=True)
class RemoveDirectory(XfsStep):
    """Remove a directory if it is empty."""

    path: str

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"remove the directory {self.path} if it is empty"

    def apply(self, host: Host, files: Files) -> None:
        """Remove it; one that is not empty stays."""
        with contextlib.suppress(errors.HasDependents, errors.Busy):
            host.remove_directory(self.path)
