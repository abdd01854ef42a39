"""`dsg-operator verify`: are the versions on this node what they should be; for backups and restore drills."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from dsg.storage.errors import StorageError
from dsg.storage.host import Host
from dsg.storage.layout import is_version, number
from dsg.storage.trees import FileKind, Trees
from dsg.storage.zfs import layout
from dsg.storage.zfs.interface import Dataset, DatasetKind, Source, Zfs
from dsg.transactions.proof import Proof, prove

_WRONG = 1
_USAGE = 2


class VerifyError(Exception):
    """What was named can't be verified at all."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known from elsewhere of versions: their chain digests, by version."""

    digests: dict[str, str]

    @classmethod
    def parse(cls, texts: list[str]) -> Expected:
        """Read `VERSION:DIGEST` texts. Raises VerifyError."""
        found = {}
        for text in texts:
            version, _, digest = text.partition(":")
            if not is_version(version) or re.fullmatch("[0-9a-f]{64}", digest) is None:
                raise VerifyError(f"--expect {text!r} is not VERSION:DIGEST, such as s7:04ab… (64 digits)")
            found[version] = digest
        return cls(found)


def verify(
    place: Annotated[
        str,
        typer.Argument(help="Dataset of a repository, such as tank/dsg/justice; or absolute directory of a version."),
    ],
    version: Annotated[
        list[str] | None, typer.Option(help="Only this version of the dataset; may be given several times.")
    ] = None,
    expect: Annotated[
        list[str] | None,
        typer.Option(help="VERSION:DIGEST, as status.head of the Repository or the audit log had it."),
    ] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="text or json.")] = "text",
) -> None:
    """Read every file of a repository's versions anew and compare it with their manifests; changes nothing.

    Works on a dataset that a backup was just received into, mounted or not, with or without a Repository. Each
    snapshot is mounted for that, read-only, at a temporary directory. Exit codes: 0 all is as it should be, 1 something
    is not, 2 it can't be looked at.
    """
    # Where the operator's packages are missing, `dsg-operator` must still be able to say so.
    from dsg.storage.local_host import LocalHost
    from dsg.storage.local_trees import LocalTrees
    from dsg.storage.process import Runner
    from dsg.storage.zfs.command_line import CommandLineZfs
    from dsg.telemetry.logs import configure

    # Standard output is for the result alone.
    configure("warning")
    try:
        if output not in {"text", "json"}:
            raise VerifyError(f"--output {output!r} is neither text nor json")  # noqa: TRY301
        expected = Expected.parse(expect or [])
        trees = LocalTrees()
        if place.startswith("/"):
            proofs = [_directory(trees, place, expected)]
        else:
            runner = Runner()
            proofs = list(dataset(CommandLineZfs(runner), LocalHost(runner), trees, place, version or [], expected))
    except (VerifyError, StorageError) as error:
        typer.echo(f"dsg-operator: {error}", err=True)
        raise typer.Exit(_USAGE) from None
    well = all(proof.whole for proof in proofs)
    typer.echo(_as_json(place, proofs, well=well) if output == "json" else _as_text(place, proofs, well=well))
    if not well:
        raise typer.Exit(_WRONG)


def _directory(trees: Trees, place: str, expected: Expected) -> Proof:
    known = expected.digests
    facts = trees.facts(place, "")
    if facts is None or facts.kind is not FileKind.DIRECTORY:
        raise VerifyError(f"{place} is no directory")
    if len(known) > 1:
        raise VerifyError("a directory holds one version; give --expect once")
    version, digest = next(iter(known.items()), ("", ""))
    return prove(trees, place, version, digest)


def dataset(zfs: Zfs, host: Host, trees: Trees, name: str, wanted: list[str], expected: Expected) -> Iterator[Proof]:
    """Yield the proof of each version of a repository's dataset, oldest first. Raises VerifyError, StorageError."""
    parent = zfs.read([name], (layout.HEAD, layout.VERSION), depth=0).get(name)
    if parent is None:
        raise VerifyError(f"there is no dataset {name}")
    head = _said(parent, layout.HEAD)
    if head is None:
        raise VerifyError(f"dataset {name} names no head: it is no repository's, or it was sent without its properties")
    found = zfs.read([f"{name}/{head}"], (layout.MANIFEST,), kinds=[DatasetKind.SNAPSHOT], depth=1)
    snapshots = {full.partition("@")[2]: snapshot for full, snapshot in found.items()}
    versions = sorted((version for version in snapshots if is_version(version)), key=number)
    missing = [version for version in (*wanted, *expected.digests) if version not in versions]
    if missing:
        there = f"{versions[0]} to {versions[-1]}" if versions else "none"
        raise VerifyError(f"{name} has no version {', '.join(missing)}; there is {there}")
    last = _said(parent, layout.VERSION)
    if not versions or (last is not None and versions[-1] != last):
        proof = Proof(last or "")
        proof.add(f"the dataset says that its head is {last}, and the newest snapshot is {(versions or ['none'])[-1]}")
        yield proof
    for version in versions:
        if wanted and version not in wanted:
            continue
        recorded = _said(snapshots[version], layout.MANIFEST)
        digest = expected.digests.get(version, recorded or "")
        with _mounted(host, f"{name}/{head}@{version}") as root:
            yield prove(trees, root, version, digest)


def _said(thing: Dataset, name: str) -> str | None:
    """Return a property that is set on a dataset, also where `zfs receive` did."""
    found = thing.properties.get(name)
    return found.value if found is not None and found.source in {Source.LOCAL, Source.RECEIVED} else None


@contextmanager
def _mounted(host: Host, snapshot: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="dsg-verify-") as directory:
        root = str(Path(directory).resolve() / "version")
        host.make_directory(root, mode=0o700)
        host.mount(snapshot, root, read_only=True)
        try:
            yield root
        finally:
            host.unmount(root)


def _as_text(place: str, proofs: list[Proof], *, well: bool) -> str:
    lines = []
    for proof in proofs:
        verdict = "ok" if proof.whole else "WRONG"
        lines.append(
            f"{verdict:<6} {proof.version or 'no version'}: {proof.files} files, {proof.links} links, "
            f"{proof.size} bytes, digest {proof.digest or 'unknown'}"
        )
        lines += [f"       {finding}" for finding in proof.findings]
        if proof.total > len(proof.findings):
            lines.append(f"       … {proof.total} findings in all")
    read = f"{len(proofs)} version{'s' if len(proofs) != 1 else ''} read"
    lines.append(f"{place}: {read}; all is as it should be" if well else f"{place}: {read}; NOT all is as it should be")
    return "\n".join(lines)


def _as_json(place: str, proofs: list[Proof], *, well: bool) -> str:
    said = {
        "place": place,
        "whole": well,
        "versions": [
            {
                "version": proof.version,
                "digest": proof.digest,
                "files": proof.files,
                "links": proof.links,
                "size": proof.size,
                "findings": proof.findings,
                "findingsTotal": proof.total,
            }
            for proof in proofs
        ],
    }
    return json.dumps(said, indent=2)
