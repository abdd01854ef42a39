"""`kubectl dsg fetch` and `restore`: what was once committed, had again."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated, Any

import typer

from dsg.manifests.entries import to_bytes
from dsg.plugin import paths as naming
from dsg.plugin import render
from dsg.plugin.commands.history import VersionOption
from dsg.plugin.exits import CommandError, Exit, guarded
from dsg.plugin.options import (
    ContextOption,
    DirectoryOption,
    KubeconfigOption,
    MessageOption,
    OutputOption,
    QuietOption,
    TimeoutOption,
    VerboseOption,
)
from dsg.plugin.output import Format
from dsg.plugin.progress import Bar
from dsg.plugin.session import Place, Session
from dsg.plugin.text import count, path_value, safe, size
from dsg.plugin.traffic import traffic
from dsg.workcopy import restore as restoring
from dsg.workcopy.files import Files
from dsg.workcopy.layout import Layout
from dsg.workcopy.results import Fetched, Undecided
from dsg.workcopy.versions import Versions


@guarded
def fetch(
    path: Annotated[str, typer.Argument(help="A file or directory of the repository, by its path here.")],
    version: VersionOption = "",
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            "-O",
            help="Where to: a new name, or a directory that is there. By itself NAME.VERSION in this directory.",
            show_default=False,
        ),
    ] = None,
    directory: DirectoryOption = None,
    timeout: TimeoutOption = "",
    output: OutputOption = Format.TEXT,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Bring a file or directory of an old version here, beside what you have. Replaces nothing."""
    session = Session.of(output, quiet=quiet, verbose=verbose, context=context, kubeconfig=kubeconfig)
    place = session.here(directory)
    start = directory if directory is not None else Path(os.curdir)
    wanted = naming.repository_path(place.root, start, path)
    asked = naming.version(version)
    remote = place.remote(session, timeout)
    with Versions(Layout(place.root), remote) as versions, Bar(session.output) as bar:
        header = versions.header(asked)
        goal = _goal(to, start, wanted or place.origin.repository, header.version)
        made = _fetched(versions, header.version, wanted, goal, bar)
    session.output.document(
        "FetchResult",
        {
            "path": path_value(wanted),
            "version": render.header(made.header),
            "to": path_value(str(goal)),
            "files": made.files,
            "size": made.size,
            "traffic": traffic(remote),
        },
    )
    session.output.line(
        f"{goal} has {safe(wanted) or 'all'} of {header.version}: {count(made.files, 'file')}, {size(made.size)}"
    )


def _goal(to: Path | None, start: Path, wanted: str, version: str) -> Path:
    name = wanted.rpartition("/")[2]
    goal = start / f"{name}.{version}" if to is None else to
    if to is not None and goal.is_dir():
        goal /= name
    if os.path.lexists(goal):
        raise _taken(goal)
    if not goal.parent.is_dir():
        raise CommandError("Usage", f"{goal.parent} is no directory", "Make it first.", Exit.USAGE)
    return goal


def _taken(goal: Path) -> CommandError:
    return CommandError(
        "Exists", f"{goal} is there already, and stays as it is", "Choose another name with -O.", Exit.FAILED
    )


def _fetched(versions: Versions, version: str, wanted: str, goal: Path, bar: Bar) -> Fetched:
    """Fetch to a hidden directory beside the goal, then give it its name in one step."""
    aside = f".dsg-fetch-{secrets.token_hex(4)}"
    with Files(goal.parent) as files:
        try:
            made = versions.fetch(version, [wanted] if wanted else [], goal.parent / aside, bar)
            source = f"{aside}/{wanted}" if wanted else aside
            try:
                files.move(to_bytes(source), to_bytes(goal.name))
            except FileExistsError:
                raise _taken(goal) from None
        finally:
            files.remove_tree(aside.encode())
    return made


@guarded
def restore(
    version: Annotated[str, typer.Argument(help="The old version, such as s3.")],
    message: MessageOption = "",
    directory: DirectoryOption = None,
    timeout: TimeoutOption = "",
    output: OutputOption = Format.TEXT,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Make an old version the newest again, as a new version, for everybody. Then sync.

    Admins of the repository may. Nothing is lost: the versions in between stay.
    """
    session = Session.of(output, quiet=quiet, verbose=verbose, context=context, kubeconfig=kubeconfig)
    old = naming.version(version)
    if old is None:
        raise CommandError("Usage", "the newest version need not be restored", "Name an older one.", Exit.USAGE)
    place = session.here(directory)
    remote = place.remote(session, timeout)
    with Bar(session.output) as bar:
        made = restoring.restore(Layout(place.root), remote, old, message, bar)
    synced = made.synced
    fields: dict[str, Any] = {**_about(place), "restored": old, "version": made.version}
    session.output.line(f"{made.version} is what {old} was", "bold green")
    if isinstance(synced, Undecided):
        session.output.document(
            "RestoreResult",
            {**fields, "outcome": "conflict", **render.undecided(synced), "traffic": traffic(remote)},
        )
        render.tell_undecided(session.output, synced)
        raise typer.Exit(int(Exit.CONFLICT))
    session.output.document(
        "RestoreResult", {**fields, "outcome": "done", **render.done(synced), "traffic": traffic(remote)}
    )
    render.tell_done(session.output, synced, remote.traffic.sent)


def _about(place: Place) -> dict[str, Any]:
    return {"namespace": place.origin.namespace, "repository": place.origin.repository}
