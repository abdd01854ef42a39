"""A new Repository that grows by whole trees, and proves each version that it got."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, BinaryIO, cast

from blake3 import blake3

from dsg.manifests import history
from dsg.manifests.changes import Change, Gone, Place, encode_change
from dsg.manifests.compare import Deleted, Same, compare
from dsg.manifests.digest import Summary
from dsg.manifests.entries import Entry, File, FileState, LinkState, version_number
from dsg.manifests.header import Commit, Header
from dsg.migration.examine import Item
from dsg.transfer.contents import Outgoing
from dsg.workcopy import target
from dsg.workcopy.base import Base, KeptHistory
from dsg.workcopy.errors import CommitStopped
from dsg.workcopy.prepare import Reading
from dsg.workcopy.remote import Committed, Outcome, Ref, Remote, Request, Sink, Stopped
from dsg.workcopy.results import Phase, Progress, Watch

LARGE = 8 << 20
"""Bytes from which the version before is worth comparing with, piece by piece."""
PATIENCE = 300
"""Seconds within which the Repository's status must follow a commit."""
_PAUSE = 0.5
_ATTEMPTS = 3
_MODE = 0o640

Tree = Mapping[str, Item]
"""Files and links of a version by their path."""


class Interfered(Exception):
    """Somebody else committed while versions were adopted."""


class StatusBehind(Exception):
    """What was committed is not shown by the Repository."""


class Growing:
    """The Repository. `recognize` is told each header of its history, and may raise."""

    def __init__(self, remote: Remote, directory: Path, recognize: Callable[[Header], None], watch: Watch) -> None:
        self._remote, self._recognize, self._watch = remote, recognize, watch
        self._base = Base(directory)
        self._base.prepare()
        self.head: Header | None = None

    def look(self) -> None:
        """Read the history, and what the head holds."""
        head = self._remote.repository().head
        if head is None:
            self.head = None
            return
        with Reading(self._remote) as reading:
            reader = reading.of(head.version)
            header = reader.header()
            first = history.verify(KeptHistory(self._base, reader, head.version), head.version, head.digest)
            self._base.complete(header.summary, lambda: reader)
            for one in history.headers(self._base, first, head.version):
                self._recognize(one)
        self.head = header

    def entries(self) -> Iterator[Entry]:
        """Yield what the head holds."""
        return self._base.entries(self._summary())

    def _summary(self) -> Summary:
        return self.head.summary if self.head is not None else target.empty(self._base)

    def commit(self, wanted: Tree, message: str, name: str) -> tuple[str, int]:
        """Commit a tree; return the version's name and how many bytes were sent.

        `name` is what errors call it. Raises Interfered, CommitStopped, RemoteError, and what `recognize` raises.
        """
        for _ in range(_ATTEMPTS):
            before = self.head
            outcome, summary, transaction, sent = self._try(wanted, message)
            self._await(outcome)
            if isinstance(outcome, Committed) and self._proved(outcome.version, summary, transaction, message):
                return outcome.version, sent
            # Somebody was first: maybe an earlier run of this migration, whose last commit came through meanwhile.
            version = self._first(wanted, message)
            if version is not None:
                return version, sent
            if isinstance(outcome, Stopped):
                raise CommitStopped(outcome.reason, outcome.message)
            if self.head is not None and before is not None and self.head.version == before.version:
                continue
            raise Interfered(
                f"somebody else committed while {name} was adopted: the head is "
                f"{self.head.version if self.head else 'none'}, and holds something else. What was adopted before "
                "stays. Let nobody work in the Repository during a migration, then migrate into a new one"
            )
        raise Interfered(f"{name} could not be committed {_ATTEMPTS} times; others keep committing. Try again")

    def _await(self, outcome: Outcome) -> None:
        """Wait until the Repository shows what an outcome tells of: its status is written after a commit."""
        here = version_number(self.head.version) if self.head is not None else 0
        match outcome:
            case Committed(version=version):
                wanted = version_number(version)
            case Stopped(reason=reason) if reason != "AlreadyInitialized":
                return
            case _:
                wanted = here + 1
        started = time.monotonic()
        while True:
            head = self._remote.repository().head
            if head is not None and version_number(head.version) >= wanted:
                return
            if time.monotonic() - started > PATIENCE:
                raise StatusBehind(
                    f"s{wanted} is committed, and the Repository's status does not show it after {PATIENCE} seconds. "
                    "Nothing is lost; the operator is busy or gone. When it has caught up, run the same command again"
                )
            time.sleep(_PAUSE)

    def _proved(self, version: str, summary: Summary, transaction: str, message: str) -> bool:
        """Tell whether the head is exactly what was sent: its chain digest follows from that and from the history."""
        head = self._remote.repository().head
        if head is None or head.version != version or not transaction:
            return False
        previous = self.head.chain if self.head is not None else None
        header = Header(Commit(version, previous, self._remote.author(), head.time, message, transaction), summary)
        if header.chain != head.digest:
            return False
        self._base.keep(*history.append(self._base, header))
        self._base.sweep([summary])
        self.head = header
        return True

    def _first(self, wanted: Tree, message: str) -> str | None:
        """Return the head's version if it is the tree that was to be committed, by whomever."""
        self.look()
        head = self.head
        if head is None or head.commit.message != message:
            return None
        states = {entry.path: state_of(entry) for entry in self.entries()}
        return head.version if states == {path: item.state for path, item in wanted.items()} else None

    def _try(self, wanted: Tree, message: str) -> tuple[Outcome, Summary, str, int]:
        head, author = self.head, self._remote.author()
        number = version_number(head.version) + 1 if head is not None else 1
        items = sorted(wanted.values(), key=lambda item: item.state.key)
        changes = list(self._changes(items, author, f"s{number}"))
        made = target.make(self._base, self._summary(), changes, author, f"s{number}")
        request = Request(
            "Sync" if head is not None else "Init",
            head.version if head is not None else None,
            message,
            made.summary.tree,
            made.summary.entries,
            made.summary.size,
            made.added,
            made.changed,
            made.deleted,
        )
        refs: list[Ref] = []
        sent = [0, 0]

        def send(sink: Sink) -> None:
            def tell(files: int, size: int) -> None:
                sent[:] = files, size
                self._watch(Progress(Phase.SENDING, files, size))

            sink.send(self._outgoing(changes, wanted), tell, map(encode_change, changes))
            sink.complete()

        outcome = self._remote.commit(request, refs.append, send, lambda: self._watch(Progress(Phase.COMMITTING)))
        return outcome, made.summary, refs[-1].uid if refs else "", sent[1]

    def _changes(self, items: list[Item], author: str, version: str) -> Iterator[Change]:
        there: dict[str, str] = {}
        for entry in self.entries():
            if isinstance(entry, File) and entry.size:
                there.setdefault(entry.digest, entry.path)
        for one in compare(self.entries(), (item.state.signed(author, version) for item in items)):
            if isinstance(one, Same):
                continue
            if isinstance(one, Deleted):
                yield Gone(one.before.path)
                continue
            state = state_of(one.after)
            known = isinstance(state, FileState) and state.size
            yield Place(state, there.get(state.digest) if known and isinstance(state, FileState) else None)

    def _outgoing(self, changes: list[Change], wanted: Tree) -> Iterator[Outgoing]:
        find = self._base_paths() if any(_is_large(change) for change in changes) else frozenset()
        for change in changes:
            if not isinstance(change, Place) or change.source is not None or not isinstance(change.state, FileState):
                continue
            state, opener = change.state, wanted[change.path].open
            if not state.size or opener is None:
                continue
            basis = state.path if state.size >= LARGE and state.path in find else None
            yield Outgoing(state.path, state.size, state.digest, opener, basis)

    def _base_paths(self) -> Collection[str]:
        return frozenset(entry.path for entry in self.entries() if isinstance(entry, File))


def state_of(entry: Entry) -> FileState | LinkState:
    """Return an entry without who made it so."""
    if isinstance(entry, File):
        return FileState(entry.path, entry.size, entry.mtime, entry.mode, entry.digest)
    return LinkState(entry.path, entry.target)


def _is_large(change: Change) -> bool:
    return isinstance(change, Place) and isinstance(change.state, FileState) and change.state.size >= LARGE


def of_bytes(name: str, content: bytes) -> Item:
    """Return a file of what is in memory. Its time says nothing, and is always the same."""

    def opened() -> BinaryIO:
        # Whoever sends it reads by descriptor.
        file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (whoever opens it closes it)
        file.write(content)
        file.seek(0)
        return cast("BinaryIO", file)

    return Item(FileState(name, len(content), 0, _MODE, blake3(content).hexdigest()), opened)


def of_file(name: str, path: Path) -> Item:
    """Return a file with the content and time of another. Raises OSError."""
    content, mtime = path.read_bytes(), path.stat().st_mtime_ns
    state = FileState(name, len(content), mtime, _MODE, blake3(content).hexdigest())
    return Item(state, lambda: cast("BinaryIO", path.open("rb")))
