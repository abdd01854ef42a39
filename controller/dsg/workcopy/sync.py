"""A sync, from the lock to the last cleaning up, whoever was killed wherever before.

What must not be lost is ordered so: contents are here before the commit is asked for; the plan is on disk before
anything is applied; what is replaced is moved away, never overwritten; C changes when all is done. So an interrupted
sync was never committed, and is begun anew, or it was, and is finished by the plan on disk (`recovery`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from dsg.manifests.changes import Change
from dsg.manifests.digest import Summary
from dsg.manifests.entries import version_number
from dsg.manifests.header import Header
from dsg.sync.names import NameRules
from dsg.sync.plan import Blocked, Plan
from dsg.workcopy import naming, store, target
from dsg.workcopy.apply import Applier
from dsg.workcopy.committing import commit, new_journal, write_sides
from dsg.workcopy.errors import HasVersions, KeepsChanging, NotEmpty, NothingToSend, NoVersionYet, TooManyDeletions
from dsg.workcopy.files import Files
from dsg.workcopy.finishing import finish
from dsg.workcopy.journal import Phase
from dsg.workcopy.layout import METADATA, Layout
from dsg.workcopy.local import write_changes, written_changes
from dsg.workcopy.lock import locked
from dsg.workcopy.origin import read_origin
from dsg.workcopy.prepare import Prepared, Reading, look_at, prepare
from dsg.workcopy.recovery import recover
from dsg.workcopy.remote import Remote
from dsg.workcopy.renaming import rename, undo_renames
from dsg.workcopy.results import Done, Progress, Undecided, Watch
from dsg.workcopy.under_way import Again, UnderWay, clear

ATTEMPTS = 5
"""How often a sync is thought through anew because others committed, or files changed, meanwhile."""
FEW = 20
"""Deletions that are never asked about."""


def nobody(_progress: Progress) -> None:
    """Watch nothing."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a sync goes."""

    message: str = ""
    """Why, for the log."""
    resolve: bool = False
    """Use the decisions about conflicts that were made (`--continue`)."""
    allow_deletions: bool = False
    """Delete most of the head's files, if that is what it comes to."""
    normalize: bool = False
    """Rename new files whose names the repository does not admit."""
    send: bool = True
    """Whether anything may be committed; a clone only fetches."""
    initial: bool = False
    """Make the first version."""


def sync(layout: Layout, remote: Remote, options: Options, watch: Watch = nobody) -> Done | Undecided:
    """Sync a working copy with its repository.

    Raises those of `errors.EXPECTED`; the message says what state things are in. After any of them, and after
    KeyboardInterrupt or a kill, the next sync finishes or undoes what this one began.
    """
    read_origin(layout)
    with locked(layout), Files(layout.root) as files:
        return _run(UnderWay(layout, remote, watch, files), options)


def _run(work: UnderWay, options: Options) -> Done | Undecided:
    layout = work.layout
    work.base.prepare()
    layout.sync.mkdir(exist_ok=True)
    store.check_store(layout, work.files)
    recover(work)
    try:
        for _ in range(ATTEMPTS):
            with suppress(Again):
                result = _round(work, options)
                if isinstance(result, Done):
                    # An interrupted call may have left some.
                    work.files.remove_tree(f"{METADATA}/{layout.store.name}".encode())
                return result
    except Exception as error:
        if work.made.committed:
            error.add_note(f"Before that, {work.made.committed[-1]} was committed, and this working copy has it")
        raise
    finally:
        undo_renames(work)
        if work.journal is None:
            clear(layout, work.files)
    raise KeepsChanging(
        f"{ATTEMPTS} times, others committed or files changed here while this sync was under way. Nothing is left "
        "half done; wait for whatever writes to this directory, then sync again"
    )


def _round(work: UnderWay, options: Options) -> Done | Undecided:
    """Think through, commit and apply; raise Again when that has to be done (once more)."""
    layout = work.layout
    repository, work.origin = look_at(work.remote, layout, work.origin)
    state = work.base.state()
    if state is not None and (work.made.committed if options.initial else not options.send):
        # An earlier call was interrupted, and has just been finished.
        return work.result()
    if options.initial and repository.head is not None:
        raise HasVersions(
            f"the repository has version {repository.head.version} already. Nothing was changed; sync to bring "
            "what is here together with it"
        )
    if repository.head is None and state is None and not options.initial:
        if options.send:
            raise NoVersionYet(
                "the repository has no version yet. Nothing was changed; make the first one of what is here with "
                "`kubectl dsg init`"
            )
        return work.result()
    clear(layout, work.files)
    with Reading(work.remote) as reading:
        prepared = prepare(layout, work.base, repository, reading, work.watch)
        work.counts = work.counts or prepared.found.counts
        work.notes.extend(note.message for note in prepared.scanned.notes if note.message not in work.notes)
        found = prepared.found
        if isinstance(found, Blocked):
            decided = work.decisions.decide(found, _author(work), use=options.resolve)
            if isinstance(decided, Undecided):
                anything = work.made.committed or work.recovered
                return replace(decided, before=work.result() if anything else None)
            found = decided
        return _carry_out(work, options, prepared, found, reading)


def _carry_out(work: UnderWay, options: Options, prepared: Prepared, found: Plan, reading: Reading) -> Done:
    written = write_changes(work.layout, found.changes())
    sends = written.changes > 0
    if sends and not options.send:
        raise NotEmpty(
            f"{work.layout.root} has files of its own; a clone needs an empty directory. Nothing was changed. "
            "Choose another one, or sync this one"
        )
    if prepared.header is None and not sends:
        raise NothingToSend(
            f"nothing in {work.layout.root} is synced, so there is nothing to make a version of (hidden and "
            "ignored files never are; spec.dataDirs of the Repository says which directories are)"
        )
    state = prepared.state
    same = state is not None and (state.header, state.synced) == (prepared.header, prepared.synced)
    if same and not sends and next(found.operations(), None) is None:
        return work.result()
    made = target.make(work.base, prepared.head, written_changes(work.layout), _author(work), _next(prepared.header))
    if sends:
        _check_names(work, options, prepared, found, made.summary)
        _check_deletions(work, options, prepared, made)
    journal = new_journal(work, prepared, found.ruling, made.summary, options.message)
    applier = Applier(work.files, found, settled_before=journal.settled_before, kept=journal.kept, watch=work.watch)
    head = prepared.header.version if prepared.header is not None else ""
    store.bring(work.layout, work.files, found, applier, lambda: reading.of(head), work.watch)
    reading.close()
    write_sides(work, prepared)
    if sends and made.summary.digest != prepared.head.digest:
        journal = commit(work, journal, prepared, found, made, written)
    else:
        journal = journal.moved(Phase.APPLYING)
        work.write(journal)
    work.renamed += work.renames
    work.renames = ()
    finish(work, journal, found, applier)
    state = work.base.state()
    if journal.committed and state is not None and state.header.version != journal.committed:
        # Others were first: what they did is in the version, and comes here in another round.
        raise Again
    return work.result()


def _check_names(work: UnderWay, options: Options, prepared: Prepared, found: Plan, made: Summary) -> None:
    def changes() -> Iterator[Change]:
        return written_changes(work.layout)

    rules = NameRules(prepared.repository.name_rules)
    if options.normalize and not work.renames:
        wanted = naming.repairs(found, changes, work.base, prepared.head, rules)
        if wanted:
            rename(work, wanted)
            raise Again
    naming.require(changes, work.base, prepared.head, made, rules)


def _check_deletions(work: UnderWay, options: Options, prepared: Prepared, made: target.Target) -> None:
    # What was only renamed is not gone.
    gone = made.deleted - made.moved
    if gone <= FEW or options.allow_deletions:
        return
    total = work.base.covered(prepared.head, prepared.synced)
    if gone * 2 > total:
        raise TooManyDeletions(gone, total)


def _author(work: UnderWay) -> str:
    """Return who commits. It is asked for when there is something to say in that name, for asking takes its time."""
    work.author = work.author or work.remote.author()
    return work.author


def _next(header: Header | None) -> str:
    return f"s{version_number(header.version) + 1}" if header is not None else "s1"
