"""`kubectl dsg log`, `blame`, `diff` and `ls`: looking at versions. They change nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from dsg.manifests.compare import NOTHING, Aspect
from dsg.manifests.entries import Entry, File, FileState
from dsg.manifests.header import Header
from dsg.plugin import paths as naming
from dsg.plugin import render
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
from dsg.plugin.session import Place, Session
from dsg.plugin.text import local, path_value, safe, size
from dsg.workcopy.layout import Layout
from dsg.workcopy.results import Differing
from dsg.workcopy.versions import At, Here, Last, Point, Versions

VersionOption = Annotated[
    str, typer.Option("--version", help="Of which version, such as s3; by itself the newest.", show_default=False)
]
_POINTS: dict[str, Point] = {"here": Here(), "synced": Last(), "head": At()}


@guarded
def log(
    since: Annotated[
        str, typer.Option("--since", help="Versions from then on: 7d, 2026-01-31, or RFC 3339.", show_default=False)
    ] = "",
    author: Annotated[str, typer.Option("--author", help="Versions of this person.", show_default=False)] = "",
    number: Annotated[int, typer.Option("--number", "-n", min=0, help="At most so many; 0 for all.")] = 0,
    directory: DirectoryOption = None,
    output: OutputOption = Format.TEXT,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """List the versions, newest first: who made them, when, and why."""
    session = Session.of(output, quiet=quiet, verbose=verbose, context=context, kubeconfig=kubeconfig)
    place = session.here(directory)
    start = naming.moment(since) if since else None
    with Versions(Layout(place.root), place.remote(session)) as versions:
        found = versions.log(since=start, author=author or None, limit=number or None)
        if session.output.structured:
            session.output.documents("Log", _about(place), "versions", map(render.header, found))
            return
        if verbose:
            for one in found:
                _tell_version(session, one)
            return
        rows = [_version_row(one) for one in found]
    if rows:
        session.output.table(["VERSION", "COMMITTED", "BY", "FILES", "SIZE", "MESSAGE"], rows, right=(3, 4))
    else:
        session.output.note("No version is like that.")


@guarded
def blame(
    file: Annotated[str, typer.Argument(help="A file, by its path here.")],
    version: VersionOption = "",
    directory: DirectoryOption = None,
    output: OutputOption = Format.TEXT,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Say who changed a file, in which versions, and why; newest first."""
    session = Session.of(output, quiet=quiet, verbose=verbose, context=context, kubeconfig=kubeconfig)
    place = session.here(directory)
    path = naming.repository_path(place.root, _start(directory), file)
    ends = ""
    rows: list[Sequence[str | Text]] = []
    changes: list[dict[str, Any]] = []
    with Versions(Layout(place.root), place.remote(session)) as versions:
        for one in versions.blame(path, naming.version(version)):
            commit = one.header.commit
            action = "added" if one.added else "changed"
            ends = one.ends
            changes.append({"action": action, "version": render.header(one.header), "entry": render.entry(one.entry)})
            bytes_ = size(one.entry.size) if isinstance(one.entry, File) else "link"
            rows.append(
                [commit.version, action, commit.author, local(commit.time), bytes_, _first_line(commit.message)]
            )
    session.output.document(
        "Blame", {**_about(place), "path": path_value(path), "changes": changes, "ends": ends or None}
    )
    session.output.table(["VERSION", "ACTION", "BY", "WHEN", "SIZE", "MESSAGE"], rows, right=(4,))
    if ends:
        session.output.note(f"Nothing older can be told: {ends}", "yellow")


@guarded
def diff(
    points: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VERSION [VERSION]] [PATH...]",
            help="Versions such as s3, head, synced (the last sync) or here; then paths.",
            show_default=False,
        ),
    ] = None,
    directory: DirectoryOption = None,
    output: OutputOption = Format.TEXT,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Say which files differ between two versions, or between one and what is here.

    Without a version: what you changed since the last sync (synced to here). With one: from it to here. A path that is
    named like a version is written ./s3.
    """
    session = Session.of(output, quiet=quiet, verbose=verbose, context=context, kubeconfig=kubeconfig)
    place = session.here(directory)
    before, after, named = _sides(points or [])
    wanted = [naming.repository_path(place.root, _start(directory), one) for one in named]
    with Versions(Layout(place.root), place.remote(session)) as versions, Bar(session.output) as bar:
        found = (one for one in versions.diff(before, after, bar) if _chosen(one.path, wanted))
        if session.output.structured:
            about = {**_about(place), "before": _point(before), "after": _point(after)}
            session.output.documents("Diff", about, "differences", map(_as_document, found))
            return
        any_ = False
        for one in found:
            any_ = True
            session.output.line(_difference(one))
    if not any_:
        session.output.note("Nothing differs.")


@guarded
def ls(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH...]", help="Files or directories.", show_default=False)
    ] = None,
    version: VersionOption = "",
    directory: DirectoryOption = None,
    output: OutputOption = Format.TEXT,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """List the files of a version: mode, size, time, who changed each last, and in which version.

    -q gives the paths alone, -v the digests too.
    """
    session = Session.of(output, quiet=quiet, verbose=verbose, context=context, kubeconfig=kubeconfig)
    place = session.here(directory)
    wanted = [naming.repository_path(place.root, _start(directory), one) for one in paths or [""]]
    with Versions(Layout(place.root), place.remote(session)) as versions:
        header = versions.header(naming.version(version))
        found = _listed(versions, header, wanted)
        if session.output.structured:
            about = {**_about(place), "version": header.version}
            session.output.documents("FileList", about, "files", (render.entry(one) or {} for one in found))
            return
        for one in found:
            session.output.line(_long(one, quiet=quiet, verbose=verbose))


def _listed(versions: Versions, header: Header, wanted: Sequence[str]) -> Iterator[Entry]:
    for path in wanted:
        there = False
        for one in versions.ls(header.version, path):
            there = True
            yield one
        if path and not there:
            raise CommandError(
                "NoSuchPath",
                f"{header.version} has no {safe(path)}",
                "`kubectl dsg ls` without a path lists all that it has.",
            )


def _sides(words: Sequence[str]) -> tuple[Point, Point, Sequence[str]]:
    points: list[Point] = []
    rest = list(words)
    while rest and len(points) < 2 and (rest[0] in _POINTS or naming.is_version(rest[0])):  # noqa: PLR2004
        word = rest.pop(0)
        points.append(_POINTS.get(word) or At(word))
    if any(word in _POINTS or naming.is_version(word) for word in rest):
        raise CommandError(
            "Usage", "at most two versions can be compared, and they come before the paths", code=Exit.USAGE
        )
    match points:
        case []:
            return Last(), Here(), rest
        case [one]:
            return one, Here(), rest
        case _:
            return points[0], points[1], rest


def _point(point: Point) -> str:
    match point:
        case Here():
            return "here"
        case Last():
            return "synced"
        case At(version):
            return version or "head"


def _chosen(path: str, wanted: Sequence[str]) -> bool:
    return not wanted or any(one in {"", path} or path.startswith(f"{one}/") for one in wanted)


def _as_document(one: Differing) -> dict[str, Any]:
    return {
        "path": path_value(one.path),
        "change": _word(one),
        "aspects": _aspects(one.aspects),
        "before": render.entry(one.before),
        "after": render.entry(one.after),
    }


def _word(one: Differing) -> str:
    if one.before is None:
        return "added"
    return "deleted" if one.after is None else "changed"


def _aspects(found: Aspect) -> list[str]:
    words = ((Aspect.KIND, "kind"), (Aspect.CONTENT, "content"), (Aspect.MODE, "mode"), (Aspect.MTIME, "time"))
    return [word for aspect, word in words if found & aspect]


def _difference(one: Differing) -> Text:
    word = _word(one)
    letter, style = {"added": ("A", "green"), "deleted": ("D", "red"), "changed": ("M", "yellow")}[word]
    line = Text(f"{letter} ", style=style)
    line.append(safe(one.path), style="default")
    if one.aspects != NOTHING:
        line.append(f"  ({', '.join(_aspects(one.aspects))})", style="dim")
    if isinstance(one.after, File | FileState):
        line.append(f"  {size(one.after.size)}", style="dim")
    return line


def _long(one: Entry, *, quiet: bool, verbose: bool) -> str:
    path = safe(one.path)
    if quiet:
        return path
    if isinstance(one, File):
        mode = stat.filemode(stat.S_IFREG | one.mode)
        when = local(datetime.fromtimestamp(one.mtime // 10**9, UTC))
        said = f"{mode} {size(one.size):>9} {when}"
        digest = one.digest
    else:
        said, path, digest = f"{'lrwxrwxrwx'} {'link':>9} {'':20}", f"{path} -> {safe(one.target)}", ""
    about = f"  {safe(one.author)} in {one.version}"
    return f"{said}{about}  {digest + '  ' if verbose else ''}{path}"


def _version_row(one: Header) -> Sequence[str | Text]:
    commit, summary = one.commit, one.summary
    return [
        Text(commit.version, style="bold"),
        local(commit.time),
        commit.author,
        f"{summary.entries:,}",
        size(summary.size),
        _first_line(commit.message),
    ]


def _tell_version(session: Session, one: Header) -> None:
    commit, summary = one.commit, one.summary
    session.output.line(Text(commit.version, style="bold yellow"))
    session.output.line(f"By:          {commit.author}")
    session.output.line(f"Committed:   {local(commit.time)}")
    session.output.line(f"Holds:       {summary.entries:,} files and links, {size(summary.size)}")
    session.output.line(f"Chain:       {one.chain}")
    session.output.line(f"Transaction: {commit.transaction}")
    if commit.message:
        session.output.line()
        for line in commit.message.split("\n"):
            session.output.line(f"    {line}")
    session.output.line()


def _first_line(message: str) -> str:
    first, end, _ = message.strip().partition("\n")
    return f"{first} …" if end else first


def _about(place: Place) -> dict[str, Any]:
    return {"namespace": place.origin.namespace, "repository": place.origin.repository}


def _start(directory: Path | None) -> Path:
    return directory if directory is not None else Path(os.curdir)
