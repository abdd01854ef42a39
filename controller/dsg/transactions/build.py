"""Building a version's tree in a stage: its manifest first, then exactly what the manifest says, then its header.

A stage begins as a copy of a version, whose tree is what its manifest says. So it is enough to work on what changes,
and everything costs in terms of that. Each pass can be repeated from the start, whoever was killed in it: content that
has reached its place is known by its digest. The header comes last; a stage that has it is complete.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from blake3 import blake3

from dsg.manifests import history, tree
from dsg.manifests.changes import ChangeError, Gone, Place
from dsg.manifests.compare import AUTHORED, MismatchError, aspects
from dsg.manifests.digest import Summary
from dsg.manifests.entries import Entry, EntryError, File, FileState, Link
from dsg.manifests.header import Commit, Header
from dsg.manifests.nodes import NodeSource
from dsg.manifests.ordering import OrderError
from dsg.manifests.tree import Put, Remove
from dsg.storage.errors import HasDependents
from dsg.storage.trees import FileKind, Owning, Trees
from dsg.transactions.metadata import (
    DROPPED,
    HISTORY,
    INCOMING,
    NODES,
    NOTHING,
    SOURCES,
    TEMPORARY,
    WORK,
    Metadata,
    incoming,
)

_EMPTY_DIGEST = blake3(b"").hexdigest()
_METADATA_MODE = 0o644

Wanted = Place | Gone
"""What is to become of one path."""


class Refusal(Exception):
    """A transaction that can't become a version as it is; `reason` stands in `dsg.api.reasons`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class WriterActive(Exception):
    """Content that somebody still has open for writing; it may be complete later."""


class Content(Protocol):
    """Where the content of files comes from."""

    def survey(self, wanted: Iterable[Wanted]) -> None:
        """Look at all changes, and keep what they need of the base's files before any of these is touched."""

    def place(self, place: Place, entry: File) -> None:
        """Put a file's content at its path, with its attributes. Raises Refusal, WriterActive."""


class FromTree:
    """Content that lies at the same paths of another tree, which is a version or a complete stage."""

    def __init__(self, trees: Trees, root: str, source: str, owning: Owning) -> None:
        self._trees, self._root, self._source, self._owning = trees, root, source, owning

    def survey(self, wanted: Iterable[Wanted]) -> None:
        """Do nothing: the other tree stays as it is."""

    def place(self, place: Place, entry: File) -> None:
        """Copy it, sharing blocks where the file system can."""
        self._trees.copy(self._source, entry.path, self._root, entry.path, owning=self._owning)
        self._trees.set_attributes(self._root, entry.path, mode=entry.mode, mtime=entry.mtime, owning=self._owning)


class Sent:
    """Content that was sent to the stage by its digest, or that the base has under another path."""

    def __init__(self, trees: Trees, root: str, owning: Owning) -> None:
        self._trees, self._root, self._owning = trees, root, owning
        self._several: set[bytes] = set()

    def survey(self, wanted: Iterable[Wanted]) -> None:
        """Keep copies of base files that are the source of others, and note which content is wanted more than once."""
        once: set[bytes] = set()
        for one in wanted:
            if not isinstance(one, Place) or not isinstance(one.state, FileState):
                continue
            kept = f"{SOURCES}/{one.state.digest}"
            if one.source is None:
                # Sixteen bytes tell contents apart well enough to decide between moving and copying.
                short = bytes.fromhex(one.state.digest[:32])
                (self._several if short in once else once).add(short)
            elif one.source != one.path and self._trees.facts(self._root, kept) is None:
                base = self._trees.facts(self._root, one.source)
                if base is not None and base.kind is FileKind.FILE:
                    self._trees.copy(self._root, one.source, self._root, kept, owning=self._owning)

    def place(self, place: Place, entry: File) -> None:
        """Verify content and put it in place."""
        if place.source == entry.path or entry.size == 0:
            self._in_place(place, entry)
        elif not self._fetch(place, entry) and not self._is_there(entry):
            raise Refusal(
                "ContentMissing",
                f"{entry.path!r}: its content ({entry.digest}) was not sent, and the base does not have it at "
                f"{place.source or 'any named path'!r}. Open a new transaction and send it",
            )
        self._trees.set_attributes(self._root, entry.path, mode=entry.mode, mtime=entry.mtime, owning=self._owning)

    def _in_place(self, place: Place, entry: File) -> None:
        if entry.size == 0:
            if entry.digest != _EMPTY_DIGEST:
                raise Refusal(
                    "ManifestWrong", f"{entry.path!r} has no bytes, and no empty file has digest {entry.digest}"
                )
            self._trees.write(self._root, entry.path, b"", mode=entry.mode, owning=self._owning)

    def _fetch(self, place: Place, entry: File) -> bool:
        """Bring content to its path; return whether there was any."""
        sent = incoming(entry.digest) if place.source is None else f"{SOURCES}/{entry.digest}"
        facts = self._trees.facts(self._root, sent)
        if facts is None:
            return False
        if facts.kind is not FileKind.FILE:
            raise Refusal("ContentWrong", f"{entry.path!r}: what was sent as {entry.digest} is no regular file")
        if place.source is None:
            if not self._trees.written_by_nobody(self._root, sent):
                raise WriterActive(f"the content of {entry.path!r} is still being written")
            if facts.size != entry.size:
                raise Refusal(
                    "ContentWrong", f"{entry.path!r} has {entry.size} bytes by its manifest, {facts.size} were sent"
                )
            found = self._trees.digest(self._root, sent)
            if found != entry.digest:
                raise Refusal(
                    "ContentWrong",
                    f"{entry.path!r} has digest {entry.digest} by its manifest, what was sent has {found}: it was "
                    "changed or damaged on the way. Open a new transaction and send it again",
                )
        if place.source is not None or bytes.fromhex(entry.digest[:32]) in self._several:
            self._trees.copy(self._root, sent, self._root, entry.path, owning=self._owning)
        else:
            self._trees.set_attributes(self._root, sent, mode=entry.mode, mtime=entry.mtime, owning=self._owning)
            self._trees.move(self._root, sent, entry.path, owning=self._owning)
        return True

    def _is_there(self, entry: File) -> bool:
        """Whether an interrupted attempt has put the content in place."""
        facts = self._trees.facts(self._root, entry.path)
        if facts is None or facts.kind is not FileKind.FILE or facts.size != entry.size:
            return False
        return self._trees.digest(self._root, entry.path) == entry.digest


@dataclass(frozen=True, slots=True)
class Job:
    """One version to be built in a stage."""

    commit: Commit
    """What is said of it: version, author, message, time, transaction."""
    base: Header | None
    """The version that the stage was made from; None for none."""
    base_nodes: NodeSource
    """Nodes of the base's manifest."""
    changes: Callable[[], Iterator[Wanted]]
    """What changes since the base, in path order; read several times."""
    content: Content
    expected: str | None = None
    """Digest of the tree that the client declared; None where it follows from other versions."""


def base_summary(base: Header | None) -> Summary:
    """Return what a version's manifest comes to; that of no version is empty."""
    return base.summary if base is not None else NOTHING.summary


def prepare(trees: Trees, root: str, job: Job, owning: Owning, *, ordered: bool) -> Header | None:
    """Build a version in a stage and return its header; None when nothing changes.

    `ordered`: whether a power cut keeps all that was written before anything that it keeps, as on ZFS; otherwise
    everything is made durable before the header. Raises Refusal, WriterActive, StorageError.
    """
    summary, dropped = _manifest(trees, root, job, owning)
    if job.expected is not None and summary.tree != job.expected:
        raise Refusal(
            "ManifestWrong",
            f"the changes that were sent lead to a tree of digest {summary.tree}, the transaction declares "
            f"{job.expected}. Open a new transaction from the newest version",
        )
    if summary.digest == base_summary(job.base).digest:
        return None
    _files(trees, root, job, owning)
    listed = "".join(f"{digest}\n" for digest in dropped)
    trees.write(root, DROPPED, listed.encode(), mode=_METADATA_MODE, owning=owning)
    header = Header(job.commit, summary)
    name, content = history.append(Metadata(trees, root), header)
    if not ordered:
        trees.sync(root)
    trees.write(root, f"{HISTORY}/{name}", content, mode=_METADATA_MODE, owning=owning)
    return header


def finish(trees: Trees, root: str) -> None:
    """Remove from a complete stage what no version holds: what was sent, and nodes that only the base had."""
    for digest in (trees.read(root, DROPPED) or b"").decode().split():
        trees.remove(root, f"{NODES}/{digest}")
    for path in (INCOMING, WORK, TEMPORARY):
        trees.remove_tree(root, path)


def _manifest(trees: Trees, root: str, job: Job, owning: Owning) -> tuple[Summary, tuple[str, ...]]:
    def put(digest: str, node: bytes) -> None:
        # An interrupted attempt may have left it; what has this name has this content.
        if trees.facts(root, f"{NODES}/{digest}") is None:
            trees.write(root, f"{NODES}/{digest}", node, mode=_METADATA_MODE, owning=owning)

    try:
        if job.base is None:
            # Nothing to hold in memory, however much there is.
            return tree.build((one.entry for one in _signed(job) if isinstance(one, Put)), put), ()
        updated = tree.update(job.base_nodes, job.base.summary, _signed(job), put)
    except (ChangeError, EntryError, OrderError, MismatchError) as error:
        raise Refusal("ManifestWrong", f"the list of changes can't be used: {error}") from error
    return updated.summary, updated.dropped


def _signed(job: Job) -> Iterator[Put | Remove]:
    """Yield the changes of the manifest, each entry with who answers for it; what changes nothing is left out."""
    base, sources = (_finder(job.base_nodes, job.base) for _ in range(2))
    commit = job.commit
    for wanted in job.changes():
        before = base(wanted.path)
        if isinstance(wanted, Gone):
            if before is None:
                raise Refusal("ManifestWrong", f"{wanted.path!r} is to be deleted, and the base does not have it")
            yield Remove(wanted.path)
            continue
        entry = wanted.signed(commit.author, commit.version)
        if wanted.source is not None:
            source = sources(wanted.source)
            same = isinstance(source, File) and isinstance(entry, File) and source.digest == entry.digest
            if not same or source.size != entry.size:  # type: ignore[union-attr]  # both are files by now
                text = (
                    f"{wanted.path!r} is to have the content of {wanted.source!r}, which the base does not have there"
                )
                raise Refusal("ManifestWrong", text)
        if before is not None:
            found = aspects(before, entry)
            if not found:
                continue
            if not found & AUTHORED:
                entry = wanted.signed(before.author, before.version)
        yield Put(entry)


def _finder(nodes: NodeSource, base: Header | None) -> Callable[[str], Entry | None]:
    """Return what looks up entries of a version; paths that lie beside each other cost little."""
    if base is None:
        return lambda path: None
    return tree.Finder(nodes, base.summary).find


def _files(trees: Trees, root: str, job: Job, owning: Owning) -> None:
    job.content.survey(job.changes())
    # All that goes, goes first: a file can stand where a directory was.
    for wanted in job.changes():
        if isinstance(wanted, Gone):
            # An interrupted attempt may have put a directory there already.
            with contextlib.suppress(HasDependents):
                trees.remove(root, wanted.path)
    for wanted in job.changes():
        if isinstance(wanted, Gone):
            continue
        entry = wanted.signed(job.commit.author, job.commit.version)
        if isinstance(entry, Link):
            trees.link(root, entry.path, entry.target, owning=owning)
        else:
            job.content.place(wanted, entry)
