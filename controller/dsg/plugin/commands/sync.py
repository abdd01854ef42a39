"""`kubectl dsg status` and `sync`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dsg.plugin import render
from dsg.plugin.cluster_remote import ClusterRemote
from dsg.plugin.exits import CommandError, Exit, guarded
from dsg.plugin.options import (
    ContextOption,
    DirectoryOption,
    KubeconfigOption,
    MessageOption,
    NormalizeOption,
    OutputOption,
    QuietOption,
    TimeoutOption,
    VerboseOption,
)
from dsg.plugin.output import Format
from dsg.plugin.progress import Bar
from dsg.plugin.session import Place, Session
from dsg.plugin.text import path_value
from dsg.plugin.traffic import traffic
from dsg.workcopy import status as looking
from dsg.workcopy.base import Base
from dsg.workcopy.conflicts import Decisions
from dsg.workcopy.journal import Phase, read_journal
from dsg.workcopy.layout import Layout
from dsg.workcopy.lock import locked
from dsg.workcopy.results import Listing, Undecided
from dsg.workcopy.sync import Options
from dsg.workcopy.sync import sync as synchronize

_SMALL = 5000
"""Files of a working copy whose paths a status names without being asked."""


@guarded
def status(
    directory: DirectoryOption = None,
    output: OutputOption = Format.TEXT,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Say what a sync would do: what you and others have changed since the last one. Changes nothing.

    In a large working copy, -v names the paths. The exit code is 0 whatever there is to do.
    """
    session = Session.of(output, quiet=quiet, verbose=verbose, context=context, kubeconfig=kubeconfig)
    place = session.here(directory)
    remote = place.remote(session)
    if verbose or session.output.structured or _small(place):
        _list(session, place, remote, "Status")
        return
    with Bar(session.output) as bar:
        found = looking.status(Layout(place.root), remote, bar)
    render.tell_status(session.output, found)
    if found.counts is not None and found.counts.rows():
        session.output.note("-v names the paths.")


def _small(place: Place) -> bool:
    """Return whether naming the paths costs little: each walk through a large manifest takes seconds."""
    state = Base(Layout(place.root).base).state()
    return state is None or state.covered <= _SMALL


@guarded
def sync(
    message: MessageOption = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say path by path what would be done, and do nothing.")
    ] = False,
    resolve: Annotated[
        bool, typer.Option("--continue", help="Use the decisions about conflicts in .dsg/conflicts.txt.")
    ] = False,
    abort: Annotated[
        bool, typer.Option("--abort", help="Give up an interrupted sync and the decisions about conflicts.")
    ] = False,
    normalize: NormalizeOption = False,
    allow_deletions: Annotated[
        bool, typer.Option("--allow-deletions", help="Delete most of the repository's files, if it comes to that.")
    ] = False,
    directory: DirectoryOption = None,
    timeout: TimeoutOption = "",
    output: OutputOption = Format.TEXT,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Send what you changed, and bring what others changed: all of it, or nothing.

    Where both sides changed a path, nothing moves: the conflicts are listed, to be decided in a file (exit code 3), and
    `sync --continue` does what was decided there.
    """
    session = Session.of(output, quiet=quiet, verbose=verbose, context=context, kubeconfig=kubeconfig)
    if sum((dry_run, resolve, abort)) > 1:
        raise CommandError(
            "Usage", "--dry-run, --continue and --abort exclude each other", "Give one of them.", Exit.USAGE
        )
    place = session.here(directory)
    remote = place.remote(session, timeout)
    if abort:
        _abort(session, place, remote)
        return
    if dry_run:
        if _list(session, place, remote, "SyncPlan").conflicts:
            raise typer.Exit(int(Exit.CONFLICT))
        return
    options = Options(message=message, resolve=resolve, allow_deletions=allow_deletions, normalize=normalize)
    with Bar(session.output) as bar:
        made = synchronize(Layout(place.root), remote, options, bar)
    if isinstance(made, Undecided):
        session.output.document(
            "SyncResult", {"outcome": "conflict", **render.undecided(made), "traffic": traffic(remote)}
        )
        render.tell_undecided(session.output, made)
        raise typer.Exit(int(Exit.CONFLICT))
    session.output.document("SyncResult", {"outcome": "done", **render.done(made), "traffic": traffic(remote)})
    render.tell_done(session.output, made, remote.traffic.sent)


def _list(session: Session, place: Place, remote: ClusterRemote, kind: str) -> Listing:
    with Bar(session.output) as bar:
        found = looking.listing(Layout(place.root), remote, bar)
    session.output.document(kind, {**_about(place), **render.listing(found)})
    render.tell_listing(session.output, found)
    return found


def _about(place: Place) -> dict[str, Any]:
    return {
        "directory": path_value(str(place.root)),
        "namespace": place.origin.namespace,
        "repository": place.origin.repository,
    }


def _abort(session: Session, place: Place, remote: ClusterRemote) -> None:
    """End what an interrupted sync has open, and forget decisions. What was committed can't be taken back."""
    layout = Layout(place.root)
    with locked(layout):
        journal = read_journal(layout)
        ref = journal.ref() if journal is not None else None
        committed = journal is not None and journal.phase in {Phase.COMMITTING, Phase.APPLYING}
        if ref is not None and not committed:
            remote.abort(ref)
        decided = layout.conflicts.exists()
        Decisions(layout).remove()
    aborted = ref is not None and not committed
    session.output.document(
        "AbortResult",
        {
            **_about(place),
            "decisionsRemoved": decided,
            "transactionAborted": ref.name if ref is not None and aborted else None,
            "unfinished": committed,
        },
    )
    if decided:
        session.output.line("The decisions about conflicts are gone; the next sync asks again")
    if aborted and ref is not None:
        session.output.line(f"The interrupted sync is given up; its transaction {ref.name} has ended")
    if committed:
        session.output.line(
            "The interrupted sync may be committed already, which can't be taken back: run `kubectl dsg sync` to "
            "finish it here; `kubectl dsg restore` makes an older version the newest again",
            "yellow",
        )
    if not (decided or aborted or committed):
        session.output.line("There is nothing to give up")
