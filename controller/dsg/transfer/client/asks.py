"""What is asked of the data plane (contents: `dsg.transfer.contents`), and how far it has come.

`VersionReader` and `StageWriter` are what a working copy needs of this package; `Reader` and `Writer` are them over
HTTPS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dsg.manifests.header import Header
from dsg.manifests.nodes import NodeSource
from dsg.transfer.contents import Outgoing, Wanted


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a `fetch` or `send` has come."""

    files: int
    """Files that are where they should be, those that were there before included."""
    content: int
    """Bytes of content that are there, however few of them had to travel. Rises within a large file too."""
    sent: int
    """Bytes of requests sent over this client's connections so far, without heads of requests and TLS."""
    received: int
    """The same of answers."""


Report = Callable[[Progress], None]
"""Is told of progress now and then, in the thread of who called. What it raises ends the transfer."""


@dataclass(frozen=True, slots=True)
class Completed:
    """What the data plane made durable."""

    contents: int
    """Contents that were sent for the transaction."""
    changes: bool
    """Whether the list of changes is there."""


class VersionReader(NodeSource, Protocol):
    """One version: a source of its manifest's nodes and its history, and of its files. Methods raise TransferError."""

    def header(self) -> Header | None:
        """Return the version's header, None where there is none. That its chain is the right one, who calls checks."""
        ...

    def get(self, digest: str) -> bytes:
        """Return the bytes of a node, which have that digest. Raises NodeMissing."""
        ...

    def read(self, segment: str) -> bytes | None:
        """Return the bytes of a segment of the history, None when there is none of that name."""
        ...

    def prefetch(self, digests: Iterable[str]) -> None:
        """Bring nodes into the cache with few requests, so that `get` asks for none. Missing ones are no error."""
        ...

    def prefetch_tree(self, root: str, known: Callable[[str], bool] = ...) -> None:
        """Bring a tree's nodes into the cache, level by level, all but what lies below nodes that are `known`.

        Raises NodeMissing, NodeError.
        """
        ...

    def fetch(self, wanted: Iterable[Wanted], store: Path, report: Report | None = None) -> None:
        """Bring contents into a directory, each as a file named by its digest (mode 0600), verified.

        Those there already are checked, not fetched. `store` must be a directory, of nobody else. Half a large file
        stays there under another name, and the next call goes on from it.
        """
        ...


class StageWriter(Protocol):
    """The stage of a transaction. Methods raise TransferError."""

    def send(
        self, contents: Iterable[Outgoing], report: Report | None = None, changes: Iterable[bytes] | None = None
    ) -> None:
        """Send contents, those only that the stage does not have. Raises SourceChanged.

        `changes`: lines of the list of changes (`dsg.manifests.changes`), which is sent beside them, in place of one
        sent before. They are taken in another thread.
        """
        ...

    def complete(self) -> Completed:
        """Have all that was sent made durable. Only after this may the transaction be committed."""
        ...
