"""`kubectl dsg migrate repository`: an older repository as versions of a Repository."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from dsg.api.repository import Ignore
from dsg.migration.adopt import Adopted, AdoptedVersion, NotThisRepository, Options, adopt, verify
from dsg.migration.examine import Rules
from dsg.migration.findings import MEANING, Finding, Kind, NotAdopted, blocking
from dsg.migration.growing import Interfered, StatusBehind
from dsg.migration.parts import PartMissing
from dsg.migration.provenance import DIRECTORY
from dsg.migration.shapes import ShapeError, read_config
from dsg.migration.source import Source, SourceError, read_source
from dsg.plugin.exits import CommandError, Exit, guarded
from dsg.plugin.options import (
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    OutputOption,
    QuietOption,
    TimeoutOption,
    VerboseOption,
)
from dsg.plugin.output import Format, Output
from dsg.plugin.progress import Bar
from dsg.plugin.session import Session
from dsg.plugin.text import count, path_value, size
from dsg.scan.scope import Scope
from dsg.sync.names import NameRules
from dsg.workcopy.remote import Remote

_SHOWN = 20


@guarded
def repository(
    source: Annotated[Path, typer.Argument(help="Root of the old repository: where .dsg lies, or s1, s2 and so on.")],
    to: Annotated[
        str, typer.Option("--to", help="The Repository; it must exist and hold no work.", metavar="NAME")
    ] = "",
    check: Annotated[
        bool, typer.Option("--check", help="Read and verify everything, say what is wrong, send nothing.")
    ] = False,
    accept: Annotated[
        list[Kind] | None, typer.Option("--accept", help="A kind of finding that you have decided to live with.")
    ] = None,
    normalize: Annotated[
        bool, typer.Option("--normalize", help="Give good names to files whose names the Repository does not admit.")
    ] = False,
    snapshots: Annotated[
        Path | None, typer.Option("--snapshots", help="Directory with s1, s2 and so on; by itself .zfs/snapshot.")
    ] = None,
    manifests: Annotated[
        list[Path] | None,
        typer.Option("--manifests", help="A .dsg or archive with more manifests, such as a laptop's."),
    ] = None,
    live_as: Annotated[
        str, typer.Option("--live-as", help="Which version the tree itself is, where its manifest is lost.")
    ] = "",
    reread: Annotated[
        bool, typer.Option("--reread", help="Read again also what did not change since the version before.")
    ] = False,
    timeout: TimeoutOption = "",
    output: OutputOption = Format.TEXT,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Adopt an old DSG repository: each version that has content becomes a version of a Repository, oldest first.

    Every file is held against the old manifest before its version is committed. The old repository is only read.
    Interrupted, the same command goes on. What is not as the manifests say ends it, until --accept says otherwise.
    """
    session = Session.of(
        output, quiet=quiet, verbose=verbose, context=context, namespace=namespace, kubeconfig=kubeconfig
    )
    accepted = frozenset(accept or ())
    for kind in accepted:
        if kind not in MEANING:
            raise CommandError("Usage", f"--accept {kind}: this can't be accepted; mend it first", code=Exit.USAGE)
    if not to and not check:
        raise CommandError("Usage", "say with --to which Repository, or --check to verify alone", code=Exit.USAGE)
    with _explained(), Bar(session.output) as bar:
        found = read_source(source, snapshots=snapshots, manifests=manifests or (), live_as=live_as)
        remote = _remote(session, to, timeout) if to else None
        rules, whence = _rules(remote, found, normalize=normalize)
        if check or remote is None:
            session.output.note(f"What is synced is taken from {whence}.", "dim")
            _, made = verify(found, rules, bar, reread=reread)
        else:

            def tell(one: AdoptedVersion) -> None:
                session.output.line(_version(one))

            made = adopt(found, remote, rules, Options(accepted, reread), bar, tell)
    stopped = list(blocking(made.findings, accepted))
    session.output.document("MigrationReport", _report(found, made, to, accepted, checked=check))
    _tell(session.output, found, made, stopped, checked=check)
    if stopped:
        raise typer.Exit(int(Exit.CONFLICT))


def _remote(session: Session, name: str, timeout: str) -> Remote:
    context = session.kubectl().context()
    return session.remote(session.kubectl(context.name, context.namespace), name, timeout)


@contextmanager
def _explained() -> Iterator[None]:
    """Raise what a migration raises as what a command says."""
    try:
        yield
    except NotAdopted as error:
        raise CommandError("NotAsItsManifests", str(error), error.advice, Exit.CONFLICT) from None
    except (PartMissing, SourceError, NotThisRepository, Interfered, StatusBehind) as error:
        raise CommandError(type(error).__name__, str(error)) from None


def _rules(remote: Remote | None, source: Source, *, normalize: bool) -> tuple[Rules, str]:
    """Return what the Repository takes; without one, what the old config took."""
    if remote is not None:
        found = remote.repository()
        scope = Scope(found.data_dirs, found.ignore)
        return Rules(scope, NameRules(found.name_rules), normalize), "the Repository"
    for name in ("dsgconfig.yml", "config.yml"):
        if name in source.files:
            try:
                old = read_config(source.files[name].decode("utf-8", "replace"), name)
            except ShapeError:
                continue
            ignore = Ignore.model_construct(names=list(old.names), suffixes=list(old.suffixes), paths=list(old.paths))
            return Rules(Scope((*old.data_dirs, DIRECTORY), ignore), NameRules.PORTABLE, normalize), f"the old {name}"
    return Rules(Scope(["*"]), NameRules.PORTABLE, normalize), "nothing: all that is not hidden counts"


def _version(one: AdoptedVersion) -> str:
    if one.already:
        return f"{one.old} is {one.new} already"
    if not one.old:
        return f"{one.new} holds the newest records of the old repository"
    what = f"{count(one.files, 'file')}, {size(one.size)}, {one.verified:,} verified"
    return f"{one.old} is {one.new}: {what}, {size(one.sent)} sent" if one.new else f"{one.old}: {what}"


def _tell(output: Output, source: Source, made: Adopted, stopped: Sequence[Finding], *, checked: bool) -> None:
    if checked:
        for one in made.versions:
            output.line(_version(one))
    elif all(one.already for one in made.versions):
        output.line("All that has content was adopted before")
    for name in made.gone:
        output.line(f"{name}: its content is gone; what is left of its manifest is kept in {DIRECTORY}", "yellow")
    for name in made.late:
        output.line(f"{name}: its content turned up after newer ones were adopted; it was not", "yellow")
    for note in made.notes:
        output.note(f"note: {note}", "dim")
    shown = stopped if checked else [one for one in made.findings if one.path][:_SHOWN]
    for found in shown if output.verbose else shown[:_SHOWN]:
        output.line(f"{found.version}: {found.kind}: {found.message}", "red" if found in stopped else "yellow")
    if len(shown) > _SHOWN and not output.verbose:
        output.line(f"and {len(shown) - _SHOWN} more; -v lists all")
    kinds = sorted({one.kind for one in stopped})
    if kinds:
        output.line(f"{count(len(stopped), 'finding')} to decide about: {', '.join(kinds)}", "bold red")
    elif checked:
        output.line("Everything that can be verified is as the manifests say", "green")
    new = {one.old: one.new for one in made.versions if one.new}
    named = sorted({new[tag.version] for tag in source.tags if tag.version in new}, key=lambda one: int(one[1:]))
    if named:
        output.note(f"Versions with tags can be kept for ever: spec.retention.named: [{', '.join(named)}]")


def _report(source: Source, made: Adopted, to: str, accepted: Collection[Kind], *, checked: bool) -> dict[str, Any]:
    return {
        "source": path_value(str(source.root)),
        "repository": to or None,
        "checked": checked,
        "versions": [
            {
                "old": one.old or None,
                "new": one.new or None,
                "files": one.files,
                "size": one.size,
                "verified": one.verified,
                "sent": one.sent,
                "already": one.already,
            }
            for one in made.versions
        ],
        "gone": made.gone,
        "late": made.late,
        "tags": [{"name": one.name, "version": one.version, "message": one.message} for one in source.tags],
        "findings": [
            {
                "version": one.version,
                "kind": str(one.kind),
                "path": path_value(one.path) if one.path else None,
                "message": one.message,
                "accepted": one.kind in accepted,
            }
            for one in made.findings
        ],
        "notes": made.notes,
    }
