"""What an interrupted sync left: finished where it has committed, undone where it has not."""

from __future__ import annotations

from contextlib import suppress

from dsg.manifests import history
from dsg.manifests.entries import version_number
from dsg.sync.plan import Blocked, Plan, plan
from dsg.sync.sides import NeverSynced, NoVersion, Sides, Version
from dsg.workcopy import store
from dsg.workcopy.apply import Applier
from dsg.workcopy.base import read_state
from dsg.workcopy.errors import Damaged
from dsg.workcopy.finishing import finish
from dsg.workcopy.journal import Journal, Phase, read_journal
from dsg.workcopy.layout import KEPT, METADATA, UNDO
from dsg.workcopy.local import local_side
from dsg.workcopy.prepare import Reading
from dsg.workcopy.remote import Committed, Conflicted, Ref, StillOpen, Stopped, Unknown, VersionGone
from dsg.workcopy.renaming import undo_renames
from dsg.workcopy.under_way import CACHED, REMOTE, UnderWay


def recover(work: UnderWay) -> None:
    """Finish or undo an interrupted sync."""
    journal = read_journal(work.layout)
    if journal is None:
        return
    work.journal = journal
    work.author = journal.author
    work.renames = journal.names()
    ref = journal.ref()
    outcome: object = None
    if journal.phase is Phase.APPLYING:
        outcome = Committed(journal.committed, journal.onto)
    elif journal.phase is Phase.COMMITTING and ref is not None:
        outcome = _outcome(work, journal, ref)
    elif ref is not None:
        work.remote.abort(ref)
    if isinstance(outcome, Committed):
        if journal.phase is not Phase.APPLYING:
            journal = journal.done(outcome)
            work.write(journal)
        work.renamed, work.renames = work.renames, ()
        _resume(work, journal)
        return
    what = f" ({outcome.reason})" if isinstance(outcome, Stopped) else ""
    undo_renames(work)
    work.drop_journal()
    work.recovered = f"an interrupted sync had committed nothing{what}; it was begun anew"


def _outcome(work: UnderWay, journal: Journal, ref: Ref) -> Committed | Conflicted | Stopped | Unknown:
    found = work.remote.find(ref)
    if isinstance(found, StillOpen):
        work.remote.abort(ref)
        return Unknown()
    if not isinstance(found, Unknown):
        return found
    # The object is gone; the history remembers.
    head = work.remote.repository().head
    if head is None or (journal.base and version_number(head.version) <= version_number(journal.base)):
        return found
    with Reading(work.remote) as reading:
        first = f"s{version_number(journal.base) + 1}" if journal.base else "s1"
        for header in history.headers(reading.of(head.version), first, head.version):
            if header.commit.transaction == ref.uid:
                before = version_number(header.version) - 1
                onto = f"s{before}" if journal.base and before != version_number(journal.base) else ""
                return Committed(header.version, onto)
    return found


def _resume(work: UnderWay, journal: Journal) -> None:
    """Finish applying by the plan that is on disk."""
    found = _plan_on_disk(work, journal)
    applier = Applier(work.files, found, settled_before=journal.settled_before, kept=journal.kept, watch=work.watch)
    state = work.base.state()
    if state is None or state.sync != journal.identity:
        with Reading(work.remote) as reading:
            try:
                store.bring(work.layout, work.files, found, applier, lambda: reading.of(journal.base), work.watch)
            except VersionGone:
                _abandon(work, journal)
                return
    if journal.committed:
        work.made.committed.append(journal.committed)
        work.made.onto = journal.onto
    what = f"had committed {journal.committed}" if journal.committed else "had begun to fetch"
    work.recovered = f"an interrupted sync {what}; it was finished"
    finish(work, journal, found, applier)


def _abandon(work: UnderWay, journal: Journal) -> None:
    """Let go of a plan whose head was pruned before its contents came: the rest is planned anew.

    What was moved away is kept, as nothing tells any more what it was replaced by.
    """
    aside = f"{METADATA}/{KEPT}/{journal.kept}/{UNDO}"
    with suppress(FileNotFoundError):
        work.files.set_aside(f"{METADATA}/{UNDO}".encode(), aside.encode())
    if (work.layout.kept / journal.kept).is_dir():
        work.made.kept.append(work.layout.kept / journal.kept)
    work.drop_journal()
    work.recovered = "an interrupted sync could not be finished, for its version was pruned; it was begun anew"


def _plan_on_disk(work: UnderWay, journal: Journal) -> Plan:
    layout, base = work.layout, work.base
    cached, remote = read_state(layout.sync / CACHED), read_state(layout.sync / REMOTE)
    if journal.synced is None:
        raise Damaged(f"{layout.journal} lacks what an interrupted sync needs; clone anew")
    sides = Sides(
        local_side(layout, journal.local),
        NeverSynced() if cached is None else base.cached(cached),
        NoVersion() if remote is None else Version(remote.header, lambda: base.entries(remote.tree)),
        journal.synced.scope().covers,
    )
    found = plan(sides)
    if isinstance(found, Blocked):
        return Plan(sides, found.counts, found.obstacles, journal.ruling())
    return found
