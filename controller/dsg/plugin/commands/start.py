"""`kubectl dsg init` and `clone`: how a directory becomes a working copy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from dsg.plugin import render
from dsg.plugin.cluster_remote import ClusterRemote
from dsg.plugin.exits import CommandError, Exit, guarded
from dsg.plugin.kubectl import Kubectl
from dsg.plugin.options import (
    ContextOption,
    DirectoryOption,
    KubeconfigOption,
    MessageOption,
    NamespaceOption,
    NormalizeOption,
    OutputOption,
    QuietOption,
    TimeoutOption,
    VerboseOption,
)
from dsg.plugin.output import Format
from dsg.plugin.progress import Bar
from dsg.plugin.session import Session
from dsg.plugin.text import count, path_value, size
from dsg.plugin.traffic import traffic
from dsg.workcopy import clone as cloning
from dsg.workcopy import init as initializing
from dsg.workcopy.origin import Origin
from dsg.workcopy.remote import Repository
from dsg.workcopy.results import Undecided
from dsg.workcopy.sync import Options


@guarded
def init(
    name: Annotated[str, typer.Argument(help="The Repository; it must exist and have no version yet.")],
    message: MessageOption = "",
    normalize: NormalizeOption = False,
    directory: DirectoryOption = None,
    timeout: TimeoutOption = "",
    output: OutputOption = Format.TEXT,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Make the first version of a repository of what is in this directory.

    The Repository itself is declared by the platform team. The directory becomes a working copy of it.
    """
    session = Session.of(
        output, quiet=quiet, verbose=verbose, context=context, namespace=namespace, kubeconfig=kubeconfig
    )
    root = _physical(directory if directory is not None else Path.cwd())
    if not root.is_dir():
        raise CommandError("Usage", f"{root} is no directory", code=Exit.USAGE)
    remote, origin = _repository(session, name, timeout)
    with Bar(session.output) as bar:
        made = initializing.init(root, remote, origin, Options(message=message, normalize=normalize), bar)
    if isinstance(made, Undecided):
        session.output.document(
            "InitResult", {"outcome": "conflict", **render.undecided(made), "traffic": traffic(remote)}
        )
        render.tell_undecided(session.output, made)
        raise typer.Exit(int(Exit.CONFLICT))
    session.output.document(
        "InitResult",
        {"outcome": "done", "directory": path_value(str(root)), **render.done(made), "traffic": traffic(remote)},
    )
    render.tell_done(session.output, made, remote.traffic.sent)


@guarded
def clone(
    name: Annotated[str, typer.Argument(help="The Repository.")],
    directory: Annotated[
        Path | None, typer.Argument(help="Where to; by itself a new directory of its name.", show_default=False)
    ] = None,
    timeout: TimeoutOption = "",
    output: OutputOption = Format.TEXT,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Bring a repository's newest version into a new or empty directory.

    Interrupted, the same command goes on.
    """
    session = Session.of(
        output, quiet=quiet, verbose=verbose, context=context, namespace=namespace, kubeconfig=kubeconfig
    )
    root = _physical(directory if directory is not None else Path(name))
    remote, origin = _repository(session, name, timeout)
    with Bar(session.output) as bar:
        made = cloning.clone(root, remote, origin, bar)
    head = made.header
    session.output.document(
        "CloneResult",
        {
            "outcome": "done",
            "directory": path_value(str(made.root)),
            "version": None if head is None else render.header(head),
            **render.done(made.done),
            "traffic": traffic(remote),
        },
    )
    if head is None:
        session.output.line(f"{made.root} is a working copy of {name}, which has no version yet")
        session.output.line(f"Put data there, then make the first version: kubectl dsg init {name}")
    else:
        files = count(head.summary.entries, "file")
        session.output.line(f"{made.root} has {head.version} of {name}: {files}, {size(head.summary.size)}")


def _physical(path: Path) -> Path:
    """Return a path without '..' and without links above it, so that its parents are what it lies in."""
    return path.resolve() if path.name in {"", ".."} else path.parent.resolve() / path.name


def _repository(session: Session, name: str, timeout: str) -> tuple[ClusterRemote, Callable[[Repository], Origin]]:
    """Return a repository, and what makes a directory's origin of it.

    The context's name is remembered, so that the working copy stays with its cluster when somebody chooses another.
    """
    context = session.kubectl().context()
    kubectl: Kubectl = session.kubectl(context.name, context.namespace)

    def origin(found: Repository) -> Origin:
        return cloning.origin_of(found, context=context.name, namespace=context.namespace, name=name)

    return session.remote(kubectl, name, timeout), origin
