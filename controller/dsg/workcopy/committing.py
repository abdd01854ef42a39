"""The commit of a sync: everything that the head lacks is sent in one transaction, which the journal knows of."""

from __future__ import annotations

import errno
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import BinaryIO

from dsg.manifests import tree
from dsg.manifests.changes import encode_change
from dsg.manifests.digest import Summary
from dsg.manifests.entries import to_bytes, to_name
from dsg.sync.plan import Plan, Ruling
from dsg.transfer.contents import Outgoing, SourceChanged
from dsg.workcopy import results, store, target
from dsg.workcopy.base import State, TreeModel
from dsg.workcopy.errors import CommitStopped
from dsg.workcopy.journal import Journal, Phase, as_renames, said
from dsg.workcopy.layout import Layout
from dsg.workcopy.local import Written, to_send, written_changes
from dsg.workcopy.nearby import Nearby
from dsg.workcopy.prepare import Prepared
from dsg.workcopy.remote import (
    Committed,
    Conflicted,
    Ref,
    RemoteError,
    Request,
    Sink,
    Stopped,
    Unknown,
)
from dsg.workcopy.results import Progress, Sent
from dsg.workcopy.under_way import CACHED, REMOTE, Again, UnderWay
from dsg.workcopy.writing import write_whole

_ANOTHER = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.ENXIO})
"""What opening a file says where something else stands than was scanned."""


def new_journal(work: UnderWay, prepared: Prepared, ruling: Ruling, made: Summary, message: str) -> Journal:
    """Return what is to be noted of a plan before it is carried out."""
    return Journal(
        identity=secrets.token_hex(8),
        phase=Phase.RENAMING,
        author=work.author,
        message=message,
        base=prepared.header.version if prepared.header is not None else "",
        target=TreeModel.of(made),
        synced=prepared.synced,
        settled_before=prepared.scanned.settled_before,
        local=prepared.scanned.side.count,
        kept=_kept_name(work.layout),
        said=said(ruling),
        renames=as_renames(work.renames),
    )


def write_sides(work: UnderWay, prepared: Prepared) -> None:
    """Write down what the plan was made of, beside the scan."""
    if prepared.state is not None:
        write_whole(work.layout.sync / CACHED, prepared.state.encode())
    if prepared.header is not None:
        state = State(prepared.header, prepared.header.summary, 0, prepared.synced)
        write_whole(work.layout.sync / REMOTE, state.encode())


def commit(
    work: UnderWay, journal: Journal, prepared: Prepared, found: Plan, made: target.Target, written: Written
) -> Journal:
    """Send what the head lacks and have it committed; return the journal that says so.

    Raises Again where that needs another round, CommitStopped, RemoteError.
    """
    request = Request(
        "Sync" if journal.base else "Init",
        journal.base or None,
        journal.message,
        made.summary.tree,
        made.summary.entries,
        made.summary.size,
        made.added,
        made.changed,
        made.deleted,
    )
    sent = [0, 0]
    work.journal = journal

    def note(ref: Ref) -> None:
        work.write(journal.opened(ref))

    def send(sink: Sink) -> None:
        def tell(files: int, size: int) -> None:
            sent[:] = files, size
            work.watch(Progress(results.Phase.SENDING, files, size, written.files, written.size))

        lines = (encode_change(change) for change in written_changes(work.layout))
        with Nearby(work.files) as nearby:
            sink.send(_outgoing(work, nearby, found, prepared), tell, lines)
        sink.complete()

    def committing() -> None:
        if work.journal is not None:
            work.write(work.journal.moved(Phase.COMMITTING))
        work.watch(Progress(results.Phase.COMMITTING))

    try:
        outcome = work.remote.commit(request, note, send, committing)
    except SourceChanged:
        _give_up(work)
        raise Again from None
    except RemoteError:
        _forget_what_never_was(work)
        raise
    if isinstance(outcome, Committed):
        done = work.journal.done(outcome)
        work.write(done)
        work.made.committed.append(outcome.version)
        work.made.onto = outcome.onto
        before = work.made.sent
        work.made.sent = Sent(
            before.added + made.added,
            before.changed + made.changed,
            before.deleted + made.deleted,
            before.files + sent[0],
            before.size + sent[1],
        )
        return done
    work.drop_journal()
    if isinstance(outcome, Conflicted):
        raise Again
    raise CommitStopped(outcome.reason, outcome.message)


def _forget_what_never_was(work: UnderWay) -> None:
    """Drop the journal of a transaction whose creation was refused."""
    ref = work.journal.ref() if work.journal is not None else None
    if ref is None or ref.uid:
        return
    # Where it can't be found out now, the next sync does.
    with suppress(RemoteError):
        # This process's request has ended: there is nothing to wait for.
        if isinstance(work.remote.find(replace(ref, begun=0)), Unknown | Stopped):
            work.drop_journal()


def _outgoing(work: UnderWay, nearby: Nearby, found: Plan, prepared: Prepared) -> Iterator[Outgoing]:
    here = _Here(found.ruling)
    for change in written_changes(work.layout):
        state = to_send(change)
        if state is None:
            continue
        path = here.of(state.path)
        basis = None
        if state.size >= store.LARGE and prepared.header is not None:
            known = tree.lookup(work.base, prepared.head, state.path)
            basis = state.path if known is not None else None
        yield Outgoing(path, state.size, state.digest, _opener(nearby, path), basis)


def _opener(nearby: Nearby, path: str) -> Callable[[], BinaryIO]:
    def opened() -> BinaryIO:
        try:
            return nearby.open(to_bytes(path))
        except OSError as error:
            if error.errno in _ANOTHER:
                raise SourceChanged(path) from None
            raise

    return opened


def _give_up(work: UnderWay) -> None:
    """End the transaction that is open."""
    ref = work.journal.ref() if work.journal is not None else None
    if ref is not None:
        work.remote.abort(ref)
    work.drop_journal()


class _Here:
    """Where a file lies that is sent under another name, because mine goes beside theirs."""

    def __init__(self, ruling: Ruling) -> None:
        self._old = {name: to_name(key) for key, name in ruling.names.items()}

    def of(self, path: str) -> str:
        """Return where what is sent as `path` is now."""
        if not self._old:
            return path
        at = len(path)
        while at >= 0:
            old = self._old.get(path[:at])
            if old is not None:
                return old + path[at:]
            at = path.rfind("/", 0, at)
        return path


def _kept_name(layout: Layout) -> str:
    """Return a directory name for copies, from the time, that no earlier sync has used."""
    name = f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}-sync"
    made, number = name, 1
    while (layout.kept / made).exists():
        number += 1
        made = f"{name}-{number}"
    return made
