"""A repository as a working copy sees it. The plugin implements it with kubectl and `dsg.transfer.client`.

Every method may raise `RemoteError` (or a subclass): nothing was changed by the call as far as the caller can tell, and
what it left open is found again by `find`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from dsg.api.repository import Ignore
from dsg.manifests.header import Header
from dsg.manifests.nodes import NodeSource
from dsg.transfer.contents import Outgoing, Wanted


class RemoteError(Exception):
    """The repository could not be asked, or refused; the message says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Head:
    """The newest version, as the Repository's status says it (`status.head`)."""

    version: str
    digest: str
    """Its chain digest."""
    author: str
    time: datetime
    """In UTC, whole seconds."""


@dataclass(frozen=True, slots=True)
class Repository:
    """What a sync needs to know of a Repository object."""

    uid: str
    head: Head | None
    """None only where the Repository says that it has no version yet."""
    data_dirs: tuple[str, ...]
    ignore: Ignore
    name_rules: Literal["portable", "posix"]


Tell = Callable[[int, int], None]
"""Told files and bytes that are done."""


class VersionReader(NodeSource, Protocol):
    """One version that is open for reading: a source of nodes (`get`) and of history (`read`)."""

    def header(self) -> Header:
        """Return the version's header, checked by itself (`header.decode_header`)."""
        ...

    def read(self, segment: str) -> bytes | None:
        """Return the bytes of a history segment, None when there is none of that name."""
        ...

    def prefetch(self, digests: Iterable[str]) -> None:
        """Bring nodes nearer, at most 10,000; `get` then gives them without a round trip."""
        ...

    def fetch(self, wanted: Iterable[Wanted], store: Path, tell: Tell) -> None:
        """Bring contents to `store`/DIGEST (mode 600), each verified before it has that name; skip what is there.

        Interrupted, the same call goes on. `tell` is called in the caller's thread.
        """
        ...


class Sink(Protocol):
    """An open transaction that takes content."""

    def send(self, contents: Iterable[Outgoing], tell: Tell, changes: Iterable[bytes]) -> None:
        """Send contents that the server has not yet, and the lines of the list of changes (`dsg.manifests.changes`).

        The two are taken from side by side, in different threads. Raises SourceChanged.
        """
        ...

    def complete(self) -> None:
        """Return when all that was sent is durable; after that nothing may be sent."""
        ...


@dataclass(frozen=True, slots=True)
class Ref:
    """A transaction."""

    name: str
    """Of its object; chosen here, at random."""
    uid: str = ""
    """Identity of the object; "" where its creation was not answered, so that there may be none."""
    begun: float = 0
    """Where it was not answered: when it was asked for, in seconds since 1970. It may still come about."""


@dataclass(frozen=True, slots=True)
class Request:
    """A transaction to be opened."""

    operation: Literal["Init", "Sync", "Restore"]
    base: str | None
    """The head it starts from; None for Init."""
    message: str
    tree: str | None
    """Digest of the tree it leads to (`Summary.tree`); None for Restore, as the counts are 0."""
    files: int = 0
    """Entries of the new version."""
    size: int = 0
    """Bytes of content of the new version."""
    added: int = 0
    changed: int = 0
    deleted: int = 0
    restore: str | None = None
    """For Restore: the version to return to."""


@dataclass(frozen=True, slots=True)
class Committed:
    """The transaction has its version."""

    version: str
    onto: str = ""
    """The version it was put on top of, where that is not its base."""


@dataclass(frozen=True, slots=True)
class Conflicted:
    """It ended: others changed the same paths meanwhile. Nothing was committed."""

    total: int
    paths: tuple[str, ...]
    """The first of them."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """It ended without a version: failed, aborted or expired. `reason` stands in `dsg.api.reasons`."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class StillOpen:
    """It takes content and was never asked to commit."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """There is no such transaction any more."""


Outcome = Committed | Conflicted | Stopped


class Remote(Protocol):
    """A repository, and the person who works with it."""

    def author(self) -> str:
        """Return who commits: the name that the API server knows this person by."""
        ...

    def repository(self) -> Repository:
        """Look at the Repository. Opens no transaction."""
        ...

    def open_read(self, version: str) -> AbstractContextManager[VersionReader]:
        """Open a version for reading, and close it. VersionGone when it was pruned."""
        ...

    def commit(
        self,
        request: Request,
        note: Callable[[Ref], None],
        send: Callable[[Sink], None],
        committing: Callable[[], None],
    ) -> Outcome:
        """Open a transaction, have it filled, commit it, and wait until it has ended.

        `note` is called before the transaction is created, with its name, and as soon as that was answered, with its
        uid: whoever is killed at any time leaves it to `abort`. `send` (not for Restore) is called when it takes
        content; `committing` immediately before the commit is asked for. What these raise ends the transaction by an
        abort, as far as that can be done, and is raised again. An error after `committing` leaves it to `find`.
        """
        ...

    def find(self, ref: Ref) -> Outcome | StillOpen | Unknown:
        """Return what became of a transaction of an earlier process, waiting while it is being committed.

        One whose creation may still be under way is waited for.
        """
        ...

    def abort(self, ref: Ref) -> None:
        """Have an open transaction ended; do nothing about one that is over or unknown.

        One whose creation may still be under way is waited for.
        """
        ...


class VersionGone(RemoteError):
    """A version that was pruned: its header is in the history, its content is gone."""

    def __init__(self, version: str) -> None:
        super().__init__(f"version {version} is gone: it was pruned. `kubectl dsg log` tells which versions there were")
        self.version = version
