"""Bringing the three sides of a sync together: what is here, what was synced last, and the repository's head."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType

from dsg.manifests import history
from dsg.manifests.digest import Summary
from dsg.manifests.entries import version_number
from dsg.manifests.header import Header
from dsg.sync.plan import Blocked, Idle, Plan, plan, unsigned
from dsg.sync.sides import NeverSynced, NoVersion, Sides, SidesError, Version, WorkingCopy
from dsg.sync.states import State as PathState
from dsg.workcopy import target, unchanged
from dsg.workcopy.base import Base, KeptHistory, State
from dsg.workcopy.errors import OtherRepository
from dsg.workcopy.layout import Layout
from dsg.workcopy.local import Scanned, scan_down
from dsg.workcopy.origin import Origin, Synced, write_origin
from dsg.workcopy.remote import Remote, RemoteError, Repository, VersionReader
from dsg.workcopy.results import Phase, Progress, Watch


class Reading:
    """Opens a version when it is needed, one at a time, and closes it at the end."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._stack = ExitStack()
        self._version = ""
        self._reader: VersionReader | None = None

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def of(self, version: str) -> VersionReader:
        """Return a reader of a version."""
        if self._reader is None or self._version != version:
            self.close()
            self._reader = self._stack.enter_context(self._remote.open_read(version))
            self._version = version
        return self._reader

    def close(self) -> None:
        """Close what is open."""
        self._reader, self._version = None, ""
        self._stack.close()
        self._stack = ExitStack()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A sync that was thought through."""

    repository: Repository
    synced: Synced
    scanned: Scanned
    state: State | None
    """C."""
    header: Header | None
    """The head's; None where the repository has no version."""
    head: Summary
    """The head's tree; its nodes are here."""
    sides: Sides
    found: Plan | Blocked


def look_at(remote: Remote, layout: Layout, origin: Origin) -> tuple[Repository, Origin]:
    """Look at the Repository, and remember what it says is synced. Raises OtherRepository, RemoteError.

    One that was made anew and holds in its history the very version that was synced here is the same: its data was
    adopted, or restored from a backup.
    """
    repository = remote.repository()
    if origin.repository_uid and origin.repository_uid != repository.uid and not _continues(remote, layout, repository):
        raise OtherRepository(
            f"the Repository {origin.namespace}/{origin.repository} is another one than this working copy was made "
            f"from (uid {repository.uid}, not {origin.repository_uid}): it was deleted and made anew, and does not "
            "hold the version that was synced here. Nothing was changed. Keep this copy: it may have what a backup has "
            "not. Ask who keeps the repository; then clone anew beside it and bring over what is missing there"
        )
    now = origin.model_copy(
        update={
            "repository_uid": repository.uid,
            "synced": Synced.of(repository),
            "name_rules": repository.name_rules,
        }
    )
    if now != origin:
        write_origin(layout, now)
    return repository, now


def _continues(remote: Remote, layout: Layout, repository: Repository) -> bool:
    """Return whether a Repository's history is whole and holds the version that was synced last. Raises RemoteError."""
    state, head = Base(layout.base).state(), repository.head
    if state is None or head is None or version_number(head.version) < version_number(state.header.version):
        return False
    version = state.header.version
    with Reading(remote) as reading:
        reader = reading.of(head.version)
        try:
            history.verify(reader, head.version, head.digest)
            return next(history.headers(reader, version, version)).chain == state.header.chain
        except history.HistoryError:
            return False


def prepare(layout: Layout, base: Base, repository: Repository, reading: Reading, watch: Watch) -> Prepared:
    """Scan, read the head as far as it is not known, and plan.

    Raises ScanFailed, SidesError, RemoteError, HistoryError, NodeError, NodeMissing, OSError.
    """
    state = base.state()
    synced = Synced.of(repository)
    scope = synced.scope()
    seen = None
    if state is not None and _is_base(repository, synced, state):
        seen = unchanged.look(layout, state, watch)
        if unchanged.is_unchanged(layout, state, seen):
            return _idle(base, repository, state, reading)
    scanned = scan_down(layout, scope, watch)
    watch(Progress(Phase.COMPARING))
    header = _head(base, state, repository, reading)
    head = target.empty(base) if header is None else header.summary
    if header is not None:
        version = header.version
        base.complete(head, lambda: reading.of(version))
    if state is not None:
        base.complete(state.tree, lambda: reading.of(state.header.version))
    sides = Sides(
        scanned.side,
        NeverSynced() if state is None else base.cached(state),
        NoVersion() if header is None else Version(header, lambda: base.entries(head)),
        scope.covers,
    )
    if header is not None and state is not None:
        _check_continues(base, state.header, header)
    found = plan(sides)
    if state is not None and seen is not None and isinstance(found, Plan) and not scanned.notes:
        equal = found.counts.states[PathState.ALL_EQUAL]
        if not found.counts.rows() and equal == state.covered == scanned.side.count:
            unchanged.remember(layout, state, seen)
    return Prepared(repository, synced, scanned, state, header, head, sides, found)


def _is_base(repository: Repository, synced: Synced, state: State) -> bool:
    """Return whether C is the head, and what is synced is what was synced."""
    head = repository.head
    there = head is not None and (state.header.version, state.header.chain) == (head.version, head.digest)
    return there and state.plain and state.synced == synced


def _idle(base: Base, repository: Repository, state: State, reading: Reading) -> Prepared:
    """Return that nothing is to be done, without having scanned: L is C, and C is the head."""
    base.complete(state.tree, lambda: reading.of(state.header.version))
    side = WorkingCopy(state.covered, lambda: (unsigned(entry) for entry in base.cached(state).read()))
    head = Version(state.header, lambda: base.entries(state.tree))
    sides = Sides(side, base.cached(state), head, state.synced.scope().covers)
    scanned = Scanned(side, 0, ())
    found = Idle(sides, state.covered)
    return Prepared(repository, state.synced, scanned, state, state.header, state.tree, sides, found)


def _head(base: Base, state: State | None, repository: Repository, reading: Reading) -> Header | None:
    """Return the head's header; its history is then proved, and here."""
    head = repository.head
    if head is None:
        return None
    if state is not None and (state.header.version, state.header.chain) == (head.version, head.digest):
        return state.header
    reader = reading.of(head.version)
    header = reader.header()
    if (header.version, header.chain) != (head.version, head.digest):
        raise RemoteError(
            f"the repository says that its head is {head.version} of digest {head.digest}, and sent the header of "
            f"{header.version} of digest {header.chain}. Nothing was changed. Try again; if it stays, tell who keeps "
            "the repository"
        )
    history.verify(KeptHistory(base, reader, head.version), head.version, head.digest)
    return header


def _check_continues(base: Base, cached: Header, head: Header) -> None:
    """Raise SidesError unless the last sync's version is in the head's history (`Sides` has compared the numbers)."""
    if version_number(head.version) == version_number(cached.version):
        return
    there = next(history.headers(base, cached.version, cached.version))
    if there.chain != cached.chain:
        raise SidesError(
            f"the {cached.version} in the repository's history is not the one that this working copy was synced with: "
            "its history was replaced, or it is another repository. Nothing was changed. Keep this copy, clone anew "
            "and compare"
        )
