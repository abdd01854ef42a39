"""`kubectl dsg validate` and `clean`: whether a working copy is whole, and what it need not keep."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from dsg.api.durations import seconds
from dsg.plugin.commands.validate_files import validate_files
from dsg.plugin.exits import CommandError, Exit, guarded
from dsg.plugin.options import (
    ContextOption,
    DirectoryOption,
    KubeconfigOption,
    OutputOption,
    QuietOption,
    VerboseOption,
)
from dsg.plugin.output import Format
from dsg.plugin.progress import Bar
from dsg.plugin.session import Session
from dsg.plugin.text import count, path_value, safe, size
from dsg.workcopy import clean as cleaning
from dsg.workcopy import validate as validating
from dsg.workcopy.layout import Layout
from dsg.workcopy.results import Validated


@guarded
def validate(
    files: Annotated[
        list[Path] | None,
        typer.Option(
            "--filename",
            "-f",
            help="Check objects instead: YAML file, directory of YAML files, or - for standard input.",
            show_default=False,
        ),
    ] = None,
    head: Annotated[
        bool, typer.Option("--head", help="Check the repository's newest version too: its history and manifest.")
    ] = False,
    directory: DirectoryOption = None,
    output: OutputOption = Format.TEXT,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Check the working copy: its configuration, file names, version and history, and each file's content, read anew.

    With -f: check Repositories, StoragePools and SyncTransactions in files, as the API server would, without one. The
    exit code is 1 when anything is wrong. What you have edited is no fault.
    """
    session = Session.of(output, quiet=quiet, verbose=verbose, context=context, kubeconfig=kubeconfig)
    if files:
        if head or directory is not None:
            raise CommandError("Usage", "-f checks files; it goes with neither --head nor -C", code=Exit.USAGE)
        validate_files(files, session.output)
        return
    place = session.here(directory)
    layout = Layout(place.root)
    with Bar(session.output) as bar:
        here = validating.validate(layout, bar)
        there = validating.validate_head(layout, place.remote(session)) if head else None
    looked = [("workingCopy", here), *([("head", there)] if there is not None else [])]
    well = not any(one.findings for _, one in looked)
    session.output.document(
        "Validation",
        {
            "valid": well,
            "directory": path_value(str(place.root)),
            "workingCopy": None,
            "head": None,
            **{name: _as_document(one) for name, one in looked},
        },
    )
    for name, one in looked:
        _tell(session, name, one)
    if not well:
        raise typer.Exit(int(Exit.FAILED))


def _as_document(one: Validated) -> dict[str, object]:
    return {
        "version": one.version,
        "files": one.files,
        "size": one.size,
        "edited": one.edited,
        "findings": [{"path": path_value(f.path) if f.path else None, "message": f.message} for f in one.findings],
    }


def _tell(session: Session, name: str, one: Validated) -> None:
    for finding in one.findings:
        about = f"{safe(finding.path)}: " if finding.path else ""
        session.output.line(f"{about}{finding.message}", "red")
    wrong = count(len(one.findings), "finding") if one.findings else "nothing is wrong"
    if name == "head":
        session.output.line(f"The repository's {one.version}: history and manifest read; {wrong}")
        return
    edited = f"; {count(one.edited, 'path')} edited since" if one.edited else ""
    session.output.line(f"{one.version} here: {count(one.files, 'file')}, {size(one.size)} read; {wrong}{edited}")


@guarded
def clean(
    kept_for: Annotated[
        str,
        typer.Option(
            "--kept-for",
            help="Also copies in .dsg/kept that are older, such as 30d. They may be all that is left of an edit.",
            show_default=False,
        ),
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run/--no-dry-run", help="Say what would be removed, and remove nothing.")
    ] = True,
    directory: DirectoryOption = None,
    output: OutputOption = Format.TEXT,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Remove from .dsg what is not needed any more: fetched contents, parts of old manifests, old copies.

    Only says what it would remove, unless --no-dry-run is given. Your own files are never touched.
    """
    session = Session.of(output, quiet=quiet, verbose=verbose)
    try:
        age = timedelta(seconds=seconds(kept_for)) if kept_for else None
    except (ValueError, OverflowError) as error:
        raise CommandError("Usage", f"--kept-for: {error}", code=Exit.USAGE) from None
    place = session.here(directory)
    made = cleaning.clean(Layout(place.root), kept_for=age, dry_run=dry_run)
    session.output.document(
        "CleanResult",
        {
            "directory": path_value(str(place.root)),
            "dryRun": dry_run,
            "contents": made.contents,
            "nodes": made.nodes,
            "kept": [path_value(name) for name in made.kept],
            "size": made.size,
        },
    )
    verb = "Would remove" if dry_run else "Removed"
    if not (made.contents or made.nodes or made.kept):
        session.output.line("There is nothing to remove")
        return
    session.output.line(
        f"{verb} {count(made.contents, 'fetched content')}, {count(made.nodes, 'part')} of old manifests and "
        f"{count(len(made.kept), 'directory', 'directories')} of kept copies: {size(made.size)}"
    )
    for name in made.kept:
        session.output.line(f"  .dsg/kept/{safe(name)}")
    if dry_run:
        session.output.note("Nothing was removed; --no-dry-run removes it.")
