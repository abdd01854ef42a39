"""`kubectl dsg doctor`: is everything there that the other commands need, and what to do about what is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from dsg.plugin import checks
from dsg.plugin.checks import Check, Verdict
from dsg.plugin.commands.version import installed
from dsg.plugin.exits import Exit, guarded
from dsg.plugin.options import (
    ContextOption,
    DirectoryOption,
    KubeconfigOption,
    NamespaceOption,
    OutputOption,
    QuietOption,
    VerboseOption,
)
from dsg.plugin.output import Format, Output
from dsg.plugin.session import Place, Session
from dsg.plugin.text import safe
from dsg.workcopy.errors import NotAWorkingCopy

_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "bold red", Verdict.SKIPPED: "dim"}
_NEEDED = frozenset({"kubectl", "kubeconfig", "API server", "login", "kinds"})
"""Checks without which there is nothing to ask the cluster."""


@guarded
def doctor(
    repository: Annotated[
        str, typer.Argument(help="Repository to look at; by itself the working copy's.", show_default=False)
    ] = "",
    directory: DirectoryOption = None,
    output: OutputOption = Format.TEXT,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Look whether all is there that the other commands need; say what to do about what is not.

    Looks at kubectl, the kubeconfig, the login, the rights, the clock, the working copy, the repository, and the way to
    the storage node: for that it opens a transaction that reads, or makes a first version, and gives it up. Changes
    nothing.
    """
    session = Session.of(
        output, quiet=quiet, verbose=verbose, context=context, namespace=namespace, kubeconfig=kubeconfig
    )
    found = [Check("kubectl-dsg", Verdict.OK, installed())]
    _show(session.output, found[0])
    for check in _all(session, repository, _place(session, directory)):
        found.append(check)
        _show(session.output, check)
    well = not any(check.verdict is Verdict.FAILED for check in found)
    session.output.document(
        "Diagnosis",
        {
            "well": well,
            "checks": [
                {"name": one.name, "verdict": one.verdict.value, "message": one.message, "advice": one.advice}
                for one in found
            ],
        },
    )
    session.output.line()
    session.output.line(checks.summary(found))
    if not well:
        raise typer.Exit(int(Exit.FAILED))


def looked_at(session: Session, directory: Path | None) -> tuple[Place | None, list[Check]]:
    """Return the working copy, where this is one that can be read, and all that the command would find."""
    place = _place(session, directory)
    return (None if isinstance(place, Exception) else place), list(_all(session, "", place))


def _place(session: Session, directory: Path | None) -> Place | Exception | None:
    try:
        return session.here(directory)
    except NotAWorkingCopy:
        return None
    except Exception as error:
        return error


def _all(session: Session, name: str, place: Place | Exception | None) -> Iterator[Check]:
    if isinstance(place, Exception):
        yield checks.failed("working copy", place)
        place = None
    uid = ""
    if place is not None:
        yield Check("working copy", Verdict.OK, f"{place.root}, of {place.title()}")
        yield checks.disk(place.root)
        if not name or name == place.origin.repository:
            name, uid = place.origin.repository, place.origin.repository_uid
    kubectl = place.kubectl(session) if place is not None else session.kubectl()
    reached = may = True
    for check in checks.cluster(kubectl):
        yield check
        may = may and not (check.verdict is Verdict.FAILED and check.name == "permissions")
        reached = reached and not (check.verdict is Verdict.FAILED and check.name in _NEEDED)
    if not name:
        yield Check("repository", Verdict.SKIPPED, "not looked at: this is no working copy, and none was named")
        return
    if not reached:
        yield Check("repository", Verdict.SKIPPED, f"{name} was not looked at: the cluster can't be asked")
        return
    about, found = checks.repository(kubectl, name, uid)
    yield about
    if found is not None and about.verdict is Verdict.OK and may:
        yield checks.data_plane(kubectl, found)
    elif found is not None:
        why = "you may not open transactions" if not may else "the repository is not ready"
        yield Check("data plane", Verdict.SKIPPED, f"not looked at: {why}")


def _show(output: Output, check: Check) -> None:
    if output.quiet and check.verdict is Verdict.OK:
        return
    line = Text(f"{check.verdict.value:<8}", style=_STYLES[check.verdict])
    line.append(f" {check.name}: ", style="default not bold")
    line.append(safe(check.message), style="default not bold")
    output.line(line)
    if check.advice:
        output.line(f"{'':<9}{check.advice}")
