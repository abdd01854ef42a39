"""Steps on a node's directories and links: what every repository type needs beside its own."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from dataclasses import dataclass

from dsg.storage import errors
from dsg.storage.host import Host
from dsg.storage.repository_type import StepBase


@dataclass(frozen=True, slots=True)
class HostStep(StepBase):
    """A step on directories and links alone."""

    @abstractmethod
    def apply(self, host: Host) -> None:
        """Take the step."""


@dataclass(frozen=True, slots=True)
class MakeDirectory(HostStep):
    """Make a directory and its missing parents."""

    path: str

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"make the directory {self.path}"

    def apply(self, host: Host) -> None:
        """Make it."""
        host.make_directory(self.path, mode=0o755)


@dataclass(frozen=True, slots=True)
class SetOwner(HostStep):
    """Set owner and mode of a generation's root."""

    directory: str
    uid: int
    gid: int
    mode: int

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"make {self.uid}:{self.gid} the owner of {self.directory}, mode {self.mode:04o}"

    def apply(self, host: Host) -> None:
        """Set them."""
        host.set_owner(self.directory, uid=self.uid, gid=self.gid, mode=self.mode)


@dataclass(frozen=True, slots=True)
class PointLink(HostStep):
    """Make a path a link, in one rename."""

    path: str
    target: str

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"point {self.path} to {self.target}"

    def apply(self, host: Host) -> None:
        """Swap it."""
        host.point_link(self.path, self.target)


@dataclass(frozen=True, slots=True)
class RemoveLink(HostStep):
    """Take a link away."""

    path: str

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"remove the link {self.path}"

    def apply(self, host: Host) -> None:
        """Remove it."""
        host.remove_link(self.path)


@dataclass(frozen=True, slots=True)
class RemoveDirectory(HostStep):
    """Remove a directory if it is empty."""

    path: str

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"remove the directory {self.path} if it is empty"

    def apply(self, host: Host) -> None:
        """Remove it; one that is not empty stays."""
        with contextlib.suppress(errors.HasDependents, errors.Busy):
            host.remove_directory(self.path)
