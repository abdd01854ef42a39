"""What a storage type can do for transactions: parts of one, the commit, what readers see, old versions, cleaning.

Two implementations: `on_zfs` and `on_xfs`. Every method is idempotent: whoever was killed in it calls again. Nobody but
the caller may act on the same repository meanwhile where a method says that it needs the repository's lock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from dsg.storage.layout import Part
from dsg.storage.repository_type import Target
from dsg.transactions.commit import Head, Outcome


@dataclass(frozen=True, slots=True)
class Stage:
    """What a transaction has built and not committed."""

    name: str
    """`stage-UID`, or a generation where its commit was interrupted."""
    root: str
    """Its root directory; "" while it is not accessible."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Where a repository stands."""

    head: Head
    root: str
    """Directory of the head's tree; "" while readers can't see it."""
    stages: Mapping[str, Stage]
    """What transactions have built and not committed, by uid."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What cleaning came to."""

    removed: tuple[str, ...] = ()
    """Names of what was removed: parts of transactions that are over, generations that were the head."""
    kept: tuple[str, ...] = ()
    """What is not ours, a phrase each: it is never removed."""
    waits: tuple[str, ...] = ()
    """What is still in use by somebody, a phrase each; it is removed later."""


@dataclass(frozen=True, slots=True)
class VersionFound:
    """One version that exists on disk."""

    name: str
    time: datetime
    held: str = ""
    """Why it can't be removed now, as a phrase; empty when it can."""


class TransactionType(Protocol):
    """Transactions on one kind of storage. Errors are those of `dsg.storage.errors`."""

    def look(self, target: Target) -> Situation:
        """Return where a repository stands. Raises NotFound where there is none."""

    def open(self, target: Target, uid: str, part: Part, version: str) -> str:
        """Make a part of a transaction from a version ("" for an empty tree) and return its root directory.

        One that is there already is taken as it is, whatever was done in it; a READ can't be written to.
        Raises NotFound where there is no such version.
        """

    def root(self, target: Target, uid: str, part: Part) -> str:
        """Return the root directory of a part that `open` made, made accessible where it is not; "" where there is
        none.
        """

    def close(self, target: Target, uid: str, *parts: Part) -> None:
        """Remove parts and everything in them; nothing happens where there are none. Raises Busy."""

    def commit(self, target: Target, uid: str, part: Part, base: Head, version: str, digest: str) -> Outcome:
        """Make a part's tree durable, close it to writers, and move the head to it, or say why not.

        Needs the repository's lock. Raises Busy while somebody writes.
        """

    def reveal(self, target: Target) -> str:
        """Let readers see the head, and return the directory of its tree. Needs the repository's lock."""

    def clean(self, target: Target, live: Collection[str]) -> Cleaned:
        """Remove what is over: parts of transactions that are not `live` (uids), former generations that are nobody's.

        Needs the repository's lock.
        """

    def versions(self, targets: Sequence[Target]) -> Mapping[str, Sequence[VersionFound]]:
        """Return the versions of each repository, by identity; the number of processes does not grow with either."""

    def prune(self, target: Target, versions: Sequence[str]) -> None:
        """Destroy versions. Needs the repository's lock. Raises Held, HasDependents: then some may be left."""
