"""What a sync would do, without doing it. No transaction is opened unless the head has moved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dsg.sync.plan import Blocked
from dsg.workcopy.base import Base
from dsg.workcopy.files import Files
from dsg.workcopy.journal import read_journal
from dsg.workcopy.layout import Layout
from dsg.workcopy.lock import locked
from dsg.workcopy.origin import read_origin
from dsg.workcopy.prepare import Prepared, Reading, look_at, prepare
from dsg.workcopy.remote import Remote
from dsg.workcopy.results import Listing, Status, Watch
from dsg.workcopy.sync import nobody
from dsg.workcopy.under_way import clear


def status(layout: Layout, remote: Remote, watch: Watch = nobody) -> Status:
    """Return how many paths are in which state. Raises what `sync` raises before it commits."""
    with _prepared(layout, remote, watch) as found:
        return found if isinstance(found, Status) else _status(found)


def listing(layout: Layout, remote: Remote, watch: Watch = nobody) -> Listing:
    """Return all that a sync would do. Raises what `sync` raises before it commits."""
    with _prepared(layout, remote, watch) as prepared:
        if isinstance(prepared, Status):
            return Listing(prepared)
        found = prepared.found
        if isinstance(found, Blocked):
            return Listing(_status(prepared), conflicts=tuple(found.conflicts()))
        return Listing(
            _status(prepared),
            changes=tuple(found.changes()),
            operations=tuple(found.operations()),
            saves=tuple(state.path for state in found.saves()),
        )


@contextmanager
def _prepared(layout: Layout, remote: Remote, watch: Watch) -> Iterator[Prepared | Status]:
    origin = read_origin(layout)
    with locked(layout), Files(layout.root) as files:
        journal = read_journal(layout)
        base = Base(layout.base)
        if journal is not None:
            state = base.state()
            what = f"{journal.committed} was committed; " if journal.committed else ""
            yield Status(
                state.header.version if state is not None else "",
                journal.base,
                None,
                f"{what}a sync was interrupted while it was {journal.phase}; the next one finishes or undoes it",
            )
            return
        base.prepare()
        layout.sync.mkdir(exist_ok=True)
        clear(layout, files)
        repository, _ = look_at(remote, layout, origin)
        with Reading(remote) as reading:
            yield prepare(layout, base, repository, reading, watch)
        clear(layout, files)


def _status(prepared: Prepared) -> Status:
    return Status(
        prepared.state.header.version if prepared.state is not None else "",
        prepared.header.version if prepared.header is not None else "",
        prepared.found.counts,
        notes=tuple(note.message for note in prepared.scanned.notes),
    )
