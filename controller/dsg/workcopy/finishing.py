"""The end of a sync: the plan is carried out here, and what came of it becomes C."""

from __future__ import annotations

from dsg.manifests import history, tree
from dsg.manifests.digest import Summary
from dsg.manifests.header import Commit, Header
from dsg.sync.plan import Move, Plan
from dsg.workcopy import target
from dsg.workcopy.apply import Applier
from dsg.workcopy.base import State, read_state
from dsg.workcopy.errors import Damaged
from dsg.workcopy.journal import Journal
from dsg.workcopy.prepare import Reading
from dsg.workcopy.remote import VersionGone
from dsg.workcopy.results import Left
from dsg.workcopy.under_way import CACHED, REMOTE, UnderWay, clear
from dsg.workcopy.writing import sync_filesystem


def finish(work: UnderWay, journal: Journal, found: Plan, applier: Applier) -> None:
    """Apply a plan whose changes the head has, and make what came of it C."""
    base, layout = work.base, work.layout
    state = base.state()
    if state is None or state.sync != journal.identity:
        left = _apply(work, found, applier)
        _replace_base(work, journal, left)
        work.made.left.extend(left)
    work.made.fetched += applier.counted.fetched
    work.made.removed += applier.counted.removed
    work.made.attributes += applier.counted.attributes
    kept = layout.kept / journal.kept
    if kept.is_dir():
        work.made.kept.append(kept)
    if found.ruling.choices:
        work.decisions.remove()
    work.drop_journal()
    clear(layout, work.files)
    state = base.state()
    if state is not None:
        base.sweep({state.tree, state.header.summary})


def _apply(work: UnderWay, found: Plan, applier: Applier) -> list[Left]:
    left = [one for one in applier.run() if one is not None]
    left.extend(applier.settle())
    if not found.ruling.names:
        return left
    gone = {one.path for one in left}
    for operation in found.operations():
        if not isinstance(operation, Move):
            break
        if operation.path not in gone:
            work.made.moved.append((operation.path, operation.to))
    return left


def _replace_base(work: UnderWay, journal: Journal, left: list[Left]) -> None:
    base = work.base
    cached = read_state(work.layout.sync / CACHED)
    remote = read_state(work.layout.sync / REMOTE)
    if journal.target is None or journal.synced is None:
        raise Damaged(f"{work.layout.journal} lacks what an interrupted sync needs; clone anew")
    made = journal.target.summary()
    header = _new_header(work, journal, remote.header if remote is not None else None, made)
    find = tree.Finder(base, cached.tree).find if cached is not None else (lambda _path: None)
    covers = cached.synced.scope().covers if cached is not None else (lambda _path: False)
    paths = [path for one in left for path in (one.path, one.other) if path]
    summary = target.without(base, made, paths, lambda path: find(path) if covers(path) else None)
    state = State(header, summary, base.covered(summary, journal.synced), journal.synced, journal.identity)
    # Before C says that all of it is here, it must outlive a power cut.
    sync_filesystem(work.files.descriptor)
    base.replace(state)


def _new_header(work: UnderWay, journal: Journal, before: Header | None, made: Summary) -> Header:
    """Return the header of what the working copy is now synced with."""
    if not journal.committed:
        if before is None:
            raise Damaged(f"{work.layout.journal} says that nothing was committed, and names no head")
        return before
    if journal.onto and before is not None:
        # What others committed meanwhile is not here yet.
        return before
    try:
        header = _committed_header(work, journal, before, made)
    except VersionGone:
        if before is None:
            raise
        return before
    if header.summary != made and before is not None:
        if journal.transaction is not None and header.commit.transaction != journal.transaction.uid:
            # Others had committed the very same just before, maybe with more.
            work.made.committed.remove(journal.committed)
        return before
    # An interrupted call may have added it.
    if not (work.base.read(history.segment_name(header.version)) or b"").endswith(header.encode()):
        work.base.keep(*history.append(work.base, header))
    return header


def _committed_header(work: UnderWay, journal: Journal, before: Header | None, made: Summary) -> Header:
    head = work.remote.repository().head
    if head is not None and head.version == journal.committed and journal.transaction is not None:
        previous = before.chain if before is not None else None
        commit = Commit(head.version, previous, journal.author, head.time, journal.message, journal.transaction.uid)
        header = Header(commit, made)
        if header.chain == head.digest:
            return header
    with Reading(work.remote) as reading:
        reader = reading.of(journal.committed)
        header = reader.header()
        work.base.complete(header.summary, lambda: reader)
    return header
