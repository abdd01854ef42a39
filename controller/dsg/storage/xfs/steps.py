"""The steps by which a repository on a POSIX file system is reconciled."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from dsg.storage.repository_type import StepBase
from dsg.storage.xfs.files import Files


@dataclass(frozen=True, slots=True)
class XfsStep(StepBase):
    """A step on files."""

    @abstractmethod
    def apply(self, files: Files) -> None:
        """Take the step."""


@dataclass(frozen=True, slots=True)
class WriteRecord(XfsStep):
    """Write the record of whose the directory is."""

    path: str
    content: bytes

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"write the record {self.path}"

    def apply(self, files: Files) -> None:
        """Write it."""
        files.write(self.path, self.content)


@dataclass(frozen=True, slots=True)
class RemoveTree(XfsStep):
    """Remove a generation or the record."""

    path: str

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"remove {self.path}"

    def apply(self, files: Files) -> None:
        """Remove it."""
        files.remove_tree(self.path)
