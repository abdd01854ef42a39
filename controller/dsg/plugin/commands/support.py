"""`kubectl dsg support`: one file for whoever is asked for help, without secrets and without contents."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from dsg.plugin import support as gathering
from dsg.plugin.commands.doctor import looked_at
from dsg.plugin.exits import CommandError, Exit, guarded
from dsg.plugin.kubectl import Kubectl
from dsg.plugin.options import (
    ContextOption,
    DirectoryOption,
    KubeconfigOption,
    NamespaceOption,
    QuietOption,
    VerboseOption,
)
from dsg.plugin.output import Format
from dsg.plugin.session import Session
from dsg.plugin.text import size


@guarded
def support(
    file: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write; by itself dsg-support-TIME.tar.gz.", show_default=False),
    ] = None,
    names: Annotated[
        bool, typer.Option("--names", help="Put names of data files and messages of versions in.")
    ] = False,
    list_only: Annotated[bool, typer.Option("--list", help="Only say what would be in it.")] = False,
    lease_namespace: Annotated[
        str, typer.Option("--lease-namespace", help="Namespace of the operators' Leases.")
    ] = gathering.SYSTEM,
    directory: DirectoryOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Put into one file what helps to find a fault: versions, findings, objects, Events, the working copy's state.

    No Secret is asked for, what looks like one is replaced, and no content is in it. Look through it before you send
    it: it is a tar archive of texts. Names of people and repositories are in it.
    """
    session = Session.of(
        Format.TEXT, quiet=quiet, verbose=verbose, context=context, namespace=namespace, kubeconfig=kubeconfig
    )
    target = file or Path(f"dsg-support-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar.gz")
    if target.exists() and not list_only:
        raise CommandError("Exists", f"{target} is there already", "Name another file with -o.", Exit.USAGE)
    place, checks = looked_at(session, directory)
    kubectl = place.kubectl(session) if place is not None else session.kubectl()
    system = Kubectl(replace(kubectl.connection, namespace=lease_namespace))
    bundle = gathering.gather(kubectl, system, place, checks, names=names)
    for line in bundle.about:
        session.output.note(line)
    session.output.table(
        ("FILE", "WHAT IT IS", "SIZE"), [(name, what, size(count)) for name, what, count in bundle.listing], right=(2,)
    )
    if list_only:
        return
    try:
        bundle.write(target)
    except OSError as error:
        raise CommandError("NotWritten", f"{target} can't be written: {error.strerror}") from None
    session.output.line(f"written: {target}")
